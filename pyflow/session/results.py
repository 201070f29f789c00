"""Find and read what stage 1 left on disk, for the stages after it."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from pyflow.align.center import most_central
from pyflow.align.trust import NOT_ALIGNABLE
from pyflow.layout import AVERAGE_FILE, VIDEO_FILE, find_video, read_field
from pyflow.session.artifacts import State, check_done, find_damage, make_key, read_marker, save_json
from pyflow.session.config import AUTO_CENTER, SessionConfig
from pyflow.session.elsewhere import adoption, made_elsewhere
from pyflow.session.keys import field_parts, result_options, stage1_parts
from pyflow.session.recordings import Recording, find_center, find_compensated
from pyflow.session.stage import execute

# Which recording is the centre where it was found, and from which results of stage 1.
CENTER_FILE = "center.json"

# progress(recording, done, total), in frames
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Stage1Result:
    """A recording after stage 1; `key` changes with the result."""

    recording: Recording
    key: str
    video: Path


@dataclass(frozen=True)
class Session:
    """All recordings after stage 1; `middle_idx` is the centre's index, from 0."""

    config: SessionConfig
    results: list[Stage1Result]
    middle_idx: int

    @property
    def center(self) -> Stage1Result:
        """The recording whose frame is everyone's."""
        return self.results[self.middle_idx]

    def field_parts(self, result: Stage1Result, neighbours: Sequence[Stage1Result] | None = None) -> dict[str, object]:
        """Return what a recording's stage 2 key is made from; None: where neighbours had a part in it, today's."""
        if neighbours is None:
            marker = read_marker(result.recording.folder, "stage2")
            neighbours = self.neighbours(result) if marker and marker["parts"].get("neighbours") else []
        keys = {neighbour.recording.name: neighbour.key for neighbour in neighbours}
        return field_parts(self.config, result.key, self.center.recording.name, self.center.key, keys)

    @cached_property
    def _places(self) -> dict[str, int]:
        return {result.recording.name: place for place, result in enumerate(self.results)}

    def neighbours(self, result: Stage1Result) -> list[Stage1Result]:
        """Return the recordings through which one may be aligned to the centre: two on each side, nearest first."""
        at = self._places[result.recording.name]
        places = [at + sign * step for step in (1, 2) for sign in (-1, 1)]
        others = [self.results[place] for place in places if 0 <= place < len(self.results)]
        return [other for other in others if other is not self.center]

    def alignment(self, result: Stage1Result) -> dict[str, Any]:
        """Return what stage 2 says of a recording's alignment; empty where it has not run."""
        return (read_marker(result.recording.folder, "stage2") or {}).get("alignment", {})

    def left_out(self, result: Stage1Result) -> bool:
        """Tell whether a recording that stage 2 has seen is no part of the session's results."""
        return not self.config.use_not_alignable and self.alignment(result).get("verdict") == NOT_ALIGNABLE

    def check_unchanged(self, results: Iterable[Stage1Result]) -> None:
        """Raise a RuntimeError if stage 1 of a recording was begun anew since the session was opened.

        To be called before what was made from its files is marked as made from them.
        """
        for result in results:
            marker = read_marker(result.recording.folder, "stage1")
            if marker is None or marker["key"] != result.key:
                name = result.recording.name
                raise RuntimeError(f"{name}: stage 1 was made anew by another process while it was read; run again")

    def field_state(self, result: Stage1Result, *, glance: bool = False) -> State:
        """Say whether a recording's displacement field is there and belongs to today's averages and options."""
        folder, parts = result.recording.folder, self.field_parts(result)
        return check_done(folder, "stage2", parts, deep=self.config.deep, glance=glance)

    def check_field(self, result: Stage1Result) -> None:
        """Raise a ValueError if a recording's displacement field is not that of today's averages and options."""
        state = self.field_state(result)
        if not state.done:
            raise ValueError(f"{result.recording.name}: stage 2 has to run first ({state.reason})")

    def field(self, result: Stage1Result) -> np.ndarray:
        """Read a recording's field (H, W, 2), which stays on disk between its uses and must not have become another.

        Raises
        ------
        ValueError
            See `check_field`.
        """
        self.check_field(result)
        return read_field(result.recording.folder)


def stage1_state(
    config: SessionConfig,
    recording: Recording,
    options: Callable[[], dict[str, Any]] | None = None,
    *,
    glance: bool = False,
) -> State:
    """Say whether a recording's stage 1 results are there and belong to today's input and options.

    Parameters
    ----------
    config, recording
        The session and one of its recordings.
    options
        Returns what `result_options` does.
    glance
        Do not open files whose size and time of change are as they were.
    """
    folder, deep = recording.folder, config.deep
    if made_elsewhere(folder):
        if read_marker(folder, "stage1") is None:
            return State(True, "made elsewhere")
        stage = adoption(config, recording)
        return stage.state(stage.parts())
    marker = read_marker(folder, "stage1")
    if recording.path is None and marker is not None:
        damage = next(find_damage(folder, marker, deep=deep), "")
        return State(not damage, damage)
    known = marker["parts"].get("input") if glance and marker is not None else None
    parts = stage1_parts(config, recording, options, known=known if isinstance(known, dict) else None)
    return check_done(folder, "stage1", parts, deep=deep, glance=glance)


