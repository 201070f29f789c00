"""Accuracy, speed and memory on simulated movies, method by method; whole recordings beside reading and writing.

``python -m bench.report``, in the sources' folder with pyflow installed from it (editable), writes docs/performance.md
and docs/performance.png. OpenCV and scikit-image are measured where they are installed, suite2p and NoRMCorre's method
where the environment variables PYFLOW_SUITE2P_PYTHON and PYFLOW_NORMCORRE_PYTHON name a Python that has suite2p, or
jnormcorre with a jax below 0.9.
"""

import argparse
import json
import logging
import os
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from bench import real
from bench.methods import AUTO, FIXED, METHODS
from pyflow.flow.warp import imregister
from pyflow.simulate import SimulatedRecording, endpoint_error, jitter, simulate_recording

logger = logging.getLogger(__name__)

PHOTONS = (3, 12, 40)
BORDER = 16
SOURCES = Path(__file__).resolve().parents[1]
REAL = SOURCES.parent / "shared" / "data"
RIVAL = "OpenCV DIS fast, blurred"
SUITE2P, NORMCORRE = "suite2p", "NoRMCorre, piecewise rigid"
ELSEWHERE = {
    "suite2p rigid": (SUITE2P, "PYFLOW_SUITE2P_PYTHON", ("bench.suite2p", "{folder}", "rigid")),
    "suite2p non-rigid": (SUITE2P, "PYFLOW_SUITE2P_PYTHON", ("bench.suite2p", "{folder}", "non-rigid")),
    f"{NORMCORRE} (jnormcorre)": (NORMCORRE, "PYFLOW_NORMCORRE_PYTHON", ("bench.normcorre", "{folder}")),
}
"""Methods that need a Python of their own: family, what names that Python, and the module to run."""
FAMILIES = {name: method.family for name, method in METHODS.items()} | {name: how[0] for name, how in ELSEWHERE.items()}
COLOURS = {
    AUTO: "#0072B2",
    FIXED: "#56B4E9",
    "OpenCV DIS, blurred": "#D55E00",
    SUITE2P: "#009E73",
    NORMCORRE: "#E69F00",
    "scikit-image ILK": "#CC79A7",
}
LABELS = {
    "quality": {"xytext": (-6, 0), "ha": "right", "va": "center"},
    "balanced": {"xytext": (0, -7), "ha": "center", "va": "top"},
    "medium": {"xytext": (0, -7), "ha": "center", "va": "top"},
    "fast": {"xytext": (6, 0), "ha": "left", "va": "center"},
    "non-rigid": {"xytext": (-6, 0), "ha": "right", "va": "center"},
    "suite2p rigid": {"xytext": (6, 0), "ha": "left", "va": "center"},
}
"""Where the methods of a family differ, the end of the name that says how, whose last word is shown, and where."""
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

INTRODUCTION = """\
# Accuracy, speed and memory

Written by `python -m bench.report`. Simulated movies (`pyflow.simulate`), {size} x {size}, {frames} frames,
{seeds} seeds; rigid motion of 6 px, bending of 2 px, jerks, rows scanned one after the other. All methods get the same
frames and the same reference: the mean of the frames registered by the truth.

- Endpoint error and jitter (the same without each pixel's median over time, which only says where the reference
  sits) are means over frames and pixels {border} px inside the border, and over seeds, with the smallest and the
  largest seed in brackets. The column after them is the jitter as a share of that of DIS fast.
- frames/s: median over the seeds, one thread, from raw to registered frame; files and what is done once per recording
  (for `alpha="auto"`, finding it) are left out. NoRMCorre's method takes as many threads as JAX does.
- Peak memory: the largest of the seeds. Each method runs in a process of its own; this is all of its memory, with
  interpreter, libraries, movie and results.

![error against speed](performance.png)
"""

RECORDINGS = """\
## Whole recordings

{size} x {size}, {frames} frames, uint16, 12 photons per pixel, from an uncompressed TIFF file to HDF5 files, two
threads, all other options as they are by default. Start-up: until the first frame is registered, with reference, alpha
and noise found. frames/s: from the first quarter on, beside what the same reader and writer reach with the same frames
and nothing in between. Processor time is that of all threads, on which other programs have less influence.
"""


