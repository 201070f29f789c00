"""Writers that are made of others, or have no file."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from pyflow.io.writers.video import VideoWriter


class ChannelFilesWriter(VideoWriter):
    """Writes a file per channel: ``compensated_ch1.tif``, ``compensated_ch2.tif`` for ``compensated.tif``.

    The files get their names when all of them are complete.

    Parameters
    ----------
    path : str or Path
        Target without ``_ch1``; its folder must exist.
    create : callable
        Makes the writer of one channel's file.
    """

    def __init__(self, path: str | Path, create: Callable[[Path], VideoWriter]) -> None:
        # no file of its own, which is what the base would make
        self.path = Path(path)
        self.frames_written = 0
        self._create = create
        self._writers: list[VideoWriter] = []
        self._frame_shape: tuple[int, int, int] | None = None
        self._dtype: np.dtype | None = None

    def _name(self, channel: int) -> str:
        """Name of a channel's file, the first of which is 1."""
        return f"{self.path.stem}_ch{channel}{self.path.suffix}"

    def _check(self) -> None:
        for writer in self._writers:
            writer._check()

    def _append(self, frames: np.ndarray) -> None:
        while not self.frames_written and len(self._writers) < frames.shape[-1]:
            self._writers.append(self._create(self.path.with_name(self._name(len(self._writers) + 1))))
        for channel, writer in enumerate(self._writers):
            writer.write_frames(frames[..., channel : channel + 1])

    def _flush_file(self) -> None:
        for writer in self._writers:
            writer.flush()

    def _close_file(self) -> None:
        """Nothing is held back here."""

    def snapshot(self) -> dict[str, np.ndarray]:
        """Flush; there is no going on in several files."""
        self.flush()
        return {}

    def settle(self) -> None:
        """Do nothing; see `snapshot`."""

    def close(self) -> None:
        """Finish all files and give them their names; see `VideoWriter.close`."""
        try:
            for writer in self._writers:
                writer.finish()
            for writer in self._writers:
                writer.close()
        except BaseException:
            self.discard()
            raise

    def discard(self) -> None:
        """Give up all files; see `VideoWriter.discard`."""
        for writer in self._writers:
            writer.discard()


class NullWriter(VideoWriter):
    """Takes frames and writes nothing, for those who want displacements or statistics only.

    Parameters
    ----------
    path : str or Path
        Of no file; for messages.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.frames_written = 0
        self._frame_shape: tuple[int, int, int] | None = None
        self._dtype: np.dtype | None = None

    def _check(self) -> None:
        """Nothing can have gone wrong."""

    def _append(self, frames: np.ndarray) -> None:
        """Forget the frames."""

    def _close_file(self) -> None:
        """Nothing is held back."""

    def snapshot(self) -> dict[str, np.ndarray]:
        """Return nothing."""
        return {}

    def settle(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""

    def discard(self) -> None:
        """Do nothing."""


class ArrayWriter(NullWriter):
    """Keeps the frames in memory, for those who want an array; it outlives `close`.

    Parameters
    ----------
    path : str or Path
        Of no file; for messages.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        self._pieces: list[np.ndarray] = []

    def _append(self, frames: np.ndarray) -> None:
        self._pieces.append(frames.copy())

    def get_array(self) -> np.ndarray:
        """Return all frames so far, (T, H, W, C).

        Raises
        ------
        ValueError
            Nothing was written, so that neither size nor type is known.
        """
        if not self._pieces:
            raise ValueError("no frames were written, so that there is no array")
        self._pieces = [np.concatenate(self._pieces) if len(self._pieces) > 1 else self._pieces[0]]
        return self._pieces[0]

    def discard(self) -> None:
        """Let go of the frames."""
        self._pieces = []
