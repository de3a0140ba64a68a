"""A slow twin of mixing where each layer brings its own partner, written from the definition, in float64.

What the first j layers leave is their merged mask, by `naive.merge`. The first view has what all of them leave, and the
partner of layer j has what this layer takes of what those before it left.
"""

import numpy as np

from tests import naive
from tests.masks import twins


def weights(holes, height, width, how):
    """The weights of the first view and of each layer's partner, (k + 1, height, width)."""
    left = [naive.merge(holes[:j], height, width, how) for j in range(len(holes) + 1)]
    return np.stack([left[-1], *(left[j] - left[j + 1] for j in range(len(holes)))])


def nominal_weights(ratios):
    """The same of ratios alone, whose sum is clipped (Table 7)."""
    left = [max(0.0, 1 - sum(ratios[:j])) for j in range(len(ratios) + 1)]
    return np.array([left[-1], *(left[j] - left[j + 1] for j in range(len(ratios)))])


def from_shares(shares):
    """The weights of all views at a pixel, if layer j leaves `shares[j]` of what was left: (k + 1, ..)."""
    left = np.cumprod(np.concatenate([np.ones_like(shares[:1]), shares]), axis=0)
    return np.concatenate([left[-1:], left[:-1] * (1 - shares)])


def blend(of_views, views):
    """The sum of weights (k + 1, h, w) times views (k + 1, h, w, ..); a view without weight does not count."""
    total = np.zeros(views[0].shape)
    for weight, view in zip(of_views, views, strict=True):
        weight = weight.reshape(*weight.shape, *(1,) * (view.ndim - weight.ndim))
        total += np.where(weight > 0, weight * np.where(weight > 0, view, 0).astype(np.float64), 0)
    return total


def seen(plan, i, second):
    """The views that the layers of sample `i` show: those of their partners, or these resized."""
    layers = plan.layers[plan.layers["sample"] == i]
    return [
        twins.with_resized(layers[j : j + 1], second[int(plan.partner[i, j])])
        if naive.METHODS[layer["method"]] == "resizemix" else second[int(plan.partner[i, j])]
        for j, layer in enumerate(layers)
    ]  # fmt: skip


def mask_and_lam(plan, i):
    """Weights by pixel and of labels, each with zeros up to k_max + 1."""
    layers, size = plan.layers[plan.layers["sample"] == i], (plan.height, plan.width)
    masks, lam = np.zeros((1 + plan.partner.shape[1], *size)), np.zeros(1 + plan.partner.shape[1])
    k = len(layers)
    masks[: k + 1] = weights([naive.hole_of(layer, plan.coefficients, *size) for layer in layers], *size, plan.merge)
    lam[: k + 1] = nominal_weights(layers["ratio"].tolist())
    return masks, lam if plan.lam_from == "orig" else masks.mean(axis=(1, 2))


def target(plan, i, lam, labels):
    """The labels of the sample and of its layers' partners, one vector each, by their weights."""
    k = int((plan.layers["sample"] == i).sum())
    others = [labels[int(plan.partner[i, j])] for j in range(k)]
    return sum(weight * label for weight, label in zip(lam, [labels[i], *others], strict=False))


def mix(plan, images, second, labels, num_classes):
    """The whole batch: mixed images in float64, targets, the weights of labels, and those of all views by pixel."""
    masks, lams = zip(*(mask_and_lam(plan, i) for i in range(len(images))), strict=True)
    vectors = [naive.one_hot(label, num_classes) for label in labels]
    mixed = [
        blend(masks[i][: 1 + len(shown)], [images[i], *shown])
        for i, shown in enumerate(seen(plan, i, second) for i in range(len(images)))
    ]
    targets = [target(plan, i, lams[i], vectors) for i in range(len(images))]
    return np.stack(mixed), np.stack(targets), np.stack(lams), np.stack(masks)
