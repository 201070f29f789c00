"""Kill sessions at random, and see that they end as if nobody had.

    python tests/session/kills.py --recordings 6 --frames 2000 --size 256 --kills 50

Recordings are simulated, computed once in peace, and then in each way to run a session (one process, tasks of an array,
the workers of a Dask cluster) with its share of kills (SIGKILL, of a whole command or of one worker) at random times. A
session that comes to its end before it was killed often enough loses some of its results and goes on.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import tifffile

WAYS = ("local", "array", "dask")

_SESSION = """\
root = "{root}"
output_root = "{way}/compensated_outputs"
final_results = "{way}/final_results"
sigma_smooth = 1.5
iterations_between = 20

[flow_options]
quality_setting = "fast"
iterations = 5
alpha = 8
buffer_size = {buffer_size}
reference_frames = "0:20"
"""


def make_recordings(root: Path, n_recordings: int, n_frames: int, size: int) -> None:
    """Write recordings of a textured image that trembles and, from one to the next, shifts."""
    rng = np.random.default_rng(0)
    image = rng.normal(size=(size + 16, size + 16)).cumsum(axis=0).cumsum(axis=1)
    image = 4000 * (image - image.min()) / np.ptp(image)
    for number in range(n_recordings):
        with tifffile.TiffWriter(root / f"rec{number}.tif", bigtiff=True) as file:
            for _ in range(n_frames):
                y, x = 4 + rng.integers(-2, 3, 2) + number % 4
                frame = image[y : y + size, x : x + size] + rng.normal(0, 30, (size, size))
                file.write(np.clip(frame, 0, 65535).astype(np.uint16), contiguous=True)


class Runs:
    """One way to run a session, as commands that can be killed."""

    def __init__(self, way: str, session: Path, log: Path) -> None:
        self.way, self.session, self.log = way, session, log

    def commands(self, n_recordings: int) -> list[list[str]]:
        """Return what a user or a scheduler runs, in order."""
        session = str(self.session)
        if self.way == "array":
            tasks = [["run", session, "--index", str(i)] for i in range(n_recordings)]
            return [*tasks, ["run", session, "--stage", "2"], ["run", session, "--stage", "3"]]
        return [["dask", session, "--jobs", "2"]] if self.way == "dask" else [["run", session]]

    def start(self, words: list[str]) -> subprocess.Popen:
        with open(self.log, "ab") as out:
            return subprocess.Popen(
                [sys.executable, "-P", "-m", "pyflow.session.cli", *words],
                stdout=out,
                stderr=out,
                start_new_session=True,
            )


def kill(process: subprocess.Popen, chance: random.Random) -> str:
    """Kill a command with all it started, or one of the processes it started."""
    children = _descendants(process.pid)
    if children and chance.random() < 0.5:
        os.kill(chance.choice(children), signal.SIGKILL)
        return "a worker"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for child in children:
        try:
            os.kill(child, signal.SIGKILL)
        except ProcessLookupError:
            continue
    return "the command"


def _descendants(pid: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
            name = (path.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if int(fields[1]) == pid and b"spawn_main" in name:  # not the one that only keeps count of what is shared
            found.append(int(path.parent.name))
    return found


def where(folder: Path) -> str:
    """Say which stage is running, from what is there."""
    done = [(f / "status.json") for f in (folder / "compensated_outputs").glob("*")]
    text = [path.read_text() for path in done if path.exists()]
    if not text or not all('"stage1": "done"' in part for part in text):
        return "stage 1"
    return "stage 3" if all('"stage2": "done"' in part for part in text) else "stage 2"


def lose_something(folder: Path, chance: random.Random) -> None:
    """Remove results, so that there is something to do again."""
    recordings = sorted((folder / "compensated_outputs").iterdir())
    what = chance.randrange(3)
    if what == 0:
        shutil.rmtree(chance.choice(recordings))
    elif what == 1:
        (chance.choice(recordings) / "w_to_reference.npz").unlink(missing_ok=True)
    else:
        for path in list((folder / "final_results").glob("aligned_*"))[:3]:
            path.unlink()


def run_with_kills(runs: Runs, folder: Path, n_recordings: int, n_kills: int, seconds: float, seed: int) -> Counter:
    """Run a session to its end, and kill it on the way so many times; return where it was then."""
    chance, killed = random.Random(seed), Counter()
    commands = runs.commands(n_recordings)
    while True:
        for words in commands:
            while True:
                left = n_kills - killed.total()
                process, victim = runs.start(words), ""
                if left > 0:
                    try:
                        process.wait(chance.uniform(0.3, 1) * seconds * chance.choice([1, 1, 0.2]) + 1.0)
                    except subprocess.TimeoutExpired:
                        place = where(folder)
                        victim = kill(process, chance)
                        killed[f"{place}, {victim}"] += 1
                        if victim == "the command":
                            continue
                if process.wait() == 0:
                    break
                if victim:  # a cluster whose worker is killed while it starts says so and ends
                    continue
                raise SystemExit(f"{runs.way}: {words} ended with {process.returncode}, see {runs.log}")
        if killed.total() >= n_kills:
            return killed
        lose_something(folder, chance)


def contents(folder: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the names, with their files', and values of all arrays of a session's results, one at a time."""
    for path in sorted(folder.rglob("*.*")):
        name = str(path.relative_to(folder))
        if path.suffix == ".npy":
            yield name, np.load(path)
        elif path.suffix == ".npz":
            with np.load(path) as data:
                yield from ((f"{name}/{key}", data[key]) for key in data if "paths" not in key)
        elif path.suffix in (".hdf5", ".hdf", ".h5"):
            with h5py.File(path) as file:
                yield from ((f"{name}/{key}", file[key][:]) for key in file)
        elif path.suffix == ".tif":
            yield name, tifffile.imread(path)


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.name != "array.json"}


