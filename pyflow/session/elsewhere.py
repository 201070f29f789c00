"""Stage 1 results that MATLAB or pyflowreg made: told from ours, taken as they are, and watched for changes."""

import logging
from pathlib import Path
from typing import Any

import numpy as np

from pyflow.io.pieces import piece_length
from pyflow.layout import (
    AVERAGE_FILE,
    CHUNK_BYTES,
    FLOW_FILES,
    MASK_FILE,
    find_video,
    fingerprint,
    fingerprint_of_several,
    frames_that_count,
    is_ours,
    open_compensated,
    video_files,
)
from pyflow.session.artifacts import (
    State,
    check_done,
    files_written,
    find_damage,
    make_key,
    read_marker,
    read_status,
    save_npy,
)
from pyflow.session.config import SessionConfig
from pyflow.session.recordings import Recording
from pyflow.session.stage import Stage

logger = logging.getLogger(__name__)


def made_elsewhere(folder: Path) -> bool:
    """Tell whether a folder's stage 1 results are those of MATLAB or pyflowreg.

    What we write says so itself: a folder with files of ours and no marker is unfinished, not made elsewhere.
    """
    marker = read_marker(folder, "stage1")
    if marker is not None and "made_elsewhere" not in marker["parts"]:
        return False
    video = find_video(folder)
    if video is None or marker is not None:
        return video is not None
    if _marked_by_earlier_version(folder):
        return False
    status = read_status(folder)
    if status.get("stage1") == "incomplete" and "stage1" not in status.get("written", {}):
        return False  # pyflowreg's own word for a run that did not end; ours stands beside what we were to write
    return not any(is_ours(file) for file in (video, *(folder / name for name in (MASK_FILE, *FLOW_FILES))))


def _marked_by_earlier_version(folder: Path) -> bool:
    """Tell whether a marker is ours but says less than ours do now; its files do not yet say whose they are."""
    marker = read_status(folder).get("markers", {}).get("stage1")
    parts = marker.get("parts") if isinstance(marker, dict) else None
    return isinstance(parts, dict) and "schema" in parts


def adoption(config: SessionConfig, recording: Recording) -> Stage:
    """Return the stage that records what results made elsewhere are, and adds the average that MATLAB leaves out."""
    folder = recording.folder
    video = find_video(folder)
    files = [path for name in (MASK_FILE, *FLOW_FILES) if (path := folder / name).is_file()]
    average = folder / AVERAGE_FILE
    add_average = not average.is_file() or AVERAGE_FILE in files_written(folder, "stage1")
    theirs = (*video_files(video), *files, *(() if add_average else (average,)))

    def parts() -> dict[str, Any]:
        return {"made_elsewhere": {file.name: fingerprint(file, "lenient") for file in theirs}}

    def check(parts: dict[str, Any]) -> State:
        state = check_done(folder, "stage1", parts, deep=config.deep)
        marker = read_marker(folder, "stage1")
        if marker is None or marker["key"] != make_key(parts):
            return state
        if recording.path is not None and _changed(
            marker.get("input"), fingerprint_of_several(recording.files, config.fingerprint)
        ):
            return State(
                False,
                f"{recording.path} is not the file that was there when the results in {folder} were found, which were "
                "made elsewhere; make them again there, or remove them to have them made here",
                stuck=True,
            )
        if not state.done:  # the average that we added can be made again, theirs cannot
            kept = {file.name: marker["outputs"][file.name] for file in theirs if file.name in marker["outputs"]}
            return State(False, state.reason, stuck=any(find_damage(folder, {"outputs": kept}, deep=config.deep)))
        names = ", ".join(file.name for file in theirs)
        return State(True, f"made elsewhere, found {marker['finished']}: {names}")

    def run() -> dict[str, Any]:
        logger.warning("%s: keeping the results in %s, which were made elsewhere", recording.name, folder)
        if add_average:
            compute_and_save_temporal_average(video, folder)
        if recording.path is None:
            return {"input": None}
        return {"input": fingerprint_of_several(recording.files, "deep" if config.deep else "quick")}

    writes = (average,) if add_average else ()
    outputs = (*theirs, *writes)
    return Stage("stage1", "stage 1", folder, recording.name, parts, run, outputs, writes, check=check)


def _changed(known: dict[str, Any] | None, found: dict[str, Any]) -> bool:
    """Compare an input file with what is known of it, in what both say."""
    return known is not None and any(known[name] != found[name] for name in known.keys() & found.keys())


def compute_and_save_temporal_average(compensated_path: Path, output_folder: Path) -> np.ndarray:
    """Average a compensated video over the frames that count and save ``temporal_average.npy``.

    A frame counts when ``idx.hdf`` beside the video marks any of its pixels valid; without that file all
    frames do.

    Parameters
    ----------
    compensated_path
        The video.
    output_folder
        Where the average goes.

    Returns
    -------
    ndarray
        float64, (H, W) or (H, W, C).

    Raises
    ------
    ValueError
        No frame counts.
    """
    with open_compensated(compensated_path) as reader:
        step = piece_length(reader.shape[1:], reader.dtype, CHUNK_BYTES)
        counts = frames_that_count(compensated_path, reader.shape[:3])
        if not counts.any():
            raise ValueError(f"{compensated_path}: no frame has a valid pixel")
        total = np.zeros(reader.shape[1:], np.float64)
        for first, frames in reader.batches(step):
            total += frames[counts[first : first + len(frames)]].sum(axis=0, dtype=np.float64)
    average = total / counts.sum()
    if average.shape[2] == 1:
        average = average[..., 0]
    save_npy(output_folder / AVERAGE_FILE, average)
    return average
