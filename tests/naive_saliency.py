"""A slow twin of the computed guides, written from their definitions: one pixel, one window, one frequency at a time."""

import cmath
import math

import numpy as np

WINDOWS = (12, 24, 48, 28, 56, 112)


def mirrored(p, size):
    """Index `p` of an axis whose ends are mirrored without repeating the edge."""
    if size == 1:
        return 0
    return -p if p < 0 else 2 * (size - 1) - p if p >= size else p


def blurred(grey):
    """OpenCV's Gaussian of 3 x 3 pixels, in whole numbers, rounded."""
    height, width = len(grey), len(grey[0])
    return [
        [
            (
                sum(
                    (2 - abs(dy)) * (2 - abs(dx)) * grey[mirrored(y + dy, height)][mirrored(x + dx, width)]
                    for dy in (-1, 0, 1)
                    for dx in (-1, 0, 1)
                )
                + 8
            )
            // 16
            for x in range(width)
        ]
        for y in range(height)
    ]


def integral(values):
    """Sums of all pixels above and to the left, float32 (h + 1, w + 1)."""
    height, width = len(values), len(values[0])
    sums = np.zeros((height + 1, width + 1), np.float32)
    for y in range(height):
        for x in range(width):
            sums[y + 1, x + 1] = np.float32(values[y][x]) + sums[y, x + 1] + sums[y + 1, x] - sums[y, x]
    return sums


def clipped(p, size):
    return min(max(p, 0), size)


def fine_grained(grey):
    """Montabone and Soto, 2010, on one uint8 image (h, w); float32 (h, w)."""
    values = blurred(blurred(grey.tolist()))
    height, width = grey.shape
    sums = integral(values)
    on, off = np.zeros(grey.shape, np.float32), np.zeros(grey.shape, np.float32)
    for n in WINDOWS:
        for y in range(height):
            top, bottom = clipped(y - n + 1, height), clipped(y + n + 1, height)
            for x in range(width):
                left, right = clipped(x - n + 1, width), clipped(x + n + 1, width)
                area, g = (bottom - top) * (right - left), np.float32(values[y][x])
                if area == 1:
                    continue
                total = sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]
                mean = (total - g) / np.float32(area - 1)
                on[y, x] += int(max(g - mean, np.float32(0)))
                off[y, x] += int(max(mean - g, np.float32(0)))
    on, off = ([[255 * int(v) // max(1, int(part.max())) for v in row] for row in part] for part in (on, off))
    most = max(1, *(v for part in (on, off) for row in part for v in row))
    both = [[255 * (a + b) // most for a, b in zip(*rows, strict=True)] for rows in zip(on, off, strict=True)]
    return np.array(both, np.float32) * np.float32(1 / 255)


def spectral(grey):
    """Hou and Zhang, 2007, on one uint8 image (h, w); float64 (h, w)."""
    height, width = grey.shape
    if grey.max() == grey.min():
        return np.zeros(grey.shape)
    spectrum = transform(grey / 255, -1)
    logs = [[math.log(abs(f) + 1e-8) for f in row] for row in spectrum]
    residual = np.empty(grey.shape, complex)
    for y in range(height):
        for x in range(width):
            near = [logs[(y + dy) % height][(x + dx) % width] for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
            size = math.exp(logs[y][x] - sum(near) / 9)
            residual[y, x] = spectrum[y, x] / (abs(spectrum[y, x]) + 1e-8) * size
    found = np.abs(transform(residual, 1)) / (height * width)
    weights = [math.exp(-(d**2) / 18) for d in range(-3, 4)]
    guide = np.zeros(grey.shape)
    for y in range(height):
        for x in range(width):
            for dy, a in zip(range(-3, 4), weights, strict=True):
                for dx, b in zip(range(-3, 4), weights, strict=True):
                    guide[y, x] += a * b * found[clipped(y + dy, height - 1), clipped(x + dx, width - 1)]
    return guide / sum(weights) ** 2


def transform(values, sign):
    """The discrete Fourier transform in two dimensions, not divided by anything."""
    height, width = values.shape
    rows, columns = (
        np.array([[cmath.exp(sign * 2j * math.pi * (p * q % n) / n) for q in range(n)] for p in range(n)])
        for n in (height, width)
    )
    return rows @ values @ columns


def averaged(values, height, width):
    """Resize a plane: each pixel is the mean of the area that it covers, fractions of pixels included; float64."""
    rows, columns = values.shape
    out = np.empty((height, width))
    for y in range(height):
        for x in range(width):
            total = 0.0
            for q in range(y * rows // height, min(rows, (y + 1) * rows // height + 1)):
                for p in range(x * columns // width, min(columns, (x + 1) * columns // width + 1)):
                    tall = max(0.0, min(q + 1, (y + 1) * rows / height) - max(q, y * rows / height))
                    wide = max(0.0, min(p + 1, (x + 1) * columns / width) - max(p, x * columns / width))
                    total += tall * wide * float(values[q, p])
            out[y, x] = total * height / rows * width / columns
    return out
