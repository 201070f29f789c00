"""Which class writes which file."""

from importlib import import_module
from pathlib import Path
from typing import Any

from pyflow.io.writers.video import VideoWriter

# Format: module, class, extensions. A new format is one line.
_FORMATS = {
    "TIFF": ("pyflow.io.writers.tiff", "TiffWriter", (".tif", ".tiff", ".btf", ".tf8")),
    "HDF5": ("pyflow.io.writers.hdf5", "Hdf5Writer", (".h5", ".hdf5", ".hdf")),
}
_BY_EXTENSION = {extension: name for name, (*_, extensions) in _FORMATS.items() for extension in extensions}


def get_video_file_writer(path: str | Path, output_format: str | None = None, **options: Any) -> VideoWriter:
    """Create a video file.

    Parameters
    ----------
    path : str or Path
        Target; its folder must exist.
    output_format : {"TIFF", "HDF5"}, optional
        By the extension where not given.
    **options
        Of the format, see `pyflow.io.writers.hdf5.Hdf5Writer`.

    Returns
    -------
    VideoWriter

    Raises
    ------
    ValueError
        The format or extension is unknown.
    """
    path = Path(path)
    if output_format is None:
        output_format = _BY_EXTENSION.get(path.suffix.lower(), path.suffix)
    if output_format not in _FORMATS:
        raise ValueError(f"{path}: unknown format {output_format!r}, expected one of {', '.join(_FORMATS)}")
    module, writer, _ = _FORMATS[output_format]
    return getattr(import_module(module), writer)(path, **options)
