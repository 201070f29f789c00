"""A sheet as a table: its header found by the headings, its cells by column, and errors that name a cell."""

import logging
import re
from collections.abc import Collection, Iterable
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

from pyflow.units.incoming.sheets import Sheet, Uncalculated, cell_name
from pyflow.units.unit_table import NOTHING, TableError, fault_of_name

logger = logging.getLogger(__name__)

_FULL_WIDTH = {0xFF01 + i: 0x21 + i for i in range(94)} | {0x3000: 0x20}
_EXCEL_ERRORS = ("#DIV/0!", "#N/A", "#NAME?", "#NULL!", "#NUM!", "#REF!", "#VALUE!")
_EXACT = 10**15  # Excel keeps 15 digits of a number


class Grid:
    """The part of a sheet below its header.

    Parameters
    ----------
    path : Path
        The file.
    sheets : list of Sheet
        Its sheets.
    title : str or None
        The sheet to take; None: the one with a header.
    headings : dict of str to str
        Key -> heading. Other columns are attributes, with their heading as key.
    required : sequence of str
        Keys whose headings make a row the header.

    Attributes
    ----------
    origin : str
        How errors name the sheet.
    header_row : int
    rows : list of int
        The rows below that hold something.
    columns : dict of str to int
        Key -> column, from 1.
    attributes : list of str
        Keys of the attributes.
    typed : bool
        As in `Sheet`.

    Raises
    ------
    TableError
        No such sheet, no header or several, a heading twice, or merged cells in the header.
    """

    def __init__(
        self,
        path: str | Path,
        sheets: list[Sheet],
        title: str | None,
        headings: dict[str, str],
        required: Collection[str],
    ) -> None:
        wanted = {words(headings[key]): headings[key] for key in required}
        self._sheet, header_rows = _choose(path, sheets, title, set(wanted))
        self.origin = f"{path}, sheet {self._sheet.title!r}" if self._sheet.title else str(path)
        self.typed = self._sheet.typed
        if len(header_rows) != 1:
            raise self._header_error(header_rows, wanted)
        self.header_row = header_rows[0]
        self.rows = [row for row in self._sheet.rows if row > self.header_row]
        self.columns = {}
        known = {words(heading): key for key, heading in headings.items()}
        for column, cell in enumerate(self._sheet.rows[self.header_row], 1):
            text = "" if cell is None else str(cell).translate(_FULL_WIDTH).strip()
            if text:
                self._add_column(known.get(words(text), text), column, text)
        self.attributes = [key for key in self.columns if key not in headings]
        self._filled = set()
        self.refuse_merged([self.header_row])

    def _add_column(self, key, column, text):
        if key in self.columns:
            first = self.columns[key]
            where = f"{cell_name(self.header_row, first)} and {cell_name(self.header_row, column)}"
            values = [self.value(self.header_row, first), self.value(self.header_row, column)]
            raise self.error(f"two columns of that name, {where}", self.header_row, column=text, values=values)
        self.columns[key] = column

    def _header_error(self, rows, wanted):
        if not self._sheet.rows:
            return self.error("the sheet is empty")
        if rows:
            first = next(cell for cell in self._sheet.rows[rows[0]] if cell is not None)
            return self.error("the header stands twice", *rows[:2], values=[first, first])
        best, cells = max(
            self._sheet.rows.items(), key=lambda item: len(wanted.keys() & {words(cell) for cell in item[1]})
        )
        there = {words(cell) for cell in cells}
        missing = [heading for key, heading in wanted.items() if key not in there]
        found = [str(cell) for cell in cells if cell is not None][:12]
        return self.error(
            f"no header with {', '.join(map(repr, missing))}; the most similar row has {', '.join(map(repr, found))} "
            "(columns= or --column gives other names)",
            best,
            column=missing[0],
            values=[missing[0], *found],
        )

    def heading(self, key: str) -> str:
        """What the sheet calls a column."""
        return str(self.value(self.header_row, self.columns[key])).strip() if key in self.columns else key

    def error(self, message: str, *rows: int, column: str = "", values: Iterable[Any] = ()) -> TableError:
        """`TableError` at rows of the sheet."""
        return TableError(self.origin, message, rows=rows, column=column, values=values)

    def cell_error(self, row: int, key: str, message: str, value: Any) -> TableError:
        """`TableError` at one cell."""
        where = cell_name(row, self.columns[key])
        return self.error(f"{where} {message}", row, column=self.heading(key), values=[value])

    def value(self, row: int, column: int) -> Any:
        """What a cell holds."""
        cells = self._sheet.rows.get(row, [])
        return cells[column - 1] if column <= len(cells) else None

    def cells(self, key: str) -> list[Any]:
        """Cells of a column, one per row; None where they are blank or there is no such column.

        Raises
        ------
        TableError
            A formula without its result.
        """
        if key not in self.columns:
            return [None] * len(self.rows)
        at = self.columns[key] - 1
        column = [cells[at] if at < len(cells) else None for cells in map(self._sheet.rows.get, self.rows)]
        for i, value in enumerate(column):
            if value.__class__ is Uncalculated:
                message = "is a formula without a result; open the file in Excel and save it, or paste the values"
                raise self.cell_error(self.rows[i], key, f"({value.formula}) {message}", value.formula)
            if value.__class__ is str and value.isspace():
                column[i] = None
        return column

    def names(self, key: str, *, dates: bool = False) -> list[str]:
        """Cells of a column that holds ids, as text; empty where they are blank.

        Raises
        ------
        TableError
            A cell holds what is no id.
        """
        column, texts = self.cells(key), {}  # a column says the same again and again
        for i, value in enumerate(column):
            if value is None:
                column[i] = ""
            elif value.__class__ is not str or not (value.isascii() and value.isalnum()) or value.lower() in NOTHING:
                same = (value.__class__, value)  # 1 equals True
                if same not in texts:
                    try:
                        texts[same] = _name(value, dates)
                    except ValueError as error:
                        raise self.cell_error(self.rows[i], key, str(error), value) from error
                column[i] = texts[same]
        return column

    def fill_merged(self, key: str) -> None:
        """Let cells of one column that are merged downwards all hold what the first does, if there is such a column."""
        at = self.columns.get(key)
        for first_row, first, last_row, last in self._sheet.merged:
            if first == last == at and first_row > self.header_row:
                value = self.value(first_row, at)
                for row in (row for row in self.rows if first_row <= row <= last_row):
                    cells = self._sheet.rows[row]
                    cells.extend([None] * (at - len(cells)))
                    cells[at - 1] = value
                self._filled.add((first_row, first, last_row, last))

    def refuse_merged(self, rows: Collection[int]) -> None:
        """Refuse merged cells in these rows of the table."""
        left, right = min(self.columns.values()), max(self.columns.values())
        for first_row, first, last_row, last in self._sheet.merged:
            if (first_row, first, last_row, last) in self._filled:
                continue
            if first <= right and last >= left and any(first_row <= row <= last_row for row in rows):
                key = next((key for key, column in self.columns.items() if first <= column <= last), "")
                where = f"{cell_name(first_row, first)}:{cell_name(last_row, last)}"
                value = self.value(first_row, first)
                raise self.error(
                    f"the cells {where} are merged, so only the first has a value ({value!r}); unmerge them and fill "
                    "in each",
                    *sorted({first_row, last_row}),
                    column=self.heading(key),
                    values=[value, None],
                )

    def warn_of_hidden(self, rows: Iterable[int]) -> None:
        """Say which of these rows are not shown, as they count all the same."""
        if hidden := sorted(self._sheet.hidden.intersection(rows)):
            which = f"row {hidden[0]} is" if len(hidden) == 1 else f"rows {', '.join(map(str, hidden))} are"
            logger.warning("%s: %s hidden, but read like the others", self.origin, which)

    def warn_of_nameless(self, rows: Iterable[int]) -> None:
        """Say which cell in these rows is beside the table, as none of them is kept."""
        named = set(self.columns.values())
        for row in rows:
            for column, value in enumerate(self._sheet.rows[row], 1):
                if value is not None and column not in named:
                    where = cell_name(row, column)
                    logger.warning("%s: cell %s has no heading above it; such cells are not kept", self.origin, where)
                    return


