"""A slow twin of every stage, written from the paper: one pixel, one sample, one layer at a time, in float64.

Nothing here is optimised, and nothing is imported from the package. `masks/twins.py` has what needs guides or resizing.
"""

from __future__ import annotations

import cmath
import math
from fractions import Fraction

import numpy as np

from tests.masks import twins

METHODS = (
    "mixup", "cutmix", "fmix", "gridmix", "gmix", "agmix",
    "hmix", "smoothmix", "resizemix", "saliencymix", "attentivecutmix", "guidedmixup",
)  # fmt: skip
TURNED = ("cutmix", "fmix", "gridmix", "saliencymix")
SMOOTHED = (*TURNED, "hmix", "attentivecutmix")


# Stage 1 -------------------------------------------------------------------------------------------------------------


def partners(n, p_self, rng):
    """Shuffle until nobody is left in place; then each goes back to itself with p_self."""
    while True:
        order = list(rng.permutation(n))
        if n == 1 or all(order[i] != i for i in range(n)):
            break
    return [i if rng.random() < p_self else order[i] for i in range(n)]


# Stage 2 -------------------------------------------------------------------------------------------------------------


def ratios(k, alpha, rng):
    """Eq. (9) by NumPy's own Dirichlet."""
    return rng.dirichlet([alpha] * k + [k * alpha])[:k]


def draw_layer(config, ratio, uniform, height, width):
    """A layer's fields from its uniform numbers, as a dict; only those that the method uses."""
    total, method = 0.0, None
    weights = dict(zip(config.methods, config.weights, strict=True))
    for name in METHODS:
        total += weights.get(name, 0.0)
        if uniform[0] < total / sum(config.weights):
            method = name
            break
    layer = {"method": method, "ratio": ratio, "augmented": False, "angle": 0.0, "shear": 0.0, "window": 0}
    shorter = min(height, width)
    if method in TURNED and uniform[1] < config.p_aug:
        layer["augmented"] = True
        layer["angle"] = math.radians(config.angle_max * (2 * uniform[3] - 1))
        layer["shear"] = config.shear_max * (2 * uniform[4] - 1)
    if method in SMOOTHED and uniform[2] < config.p_smooth:
        windows = list(range(3, max(3, min(181, int(config.smooth_max * shorter))) + 1, 2))
        layer["window"] = windows[int(uniform[5] * len(windows))]
    a, b, c, d = uniform[6:]
    if method == "cutmix":
        sides = [math.sqrt(ratio)] * 2
        if config.cutmix.minmax:
            low, high = config.cutmix.minmax
            sides = [low + (high - low) * c, low + (high - low) * d]
            layer["ratio"] = sides[0] * sides[1]
        inside = config.cutmix.inside or config.cutmix.minmax
        layer["cy"] = sides[0] / 2 + a * (1 - sides[0]) if inside else a
        layer["cx"] = sides[1] / 2 + b * (1 - sides[1]) if inside else b
        layer["height"], layer["width"] = sides
    elif method == "fmix":
        layer["dither"] = a
    elif method == "gridmix":
        choices = range(config.gridmix.cells[0], config.gridmix.cells[1] + 1)
        layer["cells"] = choices[int(c * len(choices))]
        if config.gridmix.pattern == "random":
            layer["dither"] = a
            layer["rows"] = layer["columns"] = layer["cells"]
            layer["is_field"] = True
        else:
            layer["cy"], layer["cx"], layer["height"] = a, b, math.sqrt(ratio)
    elif method in ("gmix", "agmix"):
        layer["cy"], layer["cx"] = a, b
        q = 0.0
        if method == "agmix":
            q = config.agmix.q_max * (2 * d - 1)
            layer["angle"] = 2 * math.pi * c + math.pi / 4
        sigma = math.sqrt(ratio)
        if config.gauss_scale == "area":
            sigma = math.sqrt(ratio / (2 * math.pi * math.sqrt(1 - q * q)))
        least = 0.5 / shorter if ratio > 0 else 0.0
        layer["width"] = max(least, sigma * math.sqrt(1 + q))
        layer["height"] = max(least, sigma * math.sqrt(1 - q))
    elif method == "hmix":
        layer |= twins.draw_hmix(config, ratio, a, b, height, width)
    elif method == "smoothmix":
        layer |= twins.draw_smoothmix(config, a, b, c)
    elif method == "resizemix":
        layer |= twins.draw_resizemix(config, ratio, a, b, c, height, width)
    elif method == "saliencymix":
        layer["height"] = layer["width"] = math.sqrt(ratio)
        layer["guide"] = 1 + twins.GUIDES.index(config.saliencymix.guide)
    elif method == "attentivecutmix":
        layer |= twins.draw_attentivecutmix(config, a)
    elif method == "guidedmixup":
        layer |= twins.draw_guidedmixup(config, height, width)
    return layer


# Stage 3 -------------------------------------------------------------------------------------------------------------


