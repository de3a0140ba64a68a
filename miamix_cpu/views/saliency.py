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
    longer = max(height, width)
    # All windows that hold the whole image are one, which counts several times.
    kinds = 1
    while kinds < scales.size and scales[kinds - 1] < longer:
        kinds += 1
    halves, times = np.minimum(scales[:kinds], longer), np.ones(kinds, np.float32)
    times[kinds - 1] = np.float32(scales.size - kinds + 1)
    columns = np.empty((kinds, width), np.float32)
    for j in range(kinds):
        for x in range(width):
            columns[j, x] = np.float32(min(width, x + halves[j] + 1) - max(0, x - halves[j] + 1))
    values, blurred = np.empty((height + 2, width + 2), np.float32), np.empty((height + 2, width + 2), np.float32)
    on, total = np.empty((height, width), np.float32), np.empty((height, width), np.float32)
    sums = np.empty((height + 1, width + 1 + 2 * min(width, halves[kinds - 1])), np.float32)
    room = np.empty(2 * width, np.float32)
    for i in range(grey.shape[0]):
        for y in range(height):
            for x in range(width):
                values[y + 1, x + 1] = np.float32(grey[i, y, x])
        mirror(values)
        blur(blurred.ravel(), values.ravel(), width + 2)
        mirror(blurred)
        blur(values.ravel(), blurred.ravel(), width + 2)
        integrate(sums, values)
        sum_contrasts(on, total, values, sums, halves, times, columns)
        combine(guides[i], on, total, room)


@exact
def mirror(values: np.ndarray) -> None:
    """Fill the border of one pixel: what lies inside is mirrored, without repeating the edge.

    Parameters
    ----------
    values : float32 (h + 2, w + 2); changed
    """
    height, width = values.shape[0] - 2, values.shape[1] - 2
    for y in range(1, height + 1):
        values[y, 0], values[y, width + 1] = values[y, min(2, width)], values[y, max(1, width - 1)]
    for x in range(width + 2):
        values[0, x], values[height + 1, x] = values[min(2, height), x], values[max(1, height - 1), x]


@exact
def blur(out: np.ndarray, values: np.ndarray, stride: int) -> None:
    """Gaussian filter of 3 x 3 pixels, rounded to whole numbers.

    One loop over all rows: rows apart, which are short, would take twice the time.

    Parameters
    ----------
    out : float32 ((h + 2) * stride,); changed, but for its first and last row. Its border has no meaning.
    values : float32 ((h + 2) * stride,), whole numbers, with a border
    stride : int, pixels of a row with its border
    """
    to = out[stride + 1 :]
    above_left, above, above_right = values, values[1:], values[2:]
    left, middle, right = values[stride:], values[stride + 1 :], values[stride + 2 :]
    below_left, below, below_right = values[2 * stride :], values[2 * stride + 1 :], values[2 * stride + 2 :]
    for p in range(values.size - 2 * stride - 2):
        corners = above_left[p] + above_right[p] + below_left[p] + below_right[p]
        edges = above[p] + left[p] + right[p] + below[p]
        total = corners + np.float32(2.0) * edges + np.float32(4.0) * middle[p]
        to[p] = np.floor((total + np.float32(8.0)) / np.float32(16.0))


@exact
def integrate(sums: np.ndarray, values: np.ndarray) -> None:
    """Integral image: `sums[y, r + x]` is the sum of the pixels above and to the left of (y, x), r the reach.

    Beyond the image it goes on as at the edge, `reach` columns either way: then no window is cut off.

    Parameters
    ----------
    sums : float32 (h + 1, reach + w + 1 + reach); overwritten
    values : float32 (h + 2, w + 2), with a border, which is left out
    """
    height, width = values.shape[0] - 2, values.shape[1] - 2
    reach = (sums.shape[1] - width - 1) // 2
    for p in range(sums.shape[1]):
        sums[0, p] = np.float32(0.0)
    for y in range(height):
        total, row = np.float32(0.0), values[y + 1, 1:]
        before, inside, above = sums[y + 1, : reach + 1], sums[y + 1, reach + 1 :], sums[y, reach + 1 :]
        for p in range(reach + 1):
            before[p] = np.float32(0.0)
        for x in range(width):
            total += row[x]
            inside[x] = total
        for x in range(width):
            inside[x] += above[x]
        after, total = sums[y + 1, reach + 1 + width :], inside[width - 1]
        for p in range(reach):
            after[p] = total


@exact
def sum_contrasts(
    on: np.ndarray,
    total: np.ndarray,
    values: np.ndarray,
    sums: np.ndarray,
    halves: np.ndarray,
    times: np.ndarray,
    columns: np.ndarray,
) -> None:
    """Sum how much each pixel differs from its windows without itself, truncated: all of it, and where it is brighter.

    A window of pixel (y, x) has the rows y - half + 1 to y + half, and columns alike, as far as the image goes.

    Parameters
    ----------
    on, total : float32 (h, w); overwritten
    values : float32 (h + 2, w + 2), with a border, which is left out
    sums : float32 (h + 1, reach + w + 1 + reach), from `integrate`
    halves : int64 (k,), half sides of the windows, at most the longer side; in width, `reach` is enough of them
    times : float32 (k,), how often each counts
    columns : float32 (k, w), how many columns each has at each x
    """
    height, width = on.shape
    reach = (sums.shape[1] - width - 1) // 2
    for y in range(height):
        row, brighter, both = values[y + 1, 1:], on[y], total[y]
        for x in range(width):
            brighter[x] = both[x] = np.float32(0.0)
        for j in range(halves.size):  # window by window of a row, whose sums stay in the core's first cache
            half, often, wide = halves[j], times[j], columns[j]
            top, bottom = max(0, y - half + 1), min(height, y + half + 1)
            high = np.float32(bottom - top)
            left, right = reach + 1 - min(half, width), reach + 1 + min(half, width)
            top_left, top_right = sums[top, left:], sums[top, right:]
            bottom_left, bottom_right = sums[bottom, left:], sums[bottom, right:]
            for x in range(width):
                others = high * wide[x] - np.float32(1.0)
                inside = (bottom_right[x] - top_right[x]) - (bottom_left[x] - top_left[x])
                difference = row[x] - (inside - row[x]) / others
                difference = often * np.trunc(difference) if others > np.float32(0.0) else np.float32(0.0)
                brighter[x] += difference if difference > np.float32(0.0) else np.float32(0.0)
                both[x] += difference


@exact
def combine(guide: np.ndarray, on: np.ndarray, total: np.ndarray, room: np.ndarray) -> None:
    """Scale the brighter and the darker contrasts to 255 each, truncated, and add them.

    Parameters
    ----------
    guide : float32 (h, w); overwritten
    on, total : float32 (h, w), from `sum_contrasts`
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