@dataclass(frozen=True)
class Measurement:
    endpoint_px: float
    jitter_px: float
    frames_per_s: float
    peak_mib: float


def recorded(photons: float, seed: int, n_frames: int, size: int) -> SimulatedRecording:
    return simulate_recording((size, size), n_frames, photons=photons, rigid_px=6, nonrigid_px=2, jerks=4, seed=seed)


def shared_reference(recording: SimulatedRecording) -> np.ndarray:
    frames = zip(recording.movie, recording.displacement_px, strict=True)
    registered = [imregister(frame.astype(np.float32), w, fill=recording.template) for frame, w in frames]
    return np.mean(registered, axis=0, dtype=np.float64)


def commands(folder: Path) -> tuple[dict[str, list[str]], list[str]]:
    """What to run for each method that is there; for the others, why not."""
    found, left_out = {}, []
    for name, method in METHODS.items():
        if find_spec(method.needs):
            found[name] = [sys.executable, "-m", "bench.methods", str(folder), name]
        else:
            left_out.append(f"{name}: {method.needs} is not installed.")
    for name, (_, variable, words) in ELSEWHERE.items():
        if python := os.environ.get(variable):
            found[name] = [python, "-m", *(word.format(folder=folder) for word in words)]
        else:
            left_out.append(f"{name}: {variable} does not name a Python that has it.")
    return found, left_out


