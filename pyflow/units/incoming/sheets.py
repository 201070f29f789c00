"""What a spreadsheet file says, cell by cell: xlsx, ods, csv and tsv, without knowing what it means."""

import csv
import io
import re
import warnings
import zipfile
import zlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree

import openpyxl
from openpyxl.utils import get_column_letter

from pyflow.units.unit_table import TableError

# A sheet kept by hand has some thousand rows, under 1 MB; what is larger was not, or wants to fill the memory.
MAX_BYTES = 100 << 20
MAX_CELLS = 10_000_000
MAX_DEPTH = 100  # of elements in each other; a workbook nests about ten

_PIECE = 1 << 16  # bytes of XML parsed at once

# What openpyxl, zipfile and ElementTree raise on a workbook that is not whole
_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, ElementTree.ParseError, EOFError, RuntimeError),
    *(LookupError, ValueError, TypeError, AttributeError, ArithmeticError),
)

# Also where it is quoted already: so every quote that is added comes off again. Signs alone ("++") are no formula.
_FORMULA = re.compile(r"'*(?:[=@\t\r]|[+-].*[A-Za-z(|!])", re.DOTALL)

_OLE = bytes.fromhex("d0cf11e0a1b11ae1")  # the container of .xls, and of any workbook with a password
_TABLE = "{urn:oasis:names:tc:opendocument:xmlns:table:1.0}"
_OFFICE = "{urn:oasis:names:tc:opendocument:xmlns:office:1.0}"
_TEXT = "{urn:oasis:names:tc:opendocument:xmlns:text:1.0}"


@dataclass(frozen=True)
class Uncalculated:
    """A formula whose result the file does not hold."""

    formula: str


@dataclass(frozen=True)
class Sheet:
    """One sheet.

    Attributes
    ----------
    title : str
        Empty in a text file.
    rows : dict of int to list
        Row number (from 1) -> its cells from column A on; only rows that hold something. A cell is None, str, int,
        float, bool, a date, datetime, time or timedelta, or `Uncalculated`.
    merged : list of (first_row, first_column, last_row, last_column)
        From 1, ends included.
    typed : bool
        Whether the file tells numbers from text; in a text file every cell is a str.
    hidden : set of int
        Rows that are not shown.
    """

    title: str
    rows: dict
    merged: list
    typed: bool = True
    hidden: frozenset[int] = frozenset()


def read_sheets(path: str | Path) -> list[Sheet]:
    """Read all sheets of a file; what it is, is told by its content.

    Parameters
    ----------
    path : path-like
        .xlsx, .xlsm, .ods, or text separated by comma, semicolon or tab.

    Returns
    -------
    list of Sheet
        At least one.

    Raises
    ------
    FileNotFoundError
        No such file.
    TableError
        Not such a file, damaged, encrypted, or larger than `MAX_BYTES`.
    """
    path = Path(path)
    with open(path, "rb") as file:
        start = file.read(512)
    if start.startswith(b"PK"):
        return _read_zip(path)
    _refuse_large(path, path.stat().st_size)
    if start.startswith(_OLE):
        if "EncryptedPackage".encode("utf-16-le") in path.read_bytes():
            raise TableError(str(path), "protected by a password; save it without one")
        raise TableError(str(path), "the old .xls format; save it as .xlsx")
    text = _decode(path.read_bytes())
    if text.lstrip()[:1] == "<":
        raise TableError(str(path), "HTML or XML, not a spreadsheet; open it in Excel and save it as .xlsx")
    return [_read_text(path, text)]


def _refuse_large(path, size):
    if size > MAX_BYTES:
        found = f"{size / 2**20:.0f} MB" + (" unpacked" if path.stat().st_size < size else "")
        raise TableError(
            str(path), f"{found}, more than the {MAX_BYTES >> 20} MB that a sheet kept by hand can have", values=[size]
        )


def _read_zip(path):
    try:
        with zipfile.ZipFile(path) as archive:
            _refuse_large(path, sum(member.file_size for member in archive.infolist()))
            names = archive.namelist()
            if "xl/workbook.xml" in names:
                sheets = _read_xlsx(path)
            elif "content.xml" in names:
                sheets = _read_ods(path, archive)
            else:
                raise TableError(str(path), "a zip archive, but neither an .xlsx nor an .ods workbook")
    except TableError:
        raise
    except _DAMAGE as error:
        raise TableError(str(path), f"damaged: {error}") from error
    if not sheets:
        raise TableError(str(path), "no sheets")
    return sheets


