"""A small experiment with known truth, run through the pipeline: what ``pyflow-session demo`` does.

The simulator knows where each frame t of recording r sees the recording's scene at rest, D(r, t), and where that
sees the centre's, B(r). The references that the pipeline works with sit elsewhere: at R(r), the mean of D(r, t)
over the frames they are made from. So stage 1 should find D(r, t) - R(r), and stage 2 B(r) + R(r) - R(centre).
"""

import logging
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from pyflow.flow.warp import imregister, imregister_binary, valid_mask
from pyflow.io import open_video
from pyflow.io.atomic import replacing
from pyflow.layout import FLOW_DATASETS, FLOW_FILE, MASK_FILE, read_field
from pyflow.plots import plot_before_after
from pyflow.session.artifacts import read_marker
from pyflow.session.config import SessionConfig
from pyflow.session.final.masks import count_valid
from pyflow.session.pipeline import run_session
from pyflow.session.recordings import Recording, find_recordings
from pyflow.session.results import Progress
from pyflow.simulate import simulate_session

logger = logging.getLogger(__name__)

DEMO_FOLDER = "pyflow_demo"

_SEED = 1
_BORDER = 16  # pixels left out of the mean errors: what leaves the image there has no counterpart

_SESSION_TOML = """\
root = "."
pattern = "recordings/*.tif"

[flow_options]
reference_frames = "0:{frames}"
save_w = true
"""


@dataclass(frozen=True)
class RecordingReport:
    """How far a recording's registration is from the known motion; errors are mean endpoint errors, in pixels."""

    name: str
    frames_per_s: float
    error_before_px: float
    error_after_px: float
    valid_pixels: int
    shift_found_px: tuple[float, float]
    shift_true_px: tuple[float, float]


@dataclass(frozen=True)
class DemoReport:
    """The results of the demo, and where its files are; `picture` is None without matplotlib."""

    recordings: list[RecordingReport]
    mask_pixels: int
    mask_iou: float
    config_file: Path
    results: Path
    picture: Path | None


def true_fields(displacement: np.ndarray, between: np.ndarray, center: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Turn what the simulator knows into the displacements that stages 1 and 2 look for.

    Parameters
    ----------
    displacement, center
        (T, H, W, 2), pixels, backward, of the recording's and of the centre's frames onto their scenes at rest.
    between
        (H, W, 2), pixels, backward, of the recording's scene onto the centre's.

    Returns
    -------
    frames : ndarray
        float32 (T, H, W, 2), of the frames onto the recording's reference.
    between : ndarray
        float32 (H, W, 2), of the recording's reference onto the centre's.
    """
    own, other = displacement.mean(axis=0), center.mean(axis=0)
    frames = np.stack([_seen_from(own, w - own) for w in displacement])
    return frames, _seen_from(other, between + _sample(own, between) - other)


def _seen_from(place: np.ndarray, field: np.ndarray) -> np.ndarray:
    """Read a field at the scene points that an image displaced by `place` shows."""
    inverse = -place
    for _ in range(3):  # inverse(p) = -place(p + inverse(p))
        inverse = -_sample(place, inverse)
    return _sample(field, inverse)


def _sample(field: np.ndarray, w: np.ndarray) -> np.ndarray:
    return imregister(field, w, fill=field, interpolation="linear")


def run_demo(
    folder: Path,
    *,
    shape: tuple[int, int] = (256, 256),
    n_frames: int = 60,
    progress: Progress | None = None,
) -> DemoReport:
    """Simulate three recordings of one field of view, run the session on them and compare with the truth.

    Parameters
    ----------
    folder
        Where everything goes.
    shape, n_frames
        Of each recording.
    progress
        Called as ``progress(recording, done, total)`` with frames.

    Returns
    -------
    DemoReport
        What came out.

    Raises
    ------
    FileExistsError
        The folder holds something else.
    OSError
        Something could not be written.
    """
    folder = folder.absolute()
    config_file = folder / "session.toml"
    if folder.exists() and any(folder.iterdir()) and not config_file.exists():
        raise FileExistsError(f"{folder} holds other files; name a new folder for the demo")
    logger.info("three recordings with known motion are simulated first, which takes some seconds")
    truth = simulate_session(shape=shape, n_frames=n_frames, seed=_SEED)
    truth.save(folder / "recordings")
    config_file.write_text(_SESSION_TOML.format(frames=n_frames), encoding="utf-8")
    config = SessionConfig.from_file(config_file)
    mask = run_session(config, progress=progress)

    recordings = find_recordings(config)
    center = truth.recordings[truth.center].displacement_px
    true_mask = np.ones(mask.shape, bool)
    reports = []
    for recording, simulated, known in zip(recordings, truth.recordings, truth.between_px, strict=True):
        frames, between = true_fields(simulated.displacement_px, known, center)
        inside = np.logical_and.reduce([valid_mask(w) for w in frames])
        true_mask &= imregister_binary(inside, between[..., 0], between[..., 1]) & valid_mask(between)
        reports.append(_report(recording, frames, between))
    return DemoReport(
        recordings=reports,
        mask_pixels=int(mask.sum()),
        mask_iou=float((mask & true_mask).sum() / (mask | true_mask).sum()),
        config_file=config_file,
        results=config.final_results,
        picture=_picture(config, recordings),
    )


def _report(recording: Recording, frames: np.ndarray, between: np.ndarray) -> RecordingReport:
    with h5py.File(recording.folder / FLOW_FILE, "r") as file:
        found = np.stack([file[name][:] for name in FLOW_DATASETS], axis=-1)
    marker = read_marker(recording.folder, "stage1")
    counts, _ = count_valid(recording.folder / MASK_FILE)
    return RecordingReport(
        name=recording.name,
        frames_per_s=marker["frames"] / marker["seconds"],
        error_before_px=_endpoint_error(frames),
        error_after_px=_endpoint_error(found - frames),
        valid_pixels=int((counts == marker["frames"]).sum()),
        shift_found_px=_mean_shift(read_field(recording.folder)),
        shift_true_px=_mean_shift(between),
    )


def _inner(field: np.ndarray) -> np.ndarray:
    return field[..., _BORDER:-_BORDER, _BORDER:-_BORDER, :]


def _endpoint_error(field: np.ndarray) -> float:
    return float(np.linalg.norm(_inner(field), axis=-1).mean())


def _mean_shift(field: np.ndarray) -> tuple[float, float]:
    u, v = _inner(field).mean(axis=(0, 1), dtype=np.float64)
    return float(u), float(v)


def _picture(config: SessionConfig, recordings: list[Recording]) -> Path | None:
    """Draw all recordings, one after the other, as recorded and in the centre's frame."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        return None
    recorded, aligned = (
        np.concatenate([_movie(path) for path in paths])
        for paths in (
            [recording.path for recording in recordings],
            [config.final_results / f"aligned_{recording.name}.tif" for recording in recordings],
        )
    )
    path = config.final_results / "before_after.png"
    title = f"{len(recordings)} recordings of one field of view, before and after"
    with replacing(path) as temporary:
        plot_before_after(recorded, aligned, title=title).savefig(temporary, format="png")
    return path


def _movie(path: Path) -> np.ndarray:
    with open_video(path) as reader:
        return reader[:][..., 0]
