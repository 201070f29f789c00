"""A link set out of the store, and back."""

import csv
import datetime
import shutil
import subprocess

import h5py
import numpy as np
import openpyxl
import pandas as pd
import pytest
import scipy.io
from units import kavli

from pyflow.units import UnitStore
from pyflow.units.incoming.spreadsheet import read_spreadsheet
from pyflow.units.outgoing.arrays import arrays
from pyflow.units.outgoing.nwb_columns import write_nwb_columns
from pyflow.units.unit_table import UnitTable

OCTAVE = shutil.which("octave-cli") or shutil.which("octave")


@pytest.fixture
def store(tmp_path):
    with UnitStore.open(tmp_path / "units.sqlite") as store:
        store.import_spreadsheet(kavli.save(tmp_path / "cells.xlsx"))
        yield store


def small_table(**changes):
    """Two planes in two sessions, with everything that a table can say, and words that trip spreadsheets."""
    units = pd.DataFrame(
        {
            "session": ["Tag 1", "Tag 1", "Tag 1", "Täg 2", "Täg 2"],
            "group": ["plane0", "plane0", "plane1", "plane0", "plane1"],
            "unit": ["00012", "1E5", "3", "1-2", "7"],
            "identity": ["A", "B", None, "A", "B"],
            "global_id": [f"{i:08d}-0000-4000-8000-000000000000" if i else None for i in (1, 2, 0, 1, 2)],
            "original_index": [4, 0, 11, 2, 5],
            "probability": [0.1 + 0.2, None, None, 0.5, 1.0],
            "Notes": ["=5 spikes", "#N/A", "a, \"b\";\tc\nd", None, " ü "],
            "session_depth": [1.5, 2, None, 10**15, 0.1],
            "Cell": ["x", None, None, None, None],
        }
    )  # fmt: skip
    sessions = pd.DataFrame(
        {
            "name": ["Tag 1", "Täg 2"],
            "start_time": ["2024-02-29T13:00:05", "2024-03-01T00:00:00+01:00"],
            "source": ["C:\\data\\1", "/data/2"],
            "kind": ["suite2p", "suite2p"],
            "mouse": ["M 1", 7],
        }
    )
    claim = {"name": "match", "origin": "test", "algorithm": "x", "version": "0.1", "author": "ab", "created": "2024"}
    return UnitTable(units, sessions=sessions, parameters={"a": [1, "ü"]}, source="here", **(claim | changes))


def assert_equal_stores(a, b, but=()):
    """All tables the same; `history` says when, so it cannot be."""
    a, b = a.tables(), b.tables()
    for name in a:
        if name != "history":
            drop = [column for column in but if column in a[name]]
            columns = list(a[name].drop(columns=drop))
            pd.testing.assert_frame_equal(a[name][columns], b[name][columns], obj=name)


@pytest.mark.parametrize("suffix", ["xlsx", "csv", "tsv"])
def test_exported_and_read_again_the_store_is_equal(store, tmp_path, suffix):
    path = store.export(tmp_path / f"cells.{suffix}")
    with UnitStore.open(tmp_path / "again.sqlite") as again:
        again.import_spreadsheet(path, name="cells")
        assert_equal_stores(store, again, but=() if suffix == "xlsx" else ("source", "created"))


@pytest.mark.parametrize("suffix", ["xlsx", "csv", "tsv"])
def test_everything_that_a_table_can_say_survives(tmp_path, suffix):
    with UnitStore.open(tmp_path / "a.sqlite") as a, UnitStore.open(tmp_path / "b.sqlite") as b:
        a.import_table(small_table())
        path = a.export(tmp_path / f"match.{suffix}")
        b.import_spreadsheet(path)
        tables = a.tables(), b.tables()
    # "Unit no" and attributes whose names are the sheet's own are given on export
    attributes = {"Unit no", "Cell", "Cell (attribute)"}
    for name, but in (("session", ()), ("unit", attributes), ("multi_sess_unit", ()), ("member_unit", ())):
        first, second = (t[name].drop(columns=[c for c in but if c in t[name]]) for t in tables)
        pd.testing.assert_frame_equal(first, second[list(first)], obj=name)
    assert tables[1]["unit"].loc[0, "Cell (attribute)"] == "x"
    if suffix == "xlsx":
        first, second = (t["link_set"].drop(columns="link_set_id") for t in tables)
        pd.testing.assert_frame_equal(first, second)


