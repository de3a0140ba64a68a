"""AutoMix: the masks are drawn by a block that is trained along with the network (Liu et al., 2021, arXiv:2103.13027).

A second network, the moving average of the trained one, gives the features that the block sees, and it judges the
images that the block mixes: its loss trains the block. The trained network learns from the images as they are, and
from the mixed ones, whose label has the ratio that was drawn.

The paper, as far as we have it, leaves these open: one ratio and one order of partners for a batch; masks are constant
within a pixel of the features; a cosine takes the average's momentum and the weight of the ratio's loss to their ends;
the averaged network normalises by the statistics of its batch; the block has the network's optimizer. Masks are float32
in [0, 1] and weigh the partner.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.training.networks import Residual
from miamix_cpu import mixed_cross_entropy
from miamix_cpu.checks import check_real
from miamix_cpu.options import set_fields

STAGE = 3
LAST_MOMENTUM = 0.99999
MARGIN = 0.08  # ratios as near as this to 0 or 1 are plain mixup
RATIO_WEIGHT, RATIO_SLACK = 0.1, 0.1
COMPARE_EACH = 16  # batches: how often the block's masks are compared with plain mixup, for the record


@dataclass(frozen=True, kw_only=True)
class AutoMixOptions:
    """What may be chosen.

    Parameters
    ----------
    alpha : float
        The ratio is drawn from Beta(alpha, alpha).
    momentum : float
        Of the averaged network in the first step; it ends at 0.99999.
    """

    alpha: float = 2.0
    momentum: float = 0.999

    def __post_init__(self) -> None:
        alpha = check_real("alpha", self.alpha, above=True)
        set_fields(self, alpha=alpha, momentum=check_real("momentum", self.momentum, high=LAST_MOMENTUM))


class MixBlock(nn.Module):
    """Masks from the features of two images, by attention of the one to the other.

    Parameters
    ----------
    channels : int
        C, of the features.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query_key = nn.Conv2d(channels + 1, channels // 2, 1)
        self.value = nn.Conv2d(channels, 1, 1)

    def forward(
        self, features: torch.Tensor, partners: torch.Tensor, lam: float, size: tuple[int, int]
    ) -> torch.Tensor:
        """The partners' masks, float32 (N, 1, *size), from features (N, C, h, w); `lam` is the images' own share."""
        with torch.autocast(features.device.type, enabled=False):  # half precision is too coarse for the products
            features, partners = features.float(), partners.float()
            query = self.query_key(_with_channel(features, lam)).flatten(2)  # (N, C / 2, h w)
            key = self.query_key(_with_channel(partners, 1 - lam)).flatten(2)
            attention = torch.softmax(query.transpose(1, 2) @ key / math.sqrt(query.shape[1]), dim=2)
            seen = attention @ self.value(partners).flatten(2).transpose(1, 2)  # (N, h w, 1)
            return torch.sigmoid(F.interpolate(seen.view(len(seen), 1, *features.shape[2:]), size, mode="nearest"))


class AutoMix(nn.Module):
    """The block, the averaged network, and the loss of a batch.

    Parameters
    ----------
    network : Residual
        As it is before the first step.
    options : AutoMixOptions
    """

    def __init__(self, network: Residual, options: AutoMixOptions) -> None:
        super().__init__()
        self.options = options
        self.layers, channels = network.stages[STAGE - 1]
        self.average = _averaged(network)
        self.block = MixBlock(channels).to(next(network.parameters()).device)

    def begin(self, seed: int, epoch: int) -> None:
        """Start an epoch; all that is drawn in it hangs on these two numbers."""
        self.rng = np.random.default_rng([seed, epoch])
        self.sums: dict[str, torch.Tensor] = {}
        self.counts: dict[str, int] = {}
        self.step = 0

    def loss(
        self, network: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor, targets: torch.Tensor, done: float
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Of a batch, and the logits and targets of the mixed images.

        Parameters
        ----------
        network : the one that is trained
        images : float32 (N, 3, H, W)
        targets : (N, classes)
        done : float in [0, 1)
            Share of the training.
        """
        lam = float(self.rng.beta(self.options.alpha, self.options.alpha))
        partner = torch.from_numpy(self.rng.permutation(len(images))).to(images.device)
        mixed_targets = torch.lerp(targets[partner], targets, lam)
        if MARGIN <= lam <= 1 - MARGIN:
            mixed, block_loss = self.mix(images, partner, lam, mixed_targets, done)
        else:
            mixed, block_loss = _mixed(images, partner, 1 - lam), torch.zeros((), device=images.device)
        logits = network(images).float()
        mixed_logits = network(mixed.detach()).float()
        one_hot_loss = mixed_cross_entropy(logits, targets)
        mixed_loss = mixed_cross_entropy(mixed_logits, mixed_targets)
        self._note(one_hot_loss=one_hot_loss, mixed_loss=mixed_loss)
        self.step += 1
        return one_hot_loss + mixed_loss + block_loss, mixed_logits, mixed_targets

    def mix(
        self, images: torch.Tensor, partner: torch.Tensor, lam: float, targets: torch.Tensor, done: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The images that the block mixes, and its loss; `targets` are those of the mixed images."""
        with torch.no_grad():
            features = self.average[: self.layers](images)
        mask = self.block(features, features[partner], lam, images.shape[2:])
        mixed = _mixed(images, partner, mask)
        loss = mixed_cross_entropy(self.average(mixed).float(), targets)
        inside = mask.std(dim=(1, 2, 3), correction=0)
        self._note(block_loss=loss, mask_std=inside.mean(), ratio_error=distances(mask, lam).mean())
        if self.step % COMPARE_EACH == 0:
            with torch.no_grad():
                plain = mixed_cross_entropy(self.average(_mixed(images, partner, 1 - lam)).float(), targets)
                self._note(less_than_mixup=plain - loss)
        return mixed, loss + RATIO_WEIGHT * _falling(done) * ratio_loss(mask, lam)

    @torch.no_grad()
    def follow(self, network: nn.Module, done: float) -> None:
        """Move the averaged network after a step of the trained one."""
        m = momentum(self.options.momentum, done)
        for own, other in zip(self.average.parameters(), network.parameters(), strict=True):
            own.lerp_(other, 1 - m)

    def noted(self) -> dict[str, float]:
        """Means over the epoch.

        `one_hot_loss`, `mixed_loss` and `block_loss` are the cross-entropies; `mask_std` the standard deviation inside
        a mask; `ratio_error` the distance of 1 - a mask's mean from the ratio; `less_than_mixup`, on each 16th batch,
        by how much `block_loss` is below that of plain mixup of the same images in the same ratio.
        """
        return {name: round(float(total) / self.counts[name], 5) for name, total in self.sums.items()}

    def _note(self, **values: torch.Tensor) -> None:
        """Nothing is read from the device before the epoch's end."""
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value.detach().double()
            self.counts[name] = self.counts.get(name, 0) + 1


def distances(mask: torch.Tensor, lam: float) -> torch.Tensor:
    """How far the images' own share, 1 - the mean of the partner's mask, is from `lam`; (N,)."""
    return (1 - mask.mean(dim=(1, 2, 3)) - lam).abs()


def ratio_loss(mask: torch.Tensor, lam: float) -> torch.Tensor:
    """What of these distances is beyond the slack; 0 where the masks keep to the ratio."""
    return (distances(mask, lam) - RATIO_SLACK).clamp(min=0).mean()


def momentum(first: float, done: float) -> float:
    """From `first` to 0.99999."""
    return LAST_MOMENTUM - (LAST_MOMENTUM - first) * _falling(done)


def _falling(done: float) -> float:
    """A cosine from 1 to 0."""
    return 0.5 * (1 + math.cos(math.pi * done))


def _mixed(images: torch.Tensor, partner: torch.Tensor, share: torch.Tensor | float) -> torch.Tensor:
    return images + share * (images[partner] - images)


def _with_channel(features: torch.Tensor, value: float) -> torch.Tensor:
    return torch.cat([features, torch.full_like(features[:, :1], value)], dim=1)


def _averaged(network: Residual) -> Residual:
    """A copy that no gradient changes and that normalises by its batch, in training and in evaluation."""
    found = copy.deepcopy(network).requires_grad_(False)
    for module in found.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.track_running_stats = False
            module.running_mean = module.running_var = module.num_batches_tracked = None
    return found
