"""A link set as the lab's spreadsheet, which `pyflow.units.incoming.spreadsheet` reads again."""

import colorsys
import csv
import io
import logging
import re
import zipfile
from datetime import date, datetime
from functools import lru_cache
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
import openpyxl
import pandas as pd
from openpyxl.cell import WriteOnlyCell
from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE
from openpyxl.styles import Alignment, Font, PatternFill
from openpyxl.utils import get_column_letter
from openpyxl.utils.datetime import to_excel

from pyflow.units.incoming.sheet_columns import words
from pyflow.units.incoming.sheets import quoted
from pyflow.units.incoming.spreadsheet import HEADINGS, LINK_SET_FIELDS, LINK_SET_SHEET, SESSION_PREFIX
from pyflow.units.store.frames import Gathered

logger = logging.getLogger(__name__)

_HEADER_ROW = 5  # where the Kavli Institute's sheet has it
_WIDTHS = (6, 40)  # of the narrowest and the widest column, in characters
_N_COLOURS = 60
_SHEET = "xl/worksheets/sheet1.xml"
_AT_ONCE = 5000  # rows
_LONGEST = 32767  # characters of a cell
_ID_HEADINGS = [HEADINGS[key] for key in ("group", "unit", "number", "previous", "identity")]
_OWN = (  # columns of the tables that are no attributes
    *("session_id", "name", "start_time", "source", "kind"),
    *("unit_id", "session", "group", "unit", "original_index", HEADINGS["number"]),
    *("identity", "identity_number", "identity_id", "identity_probability"),
)
_FIRST = ("date", "session", "source", "kind", "group", "unit", "original_index")  # attributes come after these
_OPTIONAL = ("source", "kind", "original_index", "probability")  # columns left out where they would be empty


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


def write_xlsx(path: Path, gathered: Gathered) -> None:
    """Write a workbook with the units and, in a second sheet, where the link set comes from.

    openpyxl makes everything but the rows of units, of which there may be so many that it would take minutes.
    """
    claim, sessions, units = gathered
    columns = _sheet(sessions, units)
    for value in {cell for cells in ([claim[f] for f in LINK_SET_FIELDS], *columns.values()) for cell in cells}:
        if isinstance(value, str) and (len(value) > _LONGEST or ILLEGAL_CHARACTERS_RE.search(value)):
            raise ValueError(f"{value[:60]!r} is too long for a workbook, or has control characters; export as .csv")
    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet("Units")
    sheet.freeze_panes = f"A{_HEADER_ROW + 1}"
    for i, (heading, cells) in enumerate(columns.items(), 1):
        widest = max(len(str(cell)) for cell in {heading, *cells} if cell is not None)
        sheet.column_dimensions[get_column_letter(i)].width = min(max(widest + 2, _WIDTHS[0]), _WIDTHS[1])
    sheet.append([_cell(sheet, claim["name"], font=Font(bold=True, size=14))])
    for _ in range(_HEADER_ROW - 2):
        sheet.append([])
    grey = PatternFill("solid", fgColor="D9D9D9")
    style = {"font": Font(bold=True), "fill": grey, "alignment": Alignment(wrap_text=True, vertical="top")}
    sheet.append([_cell(sheet, heading, **style) for heading in columns])
    sheet.auto_filter.ref = f"A{_HEADER_ROW}:{get_column_letter(len(columns))}{_HEADER_ROW + len(units)}"
    about = book.create_sheet(LINK_SET_SHEET)
    about.column_dimensions["A"].width, about.column_dimensions["B"].width = 14, 60
    for field in LINK_SET_FIELDS:
        about.append([_cell(about, field, font=Font(bold=True)), _cell(about, claim[field])])
    rows = _rows_of_units(sheet, columns, units["identity_number"])  # before the workbook's styles are written
    empty = io.BytesIO()
    book.save(empty)
    with zipfile.ZipFile(empty) as made, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member in made.infolist():
            before, end, after = made.read(member).partition(b"</sheetData>" if member.filename == _SHEET else b"\0")
            with archive.open(member.filename, "w", force_zip64=True) as file:
                file.write(before)
                if end:
                    file.writelines(rows)
                file.write(end + after)


def _rows_of_units(sheet, columns, numbers):
    """XML of the rows below the header, some thousand at a time, in one colour for each cell that is followed."""
    fills = [{"fill": fill} for fill in _light_colours()]
    colour = [None if pd.isna(number) else number % _N_COLOURS for number in numbers.tolist()]
    styles = {
        (kind, i): f' s="{_cell(sheet, sample, **({} if i is None else fills[i])).style_id}"'
        for i in {None, *colour}
        for kind, sample in {type(None): 0, date: date.max, datetime: datetime.max}.items()
    }
    made = []
    for i, (heading, cells) in enumerate(columns.items(), 1):
        letter = get_column_letter(i)
        cells = [_as_number(cell) for cell in cells] if heading in _ID_HEADINGS else cells
        style_of = [
            styles[type(v) if isinstance(v, date) else type(None), c] for v, c in zip(cells, colour, strict=True)
        ]
        made.append((letter, cells, style_of))

    def pieces():
        for start in range(0, len(colour), _AT_ONCE):
            numbered = [str(_HEADER_ROW + 1 + row) for row in range(start, min(start + _AT_ONCE, len(colour)))]
            xml = [
                [
                    f'<c r="{letter}{row}"{style}{_content(v)}'
                    for row, style, v in zip(numbered, style_of[start:], cells[start:], strict=False)
                ]
                for letter, cells, style_of in made
            ]
            rows = (f'<row r="{row}">{"".join(cells)}</row>' for row, *cells in zip(numbered, *xml, strict=True))
            yield "".join(rows).encode()

    return pieces()


@lru_cache(1 << 16, typed=True)
def _content(value):
    """XML of a cell after its place and style."""
    if value is None:
        return "/>"
    if isinstance(value, str):
        text = escape(value, {"\r": "&#13;"})
        return f' t="inlineStr"><is><t xml:space="preserve">{text}</t></is></c>'
    if isinstance(value, bool):
        return f' t="b"><v>{int(value)}</v></c>'
    return f"><v>{to_excel(value) if isinstance(value, date) else value}</v></c>"


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


def write_text(path: Path, gathered: Gathered) -> None:
    """Write the units as text, separated by commas or, in a .tsv, by tabs."""
    _, sessions, units = gathered
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
