"""The lab's spreadsheet of followed units: one row per unit and session, who is who in its last columns.

The sheet is the Kavli Institute's: `Unit no` numbers the rows that count, `Previous unit no` points at an earlier row
of the same cell, `Unique unit no` is the cell; a unit without it is not followed. What stands above the header, and
empty rows and columns, do not matter; columns of other names are kept as the units' attributes.
"""

import json
import logging
import re
import uuid
from datetime import date, datetime
from pathlib import Path

import pandas as pd

from pyflow.units.incoming.id_tables import global_ids
from pyflow.units.incoming.sheet_columns import Grid, iso_date
from pyflow.units.incoming.sheets import read_sheets
from pyflow.units.unit_table import UNIT_COLUMNS, TableError, UnitTable

logger = logging.getLogger(__name__)

# What a column holds -> its heading. `columns` gives a sheet's own words for the keys.
HEADINGS = {
    "date": "Date",
    "session": "Session",
    "group": "Tetrode",
    "unit": "Cell",
    "number": "Unit no",
    "previous": "Previous unit no",
    "identity": "Unique unit no",
    "original_index": "Original index",
    "probability": "Probability",
    "global_id": "Global id",
    "source": "Session source",
    "kind": "Session kind",
}
SESSION_PREFIX = "Session: "  # headings of a session's attributes
LINK_SET_SHEET = "Link set"  # where an exported workbook says what its identities are based on
LINK_SET_FIELDS = ("name", "source", "algorithm", "version", "author", "created", "parameters")

_REQUIRED = ("session", "unit", "identity")
_NAMES = ("session", "group", "unit", "number", "previous", "identity")


def read_spreadsheet(
    path: str | Path, *, sheet: str | None = None, columns: dict[str, str] | None = None, name: str | None = None
) -> UnitTable:
    """Read a spreadsheet of followed units.

    Parameters
    ----------
    path : path-like
        .xlsx, .ods, .csv or .tsv.
    sheet : str, optional
        The sheet's name; by default the one that has the header.
    columns : dict of str to str, optional
        Headings that differ from `HEADINGS`: ``{"session": "Sitzung", "group": "Plane"}``.
    name : str, optional
        Name of the link set; by default what an exported workbook says, else the file's name without suffix.

    Returns
    -------
    UnitTable
        Ids are text as the sheet shows them. `Date` becomes the session's start time.

    Raises
    ------
    FileNotFoundError
        No such file.
    TableError
        The file is no spreadsheet, has no header, or contradicts itself; names sheet, row, column and values.
    ValueError
        `columns` has an unknown key.
    """
    unknown = set(columns or {}) - set(HEADINGS)
    if unknown:
        raise ValueError(f"columns: {sorted(unknown)[0]!r} is none of {', '.join(HEADINGS)}")
    path, headings = Path(path), HEADINGS | dict(columns or {})
    sheets = read_sheets(path)
    grid = Grid(path, sheets, sheet, headings, _REQUIRED)
    for key, partner in (("number", "previous"), ("previous", "number")):
        if key in grid.columns and partner not in grid.columns:
            message = f"no column {headings[partner]!r}, which {headings[key]!r} needs"
            raise grid.error(message, grid.header_row, column=headings[partner], values=[grid.heading(key)])
    units, sessions = _read_rows(grid)
    if "global_id" not in units:
        units["global_id"] = global_ids(units["identity"])
    claim = {"name": path.stem, "source": str(path), "algorithm": "spreadsheet"} | _read_claim(path, sheets)
    if name is not None:
        claim["name"] = name
    table = UnitTable(
        units.drop(columns=["number", "previous"]).assign(**{HEADINGS["number"]: units["number"]}),
        origin=grid.origin,
        sessions=sessions,
        headings={key: grid.heading(key) for key in headings},
        **claim,
    )
    _check_previous(table, units)
    return table


def _read_rows(grid):
    """Units, with `number` and `previous`; and sessions."""
    grid.fill_merged("date")  # which many merge over a session's rows
    names = {key: grid.names(key, dates=key == "session") for key in _NAMES}
    for key in ("number", "previous", "identity"):  # as pandas writes a column of numbers with gaps
        names[key] = [re.sub(r"\.0+$", "", text) if "." in text else text for text in names[key]]
    attributes = {key: grid.cells(key) for key in grid.attributes}
    if not grid.typed:
        attributes = {key: [_number(text) for text in column] for key, column in attributes.items()}
    facts = {key: grid.cells(key) for key in ("date", "source", "kind")}
    table = pd.DataFrame(names | _read_indices(grid), index=grid.rows, dtype=object)
    is_unit = (table[list(_NAMES)] != "").any(axis=1)
    remark = pd.DataFrame(attributes | facts, index=grid.rows, dtype=object).notna().any(axis=1) & ~is_unit
    if remark.any():
        rows = ", ".join(map(str, table.index[remark]))
        logger.warning("%s: rows %s name no unit, passed over", grid.origin, rows)
    if not is_unit.any():
        raise grid.error("no units below the header", grid.header_row, values=[0])
    rows = table.index[is_unit].tolist()
    grid.refuse_merged(rows)
    grid.warn_of_nameless(rows)
    grid.warn_of_hidden(rows)
    _refuse_gaps(grid, table[is_unit])
    of_session = {key: attributes.pop(key) for key in grid.attributes if key.startswith(SESSION_PREFIX)}
    sessions = _read_sessions(grid, table["session"].tolist(), facts | of_session)
    kept = {f"{key} (attribute)" if key in UNIT_COLUMNS else key: column for key, column in attributes.items()}
    table = pd.concat([table, pd.DataFrame(kept, index=grid.rows, dtype=object)], axis=1)[is_unit]
    table[["identity", "number"]] = table[["identity", "number"]].replace({"": None})
    return table, sessions


