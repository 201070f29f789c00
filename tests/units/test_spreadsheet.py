"""The lab's spreadsheet, in the forms in which it comes."""

import csv
import datetime as dt
import logging
import zipfile

import openpyxl
import pandas as pd
import pytest
from odf.opendocument import OpenDocumentSpreadsheet
from odf.table import Table, TableCell, TableRow
from odf.text import P
from units import kavli

from pyflow.units import UnitStore
from pyflow.units.incoming.spreadsheet import read_spreadsheet
from pyflow.units.unit_table import TableError


@pytest.fixture
def sheet(tmp_path):
    return kavli.save(tmp_path / "cells.xlsx")


def full_width(text):
    """Text as an East Asian keyboard writes it."""
    return "".join(chr(ord(character) + 0xFEE0) for character in text)


def counts(table):
    sessions = table.followed.groupby("identity")["session"].nunique()
    return len(table.units), len(table.sessions), len(table.followed), len(sessions), (sessions == 2).sum()


def write_csv(path, rows, delimiter=",", encoding="utf-8"):
    with open(path, "w", newline="", encoding=encoding) as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)
    return path


def text_rows():
    def text(value):
        return value.date().isoformat() if isinstance(value, dt.datetime) else "" if value is None else str(value)

    return [["", "", "HC"], [], list(kavli.HEADER), *([text(v) for v in row] for row in kavli.rows())]


def write_ods(path, rows, spans=None):
    """Rows of text, numbers, dates or (element attributes, shown text); spans: (row, column) -> (height, width)."""
    document = OpenDocumentSpreadsheet()
    table = Table(name="Clustering")
    for i, row in enumerate(rows):
        line = TableRow()
        for j, value in enumerate(row):
            height, width = (spans or {}).get((i, j), (1, 1))
            merged = {"numberrowsspanned": height, "numbercolumnsspanned": width} if (height, width) != (1, 1) else {}
            if isinstance(value, tuple):
                cell, shown = TableCell(**value[0], **merged), value[1]
            elif isinstance(value, dt.date):
                cell, shown = TableCell(valuetype="date", datevalue=value.isoformat(), **merged), "24.09.19"
            elif isinstance(value, int | float):
                cell, shown = TableCell(valuetype="float", value=value, **merged), str(value)
            elif value is None:
                cell, shown = TableCell(**merged), ""
            else:
                cell, shown = TableCell(valuetype="string", **merged), value
            if shown:
                cell.addElement(P(text=shown))
            line.addElement(cell)
        table.addElement(line)
    table.addElement(TableRow(numberrowsrepeated=1_000_000))
    document.spreadsheet.addElement(table)
    document.save(str(path))
    return path


def test_the_kavli_sheet_as_it_stands(shared, tmp_path):
    path = shared / "data" / "moser_multisess_unit.xlsx"
    table = read_spreadsheet(path)
    assert counts(table) == (80, 2, 62, 39, 23)
    assert list(table.sessions["name"]) == list(kavli.SESSIONS)
    assert list(table.sessions["start_time"]) == ["2019-09-24"] * 2
    unit = table.units.loc[14]
    assert (unit["group"], unit["unit"], unit["identity"]) == ("1", "9", "9")
    assert (unit["Quality"], unit["Cell type"], unit["Notes"]) == ("++", "place", "a few fields")
    assert table.units.loc[6, "DV"] == 1600
    with UnitStore.open(tmp_path / "units.sqlite") as store:
        store.import_spreadsheet(path)
        tables = store.tables()
    assert [len(tables[name]) for name in ("unit", "session", "member_unit", "multi_sess_unit")] == [80, 2, 62, 39]
    assert {"DV", "Quality", "Cell type", "Notes"} <= set(tables["unit"])


def test_the_sheet_written_here_has_the_same_identities(shared):
    real = openpyxl.load_workbook(shared / "data" / "moser_multisess_unit.xlsx").active
    columns = [1, 3, 4, 8, 9, 10]  # session, tetrode, cell, the three numbers
    there = [[row[c] for c in columns] for row in real.iter_rows(min_row=6, values_only=True)]
    assert there == [[row[c] for c in columns] for row in kavli.rows()]


