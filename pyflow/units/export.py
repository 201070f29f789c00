"""A link set out of the store: the lab's spreadsheet again, or arrays for Python and MATLAB."""

import colorsys
import csv
import logging
import re
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import openpyxl
import pandas as pd
import scipy.io
from openpyxl.cell import WriteOnlyCell
from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE
from openpyxl.styles import Alignment, Font, PatternFill
from openpyxl.utils import get_column_letter

from pyflow.io.atomic import replacing
from pyflow.units.grid import words
from pyflow.units.sheets import quoted
from pyflow.units.spreadsheet import HEADINGS, LINK_SET_FIELDS, LINK_SET_SHEET, SESSION_PREFIX

logger = logging.getLogger(__name__)

_HEADER_ROW = 5  # where the Kavli Institute's sheet has it
_WIDTHS = (6, 40)  # of the narrowest and the widest column, in characters
_N_COLOURS = 60
_LONGEST = 32767  # characters of a cell
_ID_HEADINGS = [HEADINGS[key] for key in ("group", "unit", "number", "previous", "identity")]
_OWN = (  # columns of the tables that are no attributes
    *("session_id", "name", "start_time", "source", "kind"),
    *("unit_id", "session", "group", "unit", "original_index", HEADINGS["number"]),
    *("identity", "identity_number", "identity_id", "identity_probability"),
)
_FIRST = ("date", "session", "source", "kind", "group", "unit", "original_index")  # attributes come after these
_OPTIONAL = ("source", "kind", "original_index", "probability")  # columns left out where they would be empty


class Tables(Protocol):
    """What is exported: a `UnitStore`, which is not imported since it offers `export` itself."""

    path: Path

    def tables(self) -> dict[str, pd.DataFrame]:
        """All tables, as of `UnitStore.tables`."""


def export(store: Tables, path: str | Path, *, link_set: str | None = None) -> Path:
    """Write all units and who is who in a link set.

    Parameters
    ----------
    store : UnitStore
    path : path-like
        ``.xlsx``, ``.csv``, ``.tsv``: the lab's spreadsheet, which `read_spreadsheet` reads again. ``.npz``, ``.mat``:
        what `arrays` returns; in .mat indices start at 1 and an absent one is 0, and text that is not ASCII is
        written in Python's escapes.
    link_set : str, optional
        The current one by default.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ValueError
        Another suffix, no such link set, or text that a workbook cannot hold.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    writers = {".xlsx": _write_xlsx, ".csv": _write_text, ".tsv": _write_text, ".npz": _write_npz, ".mat": _write_mat}
    if suffix not in writers:
        raise ValueError(f"{path}: no export to {suffix!r}; choose one of {', '.join(writers)}")
    claim, sessions, units = gather(store, link_set)
    with replacing(path) as temporary:
        writers[suffix](temporary, claim, sessions, units)
    return path


def gather(store: Tables, link_set: str | None = None) -> tuple[dict[str, Any], pd.DataFrame, pd.DataFrame]:
    """All units of a store and their identities in a link set.

    Parameters
    ----------
    store : UnitStore
    link_set : str, optional
        The current one by default.

    Returns
    -------
    claim : dict
        The link set's row of ``store.tables()``.
    sessions : pandas.DataFrame
        As in ``store.tables()``.
    units : pandas.DataFrame
        As in ``store.tables()``, by session and order of import, with the columns `identity` (its label; missing: not
        followed), `identity_number`, `identity_id` (UUID) and `identity_probability` in front.

    Raises
    ------
    ValueError
        No such link set.
    """
    tables = store.tables()
    claims = tables["link_set"]
    found = claims[claims["is_current"] == 1] if link_set is None else claims[claims["name"] == link_set]
    if found.empty:
        wanted = "no link set" if link_set is None else f"no link set {link_set!r}"
        raise ValueError(f"{store.path}: {wanted}; it holds {', '.join(map(repr, claims['name'])) or 'none'}")
    claim = found.iloc[0].to_dict()
    members, identities = (
        tables[name][tables[name]["link_set"] == claim["name"]] for name in ("member_unit", "multi_sess_unit")
    )
    who = members[["unit_id", "global_id", "probability"]].merge(
        identities[["global_id", "number", "label"]], on="global_id", how="left"
    )
    units = tables["unit"].sort_values(["session_id", "unit_id"]).reset_index(drop=True)
    who = who.set_index("unit_id").reindex(units["unit_id"]).reset_index(drop=True)
    front = {
        "identity": who["label"],
        "identity_number": who["number"].astype("Int64"),
        "identity_id": who["global_id"],
        "identity_probability": who["probability"],
    }
    return claim, tables["session"], pd.concat([pd.DataFrame(front), units], axis=1)


# The spreadsheet


def _sheet(sessions, units):
    """Columns of the spreadsheet: heading -> list of cells, None where blank."""
    first = ~units["session_id"].duplicated()
    of_session = sessions.set_index("session_id").reindex(units["session_id"].where(first)).reset_index(drop=True)
    number = _unit_numbers(units)
    followed = units[units["identity"].notna()]
    previous = number[followed.index].groupby(followed["identity"]).shift().reindex(units.index)
    columns = {
        "date": of_session["start_time"].map(_as_date, na_action="ignore"),
        "session": units["session"],
        "source": of_session["source"],
        "kind": of_session["kind"],
        "group": units["group"],
        "unit": units["unit"],
        "original_index": units["original_index"],
        "number": number,
        "previous": previous,
        "identity": units["identity"],
        "probability": units["identity_probability"],
        "global_id": units["identity_id"],
    }
    cells = {key: _blank_to_none(column) for key, column in columns.items()}
    cells = {key: column for key, column in cells.items() if key not in _OPTIONAL or any(c is not None for c in column)}
    attributes = {name: _blank_to_none(units[name]) for name in _attributes(units)}
    attributes |= {SESSION_PREFIX + name: _blank_to_none(of_session[name]) for name in _attributes(sessions)}
    taken = {words(heading) for heading in HEADINGS.values()}
    return (
        {HEADINGS[key]: column for key, column in cells.items() if key in _FIRST}
        | {f"{name} (attribute)" if words(name) in taken else name: column for name, column in attributes.items()}
        | {HEADINGS[key]: column for key, column in cells.items() if key not in _FIRST}
    )


def _attributes(table):
    return [column for column in table if column not in _OWN]


def _unit_numbers(units):
    """`Unit no` as it was imported; followed units without one take the next; all are new where two are the same."""
    number = pd.Series([None] * len(units), dtype=object)
    given = units.get(HEADINGS["number"], number).dropna().map(_as_text)
    if not given.duplicated().any():
        number[given.index] = given
    blank = number.index[number.isna() & units["identity"].notna()]
    last = max((int(text) for text in number.dropna() if text.isdecimal()), default=0)
    number[blank] = [str(last + 1 + i) for i in range(len(blank))]
    return number


def _as_text(value):
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _as_date(text):
    """Excel's date of ISO 8601 text; text where Excel has none (time zones, before 1900)."""
    try:
        value = datetime.fromisoformat(text)
    except ValueError:
        return text
    if value.tzinfo is not None or value.year < 1900:
        return text
    return value if "T" in text or " " in text else value.date()


