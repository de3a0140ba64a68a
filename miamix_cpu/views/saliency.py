"""Where a view's content is, computed from a grey copy of it: fine-grained and spectral saliency."""

from __future__ import annotations

import numpy as np

from miamix_cpu.jit.flags import exact, exact_entry

#: Half sides of the windows of fine-grained saliency.
_SCALES = np.array([12, 24, 28, 48, 56, 112])


def fine_grained(grey: np.ndarray) -> np.ndarray:
    """Fine-grained saliency: how much a pixel differs from the means of the windows around it, of six sizes.

    Montabone and Soto, "Human detection using a mobile platform and novel features derived from a visual saliency
    mechanism", 2010; what SaliencyMix uses, with the same values as `cv2.saliency.StaticSaliencyFineGrained`.

    Parameters
    ----------
    grey : uint8 (n, h, w), C-contiguous

    Returns
    -------
    float32 (n, h, w), in [0, 2]
        0 everywhere for a constant image.
    """
    guides = np.empty(grey.shape, np.float32)
    fill_fine_grained(guides, grey, _SCALES)
    return guides


@exact_entry
def fill_fine_grained(guides: np.ndarray, grey: np.ndarray, scales: np.ndarray) -> None:
    """`fine_grained`, into an array.

    Everything is computed in float32, which is exact for whole numbers up to 2^24 and vectorises.

    Parameters
    ----------
    guides : float32 (n, h, w), C-contiguous; overwritten
    grey : uint8 (n, h, w), C-contiguous
    scales : int64 (s,), half sides of windows, in ascending order
    """
    height, width = grey.shape[1:]
    values, on, total = (
        np.empty((height, width), np.float32),
        np.empty((height, width), np.float32),
        np.empty((height, width), np.float32),
    )
    sums = np.empty((height + 1, width + 1), np.float32)
    room, areas = np.empty(3 * width + 3, np.float32), np.empty(width, np.float32)
    longer = max(height, width)
    for i in range(grey.shape[0]):
        for y in range(height):
            for x in range(width):
                values[y, x] = np.float32(grey[i, y, x])
                on[y, x] = total[y, x] = np.float32(0.0)
        blur(values, room)
        blur(values, room)
        integrate(sums, values)
        for j in range(scales.size):
            # All windows that hold the whole image are one, which counts several times.
            if j > 0 and scales[j - 1] >= longer:
                break
            times = scales.size - j if scales[j] >= longer else 1
            add_contrasts(on, total, values, sums, min(scales[j], longer), times, room, areas)
        combine(guides[i], on, total, room)


@exact
def blur(values: np.ndarray, room: np.ndarray) -> None:
    """Gaussian filter of 3 x 3 pixels, rounded to whole numbers; borders are mirrored without repeating the edge.

    Parameters
    ----------
    values : float32 (h, w), whole numbers; changed
    room : float32 (at least 2 * w + 2,); overwritten
    """
    height, width = values.shape
    above, sums = room[:width], room[width : 2 * width + 2]
    for x in range(width):
        above[x] = values[min(1, height - 1), x]
    for y in range(height):
        row, below = values[y], values[y + 1 if y + 1 < height else max(0, height - 2)]
        inner = sums[1 : 1 + width]
        if y + 1 < height:
            for x in range(width):
                inner[x] = above[x] + np.float32(2.0) * row[x] + below[x]
        else:  # the row above, as it was before
            for x in range(width):
                inner[x] = above[x] + np.float32(2.0) * row[x] + (above[x] if height > 1 else row[x])
        sums[0], sums[width + 1] = inner[min(1, width - 1)], inner[max(0, width - 2)]
        left, right = sums[0:width], sums[2 : 2 + width]
        for x in range(width):
            above[x] = row[x]
            row[x] = np.floor((left[x] + np.float32(2.0) * inner[x] + right[x] + np.float32(8.0)) / np.float32(16.0))


@exact
def integrate(sums: np.ndarray, values: np.ndarray) -> None:
    """Integral image: `sums[y, x]` is the sum of the pixels above and to the left.

    Parameters
    ----------
    sums : float32 (h + 1, w + 1); overwritten
    values : float32 (h, w)
    """
    for x in range(sums.shape[1]):
        sums[0, x] = np.float32(0.0)
    for y in range(values.shape[0]):
        total, row, below = np.float32(0.0), values[y], sums[y + 1]
        below[0] = total
        for x in range(row.size):
            total += row[x]
            below[x + 1] = total
        for x in range(below.size):
            below[x] += sums[y, x]


@exact
def add_contrasts(
    on: np.ndarray,
    total: np.ndarray,
    values: np.ndarray,
    sums: np.ndarray,
    half: int,
    times: int,
    room: np.ndarray,
    areas: np.ndarray,
) -> None:
    """Add how much each pixel differs from its window without itself, truncated: all of it, and where it is brighter.

    The window of pixel (y, x) has the rows y - half + 1 to y + half, and columns alike, as far as the image goes.

    Parameters
    ----------
    on, total : float32 (h, w); changed
    values : float32 (h, w)
    sums : float32 (h + 1, w + 1), from `integrate`
    half : int, at most the longer side
    times : int, how often the window counts
    room, areas : float32 (3 * w + 3,), (w,); overwritten
    """
    height, width = values.shape
    reach, often = min(half, width), np.float32(times)
    for x in range(width):
        areas[x] = np.float32(min(width, x + half + 1) - max(0, x - half + 1))
    # Sums of the window's rows up to each column, with both ends repeated: then no window is cut off.
    middle, left = room[reach : reach + width + 1], room[1 : 1 + width]
    right = room[2 * reach + 1 : 2 * reach + 1 + width]
    end = room[reach + width + 1 : 2 * reach + width + 1]
    for p in range(reach):
        room[p] = np.float32(0.0)
    for y in range(height):
        top, bottom = sums[max(0, y - half + 1)], sums[min(height, y + half + 1)]
        for p in range(width + 1):
            middle[p] = bottom[p] - top[p]
        whole = bottom[width] - top[width]
        for p in range(reach):
            end[p] = whole
        rows = np.float32(min(height, y + half + 1) - max(0, y - half + 1))
        row, brighter, both = values[y], on[y], total[y]
        for x in range(width):
            others = rows * areas[x] - np.float32(1.0)
            difference = row[x] - (right[x] - left[x] - row[x]) / others
            difference = often * np.trunc(difference) if others > np.float32(0.0) else np.float32(0.0)
            brighter[x] += difference if difference > np.float32(0.0) else np.float32(0.0)
            both[x] += difference


