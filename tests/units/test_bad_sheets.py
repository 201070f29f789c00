"""Ways of breaking the lab's spreadsheet: each is refused by name, and the store stays as it was, byte by byte."""

import datetime as dt
import io
import random
import re
import zipfile

import openpyxl
import pytest
from units import kavli

from pyflow.units import UnitStore
from pyflow.units.incoming import sheets
from pyflow.units.incoming.spreadsheet import read_spreadsheet
from pyflow.units.unit_table import TableError

ONE, TWO = kavli.SESSIONS


def put(**cells):
    """A change of the sheet: cell name -> value."""

    def change(sheet):
        for name, value in cells.items():
            sheet[name] = value

    return change


def merge(*ranges):
    def change(sheet):
        for cells in ranges:
            sheet.merge_cells(cells)

    return change


def swap_session(sheet):
    for row in range(43, 86):
        sheet.cell(row, 2).value = ONE


def clear(sheet):
    sheet.delete_rows(1, sheet.max_row)


def cut(sheet):
    sheet.delete_rows(6, 80)


def header_again(sheet):
    for column, heading in enumerate(kavli.HEADER, 1):
        sheet.cell(43, column).value = heading


def second_sheet(sheet):
    sheet.parent.copy_worksheet(sheet).title = "Copy"


# name: change, rows, column, values, what the message says
BROKEN = {
    "unit listed twice": (put(E7=1), (6, 7), "Cell", ((ONE, "1", "1"),) * 2, "is listed twice"),
    "unit listed twice, once as text": (put(E7=" 1"), (6, 7), "Cell", ((ONE, "1", "1"),) * 2, "is listed twice"),
    "sessions taken for one": (
        swap_session,
        (6, 43),
        "Cell",
        ((ONE, "1", "1"),) * 2,
        "Tetrode '1', Cell '1' is listed",
    ),
    "two members of one session": (
        *(put(K7=1), (6, 7), "Unique unit no", ((ONE, "1", "1"), (ONE, "1", "2"))),
        "has two units in one session: '2019-09-24_09-16-14/1/1' and '2019-09-24_09-16-14/1/2'",
    ),
    "Previous and Unique disagree": (
        *(put(J43=2), (7, 43), "Previous unit no", ("2", "1")),
        "'2' is Unique unit no '2', but this row is Unique unit no '1'",
    ),
    "Unique and Previous disagree": (
        *(put(K43=99), (6, 43), "Previous unit no", ("1", "99")),
        "'1' is Unique unit no '1', but this row is Unique unit no '99'",
    ),
    "Previous without Unique": (
        *(put(K43=None), (6, 43), "Previous unit no", ("1", None)),
        "'1' is Unique unit no '1', but this row is Unique unit no None",
    ),
    "Unique met before, Previous empty": (
        *(put(J43=None), (6, 43), "Previous unit no", ("1", "")),
        "Unique unit no '1' is in row 6 too, but Previous unit no is empty",
    ),
    "Previous points to nothing": (put(J43=777), (43,), "Previous unit no", ("777", "31"), "'777' is no Unit no"),
    "Previous points forward": (put(J43=62), (43,), "Previous unit no", ("62", "31"), "'62' is not above this row"),
    "Previous points at its own row": (put(J43=31), (43,), "Previous unit no", ("31", "31"), "'31' is not above"),
    "Unit no used twice": (put(I54=1), (6, 54), "Unit no", ("1", "1"), "'1' numbers two rows"),
    "merged ids": (merge("D6:D9"), (6, 9), "Tetrode", (1, None), "the cells D6:D9 are merged, so only the first"),
    "merged across columns": (merge("H8:K8"), (8,), "Notes", (None, None), "the cells H8:K8 are merged"),
    "merged header": (merge("I5:J5"), (5,), "Unit no", ("Unit no", None), "the cells I5:J5 are merged"),
    "no Previous": (
        put(J5=None),
        (5,),
        "Previous unit no",
        ("Unit no",),
        "no column 'Previous unit no', which 'Unit no'",
    ),
    "formula never calculated": (put(K6="=I6"), (6,), "Unique unit no", ("=I6",), r"K6 \(=I6\) is a formula without"),
    "formula in the notes": (put(H6='="a"&"b"'), (6,), "Notes", ('="a"&"b"',), "H6 .* is a formula without a result"),
    "date for a cell": (
        *(put(E10=dt.date(2019, 1, 2)), (10,), "Cell", (dt.datetime(2019, 1, 2),)),
        "E10 holds the date 2019-01-02 where an id should be",
    ),
    "date for an identity": (
        *(put(K10=dt.datetime(2019, 3, 4, 5, 6)), (10,), "Unique unit no", (dt.datetime(2019, 3, 4, 5, 6),)),
        "K10 holds the date 2019-03-04T05:06:00 where",
    ),
    "time for a tetrode": (put(D10=dt.time(1, 2)), (10,), "Tetrode", (dt.time(1, 2),), "D10 holds the date 01:02:00"),
    "truth for a cell": (put(E10=True), (10,), "Cell", (True,), "E10 holds TRUE, which is no id"),
    "error for a cell": (put(E10="#REF!"), (10,), "Cell", ("#REF!",), "E10 holds the error #REF!"),
    "more digits than Excel keeps": (
        *(put(E10=1234567890123456), (10,), "Cell", (1234567890123456,)),
        "E10 holds .* of which Excel keeps 15 digits only",
    ),
    "line break in an id": (
        put(E10="5\n6"),
        (10,),
        "Cell",
        ("5\n6",),
        r"E10 holds '5\\n6', which holds the invisible character U\+000A",
    ),
    "zero-width space in a session": (
        *(put(B10=ONE + "\u200b"), (10,), "Session", (ONE + "\u200b",)),
        r"B10 holds .*, which holds the invisible character U\+200B \(ZERO WIDTH SPACE\)",
    ),
    "unknown session": (put(B10=None), (10,), "Session", ("",), "B10 is empty, but the row has Tetrode '1', Cell '5'"),
    "unknown cell": (put(E10="  "), (10,), "Cell", ("",), "E10 is empty, but the row has Session"),
    "unknown tetrode": (put(D10=None), (10,), "Tetrode", ("",), "D10 is empty, but the row has Session"),
    "two dates of one session": (
        *(put(A7=dt.date(2019, 9, 25)), (6, 7), "Date", ("2019-09-24", "2019-09-25")),
        "session '2019-09-24_09-16-14' has '2019-09-24' and '2019-09-25'",
    ),
    "no header": (
        *(put(K5="Neuron"), (5,), "Unique unit no", ("Unique unit no", *kavli.HEADER[:-1], "Neuron")),
        "no header with 'Unique unit no'; the most similar row has 'Date', 'Session'",
    ),
    "header twice": (header_again, (5, 43), "", ("Date", "Date"), "the header stands twice"),
    "two columns of one name": (
        *(put(L5="tetrode "), (5,), "tetrode", ("Tetrode", "tetrode ")),
        "two columns of that name, D5 and L5",
    ),
    "two columns of notes": (put(L5="Notes"), (5,), "Notes", ("Notes", "Notes"), "two columns of that name, H5 and L5"),
    "empty sheet": (clear, (), "", (), "the sheet is empty"),
    "header only": (cut, (5,), "", (0,), "no units below the header"),
}


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    """What a store that holds the sheet has on disk."""
    folder = tmp_path_factory.mktemp("good")
    with UnitStore.open(folder / "units.sqlite") as store:
        store.import_spreadsheet(kavli.save(folder / "good.xlsx"))
    return (folder / "units.sqlite").read_bytes()


