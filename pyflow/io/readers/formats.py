"""Which class reads which file."""

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from pyflow.io.readers.video import ArrayReader, ChannelReader, VideoReader

# Format: module, class, extensions. A new format is one line.
_FORMATS = {
    "TIFF": ("pyflow.io.readers.tiff", "TiffReader", (".tif", ".tiff", ".btf", ".tf8")),
    "HDF5": ("pyflow.io.readers.hdf5", "Hdf5Reader", (".h5", ".hdf5", ".hdf")),
}
_BY_EXTENSION = {extension: name for name, (*_, extensions) in _FORMATS.items() for extension in extensions}

Source = str | Path | np.ndarray


def open_video(source: Source | list[Source] | tuple[Source, ...], **options: Any) -> VideoReader:
    """Open a recording for reading.

    Parameters
    ----------
    source : path, array (T, H, W) or (T, H, W, C), or a list of either with one channel each
    **options
        Of the format: ``n_channels`` for TIFF files whose pages interleave channels, ``dataset`` for HDF5.

    Returns
    -------
    VideoReader
        Indexes like an array (T, H, W, C); close it, or use it in a ``with`` statement.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        The file is not a video of a known format, or is damaged; the message says what was found.
    """
    if isinstance(source, (list, tuple)):
        if not source:
            raise ValueError("no files: the list of recordings is empty")
        readers: list[VideoReader] = []
        try:
            for one in source:
                readers.append(open_video(one, **options))  # noqa: PERF401 what is open must be known when one fails
            return ChannelReader(readers)
        except BaseException:
            for reader in readers:
                reader.close()
            raise
    if isinstance(source, np.ndarray):
        return ArrayReader(source, **options)
    return get_video_file_reader(source, **options)


def get_video_file_reader(path: str | Path, **options: Any) -> VideoReader:
    """Open a video file by its extension; see `open_video`."""
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    if path.is_dir():
        raise IsADirectoryError(f"{path}: is a folder, expected a video file")
    if path.stat().st_size == 0:
        raise ValueError(f"{path}: the file is empty")
    name = _BY_EXTENSION.get(path.suffix.lower())
    if name is None:
        known = ", ".join(sorted(_BY_EXTENSION))
        raise ValueError(f"{path}: unknown extension {path.suffix!r}, expected one of {known}")
    module, reader, _ = _FORMATS[name]
    return getattr(import_module(module), reader)(path, **options)
