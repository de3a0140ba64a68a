"""MiAMixBatch: takes a batch of arrays and returns the mixed batch, for Ray Data, Grain and code without torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from miamix_cpu.checks import check_integer
from miamix_cpu.config import MiAMixConfig, names_fields
from miamix_cpu.epochs import MixSchedule
from miamix_cpu.keyed import KeyedMixer
from miamix_cpu.memory import empty_array
from miamix_cpu.mix.targets import shape_of_targets, write_targets
from miamix_cpu.prepared import Prepared
from miamix_cpu.samples.samples import read_columns, read_samples


class MiAMixBatch(KeyedMixer):
    """Mix batches of arrays: it takes a dict of arrays and returns a dict of arrays.

    This is the NumPy counterpart of `MiAMixCollator`. The same seed, epoch and samples give the same bytes in any
    process, also when a task is retried. It has no state: the epoch is a parameter, because shared memory does not
    work across machines. Torch is not imported.

    Parameters
    ----------
    num_classes : int or None
        None if labels are numbers: targets are then float32 of the labels' shape, (N,) or (N, d).
    config : MiAMixConfig, optional
        The settings of Table 1 of the paper by default.
    transform : callable, optional
        Makes the views, as in `MiAMixCollator`.
    seed : int
    epoch : int
        The same samples are mixed differently in each epoch.
    dtype : "uint8", "float32" or "float16", optional
        Dtype of the mixed images. By default it is the dtype of the views, or float32 with `mean` and `std`.
    mean, std : sequences of C floats, optional
        Normalise while mixing: (x - mean) / std with x in [0, 1]. Only for uint8 views and a float `dtype`.
    layout : "auto", "channels_last" or "channels_first"
        Layout of the input images. "auto" reads arrays as (H, W, C), and rejects shapes that look like (C, H, W).
    memory_format : "channels_last" or "channels_first"
        Layout of the mixed images: (N, H, W, C) or (N, C, H, W).
    label_smoothing : float in [0, 1]
        Targets y become y * (1 - s) + s / num_classes.
    keys, out_keys : (str, str)
        Keys of the image and the label in the batch and in the result. `out_keys` defaults to `keys`.
    index_key : str or int, optional
        The column that identifies a sample. It is hashed instead of the image.
    map_key : str or int, optional
        The column of the samples' guides, as in `MiAMixCollator`. It is not in the result.
    also : mapping, optional
        What else is mixed by the image's mask, by column, as in `MiAMixCollator`.
    guide : callable, optional
        Makes the guide of a view, as in `MiAMixCollator`.
    schedule : MixSchedule, optional
        The probability of mixing, by epoch.
    compiled_views : "auto", True or False
        Whether to make all views at once, as in `MiAMixCollator`.
    return_masks : bool
        Also return the masks, float32 (N, H, W), under the key "masks" or after the targets.

    Examples
    --------
    >>> mix = MiAMixBatch(10, MiAMixConfig(p_self=0.0), seed=0, epoch=3)
    >>> batch = mix({"image": np.zeros((4, 32, 32, 3), np.uint8), "label": np.arange(4), "id": np.arange(4)})
    >>> {name: column.shape for name, column in batch.items()}
    {'image': (4, 32, 32, 3), 'label': (4, 10), 'id': (4,)}
    """

    @names_fields
    def __init__(
        self,
        num_classes: int | None,
        config: MiAMixConfig | None = None,
        *,
        transform: Callable[..., Any] | None = None,
        seed: int = 0,
        epoch: int = 0,
        dtype: Any = None,
        mean: Any = None,
        std: Any = None,
        layout: str = "auto",
        memory_format: str = "channels_last",
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
    ) -> None:
        super().__init__(
            num_classes,
            config,
            transform=transform,
            seed=seed,
            dtype=dtype,
            mean=mean,
            std=std,
            layout=layout,
            memory_format=memory_format,
            targets="soft",
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
        self.epoch = check_integer("epoch", epoch, low=0)
        if self.config.mixes == "features":
            raise ValueError('mixes="features" needs the whole batch, plan included: use MiAMix')

    def __call__(self, batch: Mapping[str, Any] | Sequence[Any]) -> Any:
        """Mix a batch.

        Parameters
        ----------
        batch : dict of columns, or a list of samples
            Columns are arrays. Images are (N, H, W, C) or (N, H, W), or N arrays of different shapes if the transform
            makes views of one shape. Labels are (N,) or (N, num_classes). Other columns are returned unchanged. Samples
            are as in `MiAMixCollator`, and their other entries are stacked. The input is not modified.

        Returns
        -------
        dict, or (images, targets, ...) if the samples are tuples
            targets are float32 (N, num_classes), or of the labels' shape if they are numbers.

        Raises
        ------
        TypeError, ValueError
            The message names the column or the sample, its value and what is allowed.
        """
        if isinstance(batch, Mapping):
            parts = read_columns(batch, **self._reading())
            extras: dict[Any, Any] = dict(parts.extras)
        else:
            parts = read_samples(batch, **self._reading())
            extras = {key: None if key in self._ways else _stacked(key, v) for key, v in parts.extras.items()}
        prepared = self._prepare(parts, None, self.epoch)
        images, targets, masks = self._render(prepared)
        if prepared.companions:
            extras = self._mixed_extras(prepared, masks, extras, _new_array)
        if targets is None:
            targets = extras.pop(self._label_key(parts.kind))
        return self._packed(images, targets, masks if self.return_masks else None, extras, parts.kind)

    def _render(self, prepared: Prepared) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
        plan, view = prepared.plan, prepared.first.arrays[0]
        dtype = self.dtype or ("float32" if self.mean is not None else str(view.dtype))
        shape = prepared.shape(self.memory_format)
        if view.ndim == 2 and self.memory_format == "channels_last":  # images (N, H, W) keep their shape
            shape = (len(plan), *view.shape)
        images = empty_array(shape, np.uint8 if dtype == "uint8" else np.float32)
        with_masks = self.return_masks or prepared.companions
        masks = empty_array(plan.masks_shape, np.float32) if with_masks else None
        planar = self.memory_format == "channels_first"
        lam = prepared.mix(images, masks, "uint8" if dtype == "uint8" else "float32", self.mean, self.std, planar)
        images = images.astype(dtype, copy=False)
        if prepared.labels is None:
            return images, None, masks
        targets = np.empty(shape_of_targets(prepared.labels, self.num_classes), dtype=np.float32)
        write_targets(plan, prepared.labels, lam, self.num_classes, self.label_smoothing, targets)
        return images, targets, masks


def _new_array(shape: tuple[int, ...], dtype: Any, planar: bool) -> tuple[np.ndarray, np.ndarray]:
    array = empty_array(shape, dtype)
    return array, array


def _stacked(key: Any, values: list[Any]) -> np.ndarray:
    try:
        return np.asarray(values)
    except ValueError as error:
        raise ValueError(f"the samples' entries {key!r} can't be stacked: {error}") from error
