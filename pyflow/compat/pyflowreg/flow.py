"""pyflowreg's functions of single images and fields."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

import pyflow
from pyflow.compat.pyflowreg import words
from pyflow.compat.pyflowreg.names import differs
from pyflow.motion import align
from pyflow.motion.foreign import translated


def get_displacement(
    fixed: ArrayLike,
    moving: ArrayLike,
    alpha: float | tuple[float, float] = (2, 2),
    update_lag: int = 5,
    iterations: int = 50,
    min_level: int = 0,
    levels: int = 50,
    eta: float = 0.8,
    a_smooth: float = 1.0,
    a_data: Any = 0.45,
    const_assumption: str = "gc",
    uv: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    level_solver_backend: Callable[..., Any] | None = None,
    gnc_schedule: Any | None = None,
    warping_steps: int | None = None,
) -> np.ndarray:
    """Return the displacement (H, W, 2) that registers `moving` onto `fixed`; see `pyflow.get_displacement`."""
    if level_solver_backend is not None:
        raise ValueError(
            "level_solver_backend: pyflow's solver is compiled; pyflow.flow.backends.register_backend takes a back end "
            "of your own"
        )
    for note in translated({"gnc_schedule": gnc_schedule}, theirs=True)[1]:
        differs(note)
    return pyflow.get_displacement(
        fixed,
        moving,
        alpha=alpha,
        update_lag=update_lag,
        iterations=iterations,
        min_level=max(min_level, 0),
        levels=levels,
        eta=eta,
        a_smooth=a_smooth,
        a_data=a_data,
        const_assumption=words.constancy(const_assumption),
        uv=uv,
        weight=weight,
        gnc_schedule=gnc_schedule,
        warping_steps=words.warping_steps(warping_steps, gnc_schedule) or 1,
    )


def imregister_wrapper(
    f2_level: ArrayLike, u: ArrayLike, v: ArrayLike, f1_level: ArrayLike, interpolation_method: str = "cubic"
) -> np.ndarray:
    """Return `f2_level` warped by (u, v), float32, `f1_level` where it comes from outside; see `pyflow.imregister`."""
    warped = pyflow.imregister(
        np.asarray(f2_level, np.float32),
        np.stack([u, v], axis=-1),
        fill=np.asarray(f1_level, np.float32),
        interpolation=str(interpolation_method).lower(),
    )
    return warped[..., 0] if warped.ndim == 3 and warped.shape[2] == 1 else warped


def align_sequence(
    batch: np.ndarray,
    displacement: np.ndarray,
    reference: np.ndarray,
    interpolation_method: str = "cubic",
    n_workers: int | None = None,
) -> np.ndarray:
    """Return frames warped by a field; see `pyflow.motion.align.align_sequence`."""
    return align.align_sequence(
        batch, displacement, reference, interpolation=str(interpolation_method), n_threads=n_workers or 0
    )