@exact
def combine(guide: np.ndarray, on: np.ndarray, total: np.ndarray, room: np.ndarray) -> None:
    """Scale the brighter and the darker contrasts to 255 each, truncated, and add them.

    Parameters
    ----------
    guide : float32 (h, w); overwritten
    on, total : float32 (h, w), from `add_contrasts`
    room : float32 (at least 2 * w,); overwritten
    """
    height, width = guide.shape
    most_on, most_off = room[:width], room[width : 2 * width]
    for x in range(width):
        most_on[x] = most_off[x] = np.float32(1.0)
    for y in range(height):
        row, both = on[y], total[y]
        for x in range(width):
            off = row[x] - both[x]
            most_on[x] = row[x] if row[x] > most_on[x] else most_on[x]
            most_off[x] = off if off > most_off[x] else most_off[x]
    a, b = np.float32(1.0), np.float32(1.0)
    for x in range(width):
        a, b = max(a, most_on[x]), max(b, most_off[x])
    for y in range(height):
        row, both, out = on[y], total[y], guide[y]
        for x in range(width):
            brighter = np.floor(np.float32(255.0) * row[x] / a)
            darker = np.floor(np.float32(255.0) * (row[x] - both[x]) / b)
            out[x] = (brighter + darker) * np.float32(1 / 255)


def spectral(grey: np.ndarray) -> np.ndarray:
    """Spectral residual saliency: what is left of an image's spectrum when its smooth part is taken away.

    Hou and Zhang, "Saliency Detection: A Spectral Residual Approach", CVPR 2007; what Guided Mixup uses.

    Parameters
    ----------
    grey : uint8 (n, h, w)

    Returns
    -------
    float32 (n, h, w), at least 0
        0 everywhere for a constant image.
    """
    guides = np.empty(grey.shape, np.float32)
    for first in range(0, len(grey), _TOGETHER):
        some = grey[first : first + _TOGETHER]
        found = _whitened(some).astype(np.float32)
        found[some.max(axis=(1, 2)) == some.min(axis=(1, 2))] = 0
        guides[first : first + _TOGETHER] = _gaussian(_gaussian(found, 1), 2)
    return guides


_EPSILON = 1e-8
#: Images that are computed together: few enough for a core's cache. All of a batch of 128 take up to thrice as long.
_TOGETHER = 16
#: Gaussian filter of 7 pixels, sigma 3.
_WEIGHTS = np.exp(-0.5 * (np.arange(-3, 4) / 3) ** 2)
_WEIGHTS = (_WEIGHTS / _WEIGHTS.sum()).astype(np.float32)


def _whitened(grey: np.ndarray) -> np.ndarray:
    """Size of the image whose spectrum has the residual for its amplitudes, float64 (n, h, w).

    The residual is exp(log a - mean of log a around it), a = amplitude + epsilon. The spectrum divided by a, times the
    residual, is the spectrum times exp(-mean). In float32, the errors of amplitudes that should be 0 would be far above
    epsilon, and a diagonal gradient's guide another one.
    """
    height, width = grey.shape[1:]
    spectrum = np.fft.rfft2(grey / 255, axes=(1, 2))  # columns up to width // 2
    logs = np.log(np.abs(spectrum) + _EPSILON)
    # The next column at either end is a mirror image of one that is there: frequencies (-y, -x) and (y, x) are alike.
    half = logs.shape[2]
    ends = logs[:, :, [min(1, half - 1), width - half]][:, -np.arange(height)]
    wide = np.concatenate([ends[:, :, :1], logs, ends[:, :, 1:]], axis=2)
    sums = wide[:, :, :-2] + wide[:, :, 1:-1] + wide[:, :, 2:]
    sums = np.roll(sums, 1, 1) + sums + np.roll(sums, -1, 1)
    whitened: np.ndarray = np.abs(np.fft.irfft2(spectrum * np.exp(sums / -9), s=(height, width), axes=(1, 2)))
    return whitened


def _gaussian(values: np.ndarray, axis: int) -> np.ndarray:
    """Gaussian filter along the axis 1 or 2; the border is repeated."""
    size = values.shape[axis]
    padded = np.take(values, np.clip(np.arange(-3, size + 3), 0, size - 1), axis)
    parts = [padded[:, k : k + size] if axis == 1 else padded[:, :, k : k + size] for k in range(7)]
    filtered: np.ndarray = _WEIGHTS[3] * parts[3]
    for k in range(3):
        filtered += _WEIGHTS[k] * (parts[k] + parts[6 - k])
    return filtered
