"""A movie registered in memory (`compensate_arr`) and from file to file (`compensate_recording`).

1. Settle the reference, alpha and the usual misfit (`pyflow.motion.beginning`), or go on from a checkpoint.
2. Feed the frames to the `FrameLoop`, and what comes out to a sink.

Frames are read ahead on one thread, registered on `n_workers` threads and written in order on another.
"""

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from pyflow._help import short_repr
from pyflow.io import VideoReader, open_video
from pyflow.io.atomic import remove_leftovers
from pyflow.io.readers.axes import MOST_DETECTORS, axes_by_rule
from pyflow.motion.beginning import checked_source, first_state, output_dtype
from pyflow.motion.frames import FrameSource
from pyflow.motion.loop import FrameLoop
from pyflow.motion.options import OFOptions, checked_options
from pyflow.motion.outputs import (
    ArraySink,
    FileSink,
    FrameSink,
    all_references,
    check_input_stays,
    checkpoint_key,
    movie_file,
    resumed,
    save_small_results,
    statistics_by_name,
    without_single_channel,
)
from pyflow.motion.progress import Progress, as_callback
from pyflow.motion.quality import PATTERN_FRAMES, PROBLEMS, period_of
from pyflow.motion.register import RegisteredFrame
from pyflow.motion.state import LoopState
from pyflow.threads import resolve_threads

logger = logging.getLogger(__name__)

BatchCallback = Callable[[np.ndarray, int, int], None]


@short_repr
@dataclass(frozen=True)
class RecordingResult:
    """The results of `compensate_recording`.

    Parameters
    ----------
    output_path
        Folder with the results.
    video_file
        The registered movie; the name without ``_ch1`` where every channel has a file, of no file with ``"ARRAY"`` and
        ``"NULL"``.
    statistics
        Per frame, float64 (T,): ``mean_disp``, ``max_disp`` and ``mean_translation`` in pixels, ``mean_div``
        in pixels per pixel, ``misfit`` (1 less the correlation with the reference, both reduced to a quarter); NaN for
        frames that could not be registered.
    alpha
        Smoothness weight (x, y) that was used.
    noise_px
        Noise of a single frame's deformation, found with `OFOptions.temporal_coherence`, each component, in pixels.
    reference
        Raw reference, float64 (H, W) or (H, W, C), as it was used.
    references
        All references, raw and in one frame, float64 (n, H, W) or (n, H, W, C); the first is `reference`.
    chosen
        Which of them each frame was registered to, counted from 0, uint8 (T,).
    temporal_average
        Mean of the registered frames, float64 (H, W) or (H, W, C).
    valid
        Pixels that are valid in all registered frames, bool (H, W).
    problems
        Frames that could not be registered, and why. They are passed on as they are, have no valid pixel and
        are in no average.
    period
        1; or, where every n-th frame shows something else, n: channels or planes were taken for frames.
    bidiphase
        Pixels by which odd lines were moved to the right.
    registered
        The registered movie (T, H, W, C), where `OFOptions.output_format` is ``"ARRAY"``; else None.
    """

    output_path: Path
    video_file: Path
    statistics: dict[str, np.ndarray]
    alpha: tuple[float, float]
    noise_px: float
    reference: np.ndarray
    references: np.ndarray
    chosen: np.ndarray
    temporal_average: np.ndarray
    valid: np.ndarray
    problems: dict[int, str]
    period: int = 1
    bidiphase: int = 0
    registered: np.ndarray | None = None