def _blank_to_none(column):
    values = column.astype(object).where(column.notna(), None).tolist()
    return [None if value == "" else value for value in values]


def _write_xlsx(path, claim, sessions, units):
    columns = _sheet(sessions, units)
    for value in (cell for cells in ([claim[f] for f in LINK_SET_FIELDS], *columns.values()) for cell in cells):
        if isinstance(value, str) and (len(value) > _LONGEST or ILLEGAL_CHARACTERS_RE.search(value)):
            raise ValueError(f"{value[:60]!r} is too long for a workbook, or has control characters; export as .csv")
    rows = list(zip(*columns.values(), strict=True))
    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet("Units")
    sheet.freeze_panes = f"A{_HEADER_ROW + 1}"
    for i, (heading, cells) in enumerate(columns.items(), 1):
        widest = max(len(str(cell)) for cell in (heading, *cells) if cell is not None)
        sheet.column_dimensions[get_column_letter(i)].width = min(max(widest + 2, _WIDTHS[0]), _WIDTHS[1])
    sheet.append([_cell(sheet, claim["name"], font=Font(bold=True, size=14))])
    for _ in range(_HEADER_ROW - 2):
        sheet.append([])
    grey = PatternFill("solid", fgColor="D9D9D9")
    style = {"font": Font(bold=True), "fill": grey, "alignment": Alignment(wrap_text=True, vertical="top")}
    sheet.append([_cell(sheet, heading, **style) for heading in columns])
    fills = _light_colours()
    ids = {i for i, heading in enumerate(columns) if heading in _ID_HEADINGS}
    for number, row in zip(units["identity_number"], rows, strict=True):
        fill = {} if pd.isna(number) else {"fill": fills[number % _N_COLOURS]}
        sheet.append([_cell(sheet, _as_number(v) if i in ids else v, **fill) for i, v in enumerate(row)])
    sheet.auto_filter.ref = f"A{_HEADER_ROW}:{get_column_letter(len(columns))}{_HEADER_ROW + len(rows)}"
    about = book.create_sheet(LINK_SET_SHEET)
    about.column_dimensions["A"].width, about.column_dimensions["B"].width = 14, 60
    for field in LINK_SET_FIELDS:
        about.append([_cell(about, field, font=Font(bold=True)), _cell(about, claim[field])])
    book.save(path)