@pytest.mark.parametrize("form", ["csv", "semicolon", "tsv", "utf-16", "ods"])
def test_every_form_says_the_same(sheet, tmp_path, form):
    rows = text_rows()
    if form == "ods":
        cells = [["", "", "HC"], [], list(kavli.HEADER), *kavli.rows()]
        path = write_ods(tmp_path / "cells.ods", cells)
    elif form == "utf-16":
        path = write_csv(tmp_path / "cells.txt", rows, "\t", "utf-16")
    else:
        delimiter = {"csv": ",", "semicolon": ";", "tsv": "\t"}[form]
        path = write_csv(tmp_path / ("cells.tsv" if form == "tsv" else "cells.csv"), rows, delimiter)
    table, expected = read_spreadsheet(path), read_spreadsheet(sheet)
    columns = ["session", "group", "unit", "identity", "DV"]
    pd.testing.assert_frame_equal(
        table.units[columns].reset_index(drop=True), expected.units[columns].reset_index(drop=True)
    )
    assert list(table.sessions["start_time"]) == ["2019-09-24"] * 2
    assert table.units.index[0] == 4


def test_text_of_an_old_mac(tmp_path):
    """Excel's "CSV (Macintosh)" has line ends and letters of its own."""
    text = "Session;Cell;Unique unit no\rFrühling;1;Ä\rHerbst;2;Ä\r"
    for encoding in ("mac_roman", "utf-8"):
        (tmp_path / "cells.csv").write_bytes(text.encode(encoding))
        units = read_spreadsheet(tmp_path / "cells.csv").units
        assert units[["session", "identity"]].to_numpy().tolist() == [["Frühling", "Ä"], ["Herbst", "Ä"]]


@pytest.mark.parametrize("form", ["xlsx", "ods"])
def test_hidden_rows_count_and_are_named(tmp_path, caplog, form):
    if form == "xlsx":

        def hide(sheet):
            for row in (3, 7, 43):  # the first is above the header
                sheet.row_dimensions[row].hidden = True

        path, which = kavli.save(tmp_path / "cells.xlsx", hide), "rows 7, 43 are hidden"
    else:
        path, which = (
            write_ods(tmp_path / "cells.ods", [["Session", "Cell", "Unique unit no"], ["a", 1, 1]]),
            "row 2 is",
        )
        with zipfile.ZipFile(path) as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
        at = parts["content.xml"].index(b"<table:table-row>", parts["content.xml"].index(b"Session"))
        row = b'<table:table-row table:visibility="filter">'
        parts["content.xml"] = parts["content.xml"][:at] + row + parts["content.xml"][at + len(b"<table:table-row>") :]
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in parts.items():
                archive.writestr(name, content)
    assert len(read_spreadsheet(path).units) == (80 if form == "xlsx" else 1)
    assert [which in message for message in caplog.messages] == [True]


def test_dates_as_text(tmp_path, caplog):
    """With full stops the day is first; what else could be meant is kept as it stands."""
    dates = {"01.03.2024": "2024-03-01", "2.3.2024 09:05": "2024-03-02T09:05:00", "2024-03-04": "2024-03-04"}
    rows = [["Date", "Session", "Cell", "Unique unit no"], *([said, said, 1, 1] for said in dates)]
    assert read_spreadsheet(write_csv(tmp_path / "cells.csv", rows)).sessions["start_time"].tolist() == [
        *dates.values()
    ]
    assert not caplog.messages
    rows += [["3/4/2024", "e", 1, 1], ["31.02.2024", "f", 1, 1]]
    sessions = read_spreadsheet(write_csv(tmp_path / "cells.csv", rows)).sessions
    assert sessions["start_time"].tolist() == [*dates.values(), "", ""]
    assert sessions["Date"].tolist()[3:] == ["3/4/2024", "31.02.2024"]
    assert len(caplog.messages) == 1
    assert "row 5, column 'Date': '3/4/2024' is no date like 2024-03-31 or 31.03.2024" in caplog.messages[0]


def test_a_date_that_is_merged_over_its_session(tmp_path):
    def merge(sheet):
        sheet.merge_cells("A6:A42")
        sheet.merge_cells("A43:A85")

    expected = read_spreadsheet(kavli.save(tmp_path / "cells.xlsx"))
    found = read_spreadsheet(kavli.save(tmp_path / "cells.xlsx", merge))
    pd.testing.assert_frame_equal(found.sessions, expected.sessions)
    pd.testing.assert_frame_equal(found.units, expected.units)

    def over_both(sheet):
        sheet.merge_cells("A6:A50")  # beside the second session's own date further down
        sheet["A51"] = dt.date(2019, 9, 30)

    message = "column 'Date': session '.*' has '2019-09-24' and '2019-09-30'"
    with pytest.raises(TableError, match=message):
        read_spreadsheet(kavli.save(tmp_path / "cells.xlsx", over_both))
    with pytest.raises(TableError, match=r"the cells A6:B7 are merged"):
        read_spreadsheet(kavli.save(tmp_path / "cells.xlsx", lambda sheet: sheet.merge_cells("A6:B7")))