def check(
    root: Path, *, n_recordings: int, n_frames: int, size: int, n_kills: int, ways=WAYS, seed: int = 0
) -> Counter:
    """Run all ways in a folder; return how often each was killed where.

    Raises
    ------
    AssertionError
        Results differ from those of the clean run, or files are left over.
    """
    data = root / "data"
    data.mkdir(parents=True)
    make_recordings(data, n_recordings, n_frames, size)
    all_killed, seconds = Counter(), 0.0
    started = time.monotonic()
    for i, way in enumerate(("clean", *ways)):
        session = root / f"{way}.toml"
        session.write_text(_SESSION.format(root=data, way=way, buffer_size=max(4, n_frames // 20)))
        runs = Runs("local" if way == "clean" else way, session, root / f"{way}.log")
        share = 0 if way == "clean" else n_kills // len(ways) + (i <= n_kills % len(ways))
        begun = time.monotonic()
        killed = run_with_kills(runs, data / way, n_recordings, share, seconds, seed + i)
        if way == "clean":
            seconds = (time.monotonic() - begun) / 4
            continue
        for place, n in killed.items():
            all_killed[f"{way}: {place}"] += n
        assert files(data / way) == files(data / "clean"), files(data / way) ^ files(data / "clean")
        for (name, found), (expected_name, expected) in zip(
            contents(data / way), contents(data / "clean"), strict=True
        ):
            assert name == expected_name
            np.testing.assert_array_equal(found, expected, err_msg=f"{way}: {name}")
        print(f"{way}: as the clean run after {killed.total()} kills, {time.monotonic() - started:.0f} s", flush=True)
    return all_killed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recordings", type=int, default=6)
    parser.add_argument("--frames", type=int, default=2000)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--folder", type=Path, help="kept; a temporary one if left out")
    options = parser.parse_args()
    root = options.folder or Path(tempfile.mkdtemp(prefix="pyflow_kills"))
    numbers = {"n_recordings": options.recordings, "n_frames": options.frames, "size": options.size}
    for place, n in sorted(check(root, n_kills=options.kills, ways=options.ways, seed=options.seed, **numbers).items()):
        print(f"{n:4d}  {place}")
    if options.folder is None:
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
