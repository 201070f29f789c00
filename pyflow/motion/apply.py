"""Apply the displacement that one channel or file was registered with to another."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from pyflow.flow.warp import imregister
from pyflow.io import ReaderOptions, VideoReader, get_video_file_writer, open_video
from pyflow.io.pieces import piece_length
from pyflow.layout import FIELD_FILE, FLOW_DATASETS, find_flow, read_field
from pyflow.motion.frames import spread
from pyflow.motion.lines import shift_lines
from pyflow.threads import resolve_threads

_FILL_FRAMES = 200  # whose mean stands where frames show nothing
_PIECE_BYTES = 1 << 24


def apply_displacement(
    input_file: Any,
    displacement: str | Path | np.ndarray,
    output_file: str | Path,
    *,
    reader: ReaderOptions | dict[str, Any] | None = None,
    bidiphase: int = 0,
    interpolation: str = "cubic",
    n_threads: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Warp a recording by the displacement that another one, frame by frame the same motion, was registered with.

    Parameters
    ----------
    input_file
        What to warp, as `pyflow.open_video` takes it: another channel of the recording, or another file.
    displacement
        ``w.hdf``, written with `OFOptions.save_w`, or a recording's folder with it; or one field for all frames: a
        ``w_to_reference.npz``, or an array (H, W, 2). Pixels, backward: ``out[y, x] = frame[y + v, x + u]``.
    output_file
        Where the result goes, by its suffix TIFF or HDF5; appears there when it is complete. Data type and channels are
        those of the input. Pixels that come from outside a frame show the mean of the recording.
    reader
        What the input's files do not say.
    bidiphase
        See `OFOptions.bidiphase`; as the displacement was found with.
    interpolation
        ``"cubic"``, ``"linear"`` or ``"nearest"``.
    n_threads
        0: all that this process may use.
    progress
        Called as ``progress(done, total)`` with frames.

    Returns
    -------
    Path
        `output_file`.

    Raises
    ------
    ValueError
        The displacement is of another size or number of frames; both are named. `output_file` is one of the files that
        are read, or lies in their folder already.
    OSError
        A file is missing or cannot be read or written.
    """
    output_file = Path(output_file)
    _check_not_read(output_file, [input_file, displacement])
    options = ReaderOptions(**reader) if isinstance(reader, dict) else reader
    with ExitStack() as stack:
        video = stack.enter_context(open_video(input_file, options))
        field = _open_displacement(displacement, stack)
        name = str(video.path or "video in memory")
        shown = displacement if isinstance(displacement, str | Path) else "array"
        if field.shape[-3:-1] != video.shape[1:3]:
            raise ValueError(
                f"{shown}: displacement of {field.shape[-3:-1]} pixels, but frames of {name} are {video.shape[1:3]}"
            )
        if len(field.shape) == 4 and field.shape[0] != len(video):
            raise ValueError(f"{shown}: displacement of {field.shape[0]} frames, but {name} has {len(video)}")
        fill = _mean(video, bidiphase)
        output_file.parent.mkdir(parents=True, exist_ok=True)
        writer = stack.enter_context(get_video_file_writer(output_file))
        pool = stack.enter_context(ThreadPoolExecutor(resolve_threads(n_threads)))

        step = piece_length(video.shape[1:], np.result_type(video.dtype, np.float32), _PIECE_BYTES)
        for first, frames in video.batches(step):
            frames = shift_lines(frames, bidiphase)
            fields = [field] * len(frames) if len(field.shape) == 3 else field[first : first + len(frames)]
            warped = pool.map(
                lambda frame, w: imregister(frame, w, fill=fill, interpolation=interpolation, n_threads=1),
                frames,
                fields,
            )
            writer.write_frames(np.stack(list(warped)))
            if progress is not None:
                progress(first + len(frames), len(video))
    return output_file


def _check_not_read(output: Path, sources: Any) -> None:
    """Refuse an output that takes the place of what is read, which may be the only copy of a raw recording."""
    for source in sources:
        if isinstance(source, list | tuple):
            _check_not_read(output, source)
        elif (
            isinstance(source, str | Path)
            and output.exists()
            and Path(source).exists()
            and (output.resolve().is_relative_to(Path(source).resolve()) or output.samefile(source))
        ):
            raise ValueError(
                f"{output}: the result would replace what it is made from, or other results; name another file"
            )


def _open_displacement(source: str | Path | np.ndarray, stack: ExitStack) -> VideoReader | np.ndarray:
    """Return a displacement (T, H, W, 2) that is read when it is indexed, or one (H, W, 2) for all frames."""
    if isinstance(source, np.ndarray):
        return np.asarray(source, np.float32)
    path = Path(source)
    if path.name == FIELD_FILE:
        return read_field(path.parent)
    found = find_flow(path) if path.is_dir() else path
    if found is None:
        raise FileNotFoundError(f"{path}: no displacement of the frames in it; stage 1 keeps it with save_w = true")
    return stack.enter_context(open_video(found, dataset=list(FLOW_DATASETS)))


def _mean(video: VideoReader, bidiphase: int) -> np.ndarray:
    """Return the mean of frames from all over a recording, in its type."""
    indices = spread(len(video), _FILL_FRAMES)
    total = np.zeros(video.shape[1:])
    for index in indices:
        total += np.nan_to_num(shift_lines(video[int(index) : int(index) + 1], bidiphase)[0])
    mean = total / len(indices)
    return (np.rint(mean) if video.dtype.kind in "ui" else mean).astype(video.dtype)
