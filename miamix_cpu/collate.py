"""MiAMixCollator: a list of samples in, a mixed batch of tensors out; runs inside DataLoader workers."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.utils.data import default_collate, get_worker_info

from miamix_cpu.checks import check_choice, check_integer
from miamix_cpu.config import MiAMixConfig
from miamix_cpu.epochs import MixSchedule, probability_of
from miamix_cpu.fingerprint import hash_gathered, hash_images
from miamix_cpu.gather import Gathered
from miamix_cpu.images import LAYOUTS, Images, read_images
from miamix_cpu.labels import read_labels, soft_targets
from miamix_cpu.mixer import MiAMix, MixedBatch, check_dtype, mix_views, normalisation
from miamix_cpu.plan import MixPlan
from miamix_cpu.randomness import PLAN, VIEWS, batch_key, index_bytes, stream
from miamix_cpu.samples import Samples, read_samples
from miamix_cpu.sampling import draw_plan
from miamix_cpu.shared import EpochState
from miamix_cpu.views import Transform

_ALIGNMENT, _LARGE = 64, 1 << 22  # bytes, as torch aligns memory and as NumPy asks for huge pages
_MASKS_KEY = "masks"


class MiAMixCollator:
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
        Image and label in samples that are dicts; other keys go through `default_collate`.
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
    opencv_threads : int or None
        Set OpenCV's thread pool to this size in workers, which are the parallelism already; None leaves it alone.

    Examples
    --------
    >>> samples = [(np.zeros((32, 32, 3), np.uint8), label) for label in range(4)]
    >>> images, targets = MiAMixCollator(10, MiAMixConfig(p_self=0.0), seed=0)(samples)
    >>> images.shape, targets.shape
    (torch.Size([4, 3, 32, 32]), torch.Size([4, 10]))
    """

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
        opencv_threads: int | None = 0,
    ) -> None:
        check_choice("layout", layout, LAYOUTS)
        check_choice("memory_format", memory_format, ("channels_first", "channels_last"))
        if schedule is not None and not isinstance(schedule, MixSchedule):
            raise TypeError(f"schedule must be a MixSchedule, got {schedule!r}")
        self.dtype = check_dtype(dtype, ("float32", "uint8", "float16", "bfloat16"))
        # The options that both share are checked there.
        mixer = MiAMix(
            num_classes,
            config,
            dtype=self.dtype if self.dtype == "uint8" else "float32",
            mean=mean,
            std=std,
            targets=targets,
            label_smoothing=label_smoothing,
            return_masks=return_masks,
        )
        self.num_classes, self.config = mixer.num_classes, mixer.config
        self.mean, self.std = mixer.mean, mixer.std
        self.targets, self.label_smoothing = mixer.targets, mixer.label_smoothing
        self.return_masks = mixer.return_masks
        self.seed = torch.initial_seed() if seed is None else check_integer("seed", seed)
        self.layout = layout
        self.memory_format = memory_format
        self.keys = _check_keys("keys", keys)
        self.out_keys = self.keys if out_keys is None else _check_keys("out_keys", out_keys)
        self.index_key = index_key
        self.schedule = schedule
        self.return_batch = bool(return_batch)
        self.opencv_threads = opencv_threads
        self._transform = None if transform is None else Transform(transform)
        self._state = EpochState()
        self._local = threading.local()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_local"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _local=threading.local())

    def __repr__(self) -> str:
        return f"MiAMixCollator(num_classes={self.num_classes}, config={self.config!r}, seed={self.seed})"

    @property
    def transform(self) -> Callable[..., Any] | None:
        """The caller's transform, as given."""
        return None if self._transform is None else self._transform.transform

    @property
    def epoch(self) -> int:
        """The current epoch."""
        return self._state.epoch

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch: the same samples are mixed otherwise from now on, and the schedule moves on.

        Call it before `iter(loader)`, since workers prefetch at once. It reaches live persistent workers.
        """
        self._state.set(check_integer("epoch", epoch, low=0))

    def plain(self, transform: Callable[..., Any] | None = None) -> MiAMixCollator:
        """The unmixed twin, for evaluation: the same formats, one-hot targets without smoothing.

        Parameters
        ----------
        transform : callable, optional
            The evaluation's transform; the training's is not applied.
        """
        twin = MiAMixCollator.__new__(MiAMixCollator)
        twin.__setstate__(self.__getstate__())
        twin._transform = None if transform is None else Transform(transform)
        twin._state = EpochState()
        twin.schedule = MixSchedule(probability=0.0)
        twin.label_smoothing = 0.0
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
            images (N, C, H, W), targets as `targets` says; then the masks and the samples' other entries.

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
            Where the plan has no key although views must be made, or is not for these samples.
        """
        return self._collate(samples, plan)

    def _collate(self, samples: Sequence[Any], replayed: MixPlan | None) -> Any:
        return self._make(samples, replayed, self._state.begin())

    def _make(self, samples: Sequence[Any], replayed: MixPlan | None, epoch: int) -> Any:
        parts = read_samples(samples, self.keys, self.index_key)
        epoch = epoch if parts.epoch is None else parts.epoch
        labels = read_labels(parts.labels, self.num_classes)
        raw = self._raw(parts)
        key: bytes | None
        if replayed is None:
            key = self._key(parts, raw, labels, epoch)
            plan_of = partial(self._draw, key, epoch)
        else:
            replayed.check()
            key = replayed.key
            plan_of = partial(_fitting, replayed)
        first, second_of = self._first(parts, raw, key)
        height, width = first.arrays[0].shape[1:] if first.planar else first.arrays[0].shape[:2]
        plan = plan_of(len(samples), height, width)
        return self._render(plan, first, self._second(plan, first, second_of), labels, parts)

    def _raw(self, parts: Samples) -> tuple[Images | None, Images | None]:
        """The samples' own images and second views as arrays, as far as anything needs them."""
        transform = self._transform
        if transform is not None and not transform.takes_arrays and parts.indices is not None:
            return None, None

        def read(images: list[Any], which: str) -> Images:
            name = "image" if parts.seconds is None else f"{which} view"
            return read_images(images, self.layout, lambda i: f"{name} of sample {i}", raw=transform is not None)

        return read(parts.images, "first"), None if parts.seconds is None else read(parts.seconds, "second")

    def _draw(self, key: bytes, epoch: int, n: int, height: int, width: int) -> MixPlan:
        probability = probability_of(self.schedule, epoch)
        if probability > 0:
            self._state.remember(key)
        return draw_plan(self.config, n, height, width, stream(key, PLAN), probability=probability, key=key)

    def _key(self, parts: Samples, raw: tuple[Images | None, Images | None], labels: np.ndarray, epoch: int) -> bytes:
        """The batch's key: a digest of seed, epoch, labels, and indices or images."""
        hashed = [b"%d" % len(labels), labels.dtype.str.encode(), labels.tobytes()]
        if parts.indices is not None:
            hashed.append(b"indices")
            hashed += [index_bytes(index, i) for i, index in enumerate(parts.indices)]
            return batch_key(self.seed, epoch, hashed)
        for images in raw:
            if images is not None and images.alike:
                hashed.append(repr((images.arrays[0].shape, images.arrays[0].dtype.str)).encode())
                hashed.append(hash_gathered(images.gathered, planar=images.planar).tobytes())
            elif images is not None:
                hashed += [repr((image.shape, image.dtype.str)).encode() for image in images.arrays]
                hashed.append(hash_images(images.arrays, planar=images.planar).tobytes())
        return batch_key(self.seed, epoch, hashed)

    def _first(
        self, parts: Samples, raw: tuple[Images | None, Images | None], key: bytes | None
    ) -> tuple[Images, Callable[[list[int]], Images] | None]:
        """First views of all samples, and how second ones of some are had, if they can be."""
        held, seconds = raw
        transform = self._transform
        if transform is None and held is not None:
            if seconds is None:
                return held, None
            return held, lambda needed: replace(seconds, arrays=[seconds.arrays[i] for i in needed])
        if parts.seconds is not None:
            raise ValueError("samples hold pairs of views already: drop the transform, or the pairs")
        if transform is None or key is None:
            raise ValueError("the plan has no key to make views from: it was drawn by MiAMix, not by a MiAMixCollator")
        self._limit_opencv()
        rng = stream(key, VIEWS)
        # Albumentations says itself what its results are; other callables' are what `layout` says.
        layout = "auto" if transform.takes_arrays else self.layout

        def make(indices: Sequence[int], which: str) -> Images:
            images, planar = parts.images, False
            if transform.takes_arrays and held is not None:
                images, planar = held.arrays, held.planar
            views = transform.make(images, planar, indices, rng, lambda i: f"the {which} view of sample {i}")
            return read_images(views, layout, lambda v: f"the transform's {which} view of sample {indices[v]}")

        return make(range(len(parts.images)), "first"), lambda needed: make(needed, "second")

    def _second(self, plan: MixPlan, first: Images, second_of: Callable[[list[int]], Images] | None) -> Gathered:
        """Second views by sample; where none is needed the first one stands in."""
        needed = np.flatnonzero(plan.needs_second_view).tolist()
        if plan.second_view == "shared" or not needed:
            return first.gathered
        if second_of is None:
            if self.config.p_self > 0:
                self._state.warn(
                    3,
                    f"p_self={self.config.p_self} but there is neither a transform nor a pair of views: samples that "
                    "are mixed with themselves come out unmixed",
                )
            return first.gathered
        made = second_of(needed)
        example, other = first.arrays[0], made.arrays[0]
        if (example.shape, example.dtype, first.planar) != (other.shape, other.dtype, made.planar):
            raise ValueError(
                f"second view of sample {needed[0]} is {other.dtype} {other.shape}, first view of sample 0 is "
                f"{example.dtype} {example.shape}: both must be alike"
            )
        addresses = first.gathered.addresses.copy()
        addresses[needed] = made.gathered.addresses
        return made.gathered._replace(addresses=addresses)

    def _render(self, plan: MixPlan, first: Images, second: Gathered, labels: np.ndarray, parts: Samples) -> Any:
        n, example = len(plan), first.arrays[0]
        channels = 1 if example.ndim == 2 else example.shape[0 if first.planar else 2]
        rendered = "uint8" if self.dtype == "uint8" else "float32"
        scale, bias = normalisation(example.dtype, rendered, channels, self.mean, self.std)
        shape = (n, plan.height, plan.width, channels)
        planar_out = self.memory_format == "channels_first"
        if planar_out:
            shape = (n, channels, plan.height, plan.width)
        images = _empty(shape, getattr(torch, self.dtype))
        buffer = images if rendered == self.dtype else self._buffer(shape)
        masks = _empty((n if self.return_masks else 0, plan.height, plan.width), torch.float32)
        lam = mix_views(
            plan,
            first.gathered,
            second,
            buffer.numpy(),
            masks.numpy(),
            scale,
            bias,
            planar_in=first.planar,
            planar_out=planar_out,
        )
        if buffer is not images:
            images.copy_(buffer)
        if not planar_out:
            images = images.permute(0, 3, 1, 2)
        if self.targets == "soft":
            targets: Any = _empty((n, self.num_classes), torch.float32)
            soft_targets(labels, plan.partner, lam, self.num_classes, self.label_smoothing, targets.numpy())
        else:
            targets = tuple(torch.from_numpy(part) for part in (labels.copy(), labels[plan.partner], lam))
        return self._pack(plan, images, targets, lam, masks if self.return_masks else None, parts)

    def _pack(self, plan: MixPlan, images: Any, targets: Any, lam: np.ndarray, masks: Any, parts: Samples) -> Any:
        extras = {key: default_collate(values) for key, values in parts.extras.items()}
        if self.return_batch:
            return MixedBatch(
                images=images,
                targets=targets,
                lam=torch.from_numpy(lam),
                partner=torch.from_numpy(plan.partner),
                plan=plan,
                masks=masks,
                extras=extras,
            )
        if parts.is_dict:
            mixed = {self.out_keys[0]: images, self.out_keys[1]: targets}
            if masks is not None:
                mixed[_MASKS_KEY] = masks
            taken = [key for key in extras if key in mixed]
            if taken:
                raise ValueError(f"samples hold the key {taken[0]!r}, which the result needs for itself; rename it")
            return {**mixed, **extras}
        return (images, targets, *(() if masks is None else (masks,)), *extras.values())

    def _buffer(self, shape: tuple[int, ...]) -> torch.Tensor:
        """A float32 buffer for this thread, used again batch after batch."""
        buffer = getattr(self._local, "buffer", None)
        if buffer is None or buffer.numel() != math.prod(shape):
            buffer = self._local.buffer = torch.empty(shape, dtype=torch.float32)
        return buffer.view(shape)

    def _limit_opencv(self) -> None:
        if self.opencv_threads is None or get_worker_info() is None or getattr(self._local, "limited", False):
            return
        self._local.limited = True
        try:
            import cv2
        except ImportError:
            return
        cv2.setNumThreads(self.opencv_threads)


