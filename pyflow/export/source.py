"""A finished session as others take it over: its recordings in the centre's frame, and the mask of valid pixels."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from pyflow.io.pieces import piece_length
from pyflow.layout import (
    FLOW_DATASETS,
    RESULT_FILE,
    STATUS_FILE,
    find_flow,
    frames_that_count,
    open_compensated,
    read_field,
)
from pyflow.motion.align import aligned_frames

_PATHS = ("compensated_h5_paths", "aligned_video_paths")


def load_session(folder: str | Path) -> dict[str, Any]:
    """Load ``final_valid_idx.npz``, with paths that can be opened from anywhere.

    Parameters
    ----------
    folder
        The session's ``final_results``.

    Returns
    -------
    dict
        What the file holds. ``recordings``, ``compensated_h5_paths`` and ``aligned_video_paths`` are lists; the
        paths, which stand in the file relative to its folder, are absolute `Path` objects.

    Raises
    ------
    FileNotFoundError
        There is no such file, or a compensated video is not where the file says.
    ValueError
        The file is not a session's.
    """
    return _load(folder)


def _load(folder: str | Path, names: tuple[str, ...] | None = None) -> dict[str, Any]:
    """Load some of what ``final_valid_idx.npz`` holds, and its paths; all of it where no names are given."""
    path = Path(folder).absolute() / f"{RESULT_FILE}.npz"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; all stages of the session have to run first")
    with np.load(path, allow_pickle=False) as file:
        missing = {"final_valid", "recordings", *_PATHS} - set(file)
        if missing:
            raise ValueError(f"{path}: expected {', '.join(sorted(missing))}, found {', '.join(file)}")
        content: dict[str, Any] = {name: file[name] for name in (file if names is None else (*names, *_PATHS))}
    content["recordings"] = content["recordings"].tolist()
    for name in _PATHS:
        content[name] = [(path.parent / one).resolve() for one in content[name].tolist()]
    for video in content["compensated_h5_paths"]:
        if not video.is_file():
            raise FileNotFoundError(
                f"{path}: {video} is gone; the paths in the file are relative to its folder, so that final results "
                "and compensated recordings can be moved together"
            )
    return content


@dataclass(frozen=True)
class AlignedRecording:
    """A recording of a finished session.

    Parameters
    ----------
    name
        Its name.
    video
        The compensated video.
    shape
        (T, H, W, C).
    dtype
        Of the video.
    frame_rate_hz
        Frames per second; None where that is not known.
    """

    name: str
    video: Path
    shape: tuple[int, int, int, int]
    dtype: np.dtype
    frame_rate_hz: float | None

    def displacement(self) -> np.ndarray:
        """Read the displacement into the centre's frame, (H, W, 2) float32, pixels, backward.

        Raises
        ------
        FileNotFoundError
            It is gone.
        """
        return read_field(self.video.parent)

    def counts(self) -> np.ndarray:
        """Tell which frames count, (T,) bool; see `pyflow.layout.frames_that_count`, whose errors it raises."""
        return frames_that_count(self.video, self.shape[:3])

    def translation(self) -> np.ndarray | None:
        """Return the mean displacement of each frame, float64 (T, 2): x, y, in pixels; None where it was not kept."""
        path = find_flow(self.video.parent)
        if path is None:
            return None
        with h5py.File(path, "r") as file:
            data = [file[name] for name in FLOW_DATASETS]
            step = piece_length(data[0].shape[1:], np.float64)
            means = [
                [np.mean(one[first : first + step], axis=(1, 2), dtype=np.float64) for one in data]
                for first in range(0, len(data[0]), step)
            ]
        return np.concatenate([np.stack(pair, axis=-1) for pair in means])

    def input_file(self) -> Path | None:
        """Return the file it was recorded in, as far as that is known."""
        name = self._marker().get("input_file")
        return (self.video.parent / name).resolve() if isinstance(name, str) else None

    def bin_size(self) -> int:
        """Return how many recorded frames were averaged into one."""
        return int(self._marker().get("parts", {}).get("options", {}).get("bin_size", 1))

    def _marker(self) -> dict[str, Any]:
        """Return what stage 1 noted; nothing where it ran elsewhere."""
        path = self.video.parent / STATUS_FILE
        try:
            return json.loads(path.read_text(encoding="utf-8")).get("markers", {}).get("stage1", {})
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise ValueError(f"{path}: not readable: {error}") from error


@dataclass(frozen=True)
class AlignedSession:
    """A finished session.

    Parameters
    ----------
    folder
        Its ``final_results``.
    valid
        (H, W) bool: pixels that are valid in every recording.
    reference
        (H, W, C) float64: the centre's temporal average.
    recordings
        In the session's order; of one size and number of channels.
    """

    folder: Path
    valid: np.ndarray
    reference: np.ndarray
    recordings: list[AlignedRecording]

    @classmethod
    def open(cls, folder: str | Path, channel: int = 1) -> "AlignedSession":
        """Read a session's ``final_results``.

        Parameters
        ----------
        folder
            The folder.
        channel
            The one to hand over, counted from 1 as the data sets ``ch1``, ``ch2`` are.

        Raises
        ------
        FileNotFoundError
            The session has not run to its end, or a compensated video is gone.
        ValueError
            There is no such channel, or no pixel is valid.
        """
        content = _load(folder, ("final_valid", "recordings", "reference_average"))
        valid, reference = content["final_valid"], content["reference_average"]
        if not valid.any():
            raise ValueError(f"{folder}: no pixel is valid in every recording, so there is nothing to hand over")
        recordings = []
        for name, video in zip(content["recordings"], content["compensated_h5_paths"], strict=True):
            with open_compensated(video) as reader:
                recordings.append(AlignedRecording(name, video, reader.shape, reader.dtype, reader.frame_rate_hz))
                if not 1 <= channel <= reader.n_channels:
                    raise ValueError(f"channel {channel}: {video} has the channels 1 to {reader.n_channels}")
        return cls(Path(folder).absolute(), valid, reference.reshape(*valid.shape, -1), recordings)

    @property
    def n_frames(self) -> int:
        """Frames of all recordings together."""
        return sum(recording.shape[0] for recording in self.recordings)

    def frame_rate(self) -> float:
        """Return the recordings' frames per second.

        Raises
        ------
        ValueError
            They do not tell, or not the same.
        """
        rates = {recording.frame_rate_hz for recording in self.recordings}
        if len(rates) > 1 or None in rates:
            told = ", ".join(
                f"{recording.name}: {recording.frame_rate_hz or 'not known'}" for recording in self.recordings
            )
            raise ValueError(
                f"frame_rate: the recordings do not tell the frames per second ({told}); give it: "
                "frame_rate=30, or --frame-rate 30 of pyflow-session export"
            )
        return rates.pop()

    def frames(
        self, recording: AlignedRecording, channel: int, *, masked: bool = True, chunk_size: int = 64
    ) -> Iterator[np.ndarray]:
        """Yield a recording's frames in the centre's frame, some at a time.

        Parameters
        ----------
        recording
            One of `recordings`.
        channel
            Counted from 1.
        masked
            Invalid pixels show the reference in all frames, so that nothing happens in them.
        chunk_size
            Frames at a time.

        Yields
        ------
        ndarray
            (n, H, W) in the recording's dtype.
        """
        with open_compensated(recording.video) as reader:
            for frames in aligned_frames(reader, recording.displacement(), self.reference, chunk_size=chunk_size):
                one = frames[..., channel - 1]
                if masked:
                    still = self.reference[~self.valid, channel - 1]
                    one[:, ~self.valid] = np.rint(still) if one.dtype.kind in "ui" else still
                yield one
