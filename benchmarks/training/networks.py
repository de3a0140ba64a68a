"""Residual networks in their CIFAR form: a 3 x 3 stem, no max-pooling (He et al., 2016; Xie et al., 2017)."""

from __future__ import annotations

from functools import partial

import torch
from torch import nn


class Basic(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.path = nn.Sequential(*conv(inputs, width, 3, stride), nn.ReLU(inplace=True), *conv(width, width, 3))
        self.shortcut = shortcut(inputs, width, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, inputs, H, W) to (N, width, H / stride, W / stride)."""
        return torch.relu(self.path(x) + self.shortcut(x))


class Bottleneck(nn.Module):
    """1 x 1, grouped 3 x 3, 1 x 1 beside a shortcut: ResNeXt's block, 32 groups of 4 channels at width 64."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int, groups: int = 32, group_width: int = 4) -> None:
        super().__init__()
        inner, outputs = width * group_width // 64 * groups, width * self.expansion
        self.path = nn.Sequential(
            *conv(inputs, inner, 1), nn.ReLU(inplace=True),
            *conv(inner, inner, 3, stride, groups), nn.ReLU(inplace=True),
            *conv(inner, outputs, 1),
        )  # fmt: skip
        self.shortcut = shortcut(inputs, outputs, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, inputs, H, W) to (N, 4 width, H / stride, W / stride)."""
        return torch.relu(self.path(x) + self.shortcut(x))


def conv(inputs: int, outputs: int, side: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """A convolution without bias and its normalisation."""
    return [
        nn.Conv2d(inputs, outputs, side, stride, side // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]


def shortcut(inputs: int, outputs: int, stride: int) -> nn.Module:
    """The identity, or a 1 x 1 convolution where the shape changes."""
    return nn.Identity() if stride == 1 and inputs == outputs else nn.Sequential(*conv(inputs, outputs, 1, stride))


class Residual(nn.Sequential):
    """Layers in a row; `stages` has, for each stage, how many layers come before its end, and its channels."""

    stages: tuple[tuple[int, int], ...] = ()


def residual(
    num_classes: int, block: type[nn.Module], depths: tuple[int, ...], widths: tuple[int, ...], stem_stride: int = 1
) -> Residual:
    """A stem, stages of blocks each but the first at half the resolution, the mean of all pixels, a linear layer."""
    layers = [*conv(3, widths[0], 3, stem_stride), nn.ReLU(inplace=True)]
    inputs, stages = widths[0], []
    for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
        for i in range(depth):
            layers.append(block(inputs, width, 2 if stage > 0 and i == 0 else 1))
            inputs = width * block.expansion
        stages.append((len(layers), inputs))
    network = Residual(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, num_classes))
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    network.stages = tuple(stages)
    return network


#: By name: from the number of classes to a network. `resnet8` and `small` are for a core or two.
NETWORKS = {
    "resnet18": partial(residual, block=Basic, depths=(2, 2, 2, 2), widths=(64, 128, 256, 512)),
    "resnext50": partial(residual, block=Bottleneck, depths=(3, 4, 6, 3), widths=(64, 128, 256, 512)),
    "resnet8": partial(residual, block=Basic, depths=(1, 1, 1), widths=(16, 32, 64)),
    "small": partial(residual, block=Basic, depths=(1, 1, 1), widths=(32, 64, 128), stem_stride=2),
}
