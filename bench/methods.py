"""One method on one movie, in a process of its own: ``python -m bench.methods FOLDER "NAME"``.

The folder holds ``movie.npy`` (T, H, W) uint16 and ``reference.npy`` (H, W) float64; the outcome is written beside
them. frames/s are from raw to registered frame, on one thread. `bench.report` asks for all methods.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from bench.outcome import save
from pyflow.flow.filters import gaussian_filter
from pyflow.flow.warp import imregister
from pyflow.motion.compensate import compensate_arr
from pyflow.motion.options import OFOptions

Result = tuple[np.ndarray, float]
"""Displacement (T, H, W, 2) and frames per second."""


@dataclass(frozen=True)
class Method:
    """``run(movie, reference)`` gives a `Result` if the module ``needs`` is there; the rest says how to draw it."""

    run: Callable[[np.ndarray, np.ndarray], Result]
    needs: str
    family: str


def pyflow(movie: np.ndarray, reference: np.ndarray, **options: object) -> Result:
    """`compensate_arr`, timed while it runs steadily.

    What is done once per recording comes before the first registered frame; the last frames, whose neighbours' flow is
    known when they are due, come faster.
    """
    stamps: list[float] = []
    _, w = compensate_arr(
        movie, reference, OFOptions(n_workers=1, **options), progress=lambda *_: stamps.append(time.perf_counter())
    )
    steady = 2 * len(movie) // 3
    return w, steady / (stamps[steady] - stamps[0])


def one_by_one(movie: np.ndarray, register: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]) -> Result:
    """Each frame's ``registered, w = register(frame)``; the first frame, which warms up, is not timed."""
    results = [register(movie[0])]
    started = time.perf_counter()
    results += [register(frame) for frame in movie[1:]]
    frames_per_s = (len(movie) - 1) / (time.perf_counter() - started)
    return np.stack([w for _, w in results]), frames_per_s


def smoothed(image: np.ndarray, reference: np.ndarray, sigma: float) -> np.ndarray:
    low, high = reference.min(), reference.max()
    return gaussian_filter((image.astype(np.float32) - low) / (high - low), sigma, n_threads=1)


def dis(movie: np.ndarray, reference: np.ndarray, preset: str) -> Result:
    """OpenCV's patch search on 8-bit images, blurred as noise asks for."""
    import cv2

    cv2.setNumThreads(1)
    flow = cv2.DISOpticalFlow_create(getattr(cv2, f"DISOPTICAL_FLOW_PRESET_{preset}"))
    y, x = np.mgrid[: reference.shape[0], : reference.shape[1]].astype(np.float32)
    top = np.percentile(smoothed(reference, reference, 1.5), 99.8)

    def in_8_bits(image: np.ndarray) -> np.ndarray:
        return np.clip(smoothed(image, reference, 1.5) * (255 / top), 0, 255).astype(np.uint8)

    fixed = in_8_bits(reference)

    def register(frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        w = flow.calc(fixed, in_8_bits(frame), None)
        return cv2.remap(frame, x + w[..., 0], y + w[..., 1], cv2.INTER_CUBIC), w

    return one_by_one(movie, register)


def ilk(movie: np.ndarray, reference: np.ndarray) -> Result:
    """scikit-image's iterative Lucas-Kanade on blurred images."""
    from skimage.registration import optical_flow_ilk

    fixed = smoothed(reference, reference, 2.0)

    def register(frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        v, u = optical_flow_ilk(fixed, smoothed(frame, reference, 2.0), radius=15)
        w = np.stack([u, v], axis=-1)
        return imregister(frame, w, n_threads=1), w

    return one_by_one(movie, register)


AUTO, FIXED = "pyflow, alpha auto (the default)", "pyflow, alpha 1.5"
METHODS = {
    **{
        f"pyflow {quality}, alpha {alpha}": Method(
            partial(pyflow, quality_setting=quality, alpha=alpha), "pyflow", family
        )
        for alpha, family in (("auto", AUTO), (1.5, FIXED))
        for quality in ("quality", "balanced", "fast")
    },
    **{
        f"OpenCV DIS {preset.lower()}, blurred": Method(partial(dis, preset=preset), "cv2", "OpenCV DIS, blurred")
        for preset in ("FAST", "MEDIUM")
    },
    "scikit-image ILK, radius 15": Method(ilk, "skimage", "scikit-image ILK"),
}


def main(folder: Path, name: str) -> None:
    save(folder, *METHODS[name].run(np.load(folder / "movie.npy"), np.load(folder / "reference.npy")))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
