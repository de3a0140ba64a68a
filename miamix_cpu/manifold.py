"""ManifoldMixup: mixes a hidden layer of a network, on its device, by the plan that a worker drew."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from miamix_cpu.masks import methods_that
from miamix_cpu.mix.mixed_batch import MixedBatch
from miamix_cpu.mix.render import needs_masks

#: The name of the images among the layers.
INPUT = "input"


class ManifoldMixup:
    """Mix the output of one of some layers of a network, chosen anew for each batch.

    Verma et al., "Manifold Mixup: Better Representations by Interpolating Hidden States", 2018, arXiv:1806.05236:
    h becomes lam * h + (1 - lam) * h[partner]. Beyond the paper, each sample has its own lam, and a mask may take the
    place of lam: any method's, averaged down to the size of the features. The label follows the same mask.

    The plan has everything random, the layer included, so it is drawn from the seed like everything else. If several
    processes train (DDP), each one draws its own layer.

    The layers get forward hooks, which do nothing outside of `with manifold(batch)`. Make it before `torch.compile`,
    which compiles anew for each layer. A layer can't be mixed where it runs again in the backward pass
    (`torch.utils.checkpoint`).

    Parameters
    ----------
    model : torch.nn.Module
    layers : names of modules of `model`, or modules
        What can be mixed: the outputs of these modules (of a tuple the first), and with "input" the model's first
        argument. The batch is their first dimension. A batch mixes one of them, each with the same probability. The
        paper takes the input and the first blocks.

    Examples
    --------
    >>> from miamix_cpu import MiAMixCollator, MiAMixConfig
    >>> config = MiAMixConfig.recipe("manifold-mixup")
    >>> collate = MiAMixCollator(4, config, seed=0, return_batch=True)
    >>> batch = collate([(torch.zeros(3, 8, 8), label) for label in range(4)])
    >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(4))
    >>> manifold = ManifoldMixup(model, ["input", "0", "1"])
    >>> with manifold(batch):
    ...     logits = model(batch.images)
    >>> logits.shape, batch.targets.shape
    (torch.Size([4, 4]), torch.Size([4, 4]))

    Raises
    ------
    TypeError, ValueError
        If `model` is no module, or a layer is not in it.
    """

    def __init__(self, model: nn.Module, layers: Sequence[str | nn.Module]) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
        if isinstance(layers, (str, nn.Module)) or not layers:
            raise ValueError("layers must be a list of at least one name or module")
        levels = [model]
        while (wrapped := _wrapped_by(levels[-1])) is not None:
            levels.append(wrapped)
        inner = levels[-1]
        modules = {name: m for level in levels for name, m in level.named_modules(remove_duplicate=False)}
        names = {id(module): name for name, module in inner.named_modules()}
        self.layers: list[str] = []
        for layer in layers:
            name = INPUT if layer == INPUT else names.get(id(modules.get(layer) if isinstance(layer, str) else layer))
            if not name:
                what = f"of type {type(layer).__name__}" if isinstance(layer, nn.Module) else repr(layer)
                known = ", ".join(name for name, _ in inner.named_children())
                raise ValueError(f"layer {what} is not a module of the model; it has {known}, and others inside")
            self.layers.append(name)
        if len(set(self.layers)) < len(self.layers):
            raise ValueError(f"layers must not contain a module twice, got {self.layers}")
        if INPUT in self.layers and INPUT in modules:
            raise ValueError(f"the model has a module {INPUT!r}, which is what its first argument is called: rename it")
        self._batch: MixedBatch | None = None
        self._weights: torch.Tensor | None = None
        self._chosen, self._times, self._learns = "", 0, False
        self._handles = [
            inner.register_forward_pre_hook(self._mix_input)
            if name == INPUT
            else modules[name].register_forward_hook(partial(self._mix_output, name))
            for name in self.layers
        ]

    @contextmanager
    def __call__(self, batch: MixedBatch) -> Iterator[str]:
        """Mix one layer in the forward pass inside of the `with` block; its value is the layer's name.

        Parameters
        ----------
        batch : MixedBatch
            From a collator with `MiAMixConfig(mixes="features")`, on the model's device.

        Raises
        ------
        TypeError, ValueError
            If the batch's images are mixed already, or the features do not fit the batch.
        RuntimeError
            If the layer did not run in the block, ran more than once, or will run again in the backward pass.
        """
        if not isinstance(batch, MixedBatch):
            raise TypeError(f"batch must be a MixedBatch (return_batch=True), got {type(batch).__name__}")
        if self._batch is not None:
            raise RuntimeError("a forward pass is already being mixed: leave its `with` block first")
        weights = _weights_of(batch)
        self._chosen = self.layers[int(batch.plan.depth * len(self.layers))]
        self._batch, self._weights, self._times, self._learns = batch, weights, 0, torch.is_grad_enabled()
        try:
            yield self._chosen
            if self._times != 1:
                raise RuntimeError(
                    f"layer {self._chosen!r} must run once in the `with` block, ran {self._times} times: call the "
                    "model once in it, choose layers that run once, and make ManifoldMixup before torch.compile"
                )
        finally:
            self._batch = self._weights = None

    def remove(self) -> None:
        """Take the hooks off the model."""
        for handle in self._handles:
            handle.remove()

    def _mix_input(self, module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if self._batch is None or self._chosen != INPUT:
            return None
        if not arguments:
            raise TypeError(f"{INPUT!r} is the model's first argument, but it got keywords only: call model(images)")
        return (self._mixed(arguments[0], module), *arguments[1:])

    def _mix_output(self, name: str, module: nn.Module, arguments: Any, output: Any) -> Any:
        if self._batch is None or self._chosen != name:
            return None
        if not isinstance(output, (tuple, list)):
            return self._mixed(output, module)
        parts = self._mixed(output[0], module), *output[1:]
        return type(output)(*parts) if hasattr(output, "_fields") else type(output)(parts)

    def _mixed(self, features: Any, module: nn.Module) -> torch.Tensor:
        # Reads tensors only, no plan, so that torch.compile can follow.
        self._times += 1
        if self._learns and module.training and not torch.is_grad_enabled():
            raise RuntimeError(
                f"layer {self._chosen!r} ran without gradients, as where torch.utils.checkpoint makes it run again in "
                "the backward pass, which would not be mixed: choose a layer outside"
            )
        return _mix(features, self._batch.partner, self._weights)  # type: ignore[union-attr, arg-type]


def mix_features(features: torch.Tensor, batch: MixedBatch) -> torch.Tensor:
    """Mix features by a batch's lam, or by its masks: weight * h + (1 - weight) * h[partner].

    Parameters
    ----------
    features : (N, ...) for mixup, (N, C, H, W) for other methods; of a floating-point dtype
    batch : MixedBatch with `plan.mixes` "features", of tensors

    Returns
    -------
    tensor like `features`, in the same memory format

    Raises
    ------
    TypeError, ValueError
        If `features` is not a tensor of N samples, or has no height and width to put a mask on.
    """
    return _mix(features, batch.partner, _weights_of(batch))


def _weights_of(batch: MixedBatch) -> torch.Tensor:
    """Return the weights of the samples' own features: one number each (N,), or masks (N, H, W)."""
    plan = batch.plan
    if plan.mixes != "features":
        raise ValueError('the images of the batch are mixed already: use MiAMixConfig(mixes="features")')
    masked = needs_masks(plan)
    weights: Any = batch.masks if masked else batch.lam
    if not isinstance(weights, torch.Tensor):
        raise TypeError(
            f"batch must have tensors, as MiAMixCollator makes them, got {type(weights).__name__} as its "
            f"{'masks' if masked else 'lam'}"
        )
    # A mask of mixup alone is one number, which is not lam if that is nominal (lam_from="orig").
    return weights[:, 0, 0] if masked and not methods_that("fill")[plan.layers["method"]].any() else weights


