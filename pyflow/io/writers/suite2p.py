"""Videos as suite2p keeps them when it has registered them: ``data.bin``, and ``ops.npy`` with their size."""

from pathlib import Path
from typing import Any

import numpy as np

from pyflow.io.atomic import replacing
from pyflow.io.writers.many import ChannelFilesWriter
from pyflow.io.writers.video import VideoWriter

_MOST_CHANNELS = 2

# What fits into the only type that suite2p knows, and what it does with uint16 itself: it halves the values.
_DIVISORS = {"u1": 1, "i1": 1, "i2": 1, "u2": 2}


class Suite2pWriter(ChannelFilesWriter):
    """Writes suite2p's binary, int16 frames one after the other, of two channels ``data_chan2.bin`` as well.

    ``ops.npy`` beside it says sizes and numbers, and nothing that suite2p would have found: what its detection needs in
    addition, `pyflow.export.to_suite2p` writes.

    Parameters
    ----------
    path : str or Path
        ``data.bin``; its folder must exist. ``ops.npy`` there is replaced.
    frame_rate_hz : float, optional
        Frames per second, ``fs`` of suite2p.
    """

    def __init__(self, path: str | Path, *, frame_rate_hz: float | None = None) -> None:
        super().__init__(path, _BinaryWriter)
        self._rate = frame_rate_hz
        self._ended = False

    def _name(self, channel: int) -> str:
        return self.path.name if channel == 1 else f"{self.path.stem}_chan{channel}{self.path.suffix}"

    def _append(self, frames: np.ndarray) -> None:
        if frames.shape[-1] > _MOST_CHANNELS:
            raise ValueError(f"{self.path}: {frames.shape[-1]} channels, expected at most {_MOST_CHANNELS} for suite2p")
        kind = frames.dtype.str[1:]
        if kind not in _DIVISORS:
            raise ValueError(
                f"{self.path}: frames of type {frames.dtype}, expected integers of up to 16 bits for suite2p; say "
                "output_typename='int16', or scale them"
            )
        super()._append((frames // frames.dtype.type(_DIVISORS[kind])).astype("<i2"))

    def close(self) -> None:
        """Finish the files and give them their names, ``ops.npy`` last; see `VideoWriter.close`."""
        if self._ended:
            return
        self._ended = True
        if self._frame_shape is None:
            return
        try:
            for writer in self._writers:
                writer.finish()
        except BaseException:
            self.discard()
            raise
        ops_file = self.path.with_name("ops.npy")
        # Both would be about another movie until the new ones are there, or for ever.
        for name in (ops_file.name, self._name(_MOST_CHANNELS)):
            self.path.with_name(name).unlink(missing_ok=True)
        super().close()
        height, width, n_channels = self._frame_shape
        ops: dict[str, Any] = {
            "Ly": height,
            "Lx": width,
            "nframes": self.frames_written,
            "nplanes": 1,
            "nchannels": n_channels,
            "functional_chan": 1,
            "reg_file": str(self.path.absolute()),
            "pyflow": {"scale": 1 / _DIVISORS[self._dtype.str[1:]]},
        }
        if n_channels == _MOST_CHANNELS:
            ops["reg_file_chan2"] = str(self.path.with_name(self._name(2)).absolute())
        if self._rate:
            ops["fs"] = self._rate
        with replacing(ops_file) as temporary, open(temporary, "wb") as file:
            np.save(file, np.array(ops, dtype=object), allow_pickle=True)


class _BinaryWriter(VideoWriter):
    """Writes the frames of one channel and nothing else."""

    def _append(self, frames: np.ndarray) -> None:
        self._output.write(memoryview(np.ascontiguousarray(frames)).cast("B"))

    def _close_file(self) -> None:
        """Nothing is held back."""