def test_columns_in_any_order_and_place(sheet, tmp_path):
    book = openpyxl.Workbook()
    moved = book.active
    for row, cells in enumerate([kavli.HEADER, *kavli.rows()], 30):
        for column, value in enumerate(reversed(cells), 7):
            moved.cell(row, column, value)
    book.create_sheet("Plots")["A1"] = "Session"
    book.save(tmp_path / "cells_moved.xlsx")
    table = read_spreadsheet(tmp_path / "cells_moved.xlsx")
    assert counts(table) == (80, 2, 62, 39, 23)
    assert table.units.index[0] == 31


def test_headings_of_another_language(tmp_path):
    rows = [["Sitzung", "Ebene", "Zelle", "Einheit", "Güte"], ["Mo", "0", "7", "A", "gut"], ["Di", "0", "3", "A", ""]]
    path = write_csv(tmp_path / "zellen.csv", rows, ";", "cp1252")
    columns = {"session": "Sitzung", "group": "Ebene", "unit": "Zelle", "identity": "Einheit"}
    table = read_spreadsheet(path, columns=columns)
    assert table.units[["session", "group", "unit", "identity"]].to_numpy().tolist() == [
        ["Mo", "0", "7", "A"],
        ["Di", "0", "3", "A"],
    ]
    assert list(table.units["Güte"]) == ["gut", None]
    with pytest.raises(ValueError, match="'cell' is none of date, session"):
        read_spreadsheet(path, columns={"cell": "Zelle"})
    with pytest.raises(TableError, match="no header with 'Session', 'Cell', 'Unique unit no'"):
        read_spreadsheet(path)


def test_headings_in_any_spelling(tmp_path):
    rows = [[" SESSION ", "Cell.", "Unique  Unit-no", full_width("Tetrode")], ["s", "1", "1", "4"]]
    table = read_spreadsheet(write_csv(tmp_path / "cells.csv", rows))
    assert table.units.loc[2, "group"] == "4"


def test_excels_own_quirks(tmp_path):
    """Floats for integers, trailing and hard spaces, full-width digits, dates, numbers shown with zeros."""

    def change(sheet):
        for row in range(6, 12):
            sheet.cell(row, 5, float(sheet.cell(row, 5).value))
        sheet["B7"] = kavli.SESSIONS[0] + "  "
        sheet["B8"] = "\u00a0" + kavli.SESSIONS[0]
        sheet["K9"] = full_width("4")
        sheet["I9"] = full_width("4") + " "
        sheet["D10"] = full_width("1")
        sheet["K11"] = "6 "
        sheet["A43"] = "2019-09-24"

    table = read_spreadsheet(kavli.save(tmp_path / "quirks.xlsx", change))
    assert counts(table) == (80, 2, 62, 39, 23)
    assert table.units.loc[6:11, "unit"].tolist() == ["1", "2", "3", "4", "5", "6"]
    assert table.units.loc[9, ["group", "identity"]].tolist() == ["1", "4"]


def test_ids_are_what_the_sheet_shows(tmp_path):
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.append(["Session", "Cell", "Unique unit no"])
    given = ["1-2", "00012", "1E5", 1.5, 5.0, 12, "TRUE", -3, "½", "a b"]
    for value in given:
        sheet.append([dt.datetime(2019, 9, 24, 9, 16, 14), value, None])
    sheet.append([dt.date(2019, 9, 25), 12, None])
    sheet.cell(sheet.max_row, 2).number_format = "00000"
    book.save(tmp_path / "ids.xlsx")
    units = read_spreadsheet(tmp_path / "ids.xlsx").units
    assert units["unit"].tolist() == ["1-2", "00012", "1E5", "1.5", "5", "12", "TRUE", "-3", "½", "a b", "00012"]
    assert units["session"].tolist() == ["2019-09-24T09:16:14"] * 10 + ["2019-09-25"]
    assert units["identity"].isna().all()


def test_ids_of_text_files_are_exact_but_numbers_of_units_are_numbers(tmp_path):
    rows = [
        ["Session", "Cell", "Unit no", "Previous unit no", "Unique unit no"],
        ["s1", "1E5", "1.0", "", "1.0"],
        ["s1", "5.0", "2.0", "", "2.0"],
        ["s2", "00012", "3", "1", "1"],
    ]
    units = read_spreadsheet(write_csv(tmp_path / "cells.csv", rows)).units
    assert units["unit"].tolist() == ["1E5", "5.0", "00012"]
    assert units["identity"].tolist() == ["1", "2", "1"]


