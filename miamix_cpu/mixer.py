"""MiAMix for NumPy arrays: it takes a batch of images and labels and returns the mixed batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from miamix_cpu.checks import check_choice, check_integer, check_real, short
from miamix_cpu.config import MiAMixConfig, names_fields
from miamix_cpu.formats import check_dtype, check_normalisation, normalisation
from miamix_cpu.memory import empty_array
from miamix_cpu.methods import PAIRINGS
from miamix_cpu.mix.companions import mixed_companion
from miamix_cpu.mix.mixed_batch import MixedBatch
from miamix_cpu.mix.render import mix_views, needs_masks
from miamix_cpu.mix.targets import pair_targets, shape_of_targets, write_targets
from miamix_cpu.once import Once
from miamix_cpu.plan.mix_plan import MixPlan
from miamix_cpu.plan.sampling import draw_plan
from miamix_cpu.samples.addresses import gather
from miamix_cpu.samples.companions import check_also, read_given
from miamix_cpu.samples.images import check_batch, size_of, warn_of_range
from miamix_cpu.samples.labels import read_labels
from miamix_cpu.views.guides import aim_layers

TARGETS = ("soft", "pair")
ALSO_WITH_FEATURES = 'also can\'t be combined with mixes="features", which leaves images and maps unmixed'


class MiAMix:
    """Mix batches of NumPy arrays.

    Parameters
    ----------
    num_classes : int or None
        None if labels are numbers: soft targets are then float32 of the labels' shape, (N,) or (N, d).
    config : MiAMixConfig, optional
        The settings of Table 1 of the paper by default.
    dtype : "uint8", "float32" or "float16", optional
        Dtype of the mixed images. By default it is the dtype of the images, or float32 with `mean` and `std`. If uint8
        images become floats, they are scaled to [0, 1]. Float images are never rescaled and cannot become uint8.
    mean, std : sequences of C floats, optional
        Normalise the mixed images: (x - mean) / std with x in [0, 1]. Only for uint8 images and a float `dtype`.
    targets : "soft" or "pair"
        "soft" targets are (N, num_classes) float32. "pair" targets are (y_a, y_b, lam): the labels, the partners'
        labels, and the weight of the labels.
    label_smoothing : float in [0, 1]
        Soft targets y become y * (1 - s) + s / num_classes.
    return_masks : bool
        Include the masks in the batch.
    also : mapping, optional
        What else is mixed by the images' masks, and how, by a name of your choice: "blend", "choose" or
        ("soft", classes), as in `MiAMixCollator`.
    guide : callable, optional
        Makes the guide of a view, for saliencymix, attentivecutmix and guidedmixup: it gets a copy of the view and
        returns a map (h, w), of the same size for all views; larger is more important. By default guides are computed
        as the options of these methods say.

    Examples
    --------
    >>> mix = MiAMix(num_classes=10, config=MiAMixConfig(p_self=0.0))
    >>> images = np.zeros((4, 32, 32, 3), dtype=np.uint8)
    >>> batch = mix(images, [1, 2, 3, 4], rng=np.random.default_rng(0))
    >>> batch.images.shape, batch.targets.shape
    ((4, 32, 32, 3), (4, 10))
    """

    @names_fields
    def __init__(
        self,
        num_classes: int | None,
        config: MiAMixConfig | None = None,
        *,
        dtype: Any = None,
        mean: Any = None,
        std: Any = None,
        targets: str = "soft",
        label_smoothing: float = 0.0,
        return_masks: bool = False,
        also: Mapping[str, Any] | None = None,
        guide: Callable[[np.ndarray], Any] | None = None,
    ) -> None:
        if config is not None and not isinstance(config, MiAMixConfig):
            raise TypeError(_not_a_config(config))
        check_choice("targets", targets, TARGETS)
        if label_smoothing and targets == "pair":
            raise ValueError("label_smoothing needs targets='soft', got targets='pair', which is not smoothed")
        self.num_classes = None if num_classes is None else check_integer("num_classes", num_classes, low=1)
        self.config = config or MiAMixConfig()
        if num_classes is None:
            _check_numbers(self.config.pairing, label_smoothing)
        self.dtype = None if dtype is None else check_dtype(dtype, ("uint8", "float32", "float16"))
        self.mean, self.std = check_normalisation(mean, std, self.dtype)
        self.targets = targets
        self.label_smoothing = check_real("label_smoothing", label_smoothing, high=1.0)
        self.return_masks = bool(return_masks)
        self.guide = check_guide(guide)
        self._ways = check_also(also, ("image", "label"), None)
        if self._ways and self.config.mixes == "features":
            raise ValueError(ALSO_WITH_FEATURES)
        self._once = Once(shared=False)
        self._range_is_known = False

    def __repr__(self) -> str:
        return f"MiAMix(num_classes={self.num_classes}, config={self.config!r})"

    def __call__(
        self,
        images: Any,
        labels: Any,
        *,
        rng: np.random.Generator,
        second: Any = None,
        maps: Any = None,
        second_maps: Any = None,
        also: Mapping[str, Any] | None = None,
        second_also: Mapping[str, Any] | None = None,
    ) -> MixedBatch:
        """Mix a batch: draw a plan and render it.

        Parameters
        ----------
        images : uint8 or float32 (N, H, W, C) or (N, H, W); clips are (N, T, H, W, C)
            First views, with any strides. They are not modified.
        labels : N integers, or vectors (N, num_classes); with `num_classes=None` N numbers, or vectors (N, d)
        rng : numpy.random.Generator
        second : like `images`, optional
            Second views. `second[i]` is the second view of sample i itself, so sample i is mixed with
            `second[partner[i]]`. By default these are `images`, and a sample that is its own partner stays unmixed.
        maps, second_maps : (N, h, w) or N maps, optional
            Guides of the first and second views, for the methods that need them. Without `second`, `maps` are those of
            both.
        also, second_also : mappings from the names of `also` to N arrays (h, w) or (h, w, C), optional
            What belongs to the first and second views. The result's `extras` have them mixed. Without `second`, `also`
            are those of both.
        """
        images = check_batch(images, "images")
        y = self._read_labels(labels, len(images))
        plan = self._draw(len(images), *size_of(images.shape[1:], False), rng, y)
        return self._render(plan, images, y, second, maps, second_maps, also, second_also)

    def plan(self, n: int, height: int, width: int, *, rng: np.random.Generator, labels: Any = None) -> MixPlan:
        """Draw all random choices for a batch of `n` images of `height` x `width` pixels.

        Parameters
        ----------
        n, height, width : int, at least 1
        rng : numpy.random.Generator
        labels : N integers, or vectors (N, num_classes), optional
            Needed only if `pairing` is not "random".

        Raises
        ------
        TypeError, ValueError
            If an argument is invalid, or if the pairing needs labels and there are none.
        """
        n, height, width = (
            check_integer(name, value, low=1) for name, value in (("n", n), ("height", height), ("width", width))
        )
        return self._draw(n, height, width, rng, None if labels is None else self._read_labels(labels, n))

    def _draw(self, n: int, height: int, width: int, rng: np.random.Generator, labels: np.ndarray | None) -> MixPlan:
        if not isinstance(rng, np.random.Generator):
            raise TypeError(f"rng must be a numpy.random.Generator, got {type(rng).__name__}")
        return draw_plan(self.config, n, height, width, rng, labels=labels)

    def _read_labels(self, labels: Any, n: int) -> np.ndarray:
        y = read_labels(labels, self.num_classes)
        if len(y) != n:
            raise ValueError(f"labels must have one label for each of {n} images, got {len(y)}")
        return y

    def render(
        self,
        plan: MixPlan,
        images: Any,
        labels: Any,
        *,
        second: Any = None,
        maps: Any = None,
        second_maps: Any = None,
        also: Mapping[str, Any] | None = None,
        second_also: Mapping[str, Any] | None = None,
    ) -> MixedBatch:
        """Mix `images` according to `plan`. The result depends only on the plan, the views and their guides.

        Raises
        ------
        TypeError, ValueError
            If an argument is invalid, or if the plan cannot be rendered (see `MixPlan.checked`).
        """
        plan, images = plan.checked(), check_batch(images, "images")
        y = self._read_labels(labels, len(plan))
        return self._render(plan, images, y, second, maps, second_maps, also, second_also)

    def _warn_unmixed(self, plan: MixPlan) -> None:
        """Warn once that self-pairs stay unmixed because there are no second views."""
        alone = int(plan.alone.sum())
        if alone:
            pairing = self.config.pairing
            remedy = "" if pairing == "random" else f" and draw batches in which pairing={pairing!r} finds partners"
            self._once.warn(
                "unmixed",
                f"{alone} of {len(plan)} samples are paired with themselves but have no second view, so "
                "they come out unmixed. Pass other augmented views of the same samples as second=, or set "
                f"p_self=0{remedy}",
            )

    def _maps(self, count: int, second: Any, maps: Any, second_maps: Any) -> Callable[[int, int], Any] | None:
        """Return the caller's maps, by (which, sample); None if there are none."""
        if maps is None and second_maps is None:
            return None
        if second is None and second_maps is not None:
            raise ValueError("second_maps needs second views: pass second=")
        if maps is None or (second is not None and second_maps is None):
            raise ValueError("maps and second_maps must be given together if there are second views")
        if self.guide is not None:
            raise ValueError("guides are either given (maps) or made (MiAMix(guide=...)), got both")
        for name, values in (("maps", maps), ("second_maps", second_maps)):
            if values is not None and (isinstance(values, (str, dict)) or not hasattr(values, "__getitem__")):
                raise TypeError(f"{name} must be an array (N, h, w) or a list of N maps, got {short(values)}")
            if values is not None and len(values) != count:
                raise ValueError(f"{name} must have one map for each of {count} images, got {len(values)}")
        return lambda which, sample: (maps, second_maps)[which][sample]

    def _others(self, plan: MixPlan, images: np.ndarray, second: Any) -> np.ndarray:
        """Return the second views: those of the caller, or the first ones."""
        if second is None:
            self._warn_unmixed(plan)
            return images
        others = check_batch(second, "second")
        if plan.mixes == "features":
            raise ValueError('mixes="features" mixes the features of first views: leave out second=')
        if others.shape != images.shape or others.dtype != images.dtype:
            raise ValueError(
                f"second must be {images.dtype} {images.shape} like images, got {others.dtype} {others.shape}"
            )
        return others

    def _render(
        self,
        plan: MixPlan,
        images: np.ndarray,
        y: np.ndarray,
        second: Any,
        maps: Any,
        second_maps: Any,
        also: Any,
        second_also: Any,
    ) -> MixedBatch:
        if (len(images), *size_of(images.shape[1:], False)) != (len(plan), plan.height, plan.width):
            raise ValueError(
                f"images must be {len(plan)} images of {plan.height} x {plan.width} pixels, as in the plan, got "
                f"{images.shape}"
            )
        if self._ways and plan.mixes == "features":
            raise ValueError(ALSO_WITH_FEATURES)
        if not self._range_is_known:
            self._range_is_known = True
            warn_of_range(images, self._once)
        others = self._others(plan, images, second)
        dtype = self.dtype or ("float32" if self.mean is not None else str(images.dtype))
        channels = 1 if images.ndim == 3 else images.shape[-1]
        scale, bias = normalisation(images.dtype, dtype, channels, self.mean, self.std)
        first = gather(images)
        out = empty_array(images.shape, np.uint8 if dtype == "uint8" else np.float32)
        with_masks = self.return_masks or needs_masks(plan) or bool(self._ways)
        masks = empty_array(plan.masks_shape, np.float32) if with_masks else None
        other = first if second is None else gather(others)
        given = self._maps(len(plan), second, maps, second_maps)
        views = first.addresses, other.addresses
        plan = aim_layers(plan, *views, first.dtype, first.shape, False, self.guide, given)
        lam = mix_views(plan, *views, first.dtype, out, masks, scale, bias)
        given_also = ({} if given is None else given for given in (also, second_also))
        companions = read_given(self._ways, len(plan), (plan.height, plan.width), second is not None, *given_also)
        extras = {name: mixed_companion(plan, way, both, masks) for name, way, *both in companions}
        soft = None
        if self.targets == "soft":
            soft = np.empty(shape_of_targets(y, self.num_classes), dtype=np.float32)
            write_targets(plan, y, lam, self.num_classes, self.label_smoothing, soft)
        return MixedBatch(
            images=out.astype(dtype, copy=False),
            targets=pair_targets(plan, y, lam) if soft is None else soft,
            lam=lam.astype(np.float32, copy=False),
            partner=plan.sources if plan.is_layered else plan.partner,
            plan=plan,
            masks=masks if self.return_masks or needs_masks(plan) else None,
            extras=extras,
        )


