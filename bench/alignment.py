"""How well averages of different days are aligned, and whether the verdicts are right: ``python -m bench.alignment``.

Simulated pairs with known truth, of other seeds than those on which the constants were found (those were below 1000).
"""

import argparse
import time
from collections import Counter

import numpy as np

from pyflow.align.between import Flow, align
from pyflow.align.trust import examine
from pyflow.flow.warp import valid_mask
from pyflow.simulate import simulate_pair

_BORDER = 8

KINDS = {
    "shift": {},
    "other cells": {"turnover": 0.3, "activity": 0.8},
    "other neuropil": {"neuropil": 0.5},
    "few photons": {"photons": 60.0},
    "bent by 3 px": {"deformation_px": 3.0},
    "rotated by 8 degrees": {"rotation_deg": 8.0},
    "stretched by 25 %": {"stretch": (1.0, 1.25)},
    "far": {"far": True},
}


def _changed(kind: str, shape: tuple[int, int], seed: int) -> dict:
    rng = np.random.default_rng(seed)
    change = dict(KINDS[kind])
    reach = np.array(shape[::-1]) / 3 if change.pop("far", False) else 12
    return {"shift_px": tuple(rng.uniform(-1, 1, 2) * reach), **change}


def _error(w: np.ndarray, truth: np.ndarray) -> float:
    inside = valid_mask(truth)
    inside[:_BORDER] = inside[-_BORDER:] = inside[:, :_BORDER] = inside[:, -_BORDER:] = False
    return float(np.linalg.norm(w - truth, axis=-1)[inside].mean())


def _judged(reference: np.ndarray, moving: np.ndarray):
    started = time.perf_counter()
    alignment = align(reference, moving, Flow())
    trust, _ = examine(reference, moving, alignment, Flow())
    return alignment, trust, time.perf_counter() - started


def related(seeds: range, shape: tuple[int, int]) -> None:
    """Print errors and verdicts of pairs of one tissue, by kind of change."""
    for kind in KINDS:
        errors, seconds, verdicts, shares = [], [], Counter(), []
        for seed in seeds:
            pair = simulate_pair(shape, seed=seed, **_changed(kind, shape, seed))
            alignment, trust, took = _judged(pair.reference, pair.moving)
            errors.append(_error(alignment.displacement_px, pair.displacement_px))
            seconds.append(took)
            verdicts[trust.verdict] += 1
            shares.append((trust.tiles_found, trust.correlation_held_out))
        lowest = np.min(shares, axis=0)
        span = f"{np.min(errors):.3f} to {np.max(errors):.3f}"
        print(
            f"{kind:22s} error {np.mean(errors):.3f} ({span}) px, {dict(verdicts)}, "
            f"least share {lowest[0]:.2f} and correlation {lowest[1]:.2f}, {np.median(seconds):.1f} s",
            flush=True,
        )


def unrelated(seeds: range, shape: tuple[int, int]) -> None:
    """Print verdicts of pairs of different tissue."""
    for kind in ("other tissue", "mirrored", "other depth"):
        verdicts, shares, seconds = Counter(), [], []
        for seed in seeds:
            pair = simulate_pair(shape, seed=seed, other_depth=kind == "other depth")
            moving = pair.moving
            if kind == "mirrored":
                moving = np.ascontiguousarray(moving[:, ::-1])
            elif kind == "other tissue":
                moving = simulate_pair(shape, seed=seed + 5000).moving
            _, trust, took = _judged(pair.reference, moving)
            verdicts[trust.verdict] += 1
            shares.append((trust.tiles_found, trust.correlation_held_out))
            seconds.append(took)
        most = np.max(shares, axis=0)
        print(
            f"{kind:22s} {dict(verdicts)}, largest share {most[0]:.2f} and correlation {most[1]:.2f}, "
            f"{np.median(seconds):.1f} s",
            flush=True,
        )


def main() -> None:
    """Parse the command line and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=12, help="pairs of each kind")
    parser.add_argument("--first", type=int, default=10000, help="first seed")
    parser.add_argument("--size", type=int, default=256, help="side of an average in pixels")
    parser.add_argument("--only", choices=("related", "unrelated"))
    options = parser.parse_args()
    seeds, shape = range(options.first, options.first + options.seeds), (options.size, options.size)
    if options.only != "unrelated":
        related(seeds, shape)
    if options.only != "related":
        unrelated(seeds, shape)


if __name__ == "__main__":
    main()
