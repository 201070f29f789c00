"""A link set into a file, whose suffix says what it will be."""

from pathlib import Path

from pyflow.io.atomic import replacing
from pyflow.units.outgoing import arrays, spreadsheet
from pyflow.units.store.frames import Gathered

_WRITERS = {
    ".xlsx": spreadsheet.write_xlsx,
    ".csv": spreadsheet.write_text,
    ".tsv": spreadsheet.write_text,
    ".npz": arrays.write_npz,
    ".mat": arrays.write_mat,
}


def export(gathered: Gathered, path: str | Path) -> Path:
    """Write all units and who is who in a link set; see `UnitStore.export`."""
    path = Path(path)
    if (suffix := path.suffix.lower()) not in _WRITERS:
        raise ValueError(f"{path}: no export to {suffix!r}; choose one of {', '.join(_WRITERS)}")
    if path.is_dir():
        raise IsADirectoryError(f"{path}: a folder, not a file to write")
    with replacing(path) as temporary:
        _WRITERS[suffix](temporary, gathered)
    return path
