"""What a measured process leaves for `bench.report`; imports nothing that a peer's environment may lack."""

import json
import re
from pathlib import Path

import numpy as np


def save(folder: Path, displacement_px: np.ndarray, frames_per_s: float) -> None:
    """Write ``displacement.npy`` (T, H, W, 2) float32, backward, and ``result.json``: speed, and peak memory until now.

    The peak is Linux's VmHWM: unlike getrusage's it starts anew with the program, not with the parent's memory.
    """
    peak_kib = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))[1]
    np.save(folder / "displacement.npy", displacement_px.astype(np.float32, copy=False))
    result = {"frames_per_s": frames_per_s, "peak_mib": int(peak_kib) / 1024}
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")