def test_ods_shows_leading_zeros_and_formula_results(tmp_path):
    number = {"valuetype": "float"}
    rows = [
        ["Session", "Cell", "Unique unit no"],
        [
            "s1",
            ({"valuetype": "float", "value": 12}, "00012"),
            ({"valuetype": "float", "value": 3, "formula": "=3"}, "3"),
        ],
        ["s1", (number | {"value": 0.5}, "0.5"), 4],
    ]
    units = read_spreadsheet(write_ods(tmp_path / "cells.ods", rows)).units
    assert units[["unit", "identity"]].to_numpy().tolist() == [["00012", "3"], ["0.5", "4"]]


def test_ods_is_checked_as_closely(tmp_path):
    header = ["Session", "Cell", "Unique unit no"]
    formula = ["s1", ({"formula": "=B9"}, ""), 1]
    with pytest.raises(TableError, match=r"sheet 'Clustering', row 2, column 'Cell': B2 \(=B9\) is a formula without"):
        read_spreadsheet(write_ods(tmp_path / "formula.ods", [header, formula]))
    rows = [header, ["s1", 1, 1], [None, 2, 2]]
    with pytest.raises(TableError, match="rows 2 and 3, column 'Session': the cells A2:A3 are merged"):
        read_spreadsheet(write_ods(tmp_path / "merged.ods", [*rows[:2], ["s1", 2, 2]], {(1, 0): (2, 1)}))
    with pytest.raises(TableError, match=r"row 2, column 'Cell': B2 holds the date 2019-01-02 where an id should be"):
        read_spreadsheet(write_ods(tmp_path / "date.ods", [header, ["s1", dt.date(2019, 1, 2), 1]]))
    time = ({"valuetype": "time", "timevalue": "PT01H02M00S"}, "01:02")
    with pytest.raises(TableError, match="B2 holds the date 1:02:00 where an id should be"):
        read_spreadsheet(write_ods(tmp_path / "time.ods", [header, ["s1", time, 1]]))
    truth = ({"valuetype": "boolean", "booleanvalue": "true"}, "TRUE")
    with pytest.raises(TableError, match="B2 holds TRUE, which is no id"):
        read_spreadsheet(write_ods(tmp_path / "truth.ods", [header, ["s1", truth, 1]]))
    with pytest.raises(TableError, match=r"empty\.ods, sheet 'Clustering': the sheet is empty"):
        read_spreadsheet(write_ods(tmp_path / "empty.ods", []))


def test_remarks_below_and_beside_the_table_are_passed_over(sheet, tmp_path, caplog):
    def change(sheet):
        sheet["H90"] = "recorded by AB"
        sheet["N12"] = "?"

    with caplog.at_level(logging.WARNING):
        table = read_spreadsheet(kavli.save(tmp_path / "remarks.xlsx", change))
    assert counts(table) == (80, 2, 62, 39, 23)
    assert "rows 90 name no unit" in caplog.text
    assert "cell N12 has no heading" in caplog.text


def test_a_formatted_cell_at_the_very_bottom_costs_nothing(tmp_path):
    def change(sheet):
        sheet["XFD1048576"].number_format = "0.00"

    assert counts(read_spreadsheet(kavli.save(tmp_path / "far.xlsx", change))) == (80, 2, 62, 39, 23)


def test_formulas_with_results_are_read(sheet, tmp_path):
    """A file whose results were calculated: openpyxl cannot write one, so the result is put into its XML."""
    kavli.save(tmp_path / "formula.xlsx", lambda sheet: sheet.__setitem__("K6", "=I6"))
    with zipfile.ZipFile(tmp_path / "formula.xlsx") as old, zipfile.ZipFile(tmp_path / "done.xlsx", "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "xl/worksheets/sheet1.xml":
                assert content.count(b"<f>I6</f><v />") + content.count(b"<f>I6</f><v></v>") == 1
                content = content.replace(b"<f>I6</f><v />", b"<f>I6</f><v>1</v>")
                content = content.replace(b"<f>I6</f><v></v>", b"<f>I6</f><v>1</v>")
            new.writestr(name, content)
    assert counts(read_spreadsheet(tmp_path / "done.xlsx")) == (80, 2, 62, 39, 23)


def test_name_of_the_link_set(sheet):
    assert read_spreadsheet(sheet).name == "cells"
    assert read_spreadsheet(sheet, name="by hand").name == "by hand"
    with pytest.raises(TableError, match="no sheet 'Tabelle1'; it has 'Clustering'"):
        read_spreadsheet(sheet, sheet="Tabelle1")
    with pytest.raises(FileNotFoundError):
        read_spreadsheet(sheet.with_name("gone.xlsx"))
