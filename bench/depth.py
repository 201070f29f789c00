"""How well the depth of frames is found in a stack, on simulated recordings: ``python -m bench.depth``."""

import numpy as np

from pyflow.motion.compensate import compensate_arr
from pyflow.motion.depth import estimate_depth
from pyflow.simulate import simulate_depth

_SEEDS = range(10)
_DRIFTS = 1.5, 2.8  # in planes, of 5


def main() -> None:
    """Print the errors for each drift, of frames as recorded and of registered ones."""
    for drift in _DRIFTS:
        errors: dict[str, list[np.ndarray]] = {"as recorded": [], "registered": []}
        for seed in _SEEDS:
            truth = simulate_depth(n_frames=60, photons=6, seed=seed, drift_planes=drift)
            movie = truth.recording.movie
            for kind, frames in (("as recorded", movie), ("registered", compensate_arr(movie)[0])):
                found = estimate_depth(frames, truth.stack, smoothing_frames=1)
                errors[kind].append(np.abs(found.depth - truth.depth))
        for kind, of_seeds in errors.items():
            worst = [error.max() for error in of_seeds]
            print(
                f"drift {drift} planes, frames {kind}: mean error {np.mean(of_seeds):.3f} planes, "
                f"worst frame of a recording {np.median(worst):.2f} (median), {max(worst):.2f} (of all)",
                flush=True,
            )


if __name__ == "__main__":
    main()