def test_the_kavli_sheet_comes_back_as_it_was(store, tmp_path):
    path = store.export(tmp_path / "out.xlsx")
    rows = list(openpyxl.load_workbook(path)["Units"].iter_rows(values_only=True))
    columns = [rows[4].index(heading) for heading in kavli.HEADER]
    original = kavli.workbook().active.iter_rows(min_row=6, max_col=11, values_only=True)
    assert [tuple(row[c] for c in columns) for row in rows[5:]] == [row[:11] for row in original]


def test_the_workbook_is_made_for_reading(store, tmp_path):
    store.export(tmp_path / "out.xlsx")
    book = openpyxl.load_workbook(tmp_path / "out.xlsx")
    sheet = book["Units"]
    assert sheet.freeze_panes == "A6"
    assert sheet["A1"].value == "cells"
    assert all(cell.font.b for cell in sheet[5])
    assert sheet.column_dimensions["B"].width == len(kavli.SESSIONS[0]) + 2
    colour = {}
    for row in sheet.iter_rows(min_row=6):
        identity = row[[c.value for c in sheet[5]].index("Unique unit no")].value
        fills = {cell.fill.fgColor.rgb for cell in row}
        assert len(fills) == 1
        if identity is None:
            assert row[0].fill.fill_type is None
        else:
            colour.setdefault(identity, fills.pop())
            assert colour[identity] == row[0].fill.fgColor.rgb
    assert len(set(colour.values())) == 39
    light = [min(int(c[2:4], 16), int(c[4:6], 16), int(c[6:], 16)) + max(int(c[i : i + 2], 16) for i in (2, 4, 6))
             for c in colour.values()]  # fmt: skip
    assert min(light) > 2 * 0.79 * 255


def test_unit_numbers_follow_what_is_known_now(store, tmp_path):
    """A unit linked later gets the next Unit no, and Previous is its partner's."""
    store.link((kavli.SESSIONS[0], "1", "11"), (kavli.SESSIONS[1], "1", "11"))
    path = store.export(tmp_path / "out.csv")
    frame = pd.read_csv(path, encoding="utf-8-sig", dtype=str)
    pair = frame[(frame["Tetrode"] == "1") & (frame["Cell"] == "11")]
    assert pair["Unit no"].tolist() == ["63", "64"]
    assert pair["Previous unit no"].iloc[1] == "63"
    with UnitStore.open(tmp_path / "again.sqlite") as again:
        again.import_spreadsheet(path)
        assert again.find(kavli.SESSIONS[0], "11", "1").number == store.find(kavli.SESSIONS[1], "11", "1").number


def test_going_on_in_the_exported_workbook(store, tmp_path):
    """A person links two units in it; imported again, all others keep their ids."""
    path = store.export(tmp_path / "cells.xlsx")
    book = openpyxl.load_workbook(path)
    sheet = book["Units"]
    column = {cell.value: cell.column for cell in sheet[5]}
    row, other = (
        row
        for row in range(6, sheet.max_row + 1)
        if (sheet.cell(row, column["Tetrode"]).value, sheet.cell(row, column["Cell"]).value) == (1, 11)
    )
    for at, numbers in ((row, (100, None, 40)), (other, (101, 100, 40))):
        for heading, number in zip(("Unit no", "Previous unit no", "Unique unit no"), numbers, strict=True):
            sheet.cell(at, column[heading]).value = number
    book.save(path)
    before = store.members().set_index(["session", "group", "unit"])["global_id"]
    assert store.import_spreadsheet(path) == "cells"
    after = store.members().set_index(["session", "group", "unit"])["global_id"]
    pd.testing.assert_series_equal(after[before.index], before)
    assert len(after) == len(before) + 2
    assert store.members(40)["session"].tolist() == list(kavli.SESSIONS)


