"""ManifoldMixup: mixes a hidden layer of a network, on its device, by the plan that a worker drew."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from miamix_cpu.masks import methods_that
from miamix_cpu.mix.mixed_batch import MixedBatch

#: The name of the images among the layers.
INPUT = "input"


class ManifoldMixup:
    """Mix the output of one of some layers of a network, chosen anew for each batch.

    Verma et al., "Manifold Mixup: Better Representations by Interpolating Hidden States", 2019, arXiv:1806.05236:
    h becomes lam * h + (1 - lam) * h[partner]. Beyond the paper, each sample has its own lam, and a mask may take the
    place of lam: any method's, averaged down to the size of the features. The label follows the same mask.

    The plan has everything random, the layer included, so it is drawn from the seed like everything else. If several
    processes train (DDP), each one draws its own layer.

    The layers get forward hooks, which do nothing outside of `with manifold(batch)`. Make it before `torch.compile`.

    Parameters
    ----------
    model : torch.nn.Module
    layers : names of modules of `model`, or modules
        What can be mixed: the outputs of these modules, and with "input" the model's first argument. A batch mixes one
        of them, each with the same probability. The paper takes the input and the first blocks.

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
        inner = model
        while not isinstance(inner, nn.Sequential) and (wrapped := _wrapped_by(inner)) is not None:
            inner = wrapped
        modules = dict(inner.named_modules())
        names = {id(module): name for name, module in modules.items()}
        self.layers: list[str] = []
        for layer in layers:
            name = names.get(id(layer), "") if isinstance(layer, nn.Module) else layer
            if (name != INPUT and name not in modules) or not name:
                known = ", ".join(name for name, _ in inner.named_children())
                raise ValueError(
                    f"layer {name or layer!r} is not a module of the model; it has {known}, and others inside"
                )
            self.layers.append(name)
        if len(set(self.layers)) < len(self.layers):
            raise ValueError(f"layers must not contain a module twice, got {self.layers}")
        self._batch: MixedBatch | None = None
        self._chosen, self._times = "", 0
        self._handles = [
            inner.register_forward_pre_hook(self._mix_input)
            if name == INPUT
            else modules[name].register_forward_hook(self._hook_of(name))
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
            If the layer did not run in the block, or ran more than once.
        """
        if not isinstance(batch, MixedBatch):
            raise TypeError(f"batch must be a MixedBatch (return_batch=True), got {type(batch).__name__}")
        if batch.plan.mixes != "features":
            raise ValueError('the images of the batch are mixed already: use MiAMixConfig(mixes="features")')
        if self._batch is not None:
            raise RuntimeError("a forward pass is already being mixed: leave its `with` block first")
        self._chosen = self.layers[int(batch.plan.depth * len(self.layers))]
        self._batch, self._times = batch, 0
        try:
            yield self._chosen
            if self._times != 1:
                raise RuntimeError(
                    f"layer {self._chosen!r} must run once in the `with` block, ran {self._times} times: call the "
                    "model once in it, and choose layers that run once"
                )
        finally:
            self._batch = None

    def remove(self) -> None:
        """Take the hooks off the model."""
        for handle in self._handles:
            handle.remove()

    def _mix_input(self, module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if self._batch is None or self._chosen != INPUT:
            return None
        self._times += 1
        return (mix_features(arguments[0], self._batch), *arguments[1:])

    def _hook_of(self, name: str) -> Any:
        def hook(module: nn.Module, arguments: Any, output: Any) -> Any:
            if self._batch is None or self._chosen != name:
                return None
            self._times += 1
            if isinstance(output, (tuple, list)):
                return type(output)((mix_features(output[0], self._batch), *output[1:]))
            return mix_features(output, self._batch)

        return hook


def mix_features(features: torch.Tensor, batch: MixedBatch) -> torch.Tensor:
    """Mix features by a batch's lam, or by its masks: weight * h + (1 - weight) * h[partner].

    Parameters
    ----------
    features : (N, ...) for mixup, (N, C, H, W) for other methods
    batch : MixedBatch with `plan.mixes` "features"

    Returns
    -------
    tensor like `features`, in the same memory format

    Raises
    ------
    TypeError, ValueError
        If `features` is not a tensor of N samples, or has no height and width to put a mask on.
    """
    if not isinstance(features, torch.Tensor):
        raise TypeError(f"features must be a tensor, got {type(features).__name__}")
    if len(features) != len(batch.partner):
        raise ValueError(f"features must be of {len(batch.partner)} samples, got {tuple(features.shape)}")
    partners = features[batch.partner]
    if batch.masks is None or not methods_that("fill")[batch.plan.layers["method"]].any():
        weight = batch.lam.view(-1, *[1] * (features.ndim - 1))
    elif features.ndim != 4:
        raise ValueError(
            f"features must be (N, C, H, W) for masks, got {tuple(features.shape)}: use mixup alone for such layers"
        )
    else:
        weight = average_down(batch.masks, features.shape[2], features.shape[3])[:, None]
    weight = weight.to(features.dtype)
    mixed: torch.Tensor = weight * features + (1 - weight) * partners
    return mixed


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
    edges = torch.arange(into + 1, device=like.device, dtype=torch.float64) * (size / into)
    pixels = torch.arange(size, device=like.device, dtype=torch.float64)
    overlap = torch.minimum(edges[1:, None], pixels + 1) - torch.maximum(edges[:-1, None], pixels)
    return (overlap.clamp(min=0) * (into / size)).to(like.dtype)


def _wrapped_by(model: nn.Module) -> nn.Module | None:
    """Return the network inside of torch.compile's or DistributedDataParallel's."""
    for name in ("_orig_mod", "module"):
        inner = getattr(model, name, None)
        if isinstance(inner, nn.Module):
            return inner
    return None
