"""Which class writes which file."""

from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from pyflow.io.writers.many import ChannelFilesWriter
from pyflow.io.writers.video import VideoWriter

# Format: module, class, extensions. A new format is one line.
_FORMATS = {
    "TIFF": ("pyflow.io.writers.tiff", "TiffWriter", (".tif", ".tiff", ".btf", ".tf8")),
    "HDF5": ("pyflow.io.writers.hdf5", "Hdf5Writer", (".h5", ".hdf5", ".hdf")),
    "MAT": ("pyflow.io.writers.mat", "MatWriter", (".mat",)),
    "MAT7": ("pyflow.io.writers.mat", "Mat7Writer", ()),
    "CAIMAN_HDF5": ("pyflow.io.writers.hdf5", "CaimanHdf5Writer", ()),
    "ZARR": ("pyflow.io.writers.zarr", "ZarrWriter", (".zarr",)),
    "SUITE2P": ("pyflow.io.writers.suite2p", "Suite2pWriter", (".bin",)),
    "ARRAY": ("pyflow.io.writers.many", "ArrayWriter", ()),
    "NULL": ("pyflow.io.writers.many", "NullWriter", ()),
}
_BY_EXTENSION = {extension: name for name, (*_, extensions) in _FORMATS.items() for extension in extensions}

# A file for each channel, of any format in the table.
_MULTIFILE = "MULTIFILE_"


def get_video_file_writer(path: str | Path, output_format: str | None = None, **options: Any) -> VideoWriter:
    """Create a video file.

    Parameters
    ----------
    path : str or Path
        Target; its folder must exist. ``"ARRAY"`` and ``"NULL"`` have no file, and any name will do.
    output_format : {"TIFF", "HDF5", "MAT", "MAT7", "CAIMAN_HDF5", "ZARR", "SUITE2P", "ARRAY", "NULL"}, optional
        By the extension where not given. ``"MULTIFILE_TIFF"``, ``"MULTIFILE_HDF5"``, ``"MULTIFILE_MAT"`` and so on
        write a file for each channel, with ``_ch1`` ... behind the name. ``"ARRAY"`` keeps the frames in memory, where
        ``get_array()`` gives them, and ``"NULL"`` forgets them. See the classes in `pyflow.io.writers`.
    **options
        Of the format, for example ``compression`` of HDF5.

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
    single = output_format.removeprefix(_MULTIFILE)
    if single not in _FORMATS:
        raise ValueError(f"{path}: unknown format {output_format!r}, expected one of {', '.join(_FORMATS)}")
    module, writer, _ = _FORMATS[single]
    create = partial(getattr(import_module(module), writer), **options)
    return create(path) if single == output_format else ChannelFilesWriter(path, create)