def _number(text):
    """A text file's cell as the number it was written from, else as it is."""
    for kind in (int, float) if text is not None else ():
        try:
            if str(kind(text)) == text:
                return kind(text)
        except ValueError:
            continue
    return text


def _read_indices(grid):
    """Original index, probability and global id, as far as the sheet has them."""
    kinds = {
        "original_index": (int, "no index (0, 1, 2 ...)", lambda index: index >= 0),
        "probability": (float, "no probability (0 to 1)", lambda p: 0 <= p <= 1),
        "global_id": (lambda text: str(uuid.UUID(text)), "no UUID", bool),
    }
    found = {}
    for key, (convert, verdict, is_valid) in kinds.items():
        column = grid.names(key)
        for i, text in enumerate(column):
            try:
                column[i] = convert(text) if text else None
                valid = not text or is_valid(column[i])
            except ValueError:
                valid = False
            if not valid:
                raise grid.cell_error(grid.rows[i], key, f"holds {text!r}, {verdict}", text)
        if key in grid.columns:
            found[key] = column
    return found


def _refuse_gaps(grid, table):
    """Session and unit are given for all rows; groups for all or for none."""
    required = [key for key in ("session", "unit", "group") if key != "group" or (table["group"] != "").any()]
    for key in required:
        gaps = table.index[table[key] == ""]
        if len(gaps):
            found = ", ".join(f"{grid.heading(k)} {table.loc[gaps[0], k]!r}" for k in _NAMES if table.loc[gaps[0], k])
            raise grid.cell_error(gaps[0], key, f"is empty, but the row has {found}", "")


def _read_sessions(grid, session_of, facts):
    """One row per session, from what its rows say; refuses two answers."""
    sessions, undated = {session: {} for session in session_of if session}, []
    for key, column in facts.items():
        for row, session, value in zip(grid.rows, session_of, column, strict=True):
            if value is None or not session:
                continue
            name, said = key.removeprefix(SESSION_PREFIX), value
            if key == "date":
                start = _start_time(value)
                name, said = ("start_time", start) if start else (grid.heading("date"), str(value))
                undated += [] if start else [(row, said)]
            first, before = sessions[session].setdefault(name, (row, said))
            if before != said:
                message = f"session {session!r} has {before!r} and {said!r}"
                raise grid.error(message, first, row, column=grid.heading(key), values=[before, said])
    if undated:
        message = "%s: row %d, column %r: %r is no date like 2024-03-31 or 31.03.2024; such a session has no start time"
        logger.warning(message, grid.origin, undated[0][0], grid.heading("date"), undated[0][1])
    rows = [{"name": s} | {name: said for name, (_, said) in found.items()} for s, found in sessions.items()]
    return pd.DataFrame(rows, dtype=object)


def _start_time(value):
    """ISO 8601 of a date cell; empty where it is text of a form whose order of day and month is a guess."""
    try:
        if isinstance(value, date):
            return iso_date(value)
        text = str(value).strip()
        day = re.fullmatch(r"(\d{1,2})\.(\d{1,2})\.(\d{4})(.*)", text)  # where full stops part them, the day is first
        return iso_date(datetime.fromisoformat(f"{day[3]}-{day[2]:0>2}-{day[1]:0>2}{day[4]}" if day else text))
    except ValueError:
        return ""


def _read_claim(path, sheets):
    """What an exported workbook says of its link set."""
    cells = next((sheet.rows for sheet in sheets if sheet.title == LINK_SET_SHEET), {})
    said = {row[0]: row[1] for row in cells.values() if len(row) > 1 and row[1] is not None}
    claim = {field: str(said[field]) for field in LINK_SET_FIELDS if field in said}
    if "parameters" in claim:
        try:
            claim["parameters"] = json.loads(claim["parameters"])
        except json.JSONDecodeError as error:
            origin = f"{path}, sheet {LINK_SET_SHEET!r}"
            message = f"is no JSON: {error}"
            raise TableError(origin, message, column="parameters", values=[claim["parameters"]]) from error
    return claim


def _check_previous(table, units):
    """Refuse numbers used twice, and a Previous that does not lead to an earlier unit of the same identity."""
    numbered, first_of = {}, {}
    column, identity = table.heading("previous"), table.heading("identity")
    used = (units["previous"] != "").any()
    columns = (units[key].tolist() for key in ("number", "previous", "identity"))
    for row, number, previous, who in zip(units.index.tolist(), *columns, strict=True):
        if previous:
            if previous not in numbered:
                later = (units["number"] == previous).any()
                message = f"{previous!r} is " + ("not above this row" if later else f"no {table.heading('number')}")
                raise table.error(message, rows=[row], column="previous", values=[previous, number])
            at, whose = numbered[previous]
            if whose != who:
                message = f"{previous!r} is {identity} {whose!r}, but this row is {identity} {who!r}"
                raise table.error(message, rows=[at, row], column="previous", values=[whose, who])
        elif used and who is not None and who in first_of:
            at, before = first_of[who]
            message = f"{identity} {who!r} is in row {at} too, but {column} is empty"
            raise table.error(message, rows=[at, row], column="previous", values=[before, previous])
        first_of.setdefault(who, (row, number))
        if number:
            if number in numbered:
                there = numbered[number][0]
                message = f"{number!r} numbers two rows"
                raise table.error(message, rows=[there, row], column="number", values=[number, number])
            numbered[number] = (row, who)