def _fitting(plan: MixPlan, n: int, height: int, width: int) -> MixPlan:
    """`plan`, if it is for `n` images of this size."""
    if (len(plan), plan.height, plan.width) != (n, height, width):
        raise ValueError(
            f"the plan is for {len(plan)} images of {plan.height} x {plan.width} pixels, got {n} of {height} x {width}"
        )
    return plan


def _empty(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """An uninitialised tensor; in a worker in shared memory, so that it travels to the parent without a copy."""
    size = math.prod(shape) * dtype.itemsize
    in_worker = get_worker_info() is not None
    if size == 0 or (not in_worker and size < _LARGE):
        return torch.empty(shape, dtype=dtype)
    if not in_worker:
        # NumPy asks for huge pages, torch does not: fresh memory by the megabyte is had in a quarter of the time.
        block = np.empty(size + _ALIGNMENT, dtype=np.uint8)
        start = -block.ctypes.data % _ALIGNMENT
        return torch.from_numpy(block[start : start + size]).view(dtype).view(shape)
    empty = torch.empty(0, dtype=dtype)
    storage = empty.untyped_storage()._new_shared(size)  # type: ignore[no-untyped-call]
    return empty.set_(storage).view(shape)


def _check_keys(name: str, keys: Any) -> tuple[str, str]:
    if not isinstance(keys, (tuple, list)) or len(keys) != 2 or not all(isinstance(key, str) for key in keys):
        raise TypeError(f"{name} must be a pair of names (image, label), got {keys!r}")
    if keys[0] == keys[1]:
        raise ValueError(f"{name} must be two different names, got {keys!r}")
    return keys[0], keys[1]