def test_arrays_npz_and_mat_say_the_same(tmp_path):
    with UnitStore.open(tmp_path / "a.sqlite") as store:
        store.import_table(small_table())
        expected = arrays(store.gather())
        store.export(tmp_path / "match.npz")
        store.export(tmp_path / "match.mat")
    with np.load(tmp_path / "match.npz") as file:
        for name, value in expected.items():
            np.testing.assert_array_equal(file[name], value)
    np.testing.assert_array_equal(expected["member"], [[0, 3], [1, 4]])
    np.testing.assert_array_equal(expected["unit_original_index"], [4, 0, 11, 2, 5])
    assert expected["session_name"].tolist() == ["Tag 1", "Täg 2"]
    mat = scipy.io.loadmat(tmp_path / "match.mat", squeeze_me=True)
    for name in ("member", "unit_session", "unit_original_index"):
        np.testing.assert_array_equal(mat[name], expected[name] + 1)
    assert mat["index_base"] == 1
    assert mat["global_id"].tolist() == expected["global_id"].tolist()
    assert mat["session_name"].tolist() == ["Tag 1", r"T\xe4g 2"]


def test_mat_opens_in_octave(store, tmp_path):
    if OCTAVE is None:
        pytest.skip("GNU OCTAVE IS MISSING: apt-get install octave")
    store.export(tmp_path / "cells.mat")
    code = """
        s = load('cells.mat');
        assert(isequal(size(s.member), [39 2]) && isequal(size(s.unit_name), [80 1]));
        assert(sum(all(s.member > 0, 2)) == 23 && iscellstr(s.global_id));
        k = find(s.number == 12);
        row = s.member(k, 2);
        assert(strcmp(s.unit_group{row}, '2') && strcmp(s.unit_name{row}, '2'));
        assert(strcmp(s.session_name{s.unit_session(row)}, '2019-09-24_09-33-50'));
        assert(strcmp(s.link_set, 'cells'));
    """
    command = [OCTAVE, "--no-gui", "--norc", "--quiet", "--eval", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_refusals(store, tmp_path):
    units = pd.DataFrame({"session": ["s"], "unit": ["1"], "identity": ["1"], "Notes": ["a\x01b"]})
    with UnitStore.open(tmp_path / "control.sqlite") as other:
        other.import_table(UnitTable(units, name="n", origin="test"))
        with pytest.raises(ValueError, match=r"'a.x01b' is too long for a workbook, or has control characters"):
            other.export(tmp_path / "control.xlsx")
        assert not (tmp_path / "control.xlsx").exists()
    with pytest.raises(ValueError, match=r"no export to '.doc'; choose one of .xlsx, .csv"):
        store.export(tmp_path / "cells.doc")
    with pytest.raises(ValueError, match=r"no link set 'other'.* 'cells'"):
        store.export(tmp_path / "cells.csv", link_set="other")
    assert not list(tmp_path.glob("cells.csv"))
    with UnitStore.open(tmp_path / "empty.sqlite") as empty:
        with pytest.raises(ValueError, match="holds no link set"):
            empty.export(tmp_path / "cells.csv")


# NWB


def write_nwb(path, name, ids, kind="Units"):
    """The part of an NWB 2.x file that matters here."""
    with h5py.File(path, "w") as file:
        file.attrs["nwb_version"] = "2.7.0"
        table = file.create_group(name)
        table.attrs.update({"namespace": "core", "neurodata_type": kind, "description": "units"})
        table.attrs["colnames"] = np.array(["depth"], dtype=h5py.string_dtype())
        for column, values in (("id", ids), ("depth", np.arange(len(ids)) * 1.5)):
            table[column] = values
    return path


def read_columns(path, name):
    with h5py.File(path) as file:
        table = file[name]
        columns = {c: table[c][:] for c in table.attrs["colnames"]}
        for column in ("global_id", "multi_sess_unit"):
            assert table[column].attrs["neurodata_type"] == "VectorData"
            assert table[column].attrs["namespace"] == "hdmf-common"
            assert table[column].attrs["description"]
            assert len(table[column].attrs["object_id"]) == 36
    columns["global_id"] = [value.decode() for value in columns["global_id"]]
    return columns


def test_nwb_columns_by_original_index(tmp_path):
    name = "processing/ophys/ImageSegmentation/PlaneSegmentation"
    path = write_nwb(tmp_path / "day1.nwb", name, np.arange(100, 112), "PlaneSegmentation")
    with UnitStore.open(tmp_path / "units.sqlite") as store:
        store.import_table(small_table())
        for _ in range(2):  # the second time it replaces them
            assert write_nwb_columns(store, path, session="Tag 1") == path
        members = store.tables()["multi_sess_unit"].set_index("label")
    columns = read_columns(path, name)
    assert list(columns) == ["depth", "global_id", "multi_sess_unit"]
    expected = np.full(12, -1)
    expected[4], expected[0] = members.loc["A", "number"], members.loc["B", "number"]
    np.testing.assert_array_equal(columns["multi_sess_unit"], expected)
    assert columns["global_id"][4] == members.loc["A", "global_id"]
    assert columns["global_id"].count("") == 10


def test_nwb_columns_by_id(tmp_path):
    units = pd.DataFrame({"session": "d", "unit": ["7", "3"], "identity": ["1", "2"]})
    path = write_nwb(tmp_path / "day.nwb", "units", np.array([3, 5, 7]))
    with UnitStore.open(tmp_path / "units.sqlite") as store:
        store.import_table(UnitTable(units, name="n", origin="test"))
        write_nwb_columns(store, path, session="d", table="/units", output=tmp_path / "with_ids.nwb")
        assert read_columns(tmp_path / "with_ids.nwb", "units")["multi_sess_unit"].tolist() == [2, -1, 1]
        with h5py.File(path) as file:
            assert "global_id" not in file["units"]
        write_nwb(path, "units", np.array([3, 5]))
        before = path.read_bytes()
        with pytest.raises(ValueError, match=r"table /units: no row with id '7' \(1 of 2 units have none\)"):
            write_nwb_columns(store, path, session="d")
        with pytest.raises(ValueError, match="no table 'rois' of units or ROIs; found: units"):
            write_nwb_columns(store, path, session="d", table="rois")
        with pytest.raises(ValueError, match="no units of session 'e'"):
            write_nwb_columns(store, path, session="e")
        assert path.read_bytes() == before
        groups = pd.DataFrame({"session": "g", "unit": "3", "group": ["a", "b"], "identity": ["1", "2"]})
        store.import_table(UnitTable(groups, name="groups", origin="test"))
        with pytest.raises(ValueError, match="units of the groups 'a', 'b' have the same row; say which group="):
            write_nwb_columns(store, path, session="g", link_set="groups")
        write_nwb_columns(store, path, session="g", group="b", link_set="groups")
        assert read_columns(path, "units")["multi_sess_unit"].tolist() == [2, -1]
        with pytest.raises(ValueError, match="no units of session 'g' and group 'c'"):
            write_nwb_columns(store, path, session="g", group="c")
        write_nwb(path, "units", np.array([3, 5]), "Electrodes")
        with pytest.raises(ValueError, match=r"no single table of units or ROIs .* found: none"):
            write_nwb_columns(store, path, session="d")
        path.write_text("no")
        with pytest.raises(ValueError, match="not an HDF5 file"):
            write_nwb_columns(store, path, session="d")
        with pytest.raises(FileNotFoundError):
            write_nwb_columns(store, tmp_path / "gone.nwb", session="d")


def test_pynwb_reads_the_columns(tmp_path):
    try:
        import pynwb
    except ImportError:
        pytest.skip("PYNWB IS MISSING: pip install pynwb")
    start = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
    nwb = pynwb.NWBFile("a session", "1", start)
    for i in range(4):
        nwb.add_unit(spike_times=np.arange(i + 1.0), id=10 + i)
    path = tmp_path / "day.nwb"
    with pynwb.NWBHDF5IO(path, "w") as io:
        io.write(nwb)
    units = pd.DataFrame({"session": "d", "unit": ["12", "10"], "identity": ["1", "2"]})
    with UnitStore.open(tmp_path / "units.sqlite") as store:
        store.import_table(UnitTable(units, name="n", origin="test"))
        write_nwb_columns(store, path, session="d")
    with pynwb.NWBHDF5IO(path, "r") as io:
        assert pynwb.validate(io=io) == []
        table = io.read().units.to_dataframe()
    assert table["multi_sess_unit"].tolist() == [2, -1, 1, -1]
    assert table["global_id"].str.len().tolist() == [36, 0, 36, 0]
    assert [len(times) for times in table["spike_times"]] == [1, 2, 3, 4]


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_text_that_a_spreadsheet_would_run_is_quoted_and_comes_back(tmp_path, caplog, suffix):
    risky = ["=cmd|' /C calc'!A0", "@SUM(A1)", "+1+cmd|x", "-2+A1", "'=x", "''=y"]
    safe = ["++", "-1.5", "'quoted'", "-", "plain"]
    units = [str(n) for n in range(len(risky + safe))]
    rows = pd.DataFrame({"session": "a", "group": "", "unit": units, "identity": units, "note": risky + safe})
    with UnitStore.open(tmp_path / "one.sqlite") as store:
        store.import_table(UnitTable(rows, name="n", origin="test"))
        path = store.export(tmp_path / f"cells.{suffix}")
    assert f"{len(risky)} cells" in caplog.text
    text = path.read_text(encoding="utf-8-sig")
    for cells in csv.DictReader(text.splitlines(), delimiter="," if suffix == "csv" else "\t"):
        assert cells["note"][0] not in "=@"
        assert cells["note"] in safe or cells["note"].startswith("'")
    table = read_spreadsheet(path)
    assert [str(note) for note in table.units["note"]] == risky + safe


@pytest.mark.parametrize("suffix", ["xlsx", "csv", "npz", "mat"])
def test_a_link_set_that_follows_nothing(tmp_path, suffix):
    with UnitStore.open(tmp_path / "units.sqlite") as store:
        units = pd.DataFrame({"session": ["Mon"], "unit": ["1"], "identity": [None]})
        store.import_table(UnitTable(units, name="nobody", origin="test"))
        path = store.export(tmp_path / f"units.{suffix}")
    if suffix == "mat":
        content = scipy.io.loadmat(path)
        assert (content["member"].shape, content["unit_session"].shape) == ((0, 1), (1, 1))


@pytest.mark.parametrize("suffix", ["csv", "npz"])
def test_one_link_set_is_exported_without_reading_the_others(tmp_path, suffix):
    units = pd.DataFrame({"session": np.repeat(["Mon", "Tue"], 2000), "unit": np.tile(np.arange(2000), 2).astype(str)})
    small = units.assign(identity=np.where(units["unit"].astype(int) < 10, units["unit"], None))
    steps = []
    with UnitStore.open(tmp_path / "units.sqlite") as store:
        store.import_table(UnitTable(small, name="small", origin="test"))
        for name in ("one", "two", "three"):
            counted = [0]
            store._database._connection.set_progress_handler(lambda n=counted: n.__setitem__(0, n[0] + 1), 100)
            store.export(tmp_path / f"small.{suffix}", link_set="small")
            store._database._connection.set_progress_handler(None, 0)
            steps.append(counted[0])
            store.import_table(UnitTable(units.assign(identity=units["unit"]), name=name, origin="test"))
    assert steps[0] <= steps[-1] < 1.2 * steps[0]