def _mix(features: Any, partner: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    if not isinstance(features, torch.Tensor):
        raise TypeError(f"features must be a tensor, got {type(features).__name__}")
    shape = tuple(features.shape)
    if not (features.is_floating_point() or features.is_complex()):
        raise TypeError(f"features must be floating point, got {features.dtype}: normalise bytes before the model")
    if shape[:1] != (len(partner),):
        raise ValueError(f"features must be of {len(partner)} samples, got {shape}")
    if weights.ndim == 1:
        weight = weights.view(-1, *[1] * (features.ndim - 1))
    elif features.ndim != 4:
        raise ValueError(f"features must be (N, C, H, W) for masks, got {shape}: use mixup alone for such layers")
    elif _is_channels_last(shape, tuple(weights.shape)):
        raise ValueError(
            f"features must be (N, C, H, W) for masks, got {shape}, which looks like (N, H, W, C): use mixup alone for "
            "such layers"
        )
    else:
        weight = average_down(weights, shape[2], shape[3])[:, None]
    weight = weight.to(features.dtype)
    mixed: torch.Tensor = weight * features + (1 - weight) * features[partner]
    return mixed


def _is_channels_last(shape: tuple[int, ...], masks: tuple[int, ...]) -> bool:
    """Whether the first two sides of features are in proportion to the images, and the last two are far from it."""
    _, rows, columns, channels = shape
    _, height, width = masks
    return rows * width == columns * height and not 0.8 < columns * width / (channels * height) < 1.25


def average_down(masks: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Resize masks by exact area averaging, which keeps their mean, so that `lam` is right at every size.

    Parameters
    ----------
    masks : float32 (N, H, W)
    height, width : int

    Returns
    -------
    float32 (N, height, width)
    """
    rows = _averaging(masks.shape[1], height, masks)
    columns = _averaging(masks.shape[2], width, masks)
    with torch.autocast(masks.device.type, enabled=False):
        return rows @ masks @ columns.T


def _averaging(size: int, into: int, like: torch.Tensor) -> torch.Tensor:
    """(into, size): how much each of `size` pixels counts in each of `into`, which share them evenly."""
    edges = torch.arange(into + 1, device=like.device) * size  # in units of 1 / into of a pixel, so exact
    pixels = torch.arange(size, device=like.device) * into
    overlap = torch.minimum(edges[1:, None], pixels + into) - torch.maximum(edges[:-1, None], pixels)
    return overlap.clamp(min=0).to(like.dtype) / size


def _wrapped_by(model: nn.Module) -> nn.Module | None:
    """Return the network inside of torch.compile's or DistributedDataParallel's."""
    inner = getattr(model, "_orig_mod", None)
    if isinstance(model, (DataParallel, DistributedDataParallel)):
        inner = model.module
    return inner if isinstance(inner, nn.Module) else None
