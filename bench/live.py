"""How long frames take that are registered while they come, and how much memory: ``python -m bench.live``.

    python -m bench.live                       # ten minutes at 30 frames/s, 512 x 512, "fast"
    python -m bench.live --minutes 1 --rate 60
    chrt -f 10 python -m bench.live            # before all other programs of the machine (Linux, root)

A simulated recording is shown forward and backward in turn, at a microscope's pace, whatever becomes of the frames. The
first line says how long frames take when nobody waits between them. Other programs that run meanwhile make frames late:
the machine's load is in the last line.
"""

import argparse
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.recording import to_and_fro
from pyflow import LiveRegistration, OFOptions
from pyflow.motion.live import LiveStatistics
from pyflow.simulate import simulate_recording

_N_FRAMES = 60
_PERCENTILES = (0, 50, 90, 99, 99.9, 100)


@dataclass(frozen=True)
class Outcome:
    """What was measured.

    Parameters
    ----------
    latency_ms
        Of every frame, milliseconds, from the call to its end.
    memory_mib
        Of the process, after every 30th frame.
    statistics
        What the registration says itself.
    """

    latency_ms: np.ndarray
    memory_mib: np.ndarray
    statistics: LiveStatistics


def measure(live: LiveRegistration, movie: np.ndarray, n_frames: int, rate_hz: float) -> Outcome:
    """Register frames at a pace; as fast as they are done where it is infinite."""
    latency_ms, memory_mib = np.zeros(n_frames), []
    began = time.perf_counter()
    for t, frame in enumerate(to_and_fro(movie, n_frames)):
        time.sleep(max(began + t / rate_hz - time.perf_counter(), 0))
        latency_ms[t] = live.register(frame).latency_ms
        if t % 30 == 0:
            memory_mib.append(resident_mib())
    return Outcome(latency_ms, np.array(memory_mib), live.statistics)


def resident_mib() -> float:
    """Return how much memory this process has, in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def listed(latency_ms: np.ndarray) -> str:
    """Return percentiles in words."""
    values = np.percentile(latency_ms, _PERCENTILES)
    return ", ".join(f"{percent:g} %: {value:.1f}" for percent, value in zip(_PERCENTILES, values, strict=True)) + " ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--rate", type=float, default=30, help="frames/s")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--quality", default="fast")
    parser.add_argument("--renew", type=int, default=400, help="frames after which the reference is renewed; 0: never")
    parser.add_argument("--limit", type=float, default=25, help="max_latency_ms")
    given = parser.parse_args()
    recording = simulate_recording((given.size, given.size), _N_FRAMES, photons=20, seed=1)
    options = OFOptions(quality_setting=given.quality, update_reference=given.renew > 0, buffer_size=given.renew or 400)
    with LiveRegistration(options, max_latency_ms=None) as live:
        began = time.perf_counter()
        live.prepare(recording.movie)
        print(f"reference, alpha and misfit from {_N_FRAMES} frames: {time.perf_counter() - began:.1f} s", flush=True)
        alone = measure(live, recording.movie, 300, np.inf)
        print(f"one after the other   {listed(alone.latency_ms)}", flush=True)
    with LiveRegistration(options, max_latency_ms=given.limit) as live:
        live.prepare(recording.movie)
        outcome = measure(live, recording.movie, max(round(given.minutes * 60 * given.rate), 300), given.rate)
    found = outcome.statistics
    tenths = np.array_split(outcome.memory_mib, 10)
    print(f"{given.rate:g} frames/s{'':10} {listed(outcome.latency_ms)}")
    print(f"registered {found.registered}, shifted as a whole {found.late}, passed on {found.passed_on or 0}, ", end="")
    print(f"reference renewed {found.renewed} times, alpha {found.alpha[0]:g}")
    print(f"memory in MiB, at most, in each tenth of the time: {', '.join(f'{tenth.max():.1f}' for tenth in tenths)}")
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
