"""Accuracy and speed on simulated movies, method by method: ``python -P -m bench.report`` writes docs/performance.md.

All methods get the same frames and the same reference: the mean of the frames registered by the truth. Endpoint error
and jitter (`pyflow.simulate`) are means over frames and pixels 16 px inside the border, and over seeds, with the
smallest and the largest seed in brackets. One thread; frames/s are of the method alone, smoothing included, files and
final warp left out.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

import numpy as np

from pyflow.flow.displacement import FlowEstimator
from pyflow.flow.filters import gaussian_filter
from pyflow.flow.warp import imregister
from pyflow.motion.frames import FrameSource
from pyflow.motion.noise import choose_alpha
from pyflow.motion.options import OFOptions
from pyflow.simulate import SimulatedRecording, endpoint_error, jitter, simulate_recording

PHOTONS = (3, 12, 40)
BORDER = 16
DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "performance.md"

Flow = Callable[[np.ndarray], np.ndarray]


def movie(photons: float, seed: int, n_frames: int, size: int) -> SimulatedRecording:
    return simulate_recording((size, size), n_frames, photons=photons, rigid_px=6, nonrigid_px=2, jerks=4, seed=seed)


def shared_reference(recording: SimulatedRecording) -> np.ndarray:
    frames = zip(recording.movie, recording.displacement_px, strict=True)
    registered = [imregister(frame.astype(np.float32), w, fill=recording.template) for frame, w in frames]
    return np.mean(registered, axis=0)


def methods(recording: SimulatedRecording, reference: np.ndarray) -> Iterator[tuple[str, Flow]]:
    """Name and flow of each method that is installed."""
    low, high = reference.min(), reference.max()

    def prepared(image: np.ndarray, sigma: float = 1.0) -> np.ndarray:
        return gaussian_filter((image.astype(np.float32) - low) / (high - low), sigma, n_threads=1)

    source = FrameSource(recording.movie[..., np.newaxis])
    for quality in ("quality", "balanced", "fast"):
        found = choose_alpha(source, reference[..., np.newaxis], OFOptions(quality_setting=quality, n_workers=1))
        for name, alpha in ((f"pyflow {quality}, alpha auto", found), (f"pyflow {quality}, alpha 1.5", 1.5)):
            estimator = FlowEstimator(prepared(reference), alpha=alpha, quality=quality)
            yield name, lambda frame, estimator=estimator: estimator(prepared(frame))
    yield from opencv(prepared, reference)
    yield from scikit_image(prepared, reference)


def opencv(prepared: Callable, reference: np.ndarray) -> Iterator[tuple[str, Flow]]:
    try:
        cv2 = import_module("cv2")
    except ImportError:
        return
    cv2.setNumThreads(1)
    top = np.percentile(prepared(reference), 99.8)

    def in_8_bits(image: np.ndarray) -> np.ndarray:
        return np.clip(prepared(image, 1.5) * (255 / top), 0, 255).astype(np.uint8)

    for preset in ("FAST", "MEDIUM"):
        dis = cv2.DISOpticalFlow_create(getattr(cv2, f"DISOPTICAL_FLOW_PRESET_{preset}"))
        name = f"OpenCV DIS {preset.lower()}, blurred"
        yield name, lambda frame, dis=dis: dis.calc(in_8_bits(reference), in_8_bits(frame), None)


def scikit_image(prepared: Callable, reference: np.ndarray) -> Iterator[tuple[str, Flow]]:
    try:
        registration = import_module("skimage.registration")
    except ImportError:
        return
    fixed = prepared(reference, 2.0)

    def ilk(frame: np.ndarray) -> np.ndarray:
        v, u = registration.optical_flow_ilk(fixed, prepared(frame, 2.0), radius=15)
        return np.stack([u, v], axis=-1)

    yield "scikit-image ILK, radius 15", ilk


def measure(photons: float, seed: int, n_frames: int, size: int) -> Iterator[tuple[str, float, float, float]]:
    """Name, endpoint error, jitter and frames/s of each method."""
    recording = movie(photons, seed, n_frames, size)
    for name, flow in methods(recording, shared_reference(recording)):
        flow(recording.movie[0])
        started = time.perf_counter()
        w = np.stack([flow(frame) for frame in recording.movie])
        seconds = time.perf_counter() - started
        truth = recording.displacement_px
        yield name, endpoint_error(w, truth, BORDER), jitter(w, truth, BORDER), n_frames / seconds


def spread(values: list[float]) -> str:
    return f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--size", type=int, default=512)
    arguments = parser.parse_args()
    lines = ["# Accuracy and speed", "", __doc__.split("\n", 2)[2].strip(), ""]
    lines += [
        f"{arguments.size} x {arguments.size}, {arguments.frames} frames, {arguments.seeds} seeds; rigid motion of "
        "6 px, bending of 2 px, jerks, rows scanned one after the other.",
        "",
    ]
    for photons in PHOTONS:
        found: dict[str, list[tuple[float, float, float]]] = {}
        for seed in range(1, arguments.seeds + 1):
            for name, *values in measure(photons, seed, arguments.frames, arguments.size):
                found.setdefault(name, []).append(tuple(values))
        lines += [f"## {photons} photons per pixel", "", "| method | endpoint error px | jitter px | frames/s |"]
        lines += ["|---|---|---|---|"]
        for name, rows in found.items():
            errors, jitters, speeds = zip(*rows, strict=True)
            lines.append(f"| {name} | {spread(errors)} | {spread(jitters)} | {np.median(speeds):.0f} |")
            print(photons, lines[-1], flush=True)
        lines.append("")
    DOCUMENT.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
