"""Most memory that a session's steps take, as its recordings grow longer and more.

    python -m bench.memory                          # every step, 500 to 20000 frames, and many recordings
    python -m bench.memory stage3 --frames 500 9000 # one of them
    python -m bench.memory stage3 --limit 0.25      # with memory_limit_gb

Stage 1 registers what is simulated. What stages 2 and 3 read is made up, so that long recordings need not be
registered first. Each line is a process of its own, of which Python and libraries alone take what the first line says.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np
import tifffile

from pyflow.align.trust import ALIGNED
from pyflow.layout import AVERAGE_FILE, FIELD_FILE, MASK_FILE, SIGNATURE, VIDEO_FILE
from pyflow.session import SessionConfig, run_stage1, run_stage2, run_stage3, session_status
from pyflow.session.artifacts import mark_done, save_npz
from pyflow.session.keys import stage1_parts
from pyflow.session.recordings import find_recordings, stored_path
from pyflow.session.results import open_session

_BLOCK = 250  # frames that repeat

STEPS = {
    "nothing": lambda config: None,
    "stage1": run_stage1,
    "stage2": run_stage2,
    "stage3": run_stage3,
    "status": session_status,
}


def make_inputs(root: Path, n_recordings: int, n_frames: int, size: int) -> None:
    """Write recordings of a textured image that trembles."""
    rng = np.random.default_rng(0)
    image = rng.normal(size=(size + 8, size + 8)).cumsum(axis=0).cumsum(axis=1)
    image = (image - image.min()) / np.ptp(image) * 4000
    moves = rng.integers(0, 8, (_BLOCK, 2))
    block = np.stack([image[y : y + size, x : x + size] for y, x in moves]) + rng.normal(0, 30, (_BLOCK, size, size))
    block = np.clip(block, 0, 65535).astype(np.uint16)
    for number in range(n_recordings):
        with tifffile.TiffWriter(root / f"rec{number}.tif", bigtiff=True) as file:
            for t in range(n_frames):
                file.write(block[t % _BLOCK], contiguous=True)


def make_up_stage1(config: SessionConfig) -> None:
    """Leave behind what stage 1 would: videos, masks, averages, markers."""
    for number, recording in enumerate(find_recordings(config)):
        folder = recording.folder
        folder.mkdir(parents=True)
        video = tifffile.memmap(recording.path, mode="r").reshape(-1, *tifffile.imread(recording.path, key=0).shape)
        with (
            h5py.File(recording.folder / VIDEO_FILE, "w") as movie,
            h5py.File(recording.folder / MASK_FILE, "w") as idx,
        ):
            for file, name, dtype in ((movie, "ch1", video.dtype), (idx, "idx", np.uint8)):
                file.attrs.update(SIGNATURE)
                file.create_dataset(name, video.shape, dtype, chunks=(1, *video.shape[1:]))
            for first in range(0, len(video), _BLOCK):
                frames = video[first : first + _BLOCK]
                movie["ch1"][first : first + len(frames)] = frames
                masks = np.full(frames.shape, 255, np.uint8)
                masks[:, : number % 7] = 0
                idx["idx"][first : first + len(frames)] = masks
        np.save(folder / AVERAGE_FILE, video[:_BLOCK].mean(axis=0))
        files = [folder / name for name in (VIDEO_FILE, MASK_FILE, AVERAGE_FILE)]
        source = stored_path(recording.path, folder)
        mark_done(folder, "stage1", stage1_parts(config, recording), files, 0.0, input_file=source)


def make_up_stage2(config: SessionConfig) -> None:
    """Leave behind what stage 2 would: a field for each recording, and its marker."""
    session = open_session(config)
    rng = np.random.default_rng(1)
    for result in session.results:
        folder = result.recording.folder
        shape = np.load(folder / AVERAGE_FILE, mmap_mode="r").shape[:2]
        u, v = (rng.normal(0, 1, shape).astype(np.float32) for _ in range(2))
        save_npz(folder / FIELD_FILE, u=u, v=v)
        facts = {"verdict": ALIGNED, "why": ""}
        mark_done(folder, "stage2", session.field_parts(result), [folder / FIELD_FILE], 0.0, alignment=facts)


def make_session(step: str, root: Path, n_recordings: int, n_frames: int, size: int, limit: float | None):
    """Write everything that a step needs to run; return the session's file."""
    data = root / "data"
    data.mkdir(parents=True)
    make_inputs(data, n_recordings, n_frames, size)
    text = 'root = "data"\n' + (f"memory_limit_gb = {limit}\n" if limit else "")
    text += '[flow_options]\nquality_setting = "fast"\niterations = 3\nalpha = 8\nreference_frames = "0:20"\n'
    path = root / "session.toml"
    path.write_text(text)
    config = SessionConfig.from_file(path)
    if step in ("stage2", "stage3", "status"):
        make_up_stage1(config)
    if step in ("stage3", "status"):
        make_up_stage2(config)
    return path


def measure(step: str, session: Path) -> tuple[float, float]:
    """Run a step in a process of its own; return its largest memory in MiB and its time in s."""
    words = [sys.executable, "-m", "bench.memory", step, "--session", str(session)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    peak, seconds = done.stdout.split()
    return float(peak), float(seconds)


def _peak() -> float:
    """Return the most memory that this process had, in MiB; what the kernel tells otherwise counts its parent's too."""
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("steps", nargs="*", metavar="STEP", help=", ".join(STEPS))
    parser.add_argument("--frames", nargs="*", type=int, default=[500, 20000])
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--recordings", nargs="*", type=int, default=[200], help="of 512 x 512, with 8 frames each")
    parser.add_argument("--limit", type=float, help="memory_limit_gb")
    parser.add_argument("--session", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.session is not None:
        started = time.perf_counter()
        STEPS[options.steps[0]](SessionConfig.from_file(options.session))
        print(_peak(), time.perf_counter() - started)
        return
    steps = options.steps or list(STEPS)
    cases = [(1 if step == "stage1" else 2, n, options.size, step) for step in steps for n in options.frames]
    cases += [(n, 8, 512, step) for step in steps for n in options.recordings if step != "stage1"]
    print(f"{'':8} recordings  frames       size   MiB      s    ({os.cpu_count()} processors)")
    for n_recordings, n_frames, size, step in cases:
        with tempfile.TemporaryDirectory() as folder:
            session = make_session(step, Path(folder), n_recordings, n_frames, size, options.limit)
            peak, seconds = measure(step, session)
        print(f"{step:8} {n_recordings:10d} {n_frames:7d} {size:5d}^2 {peak:7.0f} {seconds:6.1f}", flush=True)


if __name__ == "__main__":
    main()
