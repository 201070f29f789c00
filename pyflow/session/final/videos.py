"""Videos of the recordings in the centre's frame."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from pyflow.io import get_video_file_writer
from pyflow.layout import open_compensated
from pyflow.motion.align import aligned_frames


def align_sequence_video(
    compensated_path: Path,
    output_path: Path,
    displacement: np.ndarray,
    reference_average: np.ndarray,
    *,
    chunk_size: int = 64,
    output_format: str = "TIFF",
    n_threads: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Warp a compensated video into the centre's frame, some frames at a time.

    Parameters
    ----------
    compensated_path
        The video.
    output_path
        Where it goes; appears there only when complete.
    displacement
        (H, W, 2) float32, pixels, backward, into the centre's frame.
    reference_average
        (H, W) or (H, W, C): what pixels from outside the recording show.
    chunk_size
        Frames in memory at a time.
    output_format
        One of `SUFFIXES`: ``"TIFF"``, ``"HDF5"`` and so on.
    n_threads
        Frames warped at once; 0 for all threads this process may use.
    progress
        Called as ``progress(done, total)`` with frames.

    Returns
    -------
    Path
        `output_path`.

    Raises
    ------
    ValueError
        The displacement's or average's shape does not match the video's.
    OSError
        It could not be written, for want of space for example; the message names `output_path`.
    """
    with open_compensated(compensated_path) as reader:
        frames = aligned_frames(reader, displacement, reference_average, chunk_size=chunk_size, n_threads=n_threads)
        output_path.parent.mkdir(parents=True, exist_ok=True)
        rate = {"frame_rate_hz": reader.frame_rate_hz} if output_format == "TIFF" else {}
        with get_video_file_writer(output_path, output_format, **rate) as writer:
            for warped in frames:
                writer.write_frames(warped)
                if progress is not None:
                    progress(writer.frames_written, reader.frame_count)
    return output_path