def measure(command: list[str], folder: Path, truth: np.ndarray) -> Measurement:
    environment = os.environ | ONE_THREAD
    done = subprocess.run(command, cwd=SOURCES, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    w = np.load(folder / "displacement.npy")
    result = json.loads((folder / "result.json").read_text())
    return Measurement(endpoint_error(w, truth, BORDER), jitter(w, truth, BORDER), **result)


def spread(values: list[float]) -> str:
    return f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def column(rows: list[Measurement], name: str) -> list[float]:
    return [getattr(row, name) for row in rows]


def table(photons: int, found: dict[str, list[Measurement]]) -> str:
    lines = [f"## {photons} photons per pixel", ""]
    lines += ["| method | endpoint error px | jitter px | of DIS | frames/s | peak MiB |", "|---|---|---|---|---|---|"]
    rival = np.mean(column(found[RIVAL], "jitter_px")) if RIVAL in found else np.nan
    for name, rows in found.items():
        jitters = column(rows, "jitter_px")
        share = "" if np.isnan(rival) else f"{np.mean(jitters) / rival:.2f}"
        speed, peak = np.median(column(rows, "frames_per_s")), max(column(rows, "peak_mib"))
        cells = name, spread(column(rows, "endpoint_px")), spread(jitters), share, f"{speed:.3g}", f"{peak:.0f}"
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def whole_recordings(folder: Path, n_frames: int, size: int) -> str:
    """Return a table of recordings registered from file to file, beside reading and writing alone."""
    np.save(folder / "movie.npy", recorded(12, 1, 60, size).movie)
    command = [sys.executable, "-m", "bench.recording", str(folder), "--frames", str(n_frames)]
    done = subprocess.run(command, cwd=SOURCES, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    lines = [RECORDINGS.format(size=size, frames=n_frames)]
    lines += [
        "| preset | written | start-up s | frames/s | reading and writing alone | share | processor ms/frame |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in json.loads((folder / "recording.json").read_text(encoding="utf-8")):
        written = "frames, masks, displacements" if row["save_w"] else "frames, masks"
        speed, alone = row["frames_per_s"], row["copied_per_s"]
        numbers = (
            f"{row['start_s']:.1f}",
            f"{speed:.0f}",
            f"{alone:.0f}",
            f"{speed / alone:.2f}",
            f"{row['processor_ms']:.1f}",
        )
        cells = row["preset"], written, *numbers
        lines.append(f"| {' | '.join(cells)} |")
        logger.info(lines[-1])
    return "\n".join([*lines, ""])


def real_recordings() -> str:
    lines = ["## Real recordings", "", *real.__doc__.splitlines()[2:], ""]
    lines += [
        "Correlation: of every registered frame with the mean of every other frame, registered. Sharpness: mean",
        "gradient of the mean, as a share of that of the frames as recorded. All methods get the same reference, the",
        "mean of the frames that resemble each other most.",
        "",
    ]
    for name in real.RECORDINGS:
        lines += [f"`{name}`", "", "| method | correlation | sharpness |", "|---|---|---|"]
        for method, correlation, sharpness in real.measure(REAL / name):
            lines.append(f"| {method} | {correlation:.4f} | {sharpness:.3f} |")
            logger.info("%s %s", name, lines[-1])
        lines.append("")
    return "\n".join(lines)


def draw(found: dict[int, dict[str, list[Measurement]]], path: Path) -> None:
    """Error against speed, one panel per noise level: a dot is the jitter, the tick above it the endpoint error."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

    figure = Figure(figsize=(12, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(found), sharex=True, sharey=True, squeeze=False)[0]
    for panel, (photons, methods) in zip(panels, found.items(), strict=True):
        families = defaultdict(list)
        for name, rows in methods.items():
            jitters, errors = column(rows, "jitter_px"), column(rows, "endpoint_px")
            point = np.median(column(rows, "frames_per_s")), np.mean(jitters)
            family = FAMILIES[name]
            families[family].append(point)
            style = {"color": COLOURS[family], "zorder": 3}
            panel.plot([point[0]] * 2, [point[1], np.mean(errors)], lw=1, **style)
            panel.plot(point[0], np.mean(errors), "_", ms=8, **style)
            panel.plot(*point, "o", ms=6, label=family if len(families[family]) == 1 else None, **style)
            label = next((label for label in LABELS if label in name), None)
            if label:
                panel.annotate(
                    label.split()[-1],
                    point,
                    textcoords="offset points",
                    fontsize=8,
                    color=COLOURS[family],
                    **LABELS[label],
                )
        for family, points in families.items():
            panel.plot(*zip(*points, strict=True), lw=1.2, alpha=0.4, color=COLOURS[family])
        panel.margins(x=0.12, y=0.08)
        panel.set_title(f"{photons} photons per pixel", loc="left")
        panel.set_xscale("log")
        panel.set_yscale("log")
        for axis, ticks in ((panel.xaxis, (1, 3, 10, 30, 100, 300)), (panel.yaxis, (0.05, 0.1, 0.2, 0.3, 0.5))):
            axis.set_major_locator(FixedLocator(ticks))
            axis.set_minor_locator(NullLocator())
            axis.set_major_formatter(ScalarFormatter())
        panel.grid(color="0.92")
        panel.spines[["top", "right"]].set_visible(False)
        panel.set_xlabel("frames/s, one thread (right is better)")
    panels[0].set_ylabel("jitter (dot) and endpoint error (tick), px\n(down is better)")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--recording-frames", type=int, default=800, help="frames of the whole recordings")
    parser.add_argument(
        "--output", type=Path, default=SOURCES / "docs", help="folder of performance.md and performance.png"
    )
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    measured: dict[int, dict[str, list[Measurement]]] = {photons: defaultdict(list) for photons in PHOTONS}
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        runs, left_out = commands(folder)
        for line in left_out:
            logger.warning("left out: %s", line)
        for photons in PHOTONS:
            for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
                recording = recorded(photons, seed, arguments.frames, arguments.size)
                np.save(folder / "movie.npy", recording.movie)
                np.save(folder / "reference.npy", shared_reference(recording))
                for name, command in runs.items():
                    found = measure(command, folder, recording.displacement_px)
                    logger.info("%d photons, seed %d, %s: %s", photons, seed, name, found)
                    measured[photons][name].append(found)
        whole = whole_recordings(folder, arguments.recording_frames, arguments.size)
    text = INTRODUCTION.format(**vars(arguments), border=BORDER)
    if left_out:
        text += "\nLeft out here:\n\n" + "".join(f"- {line}\n" for line in left_out)
    text += "\n" + "\n".join(table(photons, found) for photons, found in measured.items())
    text += "\n" + whole
    if REAL.is_dir() and find_spec("cv2"):
        text += "\n" + real_recordings()
    else:
        logger.warning("left out: real recordings, in %s, and OpenCV must be there", REAL)
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "performance.md").write_text(text, encoding="utf-8")
    draw(measured, arguments.output / "performance.png")


if __name__ == "__main__":
    main()
