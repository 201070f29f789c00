"""Who is who as columns of an NWB file: `global_id` and `multi_sess_unit` in its table of units or ROIs."""

import shutil
import uuid
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from pyflow.io.atomic import replacing
from pyflow.io.output import OutputFile, undisturbed
from pyflow.units.store.unit_store import UnitStore

_COLUMNS = {
    "global_id": "UUID of the cell across sessions; empty: not followed",
    "multi_sess_unit": "number of the cell across sessions; -1: not followed",
}
_TYPES = ("Units", "PlaneSegmentation")


def write_nwb_columns(
    store: UnitStore,
    path: str | Path,
    *,
    session: str,
    group: str | None = None,
    table: str | None = None,
    link_set: str | None = None,
    output: str | Path | None = None,
) -> Path:
    """Add `global_id` and `multi_sess_unit` to the table of units or ROIs of an NWB 2.x file.

    Columns of those names are replaced. A unit's row is its original index; in a session whose units have none, the
    row whose `id` is the unit's.

    Parameters
    ----------
    store : UnitStore
    path : path-like
        The NWB file of one session.
    session : str
        Name of the session.
    group : str, optional
        Only the units of this group (plane, probe), where the file has a table for each.
    table : str, optional
        Path of the ``Units`` or ``PlaneSegmentation`` table in the file; by default the only one.
    link_set : str, optional
        The current one by default.
    output : path-like, optional
        The file to write; by default `path` itself, replaced when all is written.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    FileNotFoundError
        No such file.
    ValueError
        Not an NWB file, no such table or session, or a unit that has no row in it.
    """
    path = Path(path)
    units = store.gather(link_set).units
    units = units[(units["session"] == session) & ((units["group"] == group) | (group is None))]
    if units.empty:
        of_group = "" if group is None else f" and group {group!r}"
        raise ValueError(f"{store.path}: no units of session {session!r}{of_group}")
    if not h5py.is_hdf5(path):
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such file")
        raise ValueError(f"{path}: not an HDF5 file")
    output = path if output is None else Path(output)
    with replacing(output) as temporary:
        shutil.copyfile(path, temporary)
        with OutputFile(temporary, output, "r+") as target:
            _write(path, target, table, units)
    return output


@undisturbed
def _write(path, target, table, units):
    with h5py.File(target, "r+") as file:
        group = _find_table(path, file, table)
        row = _rows(path, group, units)
        n = len(group["id"])
        followed = units["identity"].notna().to_numpy()
        global_ids, numbers = np.full(n, "", dtype=object), np.full(n, -1)
        global_ids[row[followed]] = units["identity_id"][followed]
        numbers[row[followed]] = units["identity_number"][followed]
        for name, values in (("global_id", global_ids), ("multi_sess_unit", numbers)):
            _write_column(group, name, values)


def _find_table(path, file, name):
    tables = {}

    def visit(where, item):
        if isinstance(item, h5py.Group) and _text(item.attrs.get("neurodata_type", "")) in _TYPES:
            tables[where] = item

    file.visititems(visit)
    found = ", ".join(tables) or "none"
    if name is not None:
        if name.strip("/") not in tables:
            raise ValueError(f"{path}: no table {name!r} of units or ROIs; found: {found}")
        return tables[name.strip("/")]
    if len(tables) != 1:
        raise ValueError(f"{path}: no single table of units or ROIs (say which table=); found: {found}")
    return next(iter(tables.values()))


def _text(value):
    return value.decode() if isinstance(value, bytes) else str(value)


def _rows(path, group, units):
    """Row of each unit in the table."""
    where = f"{path}, table {group.name}"
    ids = group["id"][:]
    if units["original_index"].notna().all():
        row = units["original_index"].to_numpy(np.int64)
        if row.max() >= len(ids):
            raise ValueError(f"{where}: has {len(ids)} rows, but a unit's original index is {row.max()}")
    else:
        row_of = {str(i): row for row, i in enumerate(ids)}
        missing = [name for name in units["unit"] if name not in row_of]
        if missing:
            raise ValueError(f"{where}: no row with id {missing[0]!r} ({len(missing)} of {len(units)} units have none)")
        row = np.array([row_of[name] for name in units["unit"]])
    again = pd.Series(row).duplicated(keep=False)
    if again.any():
        groups = ", ".join(map(repr, units["group"][again.to_numpy()].unique()))
        raise ValueError(f"{where}: units of the groups {groups} have the same row; say which group=")
    return row


def _write_column(group, name, values):
    """A column as the DynamicTable schema has it: a VectorData dataset, named in `colnames`."""
    if name in group:
        del group[name]
    dtype = h5py.string_dtype() if values.dtype == object else None
    column = group.create_dataset(name, data=values, dtype=dtype)
    column.attrs["namespace"] = "hdmf-common"
    column.attrs["neurodata_type"] = "VectorData"
    column.attrs["object_id"] = str(uuid.uuid4())
    column.attrs["description"] = _COLUMNS[name]
    names = [_text(c) for c in group.attrs["colnames"]]
    if name not in names:
        group.attrs["colnames"] = np.array([*names, name], dtype=h5py.string_dtype())