def _choose(path, sheets, title, wanted):
    """The sheet with the header, and the rows in which a header is."""
    if title is not None:
        named = [sheet for sheet in sheets if sheet.title == title]
        if not named:
            raise TableError(str(path), f"no sheet {title!r}; it has {', '.join(repr(s.title) for s in sheets)}")
        return named[0], _header_rows(named[0], wanted)
    found = [(sheet, rows) for sheet in sheets if (rows := _header_rows(sheet, wanted))]
    if len(found) > 1:
        titles = [sheet.title for sheet, _ in found]
        raise TableError(str(path), f"{' and '.join(map(repr, titles))} have a header; say which sheet=", values=titles)
    return found[0] if found else (max(sheets, key=lambda sheet: len(sheet.rows)), [])


def _header_rows(sheet, wanted):
    rows = []
    for row, cells in sheet.rows.items():
        texts = {cell for cell in cells if isinstance(cell, str) and not cell.isdecimal()}
        if len(texts) >= len(wanted) and wanted <= {words(text) for text in texts}:
            rows.append(row)
    return rows


@lru_cache(1 << 16)
def words(heading: Any) -> str:
    """A heading without what does not tell it from another: case, full stops, full-width letters, spaces."""
    return " ".join(re.findall(r"\w+", str(heading).translate(_FULL_WIDTH).casefold()))


def _name(value, dates):
    """Id as text; ValueError says what is wrong with the cell."""
    if isinstance(value, str):
        text = value.translate(_FULL_WIDTH).strip()
        if text in _EXCEL_ERRORS:
            raise ValueError(f"holds the error {text}")
        if fault := fault_of_name(text):
            raise ValueError(f"holds {text!r}, which {fault}; empty or mend the cell")
        return text
    if isinstance(value, bool):
        raise ValueError(f"holds {str(value).upper()}, which is no id")
    if isinstance(value, date | time | timedelta):
        if dates and isinstance(value, date):
            return iso_date(value)
        raise ValueError(
            f"holds the date {iso_date(value)} where an id should be: Excel makes one of what looks like a date; "
            "format the column as text and type the id again"
        )
    if abs(value) >= _EXACT:
        raise ValueError(f"holds {value:g}, of which Excel keeps 15 digits only; write such an id as text")
    return str(int(value)) if value % 1 == 0 else repr(value)


def iso_date(value: Any) -> str:
    """ISO 8601, without the time of day where that is midnight."""
    if isinstance(value, datetime):
        return value.date().isoformat() if value.timetz() == time() else value.isoformat()
    return value.isoformat() if isinstance(value, date | time) else str(value)