def turned(dy, dx, angle, shear):
    """Coordinates (v, u) of the offset (dy, dx): rotated, then sheared along u."""
    u = dx * math.cos(angle) + dy * math.sin(angle)
    v = -dx * math.sin(angle) + dy * math.cos(angle)
    return v, u + shear * v


def pixels(height, width):
    for y in range(height):
        for x in range(width):
            yield y, x


def mixup(height, width, ratio):
    return np.full((height, width), float(ratio))


def cutmix(height, width, cy, cx, side_y, side_x, angle=0.0, shear=0.0):
    """The hole, and how far each pixel's centre is from its edge, on the unit square."""
    hole, margin = np.zeros((height, width)), np.zeros((height, width))
    for y, x in pixels(height, width):
        v, u = turned((y + 0.5) / height - cy, (x + 0.5) / width - cx, angle, shear)
        hole[y, x] = abs(v) < side_y / 2 and abs(u) < side_x / 2
        margin[y, x] = min(abs(abs(v) - side_y / 2), abs(abs(u) - side_x / 2))
    return hole, margin


def gridmix(height, width, cells, side, phase_y, phase_x, angle=0.0, shear=0.0):
    """The hole, and how far each pixel's centre is from an edge, in cells."""
    hole, margin = np.zeros((height, width)), np.zeros((height, width))
    cell = min(height, width) / cells
    for y, x in pixels(height, width):
        v, u = turned((y + 0.5 - height / 2) / cell, (x + 0.5 - width / 2) / cell, angle, shear)
        v, u = (v + phase_y) % 1.0, (u + phase_x) % 1.0
        hole[y, x] = side >= 1 or (v < side and u < side)
        margin[y, x] = min(min(t, 1 - t, abs(t - side)) for t in (v, u))
    return hole, margin


def random_cells(cells, noise, ratio, dither):
    """1 for the floor(ratio * cells^2 + dither) cells of largest noise, which are holes, and 0 for others, row by row."""
    return largest(noise, min(cells * cells, math.floor(ratio * cells * cells + dither)))


def gridmix_random(height, width, cells, chosen, angle=0.0, shear=0.0):
    """Cells of which `chosen` is 1 are holes; cells beyond the image repeat those of the other side."""
    hole, margin = np.zeros((height, width)), np.zeros((height, width))
    for y, x in pixels(height, width):
        v, u = turned(((y + 0.5) / height - 0.5) * cells, ((x + 0.5) / width - 0.5) * cells, angle, shear)
        v, u = v + cells / 2, u + cells / 2
        if angle == 0 and shear == 0:
            v, u = Fraction((2 * y + 1) * cells, 2 * height), Fraction((2 * x + 1) * cells, 2 * width)
        hole[y, x] = chosen[(math.floor(v) % cells) * cells + math.floor(u) % cells]
        margin[y, x] = min(min(t % 1, 1 - t % 1) for t in (v, u))
    return hole, margin


def gaussian(height, width, cy, cx, sigma_v, sigma_u, angle):
    """exp(-1/2 d' S^-1 d) with S = R diag R' inverted by NumPy."""
    hole = np.zeros((height, width))
    if sigma_v == 0 or sigma_u == 0:
        return hole
    rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    precision = np.linalg.inv(rotation @ np.diag([sigma_u**2, sigma_v**2]) @ rotation.T)
    for y, x in pixels(height, width):
        d = np.array([(x + 0.5) / width - cx, (y + 0.5) / height - cy])
        hole[y, x] = math.exp(-0.5 * d @ precision @ d)
    return hole


def agmix_precision(sigma, q, angle):
    """The inverse of sigma^2 R Sigma R' of eq. (5)-(6), Sigma = [[1, q], [q, 1]]."""
    rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return np.linalg.inv(sigma**2 * rotation @ np.array([[1, q], [q, 1]]) @ rotation.T)


def fmix_field(height, width, noise, decay, angle=0.0, shear=0.0):
    """The field of the harmonics noise[kx, ky + Ky] (real, imaginary), one complex exponential at a time."""
    columns, rows = noise.shape[:2]
    longer = max(height, width)
    # A maps coordinates, A^-T frequencies (fx, fy).
    rotate = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    inverse_transpose = np.linalg.inv(np.array([[1, shear], [0, 1]]) @ rotate).T
    field = np.zeros((height, width))
    for kx in range(columns):
        for row in range(rows):
            ky = row - rows // 2
            if kx == 0 and ky <= 0:
                continue
            f = np.linalg.norm(inverse_transpose @ np.array([kx / width, ky / height]))
            amplitude = (max(f, 1 / longer) * longer) ** -decay
            amplitude *= math.sqrt(0.5) ** ((2 * kx == width) + (2 * abs(ky) == height))
            c = amplitude * complex(*noise[kx, row])
            for y, x in pixels(height, width):
                field[y, x] += (c * cmath.exp(2j * math.pi * (ky * y / height + kx * x / width))).real
    return field


