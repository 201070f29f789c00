"""NoRMCorre's method (piecewise rigid) as jnormcorre has it, as `bench.methods` runs the others.

Run by the Python that has jnormcorre, which need not have pyflow: ``python -m bench.normcorre FOLDER``. Patches are its
defaults (96 pixels, 32 of overlap, at most 3 pixels off the whole frame's shift); shifts may be as large as the motion.
"""

import sys
import time
from pathlib import Path

import jax
import numpy as np
from jnormcorre.motion_correction import frame_corrector

from bench.outcome import save

STRIDE, OVERLAP = 96, 32
LARGEST_SHIFT = 24


def main(folder: Path) -> None:
    movie, reference = np.load(folder / "movie.npy").astype(np.float32), np.load(folder / "reference.npy")
    corrector = frame_corrector(reference, (LARGEST_SHIFT,) * 2, (STRIDE,) * 2, (OVERLAP,) * 2, 3)

    def register(frame: np.ndarray) -> np.ndarray:
        _, shifts = corrector.pw_registration_method(
            frame[np.newaxis],
            corrector.template,
            *corrector.strides,
            *corrector.overlaps,
            corrector.max_shifts,
            corrector.upsample_factor_fft,
            corrector.max_deviation_rigid,
            corrector.add_to_movie,
        )
        return np.array(shifts[0])

    register(movie[0])  # compiles
    started = time.perf_counter()
    found = [register(frame) for frame in movie]
    frames_per_s = len(movie) / (time.perf_counter() - started)
    # it looks the frame up at pixel less shift, and makes the shifts as many as pixels just so
    patches = [-(-(side - STRIDE - OVERLAP) // STRIDE) + 1 for side in movie.shape[1:]]
    fields = [-shifts.reshape(*patches, 2) for shifts in found]
    w = [jax.image.resize(field[..., ::-1], (*movie.shape[1:], 2), method="cubic") for field in fields]
    save(folder, np.array(w), frames_per_s)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
