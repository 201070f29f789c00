"""Videos in TIFF files."""

from pathlib import Path

import numpy as np
import tifffile

from pyflow.io.writers.video import VideoWriter


class TiffWriter(VideoWriter):
    """Writes BigTIFF, uncompressed, as one series: ``tifffile.imread`` gives (T, H, W), or (T, C, H, W).

    Parameters
    ----------
    path : str or Path
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        self._file = tifffile.TiffWriter(self._output, bigtiff=True)

    def _append(self, frames: np.ndarray) -> None:
        single = frames.shape[-1] == 1
        for frame in frames:
            self._file.write(
                frame[..., 0] if single else np.moveaxis(frame, -1, 0),
                contiguous=True,
                photometric="minisblack",
                metadata={"axes": "TYX" if single else "TCYX"},
            )

    def _close_file(self) -> None:
        self._file.close()