def compensate_arr(
    movie: np.ndarray | VideoReader,
    reference: np.ndarray | None = None,
    options: OFOptions | None = None,
    *,
    progress: Progress | bool | None = None,
    on_registered: BatchCallback | None = None,
    on_displacement: BatchCallback | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Register the frames of a movie in memory.

    Parameters
    ----------
    movie
        (T, H, W) or (T, H, W, C), any integer or floating type; or an open reader, which is read whole.
    reference
        Image (H, W) or (H, W, C) to register to, in the movie's grey values; with ``alpha="auto"`` it is sharpened
        where the movie says that this helps (see `pyflow.motion.refinement`). None: as `OFOptions.reference_frames`
        says.
    options
        How; paths and what is saved do not count. None: the defaults.
    progress
        Called as ``progress(done, total)`` with frames, in this thread; what it raises stops the work. True: a line
        that says how far it is.
    on_registered, on_displacement
        Called after each batch of `OFOptions.buffer_size` frames, in this thread, as
        ``on_registered(frames, start, end)`` and ``on_displacement(w, start, end)``, with copies of what is returned
        for the frames `start` to `end` - 1. What they raise stops the work.

    Returns
    -------
    registered : ndarray
        The movie's shape and type (or `OFOptions.output_typename`); with `OFOptions.bin_size`, fewer frames.
        Frames that cannot be registered (see `pyflow.motion.quality.PROBLEMS`) are passed on as they are.
    displacement : ndarray
        float32 (T, H, W, 2), pixels: ``registered[t, y, x] = movie[t, y + v, x + u]`` with u, v =
        ``displacement[t, y, x]``.

    Raises
    ------
    TypeError
        The movie is a file's name, or the options are no `OFOptions`.
    ValueError
        The movie is empty, of other dimensions or not of real numbers, the reference does not match it, or no
        frame can be used as reference.
    """
    options = OFOptions() if options is None else checked_options(options)
    movie, progress = _checked_movie(movie, reference), as_callback(progress)
    source = checked_source(movie if movie.ndim == 4 else movie[..., np.newaxis], options, "movie")
    sink = ArraySink(len(source), source.frame_shape, output_dtype(source, options))
    state = first_state(source, options, reference)
    plain = on_registered is not None and movie.ndim == 3
    callbacks = _Callbacks(
        (lambda frames, start, end: on_registered(frames[..., 0], start, end)) if plain else on_registered,
        on_displacement,
    )
    _run(source, options, state, output_dtype(source, options), sink, progress, callbacks)
    _problems(state, "movie")
    _period(source, "movie")
    registered = sink.registered if movie.ndim == 4 else sink.registered[..., 0]
    return registered, sink.displacement


def compensate_recording(
    options: OFOptions,
    *,
    reference: np.ndarray | None = None,
    progress: Progress | bool | None = None,
    on_registered: BatchCallback | None = None,
    on_displacement: BatchCallback | None = None,
    resume: bool = True,
) -> RecordingResult:
    """Register the frames of a recording, from file to file, with constant memory.

    After each batch, and at least once a minute, the state is saved in the output folder, hidden; if the run is
    interrupted, the next one with the same input and options goes on from there, with the same result to the last
    bit. Leftovers that were damaged are thrown away. Files appear
    under their final names when all frames are done.

    Parameters
    ----------
    options
        What to register, how, and what to write where.
    reference
        Image (H, W) or (H, W, C) to register to, in the recording's grey values; with ``alpha="auto"`` it is sharpened
        where the recording says that this helps (see `pyflow.motion.refinement`). None: as
        `OFOptions.reference_frames` says.
    progress
        Called as ``progress(done, total)`` with frames, in this thread; what it raises stops the run, which
        can be resumed. True: a line that says how far it is.
    on_registered, on_displacement
        Called after each batch of `OFOptions.buffer_size` frames, in this thread, as
        ``on_registered(frames, start, end)`` with frames (n, H, W, C) as they are written, and
        ``on_displacement(w, start, end)`` with displacements (n, H, W, 2), float32, in pixels; of the frames `start`
        to `end` - 1, counted after binning. The arrays are the caller's to keep and to change; with a callback, a
        batch of them is in memory. What a callback raises stops the run; a resumed run begins with the batch whose
        callback raised, and does not repeat those before.
    resume
        Go on from the last saved state of an interrupted run. False: start over; so also with
        `OFOptions.preprocess`, a function that nothing says is the one of the interrupted run.

    Returns
    -------
    RecordingResult
        Where the results are, and the small ones among them.

    Raises
    ------
    TypeError
        The options are no `OFOptions`.
    ValueError
        `input_file` is not given or would be replaced by the results, the reference does not match the recording, or
        no frame can be used as reference; the message names the file.
    OSError
        The input cannot be read or the output not written.
    """
    if checked_options(options).input_file is None:
        raise ValueError("input_file: no recording is given")
    progress = as_callback(progress)
    options.output_path.mkdir(parents=True, exist_ok=True)
    check_input_stays(options)
    remove_leftovers(options.output_path)
    with open_video(options.input_file, options.reader) as reader:
        source = checked_source(reader, options, options.input_name)
        key = checkpoint_key(source, options, reference)
        resume = resume and options.preprocess is None
        state, sink = resumed(options, key, source.frame_rate_hz) if resume else (None, None)
        if state is None:
            try:
                state = first_state(source, options, reference)
            except ValueError as error:
                raise ValueError(f"{options.input_name}: {error}") from error
            sink = FileSink(options, key, source.frame_rate_hz)
        with sink:
            if state.frames_done == 0:  # reference and alpha may have taken long
                sink.save(state, now=True)
            callbacks = _Callbacks(on_registered, on_displacement)
            _run(source, options, state, output_dtype(source, options), sink, progress, callbacks)
            if state.problem[: state.frames_done].all():
                why = _listed(
                    {int(t): PROBLEMS[problem] for t, problem in enumerate(state.problem[: state.frames_done])}
                )
                raise ValueError(f"{options.input_name}: none of the {len(source)} frames could be registered: {why}")
            save_small_results(options, state)
        period = _period(source, options.input_name)
    problems = _problems(state, options.input_name)
    return RecordingResult(
        output_path=options.output_path,
        video_file=movie_file(options),
        statistics=statistics_by_name(state),
        alpha=tuple(state.alpha.tolist()),
        noise_px=float(state.noise_px),
        reference=without_single_channel(state.reference),
        references=all_references(state),
        chosen=state.chosen[: state.frames_done],
        temporal_average=without_single_channel(state.temporal_average),
        valid=state.valid,
        problems=problems,
        period=period,
        bidiphase=source.line_shift,
        registered=sink.registered,
    )


def _checked_movie(movie: np.ndarray | VideoReader, reference: np.ndarray | None) -> np.ndarray:
    """Return a movie as an array; refuse what cannot be one, and warn of axes that are in an improbable order."""
    if isinstance(movie, str | Path):
        raise TypeError(
            f"movie: expected an array, found the name {str(movie)!r}; pyflow.open_video({str(movie)!r})[:] reads it, "
            "and compensate_recording registers it from file to file"
        )
    if isinstance(reference, OFOptions):
        raise TypeError("reference: expected an image, found OFOptions; give them by name, options=...")
    movie = movie[:] if isinstance(movie, VideoReader) else np.asarray(movie)
    if movie.ndim not in (3, 4) or 0 in movie.shape:
        raise ValueError(f"movie has shape {movie.shape}, expected (T, H, W) or (T, H, W, C) with no empty axis")
    if movie.ndim == 4 and movie.shape[3] > MOST_DETECTORS:
        raise ValueError(
            f"movie has shape {movie.shape}, which as (T, H, W, C) would be {movie.shape[3]} channels; where the "
            "channels are in second place, np.moveaxis(movie, 1, -1) puts them last"
        )
    if axes_by_rule(movie.shape[:3], "movie")[2]:
        logger.warning(
            "movie: its shape %s is taken for (T, H, W), %d frames of %d x %d pixels, which is improbable; where time "
            "is last, np.moveaxis(movie, 2, 0) puts it first",
            movie.shape,
            *movie.shape[:3],
        )
    return movie


def _problems(state: LoopState, name: str) -> dict[int, str]:
    """Return, and log, which frames could not be registered, and why."""
    problems = {int(t): PROBLEMS[state.problem[t]] for t in np.flatnonzero(state.problem)}
    if problems:
        logger.warning("%s: %d frames could not be registered: %s", name, len(problems), _listed(problems))
    return problems


def _period(source: FrameSource, name: str) -> int:
    """Return, and raise the alarm about, the period after which a recording shows the same again."""
    first = max(0, len(source) - PATTERN_FRAMES) // 2
    indices = range(first, min(first + PATTERN_FRAMES, len(source)))
    period = period_of(source.read(t, t + 1)[0] for t in indices)
    if period > 1:
        logger.warning(
            "%s: every frame resembles the %s after it more than the ones in between: are they %d channels or planes, "
            "taken for frames? Look at it with 'pyflow-session info', and say n_channels=%d or n_planes=%d in [reader]",
            name,
            {2: "second", 3: "third"}.get(period, f"{period}th"),
            period,
            period,
            period,
        )
    return period


def _listed(problems: dict[int, str], limit: int = 10) -> str:
    text = ", ".join(f"{t} ({why})" for t, why in islice(problems.items(), limit))
    return text if len(problems) <= limit else f"{text} ..."


class _Callbacks:
    """Gathers a batch of what the caller wants to see, and hands it over."""

    def __init__(self, on_registered: BatchCallback | None, on_displacement: BatchCallback | None) -> None:
        wanted = {"frame": on_registered, "displacement": on_displacement}
        self._callbacks = {name: callback for name, callback in wanted.items() if callback is not None}
        self._batch: dict[str, list[np.ndarray]] = {name: [] for name in self._callbacks}

    def __bool__(self) -> bool:
        return bool(self._callbacks)

    def take(self, result: RegisteredFrame) -> None:
        """Take the next frame."""
        for name, values in self._batch.items():
            values.append(getattr(result, name))

    def end_batch(self, end: int) -> None:
        """Hand over the frames since the last call, of which the last is the one before `end`."""
        for name, callback in self._callbacks.items():
            batch = np.stack(self._batch[name])
            self._batch[name].clear()
            callback(batch, end - len(batch), end)


def _run(
    source: FrameSource,
    options: OFOptions,
    state: LoopState,
    dtype: np.dtype,
    sink: FrameSink,
    progress: Progress | None,
    callbacks: _Callbacks,
) -> None:
    """Register all frames from `state.frames_done` on and bring `state` up to date."""
    n_frames, n_workers = len(source), resolve_threads(options.n_workers)
    with ThreadPoolExecutor(1, "read") as reading, ThreadPoolExecutor(n_workers, "register") as workers:
        loop = FrameLoop(state, options, source.dtype, dtype, workers, 2 * n_workers)
        piece = []
        for result in loop.register(source.frames(reading, loop.first_frame)):
            piece.append(result)
            callbacks.take(result)
            ended = loop.batch_ended or state.frames_done == n_frames
            if len(piece) == source.piece or ended:
                sink.write(piece)
                piece = []
                if ended:
                    callbacks.end_batch(state.frames_done)
                if ended or not callbacks:  # a run that goes on inside a batch could not hand it over whole
                    sink.save(state, now=ended)
            if progress is not None:
                progress(state.frames_done, n_frames)
