"""MiAMixCollator: a list of samples in, a mixed batch of tensors out; runs inside DataLoader workers."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable, Sequence
from multiprocessing import parent_process
from typing import Any, Self

import numpy as np
import torch
from torch.utils.data import default_collate, get_worker_info

from miamix_cpu.checks import check_integer, short
from miamix_cpu.config import MiAMixConfig, names_fields
from miamix_cpu.epochs import MixSchedule
from miamix_cpu.keyed import KeyedMixer, Prepared
from miamix_cpu.mix.memory import empty_array
from miamix_cpu.mix.mixed_batch import MixedBatch
from miamix_cpu.mix.targets import soft_targets
from miamix_cpu.mixer import check_dtype
from miamix_cpu.plan.mix_plan import MixPlan
from miamix_cpu.samples.samples import Samples, read_samples
from miamix_cpu.workers.epoch_state import EpochState
from miamix_cpu.workers.transport import channels_first_view, empty, from_array, register_node

register_node(MixedBatch, "plan")


class MiAMixCollator(KeyedMixer):
    """A `collate_fn` that mixes: samples in, `(images, targets)` out.

    Parameters
    ----------
    num_classes : int
    config : MiAMixConfig, optional
        Table 1 of the paper by default.
    transform : callable, optional
        Makes the views, one call each: `transform(image=x)["image"]` where it takes that keyword (Albumentations),
        else `transform(x)`. A first view of every sample, and a second one of those that are mixed in.
    seed : int, optional
        The same seed, epoch and samples give the same bytes. By default `torch.initial_seed()`, shown by
        `collate.seed`.
    dtype : "float32", "uint8", "float16" or "bfloat16"
        Of the mixed images. uint8 views become floats in [0, 1], or stay uint8, a quarter of the bytes to move; float
        views are taken as they are.
    mean, std : sequences of C floats, optional
        Normalise while mixing, (x - mean) / std with x in [0, 1]; uint8 views and a float `dtype` only.
    layout : "auto", "channels_last" or "channels_first"
        Of images: "auto" reads arrays as (H, W, C) and tensors as (C, H, W), and refuses what can't be either.
    memory_format : "channels_first" or "channels_last"
        Of the result, a tensor (N, C, H, W) in either case; neither is transposed.
    targets : "soft" or "pair"
        (N, num_classes) float32, or (y_a, y_b, lam): labels, partners' labels, and the weight of the former.
    label_smoothing : float in [0, 1]
        Soft targets become y * (1 - s) + s / num_classes.
    keys : (str, str)
        Image and label in samples that are dicts; other keys go through `collate_extras`.
    out_keys : (str, str), optional
        What they are called in the result; `keys` by default.
    index_key : str or int, optional
        The entry of a dict, or position in a tuple, that identifies a sample: hashed instead of its image.
    schedule : MixSchedule, optional
        The probability of mixing, by epoch.
    return_masks : bool
        Add the masks, float32 (N, H, W), after the targets or under the key "masks".
    return_batch : bool
        Return a `MixedBatch` of tensors.
    collate_extras : callable
        From the list of the samples' values under one of their other keys, or at one of their other positions, to what
        the result holds; torch's `default_collate` by default.
    opencv_threads : int or None
        Set OpenCV's thread pool to this size in workers, which are the parallelism already; None leaves it alone.

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
        num_classes: int,
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
        schedule: MixSchedule | None = None,
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
            dtype="uint8" if dtype == "uint8" else "float32",  # others are cast from it
            mean=mean,
            std=std,
            layout=layout,
            memory_format=memory_format,
            targets=targets,
            label_smoothing=label_smoothing,
            keys=keys,
            out_keys=out_keys,
            index_key=index_key,
            schedule=schedule,
            return_masks=return_masks,
        )
        self.dtype = dtype
        self.return_batch = bool(return_batch)
        if not callable(collate_extras):
            raise TypeError(f"collate_extras must be callable, got {short(collate_extras)}")
        self.collate_extras = collate_extras
        if opencv_threads is not None:
            check_integer("opencv_threads", opencv_threads, low=0)
        self.opencv_threads = opencv_threads
        self._state = EpochState(self._once)
        self._evaluates = False
        self._local = threading.local()

    _has_workers = True

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_local"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _local=threading.local())

    @property
    def epoch(self) -> int:
        """The current epoch: the one that was told, or the number of the pass over the loader."""
        return self._state.epoch

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch the next pass over the loader is; the same samples are mixed otherwise in each.

        An epoch is a pass over the DataLoader, counted from 0 (a look at `next(iter(loader))` is one too), and from
        what was told last, as by `EpochSampler.set_epoch`. Call it to go on with a run that was stopped, or in each
        epoch where the loader is not torch's; always before `iter(loader)`, since workers prefetch at once. It reaches
        live persistent workers. Of several processes that train (`torch.multiprocessing.spawn`) each tells its own
        workers.
        """
        self._state.set(check_integer("epoch", epoch, low=0))

    def plain(self, transform: Callable[..., Any] | None = None) -> Self:
        """The unmixed twin, for evaluation: the same keys and formats, one-hot targets without smoothing.

        Parameters
        ----------
        transform : callable, optional
            The evaluation's transform; the training's is not applied.
        """
        twin = super().plain(transform)
        twin._state = EpochState(twin._once)
        twin._evaluates = True
        return twin

    def __call__(self, samples: Sequence[Any]) -> Any:
        """Collate and mix.

        Parameters
        ----------
        samples : N of `(image, label, ...)`, or of dicts
            An image is an array (H, W, C) or (H, W), a PIL image, a CPU tensor (C, H, W), or a pair (first view,
            second view) of them; a label an integer or a vector (num_classes,).

        Returns
        -------
        (images, targets, ...), a dict, or a MixedBatch
            images (N, C, H, W), targets as `targets` says; then the masks and the samples' other entries. All are plain
            tensors: what an image carries along, such as a MetaTensor's affine, is not that of two images mixed.

        Raises
        ------
        TypeError, ValueError
            Naming the sample, what it holds, and what is allowed.
        """
        return self._collate(samples, None)

    def replay(self, samples: Sequence[Any], plan: MixPlan) -> Any:
        """Make the batch of `plan` again, views included: they are drawn from the plan's key.

        Raises
        ------
        ValueError
            Where the plan has no key although views must be made, is for another number or size of images, or was drawn
            for other samples.
        """
        return self._collate(samples, plan)

    def _collate(self, samples: Sequence[Any], replayed: MixPlan | None) -> Any:
        parts = read_samples(samples, self.keys, self.index_key)
        epoch = self._state.begin(parts.epoch) if replayed is None else self._state.epoch
        varies = self.schedule is not None and self.schedule.varies
        if varies and replayed is None and self._state.is_endless(len(parts.images)):
            self._once.warn(
                "an endless pass",
                f"{self.schedule} depends on the epoch, but one pass over the loader goes on and on (an endless "
                "sampler, timm's MultiEpochsDataLoader), so epochs can't be counted: call collate.set_epoch(epoch)",
            )
        if varies and replayed is None and not self._state.is_known:
            self._once.warn(
                "a schedule that nobody drives",
                f"{self.schedule} depends on the epoch, but nobody has told it and it can't be counted, for no "
                f"DataLoader asks for this batch: it is taken for epoch {epoch}. Call collate.set_epoch(epoch) before "
                "each epoch, or let it travel with the samples: EpochSampler with an Indexed dataset",
            )
        self._settle_in_worker()
        return self._render(self._prepare(parts, replayed, epoch), parts)

    def _remember(self, key: bytes) -> None:
        # Whoever evaluates goes through the same batches again and again; in a loader each pass is another epoch.
        if not self._evaluates or self._state.is_counted:
            self._state.remember(key)

    def _render(self, prepared: Prepared, parts: Samples) -> Any:
        plan, labels = prepared.plan, prepared.labels
        extras = self._collate_extras(parts.extras)
        rendered = "uint8" if self.dtype == "uint8" else "float32"
        shape = prepared.shape(self.memory_format)
        if rendered == self.dtype:
            images = empty(shape, getattr(torch, self.dtype))
            out = images.numpy()
        else:
            images, out = empty(shape, getattr(torch, self.dtype)), empty_array(shape, np.float32)
        masks = empty((len(plan), plan.height, plan.width), torch.float32) if self.return_masks else None
        targets: Any = None
        if self.targets == "soft":  # before mixing, which leaves nothing of torch's code in a cache
            targets = empty((len(plan), self.num_classes), torch.float32)
        lam = self._mix(prepared, out, None if masks is None else masks.numpy(), rendered)
        if rendered != self.dtype:
            images.copy_(torch.from_numpy(out))
        if self.memory_format == "channels_last":
            images = channels_first_view(images)
        if self.targets == "soft":
            soft_targets(labels, plan.partner, lam, self.num_classes, self.label_smoothing, targets.numpy())
        else:
            targets = tuple(from_array(part) for part in (labels.copy(), labels[plan.partner], lam))
        if not self.return_batch:
            return self._packed(images, targets, masks, extras, parts.kind)
        return MixedBatch(
            images=images,
            targets=targets,
            lam=from_array(lam),
            partner=from_array(plan.partner),
            plan=plan,
            masks=masks,
            extras=extras,
        )

    def _collate_extras(self, extras: dict[Any, Any]) -> dict[Any, Any]:
        if not extras:
            return {}
        collated = {}
        with torch.device("cpu"):  # whatever the default device is
            for key, values in extras.items():
                try:
                    collated[key] = self.collate_extras(values)
                except Exception as error:
                    name = getattr(self.collate_extras, "__name__", type(self.collate_extras).__name__)
                    error.add_note(f"raised by {name}, for the samples' {key!r}")
                    raise
        return collated

    def _settle_in_worker(self) -> None:
        if get_worker_info() is None:
            return
        if parent_process() is not None and not getattr(self._local, "frozen", False):
            self._local.frozen = True
            # What a forked worker has inherited is none of its business: iterators of its parent's loaders, when they
            # are collected here, complain that they "can only test a child process".
            gc.freeze()
        if self.opencv_threads is None or getattr(self._local, "limited", False):
            return
        cv2 = sys.modules.get("cv2")
        if cv2 is not None:
            self._local.limited = True
            cv2.setNumThreads(self.opencv_threads)