@pytest.fixture
def store(tmp_path, content):
    """A store whose file must not change."""
    (tmp_path / "units.sqlite").write_bytes(content)
    return tmp_path / "units.sqlite"


def refusal(store, path, **options):
    """The error that an import raises; asserts that it left nothing behind."""
    before, names = store.read_bytes(), sorted(p.name for p in store.parent.iterdir())
    with UnitStore.open(store) as opened:
        with pytest.raises(TableError) as caught:
            opened.import_spreadsheet(path, **options)
    assert store.read_bytes() == before
    assert sorted(p.name for p in store.parent.iterdir()) == names
    assert str(caught.value).startswith(caught.value.origin)
    assert caught.value.origin.startswith(str(path))
    return caught.value


@pytest.mark.parametrize("name", BROKEN)
def test_broken_sheet(store, tmp_path, name):
    change, rows, column, values, says = BROKEN[name]
    error = refusal(store, kavli.save(tmp_path / "bad.xlsx", change))
    assert error.origin.endswith(f"bad.xlsx, sheet {kavli.TITLE!r}")
    assert error.rows == rows
    assert error.column == column
    assert error.values == values
    assert re.search(says, str(error)), error


def test_two_sheets_with_a_header(store, tmp_path):
    error = refusal(store, kavli.save(tmp_path / "bad.xlsx", second_sheet))
    assert "'Clustering' and 'Copy' have a header; say which sheet=" in str(error)


@pytest.mark.parametrize("suffix", ["xlsx", "xls", "csv"])
def test_workbook_that_is_html(store, tmp_path, suffix):
    path = tmp_path / f"bad.{suffix}"
    path.write_text("\ufeff <html><table><tr><td>Session</td><td>Cell</td></tr></table></html>", encoding="utf-8")
    assert "HTML or XML, not a spreadsheet" in str(refusal(store, path))