def _as_number(text):
    """An id as the number that people type, where a spreadsheet gives the same text back."""
    return int(text) if text and len(text) <= 15 and re.fullmatch("0|[1-9][0-9]*", text) else text


def _cell(sheet, value, **style):
    cell = WriteOnlyCell(sheet, value.item() if isinstance(value, np.generic) else value)
    if isinstance(value, str):
        cell.data_type = "s"  # or "=5 spikes" would be a formula and "#N/A" an error
    for name, setting in style.items():
        setattr(cell, name, setting)
    return cell


def _light_colours():
    """Fills told apart by eye; neighbours differ most (hues by the golden ratio)."""
    colours = (colorsys.hls_to_rgb(i * 0.618034 % 1, 0.9 - 0.05 * (i % 3), 0.75) for i in range(_N_COLOURS))
    return [PatternFill("solid", fgColor="".join(f"{round(255 * c):02X}" for c in rgb)) for rgb in colours]


def _write_text(path, claim, sessions, units):
    columns = {quoted(heading): list(map(_plain, cells)) for heading, cells in _sheet(sessions, units).items()}
    risky = 0
    for cells in columns.values():
        for i, cell in enumerate(cells):
            if isinstance(cell, str) and (text := quoted(cell)) is not cell:
                cells[i] = text
                risky += 1
    if risky:
        logger.warning("%d cells look like formulas; they are written with an apostrophe in front", risky)
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    with open(path, "w", newline="", encoding="utf-8-sig") as file:  # the mark tells Excel that it is UTF-8
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def _plain(value):
    """A whole number that pandas made a float, as it was."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


# Arrays


def arrays(store: Tables, *, link_set: str | None = None) -> dict[str, np.ndarray]:
    """A link set as plain arrays.

    Parameters
    ----------
    store : UnitStore
    link_set : str, optional
        The current one by default.

    Returns
    -------
    dict of str to ndarray
        S sessions: `session_name`, `session_start_time`, `session_source`. U units: `unit_session` (index of its
        session), `unit_group`, `unit_name`, `unit_original_index`. N multi-session units: `number`, `global_id`,
        `label`, `member` (N, S): index of its unit in each session. `link_set`: the name; `index_base`: 0, where all
        indices start; what is absent is one less.

    Raises
    ------
    ValueError
        No such link set.
    """
    return _arrays(*gather(store, link_set), base=0)


def _arrays(claim, sessions, units, base):
    session = pd.Index(sessions["session_id"]).get_indexer(units["session_id"])
    followed = units[units["identity"].notna()]
    identities = followed.drop_duplicates("identity").sort_values("identity_number")
    member = np.full((len(identities), len(sessions)), base - 1)
    row = pd.Index(identities["identity"]).get_indexer(followed["identity"])
    member[row, session[followed.index]] = followed.index + base
    text = lambda column: column.fillna("").to_numpy(dtype=str)  # noqa: E731
    return {
        "link_set": np.array(claim["name"]),
        "index_base": np.array(base),
        "session_name": text(sessions["name"]),
        "session_start_time": text(sessions["start_time"]),
        "session_source": text(sessions["source"]),
        "unit_session": session + base,
        "unit_group": text(units["group"]),
        "unit_name": text(units["unit"]),
        "unit_original_index": units["original_index"].astype("Int64").fillna(-1).to_numpy(np.int64) + base,
        "number": identities["identity_number"].to_numpy(np.int64),
        "global_id": text(identities["identity_id"]),
        "label": text(identities["identity"]),
        "member": member,
    }


def _write_npz(path, claim, sessions, units):
    with open(path, "wb") as file:
        np.savez_compressed(file, **_arrays(claim, sessions, units, base=0))


def _write_mat(path, claim, sessions, units):
    content = _arrays(claim, sessions, units, base=1)
    scipy.io.savemat(path, {name: _as_matlab(value) for name, value in content.items()}, do_compression=True)


def _as_matlab(value):
    """Columns; numbers as double, several texts as a cell array of ASCII, which is what a v5 file holds."""
    if value.dtype.kind != "U":
        return value.astype(np.float64).reshape(len(value), *value.shape[1:2] or (1,)) if value.ndim else float(value)
    safe = [text.encode("ascii", "backslashreplace").decode() for text in np.atleast_1d(value)]
    if not value.ndim:
        return safe[0]
    cells = np.empty((len(safe), 1), dtype=object)
    cells[:, 0] = safe
    return cells
