"""MiAMixCollator: a `collate_fn` that turns a list of samples into a mixed batch of tensors, in DataLoader workers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from torch.utils.data import default_collate

from miamix_cpu.checks import check_integer, short
from miamix_cpu.config import MiAMixConfig, names_fields
from miamix_cpu.epochs import MixSchedule
from miamix_cpu.formats import check_dtype
from miamix_cpu.keyed import KeyedMixer
from miamix_cpu.memory import empty_array
from miamix_cpu.mix.mixed_batch import MixedBatch
from miamix_cpu.mix.render import needs_masks
from miamix_cpu.mix.targets import pair_targets, shape_of_targets, write_targets
from miamix_cpu.plan.mix_plan import MixPlan
from miamix_cpu.prepared import Prepared
from miamix_cpu.samples.samples import Samples, read_samples
from miamix_cpu.workers.epoch_state import EpochState
from miamix_cpu.workers.settling import settle_in_worker
from miamix_cpu.workers.transport import channels_first_view, empty, from_array, register_node

register_node(MixedBatch, "plan")

_NEEDS_BATCH = 'mixes="features" needs return_batch=True: ManifoldMixup takes the whole batch'


def _new_tensor(shape: tuple[int, ...], dtype: np.dtype[Any], planar: bool) -> tuple[torch.Tensor, np.ndarray]:
    """Return a tensor for a mixed entry, with channels first, and the array that is its memory."""
    tensor = empty(shape, torch.from_numpy(np.empty(0, dtype)).dtype)
    return (tensor if planar or len(shape) == 3 else channels_first_view(tensor)), tensor.numpy()


class MiAMixCollator(KeyedMixer):
    """A `collate_fn` that mixes: it takes a list of samples and returns `(images, targets)`.

    Parameters
    ----------
    num_classes : int or None
        None if labels are numbers: soft targets are then float32 of the labels' shape, (N,) or (N, d).
    config : MiAMixConfig, optional
        The settings of Table 1 of the paper by default.
    transform : callable, optional
        Makes one view per call. It is called as `transform(image=x)["image"]` if it accepts that keyword, as
        Albumentations does, and as `transform(x)` otherwise. It makes a first view of every sample, and a second view
        of every sample that is the partner of a mixed one.
    seed : int, optional
        The same seed, epoch and samples give the same bytes. The default is `torch.initial_seed()`; `collate.seed`
        shows it.
    dtype : "float32", "uint8", "float16" or "bfloat16"
        Dtype of the mixed images. uint8 views become floats in [0, 1], or stay uint8, which is a quarter of the bytes
        to transfer. Float views are never rescaled.
    mean, std : sequences of C floats, optional
        Normalise while mixing: (x - mean) / std with x in [0, 1]. Only for uint8 views and a float `dtype`.
    layout : "auto", "channels_last" or "channels_first"
        Layout of the input images. "auto" reads arrays as (H, W, C) and tensors as (C, H, W), and rejects shapes that
        look like the other layout.
    memory_format : "channels_first" or "channels_last"
        Memory format of the result, which is a tensor (N, C, H, W) in both cases. Neither needs a transposed copy.
    targets : "soft" or "pair"
        "soft" targets are (N, num_classes) float32. "pair" targets are (y_a, y_b, lam): the labels, the partners'
        labels, and the weight of the labels; with partners="layer" they are (labels, weights), (N, k_max + 1) each.
    label_smoothing : float in [0, 1]
        Soft targets y become y * (1 - s) + s / num_classes.
    keys : (str, str)
        Keys of the image and the label if samples are dicts. Other keys go through `collate_extras`.
    out_keys : (str, str), optional
        Keys of the images and the targets in the result; `keys` by default.
    index_key : str or int, optional
        Dict key or tuple position of an entry that identifies the sample. It is hashed instead of the image.
    map_key : str or int, optional
        Dict key or tuple position of an entry that is the sample's guide for saliencymix, attentivecutmix and
        guidedmixup: a map (h, w), larger is more important. It goes through the same geometry as the image, as `also`
        does. If the image is a pair of views, it is a pair too. It is not in the result.
    also : mapping, optional
        What else is mixed by the image's mask, and how, by key, or by position in tuples. "blend" mixes values as those
        of the image: depth, further images, any number of channels, uint8, int16, uint16 or floats. "choose" takes each
        pixel whole from the view whose weight is larger, ties from the first: maps of classes, of any dtype.
        ("soft", classes) makes float32 weights (N, classes, h, w) of a map of classes. Maps may be smaller than the
        image. They go through the same geometry as the image: Albumentations gets them as `mask`, `masks` or additional
        targets, any other transform gets and returns a dict, {"image": image, key: entry}, or takes keywords if its
        parameters are "image" and the entries' keys. If the image is a pair of views, they are pairs too (`TwoViews`).
        If the label's key, or position 1, is among them, there are no labels, and the mixed map is in their place.
    guide : callable, optional
        Makes the guide of a view: it gets a copy of the view as an array, in the layout of the views, and returns a map
        (h, w), of the same size for all. By default guides are computed, as the options of these methods say.
    schedule : MixSchedule, optional
        The probability of mixing, by epoch.
    compiled_views : "auto", True or False
        Make all views of a batch at once, if the transform is a Compose of Albumentations' transforms that are all
        known (docs/views.md). True raises an error if it is not. With False, Albumentations makes all views.
        `collate.views` says which way is taken, and why.
    return_masks : bool
        Also return the masks, float32 (N, H, W), after the targets or under the key "masks"; with partners="layer" one
        for each view, (N, k_max + 1, H, W).
    return_batch : bool
        Return a `MixedBatch` of tensors instead.
    collate_extras : callable
        Collates the samples' other entries: it is called with the list of values under one key or at one position, and
        its result is returned in the batch. torch's `default_collate` by default.
    opencv_threads : int or None
        Number of OpenCV threads in each worker. With 0, the default, OpenCV runs sequentially, because the workers
        already run in parallel. None leaves OpenCV's setting unchanged.

    Examples
    --------
    >>> samples = [(torch.zeros((3, 32, 32), dtype=torch.uint8), label) for label in range(4)]
    >>> images, targets = MiAMixCollator(10, MiAMixConfig(p_self=0.0), seed=0)(samples)
    >>> images.shape, targets.shape
    (torch.Size([4, 3, 32, 32]), torch.Size([4, 10]))
    """

    dtype: str

    @names_fields
    def __init__(
        self,
        num_classes: int | None,
        config: MiAMixConfig | None = None,
        *,
        transform: Callable[..., Any] | None = None,
        seed: int | None = None,
        dtype: Any = "float32",
        mean: Any = None,
        std: Any = None,
        layout: str = "auto",
        memory_format: str = "channels_first",
        targets: str = "soft",
        label_smoothing: float = 0.0,
        keys: tuple[str, str] = ("image", "label"),
        out_keys: tuple[str, str] | None = None,
        index_key: str | int | None = None,
        map_key: str | int | None = None,
        also: Mapping[str | int, Any] | None = None,
        guide: Callable[[np.ndarray], Any] | None = None,
        schedule: MixSchedule | None = None,
        compiled_views: Any = "auto",
        return_masks: bool = False,
        return_batch: bool = False,
        collate_extras: Callable[[list[Any]], Any] = default_collate,
        opencv_threads: int | None = 0,
    ) -> None:
        dtype = check_dtype(dtype, ("float32", "uint8", "float16", "bfloat16"))
        super().__init__(
            num_classes,
            config,
            transform=transform,
            seed=torch.initial_seed() if seed is None else seed,
            dtype="uint8" if dtype == "uint8" else "float32",  # the others are cast from float32
            mean=mean,
            std=std,
            layout=layout,
            memory_format=memory_format,
            targets=targets,
            label_smoothing=label_smoothing,
            keys=keys,
            out_keys=out_keys,
            index_key=index_key,
            map_key=map_key,
            also=also,
            guide=guide,
            schedule=schedule,
            compiled_views=compiled_views,
            return_masks=return_masks,
        )
        self.dtype = dtype
        self.return_batch, self._evaluates = bool(return_batch), False
        if self.config.mixes == "features" and not self.return_batch:
            raise ValueError(_NEEDS_BATCH)
        if not callable(collate_extras):
            raise TypeError(f"collate_extras must be callable, got {short(collate_extras)}")
        self.collate_extras = collate_extras
        self.opencv_threads = None if opencv_threads is None else check_integer("opencv_threads", opencv_threads, low=0)
        self._state = EpochState(self._once)
        self._local = threading.local()

    _has_workers = True

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_local"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _local=threading.local())

    @property
    def epoch(self) -> int:
        """The current epoch: set by `set_epoch`, carried by the samples, or counted by passes over the loader."""
        return self._state.epoch

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next pass over the loader. The same samples are mixed differently in each epoch.

        An epoch is one pass over the DataLoader; `next(iter(loader))` counts as one too. Passes are counted from 0, or
        from the epoch that was set last, as with `EpochSampler.set_epoch`. Call this method to resume a run, and in
        each epoch if the loader is not torch's. Always call it before `iter(loader)`, because workers start prefetching
        immediately. Live persistent workers get the new epoch too. If several processes train
        (`torch.multiprocessing.spawn`), each one sets the epoch of its own workers.
        """
        self._state.set(check_integer("epoch", epoch, low=0))

    def plain(self, transform: Callable[..., Any] | None = None) -> Self:
        """Return an unmixed copy for evaluation, with the same keys and formats and one-hot targets without smoothing.

        Parameters
        ----------
        transform : callable, optional
            The transform for evaluation. The training transform is not applied. It gets no maps, and samples need
            none (`map_key`).
        """
        twin = super().plain(transform)
        twin._state = EpochState(twin._once)
        twin._evaluates = True
        return twin

    def __call__(self, samples: Sequence[Any]) -> Any:
        """Collate and mix samples.

        Parameters
        ----------
        samples : list of N tuples `(image, label, ...)`, or of N dicts
            An image is an array (H, W, C) or (H, W), a PIL image, a CPU tensor (C, H, W), or a pair (first view,
            second view) of these. A signal is one row, (1, T, C), or (C, 1, T) as a tensor. A label is an
            integer or a vector (num_classes,); with `num_classes=None` it is a number or a vector (d,).

        Returns
        -------
        (images, targets, ...), a dict, or a MixedBatch
            images (N, C, H, W), targets in the format `targets`, then the masks and the samples' other entries. Images,
            targets and masks are plain tensors. Metadata of an image, such as a MetaTensor's affine, is dropped,
            because it does not apply to a mix of two images.

        Raises
        ------
        TypeError, ValueError
            The message names the sample, its value and what is allowed.
        """
        return self._collate(samples, None)

    def replay(self, samples: Sequence[Any], plan: MixPlan) -> Any:
        """Make the batch of `plan` again, including its views, which are drawn from the plan's key.

        Raises
        ------
        ValueError
            If the plan has no key but views must be made, if it is for another number or size of images, or if it was
            drawn for other samples.
        """
        return self._collate(samples, plan)

    def _collate(self, samples: Sequence[Any], replayed: MixPlan | None) -> Any:
        if replayed is not None and replayed.mixes == "features" and not self.return_batch:
            raise ValueError(_NEEDS_BATCH)
        parts = read_samples(samples, **self._reading(replayed is not None))
        epoch = self._state.begin(parts.epoch) if replayed is None else self._state.epoch
        varies = self.schedule is not None and self.schedule.varies
        if varies and replayed is None and self._state.is_endless(len(parts.images)):
            self._once.warn(
                "an endless pass",
                f"{self.schedule} depends on the epoch, but the pass over the loader does not end (an endless "
                "sampler, timm's MultiEpochsDataLoader), so epochs can't be counted: call collate.set_epoch(epoch)",
            )
        if varies and replayed is None and not self._state.is_known:
            self._once.warn(
                "a schedule that nobody drives",
                f"{self.schedule} depends on the epoch, but no one has set it, and it can't be counted, because this "
                f"batch was not requested by a DataLoader. Epoch {epoch} is used. Call collate.set_epoch(epoch) "
                "before each epoch, or use an EpochSampler with an Indexed dataset, so that samples carry their epoch",
            )
        settle_in_worker(self._local, self.opencv_threads)
        return self._render(self._prepare(parts, replayed, epoch), parts)

    def _remember(self, key: bytes) -> None:
        # Evaluation repeats the same batches on purpose, unless a loader counts each pass as a new epoch.
        if not self._evaluates or self._state.is_counted:
            self._state.remember(key)

    def _render(self, prepared: Prepared, parts: Samples) -> Any:
        plan, labels, planar = prepared.plan, prepared.labels, self.memory_format == "channels_first"
        extras = self._collate_extras(parts.extras, prepared.companions)
        rendered = "uint8" if self.dtype == "uint8" else "float32"
        shape = prepared.shape(self.memory_format)
        if rendered == self.dtype:
            images = empty(shape, getattr(torch, self.dtype))
            out = images.numpy()
        else:
            images, out = empty(shape, getattr(torch, self.dtype)), empty_array(shape, np.float32)
        with_masks = self.return_masks or needs_masks(plan)
        masks = empty(plan.masks_shape, torch.float32) if with_masks else None
        mixing = None if masks is None else masks.numpy()
        if prepared.companions and mixing is None:
            mixing = empty_array(plan.masks_shape, np.float32)
        targets: Any = None
        if (
            self.targets == "soft" and labels is not None
        ):  # before mixing, which evicts torch's code from the CPU caches
            targets = empty(shape_of_targets(labels, self.num_classes), torch.float32)
        lam = prepared.mix(out, mixing, rendered, self.mean, self.std, planar)
        if rendered != self.dtype:
            images.copy_(torch.from_numpy(out))
        if not planar:
            images = channels_first_view(images)
        if prepared.companions:
            extras = self._mixed_extras(prepared, mixing, extras, _new_tensor)
        if labels is None:
            targets = extras.pop(self._label_key(parts.kind))
        elif self.targets == "soft":
            write_targets(plan, labels, lam, self.num_classes, self.label_smoothing, targets.numpy())
        else:
            targets = tuple(from_array(part) for part in pair_targets(plan, labels, lam))
        if not self.return_batch:
            return self._packed(images, targets, masks, extras, parts.kind)
        return MixedBatch(
            images=images,
            targets=targets,
            lam=from_array(lam.astype(np.float32, copy=False)),
            partner=from_array(plan.sources if plan.is_layered else plan.partner),
            plan=plan,
            masks=masks,
            extras=extras,
        )

    def _collate_extras(self, extras: dict[Any, Any], mixed: Collection[Any]) -> dict[Any, Any]:
        """Return the other entries, collated; those that are mixed are still to be filled in."""
        if not extras:
            return {}
        collated: dict[Any, Any] = dict.fromkeys(extras)
        with torch.device("cpu"):  # regardless of the default device
            for key, values in extras.items():
                if key in mixed:
                    continue
                try:
                    collated[key] = self.collate_extras(values)
                except Exception as error:
                    name = getattr(self.collate_extras, "__name__", type(self.collate_extras).__name__)
                    error.add_note(f"raised by {name}, for the samples' {key!r}")
                    raise
        return collated
