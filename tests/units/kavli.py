"""The Kavli Institute's example of a spreadsheet of followed units; its equal written here without the data."""

import os
from datetime import datetime
from pathlib import Path

import openpyxl
import pytest

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "moser_multisess_unit.xlsx"
TITLE = "Clustering"
SESSIONS = ("2019-09-24_09-16-14", "2019-09-24_09-33-50")
HEADER = (
    *("Date", "Session", "DV", "Tetrode", "Cell", "Quality", "Cell type", "Notes"),
    *("Unit no", "Previous unit no", "Unique unit no"),
)

# Unique unit no by session and tetrode, cell by cell; "-" is not followed
_IDENTITIES = (
    ("1 2 3 4 5 6 7 8 9 10 - -", "11 12 13 14 15 16 17 18 19", "20 21 - - - 22", "23 24 25 26 - - 27 28 29 30"),
    (
        *("1 2 3 4 5 6 7 8 9 10 - 31", "- 12 13 14 15 16 - - 32 33"),
        *("20 - 34 - 35 22 -", "23 24 25 - - - 27 36 29 30 37 38 - 39"),
    ),
)


def rows():
    """Cells below the header, as the sheet has them."""
    number, numbers = 0, {}
    for session, tetrodes in zip(SESSIONS, _IDENTITIES, strict=True):
        first = True
        for tetrode, identities in enumerate(tetrodes, 1):
            for cell, identity in enumerate(identities.split(), 1):
                unit = [None, None, None] if identity == "-" else [number + 1, numbers.get(identity), int(identity)]
                if identity != "-":
                    number += 1
                    numbers[identity] = number
                date, depth = (datetime(2019, 9, 24), 1600) if first else (None, None)
                notes = (None, None, "referenced") if identity == "-" else ("++", "place", None)
                yield [date, session, depth, tetrode, cell, *notes, *unit]
                first = False


def workbook():
    """The sheet as an openpyxl workbook; the header is in row 5."""
    if not os.environ.get("PYFLOW_WITHOUT_SHARED"):
        if not REAL.is_file():
            pytest.fail(f"no {REAL}; set PYFLOW_WITHOUT_SHARED=1 for an equal sheet that is made here", pytrace=False)
        return openpyxl.load_workbook(REAL)
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = TITLE
    sheet["C3"] = "HC"
    for column, heading in enumerate(HEADER, 1):
        sheet.cell(5, column, heading)
    for row, cells in enumerate(rows(), 6):
        for column, value in enumerate(cells, 1):
            sheet.cell(row, column, value)
    return book


def save(path, change=lambda sheet: None):
    """Write the sheet, changed, to a file."""
    book = workbook()
    change(book.active)
    book.save(path)
    return path
