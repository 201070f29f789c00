"""``final_valid_idx``: everything that stage 3 found, for Python (.npz), MATLAB (.mat) and to look at (.png)."""

import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pyflow.layout import RESULT_FILE
from pyflow.session.artifacts import read_mask, save_mask
from pyflow.session.final.stacks import Stack, save_mat_stacks, save_npz_stacks
from pyflow.session.results import Session, read_average

logger = logging.getLogger(__name__)

FORMAT_VERSION = "1"


def mask_files(folder: Path, name: str) -> tuple[Path, Path]:
    """Return where a recording's mask goes, as it is and in the centre's frame."""
    return folder / f"{name}_valid_idx.png", folder / f"{name}_valid_idx_aligned.png"


def collect(session: Session, shape: tuple[int, ...], valid: np.ndarray, share: np.ndarray) -> dict[str, Any]:
    """Return everything in ``final_valid_idx``, of which the recordings' images are read when they are written."""
    folder, results = session.config.final_results, session.results

    def masks(which: int) -> Callable[[], Iterator[np.ndarray]]:
        return lambda: (read_mask(mask_files(folder, result.recording.name)[which]) for result in results)

    def fields(component: int) -> Callable[[], Iterator[np.ndarray]]:
        return lambda: (session.field(result)[..., component] for result in results)

    image = shape[:2]
    return {
        "final_valid": valid,
        "valid_share": share,
        "aligned_valid_masks": Stack(image, np.dtype(bool), len(results), masks(1)),
        "per_seq_valid_masks": Stack(image, np.dtype(bool), len(results), masks(0)),
        "displacement_fields_u": Stack(image, np.dtype(np.float32), len(results), fields(0), cells=False),
        "displacement_fields_v": Stack(image, np.dtype(np.float32), len(results), fields(1), cells=False),
        "temporal_averages": Stack(shape, np.dtype(np.float64), len(results), lambda: map(read_average, results)),
        "reference_average": read_average(session.center),
        "middle_idx": session.middle_idx,
        "middle_name": session.center.recording.name,
        "recordings": [result.recording.name for result in results],
        "verdicts": [session.alignment(result)["verdict"] for result in results],
    }


def save_result(folder: Path, results: dict[str, Any]) -> None:
    """Write what `collect` returned into the session's folder: ``.npz``, ``.mat`` and the mask as ``.png``.

    A variable that is too large for the ``.mat`` is left out there, and the log says so.
    """
    save_npz_stacks(folder / f"{RESULT_FILE}.npz", results)
    left_out = save_mat_stacks(folder / f"{RESULT_FILE}.mat", _for_matlab(results))
    if left_out:
        logger.warning(
            "%s.mat: %s would be larger than the 2 GiB that a variable may have there; what it says is in %s.npz",
            *(RESULT_FILE, ", ".join(left_out), RESULT_FILE),
        )
    save_mask(folder / f"{RESULT_FILE}.png", results["final_valid"])


def _for_matlab(results: dict[str, Any]) -> dict[str, Any]:
    """Rearrange the results as MATLAB's own stage 3 has them: a cell per recording, indices from 1."""
    u, v = results["displacement_fields_u"], results["displacement_fields_v"]
    fields = Stack(
        (*u.shape, 2), u.dtype, u.count, lambda: (np.stack(pair, axis=-1) for pair in zip(u, v, strict=True))
    )
    return {
        **{name: value for name, value in results.items() if isinstance(value, np.ndarray | Stack)},
        "displacement_fields": fields,
        "middle_idx": float(results["middle_idx"] + 1),
        "middle_name": _ascii(results["middle_name"]),
        **{
            key: _cells(map(_ascii, results[key]))
            for key in ("recordings", "compensated_h5_paths", "aligned_video_paths", "verdicts")
        },
        "format_version": FORMAT_VERSION,
    }


def _cells(items: Iterable[str]) -> np.ndarray:
    """Make an N x 1 cell array."""
    return np.array([*items], object).reshape(-1, 1)


def _ascii(text: str) -> str:
    """Make text survive a v5 .mat file, whose cells hold ASCII only, and say what became of it."""
    safe = text.encode("ascii", "backslashreplace").decode("ascii")
    if safe != text:
        logger.warning("%s.mat: %r is not ASCII and stands there as %r", RESULT_FILE, text, safe)
    return safe
