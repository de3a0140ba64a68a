"""Decode one JPEG photograph to RGB in several ways: what a dataset can save beside this library."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.timing import one_thread, parser, table, write


def ways() -> tuple[dict[str, Callable[[bytes], Any]], list[str]]:
    """Functions from a file's bytes to an array, and those that can't be had here."""
    import cv2

    def of_cv2(flag: int) -> Callable[[bytes], Any]:
        return lambda data: cv2.imdecode(np.frombuffer(data, np.uint8), flag)

    found: dict[str, Callable[[bytes], Any]] = {
        "cv2.imdecode": of_cv2(cv2.IMREAD_COLOR_RGB),
        "cv2.imdecode, half the size": of_cv2(cv2.IMREAD_REDUCED_COLOR_2),
    }
    skipped = []
    try:
        import simplejpeg

        found["simplejpeg"] = lambda data: simplejpeg.decode_jpeg(data)
        found["simplejpeg, fast transform and upsampling"] = lambda data: simplejpeg.decode_jpeg(
            data, fastdct=True, fastupsample=True
        )
        found["simplejpeg, at least 224 pixels"] = lambda data: simplejpeg.decode_jpeg(
            data, min_height=224, min_width=224, min_factor=1
        )
    except ImportError as error:
        skipped.append(f"simplejpeg: {error}")
    try:
        import io

        from PIL import Image

        found["Pillow"] = lambda data: np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    except ImportError as error:
        skipped.append(f"Pillow: {error}")
    return found, skipped


def main() -> None:
    """Measure, print, write."""
    given = parser(__doc__.splitlines()[0], "jpeg").parse_args()
    one_thread()
    import cv2

    from miamix_cpu.cli.preview import photographs

    result: dict[str, Any] = {}
    decoders, skipped = ways()
    for side in (400, 800):
        files = []
        for _, picture in photographs():
            scale = side / min(picture.shape[:2])
            resized = cv2.resize(picture, None, fx=scale, fy=scale)
            files.append(cv2.imencode(".jpg", cv2.cvtColor(resized, cv2.COLOR_RGB2BGR))[1].tobytes())
        times: dict[str, list[float]] = {name: [] for name in decoders}
        for _ in range(3 if given.quick else 40):
            for name, decode in decoders.items():
                start = time.perf_counter()
                for data in files:
                    decode(data)
                times[name].append((time.perf_counter() - start) / len(files))
        result[str(side)] = {name: 1e3 * statistics.median(values) for name, values in times.items()}
    names = list(decoders)
    rows = [[name, *(f"{result[side][name]:.2f}" for side in result)] for name in names]
    print(table(["milliseconds a photograph, shorter side", *result], rows))
    write(given.json, {"milliseconds": result, "skipped": skipped})


if __name__ == "__main__":
    main()