def _check_numbers(pairing: Any, label_smoothing: float) -> None:
    """Raise ValueError for what needs classes if labels are numbers."""
    if label_smoothing:
        raise ValueError(
            "label_smoothing spreads a part of each label over the classes, and with num_classes=None there are none: "
            f"leave it out, got {label_smoothing!r}"
        )
    if pairing in PAIRINGS[1:]:
        raise ValueError(
            f"pairing={pairing!r} needs classes, and with num_classes=None there are none: use pairing='random', or a "
            "function of the labels"
        )


def check_guide(guide: Any) -> Callable[[np.ndarray], Any] | None:
    """Raise TypeError unless `guide` is None or callable; return it."""
    if isinstance(guide, str):
        raise TypeError(
            f"guide must be callable, got {guide!r}: how guides are computed is an option of the methods, "
            f"SaliencyMixOptions(guide={guide!r})"
        )
    if guide is not None and not callable(guide):
        raise TypeError(f"guide must be callable, got {short(guide)}")
    return guide  # type: ignore[no-any-return]


def _not_a_config(config: Any) -> str:
    """The error message for a `config` that is not a MiAMixConfig."""
    words = f"config must be a MiAMixConfig, got {short(config)}"
    if isinstance(config, str):
        return f"{words}: did you mean MiAMixConfig.plain({config!r})?"
    if callable(config):
        return f"{words}: pass a transform by keyword, transform=..."
    return words