def _read_xlsx(path):
    with open(path, "rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # openpyxl's list of the formatting that it does not understand
        book = openpyxl.load_workbook(file)
        formulas = any(cell.data_type == "f" for sheet in book.worksheets for cell in _cells(sheet))
        results = openpyxl.load_workbook(file, data_only=True) if formulas else None
    sheets = []
    for sheet in book.worksheets:
        values = ((c.row, c.column, _result(c, results and results[sheet.title])) for c in _cells(sheet))
        merged = [(m.min_row, m.min_col, m.max_row, m.max_col) for m in sheet.merged_cells.ranges]
        hidden = frozenset(row for row, shown in sheet.row_dimensions.items() if shown.hidden)
        sheets.append(Sheet(sheet.title, _rows(f"{path}, sheet {sheet.title!r}", values), merged, hidden=hidden))
    return sheets


def _result(cell, results):
    """Value of a cell; of a formula, what the file says that it gave."""
    if cell.data_type != "f":
        return _formatted(cell)
    result = results[cell.coordinate]
    if result.value is None and result.data_type == "n":  # an empty text has another type
        return Uncalculated(str(cell.value))
    return _formatted(result)


def _cells(sheet):
    """Cells that hold something; `iter_rows` would make a million for one formatted cell at the bottom."""
    return [cell for cell in sheet._cells.values() if cell.value is not None]


def _formatted(cell):
    """Value of a cell; a number shown with leading zeros is the text that people see."""
    digits = cell.number_format
    if isinstance(cell.value, int | float) and len(digits) > 1 and not digits.strip("0") and cell.value % 1 == 0:
        return f"{int(cell.value):0{len(digits)}d}"
    return cell.value


def _rows(origin, cells):
    """Rows of a `Sheet` from (row, column, value)."""
    rows, size = {}, 0
    for row, column, value in cells:
        line = rows.setdefault(row, [])
        size += max(column - len(line), 0)
        if size > MAX_CELLS:
            raise TableError(origin, f"more than {MAX_CELLS} cells", rows=[row], values=[size])
        line.extend([None] * (column - len(line)))
        line[column - 1] = value
    return dict(sorted(rows.items()))


def _read_ods(path, archive):
    if "META-INF/manifest.xml" in archive.namelist() and b"encryption-data" in archive.read("META-INF/manifest.xml"):
        raise TableError(str(path), "protected by a password; save it without one")
    body = _parse_xml(archive.read("content.xml"))
    return [_ods_sheet(path, table) for table in body.iter(f"{_TABLE}table")]


def _parse_xml(text):
    parser, depth, root = ElementTree.XMLPullParser(("start", "end")), 0, None
    for start in range(0, len(text), _PIECE):
        parser.feed(text[start : start + _PIECE])
        for event, element in parser.read_events():
            root = element if root is None else root
            depth += 1 if event == "start" else -1
            if depth > MAX_DEPTH:
                raise ValueError(f"elements are nested more than {MAX_DEPTH} deep")
    parser.close()
    return root


def _ods_sheet(path, table):
    title, merged, hidden = table.get(f"{_TABLE}name", ""), [], set()
    rows = _rows(f"{path}, sheet {title!r}", _ods_cells(table, merged, hidden))
    return Sheet(title, rows, merged, hidden=frozenset(hidden))


def _ods_cells(table, merged, hidden):
    """(row, column, value) of the cells that hold something; what is merged or hidden is added to those lists."""
    row = 1
    for line in table.iter(f"{_TABLE}table-row"):
        height, column, found = int(line.get(f"{_TABLE}number-rows-repeated", 1)), 1, []
        for cell in line:
            if cell.tag not in (f"{_TABLE}table-cell", f"{_TABLE}covered-table-cell"):
                continue
            width = int(cell.get(f"{_TABLE}number-columns-repeated", 1))
            value = _ods_value(cell)
            if value is not None:
                found.append((column, width, value))
            rows, columns = (int(cell.get(f"{_TABLE}number-{way}-spanned", 1)) for way in ("rows", "columns"))
            if (rows, columns) != (1, 1):
                merged.append((row, column, row + rows - 1, column + columns - 1))
            column += width
        if found and line.get(f"{_TABLE}visibility", "visible") != "visible":
            hidden.update(range(row, row + height))
        for repeated in range(row, row + height) if found else ():
            for first, width, value in found:
                yield from ((repeated, first + i, value) for i in range(width))
        row += height


def _ods_value(cell):
    kind = cell.get(f"{_OFFICE}value-type")
    text = "\n".join(_ods_text(paragraph) for paragraph in cell.findall(f"{_TEXT}p"))
    if kind in ("float", "percentage", "currency"):
        value = float(cell.get(f"{_OFFICE}value"))
        if text.startswith("0") and text.isdecimal() and float(text) == value:
            return text
        return int(value) if value.is_integer() else value
    if kind == "date":
        return datetime.fromisoformat(cell.get(f"{_OFFICE}date-value"))
    if kind == "time":
        hours, minutes, seconds = re.findall(r"[\d.]+", cell.get(f"{_OFFICE}time-value"))
        return timedelta(hours=int(hours), minutes=int(minutes), seconds=float(seconds))
    if kind == "boolean":
        return cell.get(f"{_OFFICE}boolean-value") == "true"
    formula = cell.get(f"{_TABLE}formula")
    if kind is None and formula is not None:
        return Uncalculated(formula)
    return text or cell.get(f"{_OFFICE}string-value") or None


def _ods_text(element):
    parts = [element.text or ""]
    for child in element:
        spaces = {f"{_TEXT}s": " " * int(child.get(f"{_TEXT}c", 1)), f"{_TEXT}tab": "\t", f"{_TEXT}line-break": "\n"}
        parts += [spaces.get(child.tag, "") or _ods_text(child), child.tail or ""]
    return "".join(parts)


def _decode(data):
    """Text of a file as Excel writes it: UTF-8 with or without mark, UTF-16 with one, or Windows' or a Mac's Latin."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", errors="replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        # Excel's "CSV (Macintosh)" ends its lines as old Macs did
        return data.decode("mac_roman" if b"\r" in data and b"\n" not in data else "cp1252", errors="replace")


def quoted(text: str) -> str:
    """Text for a cell of a text file; what a spreadsheet program would run as a formula gets an apostrophe."""
    return f"'{text}" if _FORMULA.match(text) else text


def _unquoted(text):
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def _read_text(path, text):
    delimiter = "\t" if path.suffix.lower() == ".tsv" else max("\t;,", key=text.count)
    rows = {}
    try:
        for row, cells in enumerate(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True), 1):
            if any(cells):
                rows[row] = [_unquoted(cell) or None for cell in cells]
    except csv.Error as error:
        raise TableError(str(path), f"damaged: {error}", rows=[len(rows) + 1]) from error
    return Sheet("", rows, [], typed=False)


def cell_name(row: int, column: int) -> str:
    """A cell as people name it, "B5"."""
    return f"{get_column_letter(column)}{row}"