def stage1_states(config: SessionConfig, recordings: list[Recording], *, glance: bool = False) -> list[State]:
    """Say of all recordings what `stage1_state` says of one; at a glance, also of those that cannot be read."""
    options = cache(lambda: result_options(config, recordings[0]))

    def state(recording: Recording) -> State:
        try:
            return stage1_state(config, recording, options, glance=glance)
        except OSError as error:
            if not glance:
                raise
            return State(False, str(error), stuck=True)

    return [state(recording) for recording in recordings]


def open_session(config: SessionConfig, found: tuple[list[Recording], list[State]] | None = None) -> Session:
    """Find the stage 1 results of all recordings, and the centre.

    Parameters
    ----------
    config
        The session.
    found
        The recordings and the states of their stage 1, where these are known already.

    Raises
    ------
    FileNotFoundError
        There are no recordings.
    ValueError
        Stage 1 of a recording is not done, or belongs to another input or other options, or is damaged; or
        `center` names no recording. The message says which and why.
    """
    if found is None:
        recordings = find_compensated(config)
        found = recordings, stage1_states(config, recordings)
    recordings, states = found
    middle_idx = recordings.index(find_center(config, recordings))
    results = []
    for recording, state in zip(recordings, states, strict=True):
        if state.key and not state.reason:
            key, video = state.key, recording.folder / VIDEO_FILE
        elif made_elsewhere(recording.folder):
            if state.stuck:
                raise ValueError(f"{recording.name}: {state.reason}")
            key, video = make_key(adoption(config, recording).parts()), find_video(recording.folder)
        elif state.done:
            key, video = read_marker(recording.folder, "stage1")["key"], recording.folder / VIDEO_FILE
        else:
            raise ValueError(f"{recording.name}: stage 1 has to run first ({state.reason})")
        results.append(Stage1Result(recording, key, video))
    session = Session(config, results, middle_idx)
    return replace(session, middle_idx=_center_by_likeness(session)) if config.center == AUTO_CENTER else session


def _center_by_likeness(session: Session) -> int:
    """Return the index of the recording that resembles the others most, as found before or anew."""
    keys = [result.key for result in session.results]
    try:
        known = json.loads((session.config.final_results / CENTER_FILE).read_text(encoding="utf-8"))
        if known["stage1"] == keys and 0 <= known["middle_idx"] < len(keys):
            return known["middle_idx"]
    except (OSError, ValueError, KeyError, TypeError):
        pass
    average_shape(session)
    return most_central([partial(read_average, result) for result in session.results])


def save_center(session: Session) -> None:
    """Remember which recording is the centre of a session that asks for it to be found."""
    session.config.final_results.mkdir(parents=True, exist_ok=True)
    keys = [result.key for result in session.results]
    save_json(session.config.final_results / CENTER_FILE, {"middle_idx": session.middle_idx, "stage1": keys})


def read_average(result: Stage1Result) -> np.ndarray:
    """Read a recording's temporal average, float64, (H, W) or (H, W, C), which has to be there."""
    return np.array(_load_average(result), np.float64)


def average_shape(session: Session) -> tuple[int, ...]:
    """Return the shape that all temporal averages have; those that MATLAB did not make are computed and saved.

    Raises
    ------
    ValueError
        One is no image, or differs from the centre's in shape.
    """
    for result in session.results:
        if made_elsewhere(result.recording.folder):
            execute(adoption(session.config, result.recording))
    expected = _load_average(session.center).shape
    for result in session.results:
        shape = _load_average(result).shape
        if shape != expected:
            raise ValueError(
                f"{result.video}: the average has shape {shape}, the centre's ({session.center.video}) has {expected}"
            )
    return expected


def _load_average(result: Stage1Result) -> np.ndarray:
    """Open an average without reading it.

    Raises
    ------
    ValueError
        It is no image; the message names the file.
    """
    path = result.recording.folder / AVERAGE_FILE
    try:
        average = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if not isinstance(average, np.ndarray) or average.ndim not in (2, 3) or average.dtype.kind not in "uif":
        found = f"{average.dtype} of shape {average.shape}" if isinstance(average, np.ndarray) else "several arrays"
        raise ValueError(f"{path}: expected an average (H, W) or (H, W, C) of numbers, found {found}")
    return average