def test_old_and_protected_workbooks(store, tmp_path):
    ole = bytes.fromhex("d0cf11e0a1b11ae1") + bytes(1000)
    (tmp_path / "bad.xlsx").write_bytes(ole + "EncryptedPackage".encode("utf-16-le") + bytes(1000))
    assert "protected by a password" in str(refusal(store, tmp_path / "bad.xlsx"))
    (tmp_path / "old.xls").write_bytes(ole + bytes(1000))
    assert "the old .xls format" in str(refusal(store, tmp_path / "old.xls"))


def test_protected_ods(store, tmp_path):
    with zipfile.ZipFile(tmp_path / "bad.ods", "w") as archive:
        archive.writestr("content.xml", b"\x9c\x11")
        archive.writestr("META-INF/manifest.xml", "<manifest><encryption-data/></manifest>")
    assert "protected by a password" in str(refusal(store, tmp_path / "bad.ods"))


def test_workbook_named_xls_is_read_by_its_content(tmp_path):
    assert len(read_spreadsheet(kavli.save(tmp_path / "cells.xlsx").rename(tmp_path / "cells.xls")).units) == 80


def test_sheets_too_large_are_refused_unread(store, tmp_path):
    big = 200 << 20
    with open(tmp_path / "bad.csv", "wb") as file:
        file.truncate(big)
    error = refusal(store, tmp_path / "bad.csv")
    assert error.values == (big,)
    assert "200 MB, more than the 100 MB" in str(error)
    with zipfile.ZipFile(tmp_path / "bad.xlsx", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("xl/workbook.xml", "<workbook/>")
        with archive.open("xl/worksheets/sheet1.xml", "w", force_zip64=True) as sheet:
            for _ in range(200):
                sheet.write(bytes(1 << 20))
    error = refusal(store, tmp_path / "bad.xlsx")
    assert error.values == (big + len("<workbook/>"),)
    assert "200 MB unpacked, more than the 100 MB" in str(error)


def test_ods_that_repeats_a_cell_without_end(store, tmp_path, monkeypatch):
    monkeypatch.setattr(sheets, "MAX_CELLS", 1000)
    content = (
        '<o:d xmlns:o="urn:oasis:names:tc:opendocument:xmlns:office:1.0" '
        'xmlns:t="urn:oasis:names:tc:opendocument:xmlns:table:1.0"><t:table t:name="S"><t:table-row '
        't:number-rows-repeated="1000000"><t:table-cell o:value-type="float" o:value="1" '
        't:number-columns-repeated="16000"/></t:table-row></t:table></o:d>'
    )
    with zipfile.ZipFile(tmp_path / "bad.ods", "w") as archive:
        archive.writestr("content.xml", content)
    assert "more than 1000 cells" in str(refusal(store, tmp_path / "bad.ods"))


def test_text_files_that_are_no_tables(store, tmp_path):
    (tmp_path / "bad.csv").write_text('Session,Cell,Unique unit no\ns1,"1,1\n')
    error = refusal(store, tmp_path / "bad.csv")
    assert error.rows == (2,)
    assert "damaged: unexpected end of data" in str(error)
    (tmp_path / "empty.csv").write_text("")
    assert "the sheet is empty" in str(refusal(store, tmp_path / "empty.csv"))
    (tmp_path / "noise.csv").write_bytes(random.Random(0).randbytes(5000))
    assert "noise.csv" in str(refusal(store, tmp_path / "noise.csv"))
    (tmp_path / "control.csv").write_bytes(b"Session,Cell,Unique unit no\ns1,1\x00,1\n")
    assert "invisible character U+0000" in str(refusal(store, tmp_path / "control.csv"))


def test_archives_that_are_no_workbooks(store, tmp_path):
    with zipfile.ZipFile(tmp_path / "bad.xlsx", "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "neither an .xlsx nor an .ods workbook" in str(refusal(store, tmp_path / "bad.xlsx"))


def test_damaged_workbooks(tmp_path):
    """Cut short or with bytes changed, a workbook is read as it was or refused as damaged; nothing else happens."""
    whole = kavli.save(tmp_path / "good.xlsx").read_bytes()
    path, draw, refused = tmp_path / "bad.xlsx", random.Random(0), 0
    for trial in range(60):
        content = bytearray(whole[: draw.randrange(2, len(whole))] if trial % 2 else whole)
        if not trial % 2:
            for at in [draw.randrange(2, len(content)) for _ in range(5)]:
                content[at] ^= 1 << draw.randrange(8)
        path.write_bytes(content)
        try:
            read_spreadsheet(path)
        except TableError as error:
            assert str(path) in str(error)  # noqa: PT017
            refused += 1
    assert refused > 40


def test_workbook_with_damaged_parts(tmp_path):
    """As above inside an intact archive: references to parts, strings and styles that are not there."""
    kavli.save(tmp_path / "good.xlsx")
    with zipfile.ZipFile(tmp_path / "good.xlsx") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    draw, refused = random.Random(1), 0
    for name in sorted(parts):
        for _ in range(2):
            at = draw.randrange(len(parts[name]))
            changed = parts[name][:at] if draw.random() < 0.5 else parts[name].replace(b"1", b"99999")
            buffer = io.BytesIO()
            with zipfile.ZipFile(buffer, "w") as archive:
                for other, content in parts.items():
                    archive.writestr(other, changed if other == name else content)
            (tmp_path / "bad.xlsx").write_bytes(buffer.getvalue())
            try:
                read_spreadsheet(tmp_path / "bad.xlsx")
            except TableError:
                refused += 1
    assert refused > 5


ODD = (
    *(
        None,
        "",
        " ",
        "x",
        "1",
        0,
        -1,
        1.5,
        1e20,
        True,
        "#N/A",
        "=1+1",
        "\t",
        "a" * 1000,
        "\u200b",
        "Session",
        "Tetrode",
    ),
    *(dt.datetime(2020, 1, 1, 3), dt.date(2020, 1, 1), dt.time(3), dt.timedelta(hours=30)),
)


def test_anything_anywhere_is_read_or_refused_by_name(tmp_path):
    draw, refused = random.Random(2), 0
    for _ in range(30):
        odd = {(draw.randrange(1, 90), draw.randrange(1, 14)): draw.choice(ODD) for _ in range(4)}

        def change(sheet, odd=odd):
            for (row, column), value in odd.items():
                sheet.cell(row, column).value = value

        path = kavli.save(tmp_path / "bad.xlsx", change)
        try:
            table = read_spreadsheet(path)
        except TableError as error:
            assert str(path) in str(error), odd  # noqa: PT017
            refused += 1
        else:
            assert 70 < len(table.units) < 90, odd
    assert 12 < refused < 30


def test_link_set_sheet_that_is_no_json(store, tmp_path):
    book = openpyxl.load_workbook(kavli.save(tmp_path / "bad.xlsx"))
    book.create_sheet("Link set").append(["parameters", "{a}"])
    book.save(tmp_path / "bad.xlsx")
    error = refusal(store, tmp_path / "bad.xlsx")
    assert error.column == "parameters"
    assert error.values == ("{a}",)


@pytest.mark.parametrize(
    ("heading", "value", "says"),
    [
        ("Original index", -1, "L6 holds '-1', no index"),
        ("Probability", "high", "L6 holds 'high', no probability"),
        ("Probability", 1.5, "L6 holds '1.5', no probability"),
        ("Global id", "abc", "L6 holds 'abc', no UUID"),
    ],
)
def test_columns_of_an_exported_sheet(store, tmp_path, heading, value, says):
    error = refusal(store, kavli.save(tmp_path / "bad.xlsx", put(L5=heading, L6=value)))
    assert error.rows == (6,)
    assert error.column == heading
    assert says in str(error)


def test_a_workbook_nested_without_end(tmp_path):
    """Where the parser gives up, the rest of the sheet must not be taken for empty."""
    spaces = " ".join(f'xmlns:{k}="urn:oasis:names:tc:opendocument:xmlns:{k}:1.0"' for k in ("office", "table", "text"))
    for depth in (500, 100_000):
        body = "<table:table-row-group>" * depth + "</table:table-row-group>" * depth
        with zipfile.ZipFile(tmp_path / "deep.ods", "w") as archive:
            archive.writestr("content.xml", f"<office:body {spaces}><table:table>{body}</table:table></office:body>")
        with pytest.raises(TableError, match=r"deep\.ods: .*nested"):
            read_spreadsheet(tmp_path / "deep.ods")


@pytest.mark.parametrize("word", ["nan", "NaN", "None", "null", "NaT", "<NA>"])
def test_words_of_programs_for_nothing_are_no_ids(store, tmp_path, word):
    """Two rows whose cell is 'nan' would else be one cell."""
    before = store.read_bytes()
    path = tmp_path / "a.csv"
    for column, rows in (("Unique unit no", f"a,1,{word}\nb,1,{word}"), ("Cell", f"a,{word},1\nb,2,1")):
        path.write_text("Session,Cell,Unique unit no\n" + rows + "\n")
        message = f"row 2, column '{column}': .* holds '{word}', which is what programs write where nothing is"
        with UnitStore.open(store) as opened, pytest.raises(TableError, match=message):
            opened.import_spreadsheet(path)
    assert store.read_bytes() == before