def largest(values, count):
    """1 at the `count` largest, the first index first among equals."""
    flat = np.ravel(values)
    chosen = sorted(range(flat.size), key=lambda p: (-flat[p], p))[:count]
    hole = np.zeros(flat.size)
    hole[chosen] = 1
    return hole.reshape(np.shape(values))


def smooth(hole, window):
    """The mean over a window, each neighbour looked up by itself, borders mirrored."""
    height, width = hole.shape

    def mirrored(i, n):
        while not 0 <= i < n:
            i = -1 - i if i < 0 else 2 * n - 1 - i
        return i

    radius = window // 2
    out = np.zeros_like(hole, dtype=float)
    for y, x in pixels(height, width):
        for dy in range(-radius, radius + 1):
            for dx in range(-radius, radius + 1):
                out[y, x] += hole[mirrored(y + dy, height), mirrored(x + dx, width)]
    return out / window**2


def hole_of(layer, coefficients, height, width):
    """The hole of a plan's layer, smoothed."""
    method = METHODS[layer["method"]]
    start, rows, columns = int(layer["start"]), int(layer["rows"]), int(layer["columns"])
    place = (float(layer["cy"]), float(layer["cx"]))
    turn = (float(layer["angle"]), float(layer["shear"]))
    sides = (float(layer["height"]), float(layer["width"]))
    ratio = float(layer["ratio"])
    if method == "mixup":
        hole = mixup(height, width, ratio)
    elif method in ("cutmix", "saliencymix"):
        hole = cutmix(height, width, *place, *sides, *turn)[0]
    elif method in ("hmix", "resizemix"):
        hole = twins.box(height, width, *place, *sides, float(layer["level"]))
    elif method == "fmix":
        if layer["is_field"]:
            field = coefficients[start : start + rows * columns].reshape(rows, columns)
        else:
            noise = coefficients[start : start + 2 * rows * columns].reshape(columns, rows, 2)
            field = fmix_field(height, width, noise, float(layer["decay"]), *turn)
        hole = largest(field, math.floor(ratio * height * width + float(layer["dither"])))
    elif method == "guidedmixup":
        hole = twins.interpolate(coefficients[start : start + rows * columns].reshape(rows, columns), height, width)
    elif method in ("gridmix", "attentivecutmix"):
        cells = int(layer["cells"])
        if rows:
            hole = gridmix_random(height, width, cells, coefficients[start : start + rows * columns], *turn)[0]
        else:
            hole = gridmix(height, width, cells, float(layer["height"]), *place, *turn)[0]
    else:
        hole = gaussian(height, width, *place, *sides, turn[0])
    return smooth(hole, int(layer["window"])) if layer["window"] else hole


# Stage 4 -------------------------------------------------------------------------------------------------------------


def merge(holes, height, width, how):
    if how == "mul":
        mask = np.ones((height, width))
        for hole in holes:
            mask = mask * (1 - hole)
        return mask
    return 1 - np.clip(sum(holes, np.zeros((height, width))), 0, 1)


def mask_and_lam(plan, i):
    layers = plan.layers[plan.layers["sample"] == i]
    holes = [hole_of(layer, plan.coefficients, plan.height, plan.width) for layer in layers]
    mask = merge(holes, plan.height, plan.width, plan.merge)
    lam = mask.mean() if plan.lam_from == "merged" else max(0.0, 1 - sum(layers["ratio"]))
    return mask, lam


def blend(mask, first, second):
    """Eq. (7), one pixel at a time, in float64."""
    out = np.zeros(first.shape)
    for y, x in pixels(*mask.shape):
        out[y, x] = mask[y, x] * first[y, x].astype(float) + (1 - mask[y, x]) * second[y, x].astype(float)
    return out


def one_hot(label, num_classes, smoothing=0.0):
    """timm's: off = s / C, on = 1 - s + s / C."""
    row = np.full(num_classes, smoothing / num_classes)
    row[label] += 1 - smoothing
    return row


def target(y_a, y_b, lam):
    return lam * y_a + (1 - lam) * y_b


def resized_layers(plan, i):
    """The layers of sample `i` that resize its partner."""
    return plan.layers[(plan.layers["sample"] == i) & (plan.layers["method"] == METHODS.index("resizemix"))]


def mix(plan, images, second, labels, num_classes):
    """The whole batch: mixed images in float64, targets, lams, masks."""
    images_out, targets, lams, masks = [], [], [], []
    for i in range(len(images)):
        mask, lam = mask_and_lam(plan, i)
        t = int(plan.partner[i])
        images_out.append(blend(mask, images[i], twins.with_resized(resized_layers(plan, i), second[t])))
        targets.append(target(one_hot(labels[i], num_classes), one_hot(labels[t], num_classes), lam))
        lams.append(lam)
        masks.append(mask)
    return np.stack(images_out), np.stack(targets), np.array(lams), np.stack(masks)
