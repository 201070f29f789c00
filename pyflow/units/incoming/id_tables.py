"""Tables of ids alone: one row per unit and session, or one row per cell and one column per session."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from pyflow.io.unpickle import load_npy
from pyflow.units.incoming.sheet_columns import Grid
from pyflow.units.incoming.sheets import Sheet, read_sheets
from pyflow.units.unit_table import TableError, UnitTable, in_group, session_table

CELL = "cell"
"""Heading of a wide table's column with the cells' own names."""

_UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def read_id_table(
    path: str | Path,
    *,
    session: str = "session",
    unit: str = "unit",
    group: str | None = None,
    identity: str | None = None,
    sheet: str | None = None,
    name: str | None = None,
    **claim: Any,
) -> UnitTable:
    """Read a table with one row per unit and session.

    Parameters
    ----------
    path : path-like
        .xlsx, .ods, .csv or .tsv.
    session, unit, group : str
        Headings; with a group, an id is the same unit within its group. Other columns become attributes.
    identity : str, optional
        Heading of the column that says which cell a unit is, for example its UUID; empty: not followed. Without it the
        same id is the same cell.
    sheet : str, optional
        The sheet's name; by default the one that has the header.
    name : str, optional
        Name of the link set; by default the file's name without suffix.
    **claim
        What else `UnitTable` knows: `author`, `sessions`, `parameters` ...

    Returns
    -------
    UnitTable
        Identities that are all UUIDs are the cells' global ids too.

    Raises
    ------
    FileNotFoundError
        No such file.
    TableError
        A column is missing, or an id is twice in one session.
    """
    path = Path(path)
    headings = {"session": session, "unit": unit}
    headings |= {key: heading for key, heading in (("group", group), ("identity", identity)) if heading}
    grid = Grid(path, read_sheets(path), sheet, headings, tuple(headings))
    names = {key: grid.names(key, dates=key == "session") for key in headings}
    table = pd.DataFrame(names | {key: grid.cells(key) for key in grid.attributes}, index=grid.rows, dtype=object)
    grid.refuse_merged(grid.rows)
    grid.warn_of_hidden(grid.rows)
    if not group:
        table["group"] = ""
    if identity:
        table["identity"] = table["identity"].replace({"": None})
        table["global_id"] = global_ids(table["identity"])
    else:
        table["identity"] = [i for g, u in zip(table["group"], table["unit"], strict=True) for i in in_group(g, [u])]
    how = "table of cells" if identity else "ids kept by hand"
    claim = {"origin": grid.origin, "source": str(path), "algorithm": how} | claim
    return UnitTable(table, name=path.stem if name is None else name, headings=headings, **claim)


def read_wide_table(
    path: str | Path,
    *,
    sessions: Sequence[str] | None = None,
    sheet: str | None = None,
    group: str = "",
    name: str | None = None,
    **claim: Any,
) -> UnitTable:
    """Read a table with one row per cell and one column per session, in which stands the unit's id there.

    Parameters
    ----------
    path : path-like
        .xlsx, .ods, .csv or .tsv. Blank: the cell is absent. A column with the heading "cell" holds the cells' own
        names; without it they are numbered. Or .npy: an array (N, S) of ids, numbers or text; NaN, a negative number,
        None or empty text: absent.
    sessions : sequence of str, optional
        Headings of the sessions' columns; by default all but "cell". Of an array, the names of its columns.
    sheet : str, optional
        The sheet's name; by default the one that has the header.
    group : str
        Tetrode, probe or plane of all units.
    name : str, optional
        Name of the link set; by default the file's name without suffix.
    **claim
        What else `UnitTable` knows: `author`, `parameters` ...

    Returns
    -------
    UnitTable

    Raises
    ------
    FileNotFoundError
        No such file.
    TableError
        A column is missing, a unit stands in two rows, or a cell has no name.
    """
    path = Path(path)
    claim = {"name": path.stem if name is None else name, "source": str(path), "algorithm": "table of cells"} | claim
    if path.suffix.lower() == ".npy":
        return _read_wide_array(path, sessions, group, claim)
    sheets = read_sheets(path)
    columns = _first_row(sheets, sheet) if sessions is None else list(sessions)
    grid = Grid(path, sheets, sheet, {key: key for key in (*columns, CELL)}, columns)
    columns = [column for column in columns if column != CELL]
    units = {session: grid.names(session) for session in columns}
    named = grid.names(CELL)
    grid.refuse_merged(grid.rows)
    grid.warn_of_hidden(grid.rows)
    cells, first = [], {}
    for number, row in enumerate(grid.rows):
        for session, ids in units.items():
            before = first.setdefault((session, ids[number]), row) if ids[number] else row
            if before != row:
                message = f"unit {ids[number]!r} of session {session!r} is two cells"
                raise grid.error(message, before, row, column=session, values=[ids[number], ids[number]])
        label = named[number] if CELL in grid.columns else str(number + 1)
        if not label:
            raise grid.cell_error(row, CELL, "is empty: the cell has no name", "")
        cells += [(row, session, ids[number], label) for session, ids in units.items() if ids[number]]
    if not cells:
        raise grid.error("no units below the header", grid.header_row)
    index, *of_unit = zip(*cells, strict=True)
    table = pd.DataFrame(dict(zip(("session", "unit", "identity"), of_unit, strict=True)), index=index, dtype=object)
    table["global_id"] = global_ids(table["identity"])
    table["identity"] = in_group(group, table["identity"])
    claim = {"origin": grid.origin, "sessions": session_table(columns)} | claim
    return UnitTable(table.assign(group=group), **claim)


def _read_wide_array(path, sessions, group, claim):
    ids = load_npy(path)
    if ids.ndim != 2 or ids.dtype.kind not in "iufOUS" or sessions is None or ids.shape[1] != len(sessions):
        named = "no names of sessions" if sessions is None else f"{len(sessions)} names of sessions"
        raise TableError(str(path), f"shape {ids.shape}, {ids.dtype}, but {named}; expected one per column of ids")
    rows = []
    for cell, of_cell in enumerate(ids.tolist(), 1):
        for session, value in zip(sessions, of_cell, strict=True):
            unit = _id(path, cell, session, value)
            rows += [(cell, session, unit, str(cell))] if unit else []
    if not rows:
        raise TableError(str(path), "no units")
    index, *columns = zip(*rows, strict=True)
    table = pd.DataFrame(dict(zip(("session", "unit", "identity"), columns, strict=True)), index=index, dtype=object)
    table["identity"] = in_group(group, table["identity"])
    claim = {"origin": str(path), "sessions": session_table(sessions)} | claim
    return UnitTable(table.assign(group=group), **claim)


def _id(path, row, session, value):
    """A unit's id as text, empty where there is none."""
    value = value.decode() if isinstance(value, bytes) else value
    if value is None or isinstance(value, str):
        return (value or "").strip()
    if isinstance(value, bool) or not isinstance(value, int | float) or (value == value and value % 1):
        raise TableError(
            str(path), f"{value!r} is no id: expected whole numbers or text", rows=[row], column=session, values=[value]
        )
    return str(int(value)) if value >= 0 else ""


def _first_row(sheets: list[Sheet], title: str | None) -> list[str]:
    """Headings in the first row that holds something, of the sheet of that name or the first."""
    found = [sheet for sheet in sheets if title in (None, sheet.title) and sheet.rows]
    cells = next(iter(found[0].rows.values())) if found else []
    return [str(cell).strip() for cell in cells if cell is not None and str(cell).strip()]


def global_ids(identities: Iterable[str | None]) -> list[str | None]:
    """The same where all of them are UUIDs, else none."""
    texts = list(identities)
    if all(text is None or _UUID.fullmatch(text) for text in texts):
        return [text and text.lower() for text in texts]
    return [None] * len(texts)
