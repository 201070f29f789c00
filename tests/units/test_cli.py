"""The command pyflow-units."""

import contextlib
import json
import logging
import shutil
import sqlite3
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from scipy.io import savemat
from units import kavli, simulated

import pyflow
from pyflow.units import UnitStore, UnitTable, read_any
from pyflow.units.cli import main
from pyflow.units.incoming.recognise import UnrecognisedError

MORNING, NOON = kavli.SESSIONS


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder of one's own, wide lines, and the log handlers as they were."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    logger = logging.getLogger("pyflow")
    handlers = logger.handlers
    yield tmp_path
    logger.handlers = handlers


@pytest.fixture
def imported(folder, capsys):
    kavli.save(folder / "cells.xlsx")
    assert main(["import", "cells.xlsx"]) == 0
    capsys.readouterr()
    return folder / "units.sqlite"


def answer(capsys, *arguments, code=0):
    """What a command prints as JSON."""
    assert main([*arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_import_says_what_came_in(folder, capsys):
    kavli.save(folder / "cells.xlsx")
    assert main(["import", "cells.xlsx"]) == 0
    out = capsys.readouterr().out
    assert "80 units in 2 sessions" in out
    assert "cells: 62 of them are followed; they are 39 cells" in out
    assert [line.split()[:4] for line in out.splitlines() if line.startswith("  in")] == [
        ["in", "1", "session", "16"],
        ["in", "2", "sessions", "23"],
    ]


def test_import_again_replaces(imported, folder, capsys):
    def swap(sheet):
        sheet["K6"], sheet["K7"] = 2, 1
        for row in range(6, 90):
            sheet.cell(row, 10).value = None

    assert answer(capsys, "import", "cells.xlsx")["replaced"] == []
    kavli.save(folder / "again.xlsx", swap)
    assert main(["import", "again.xlsx", "--name", "cells"]) == 0
    assert "pyflow-units compare 'cells (replaced 1)' 'cells'" in capsys.readouterr().out
    assert answer(capsys, "compare", "cells (replaced 1)", "cells")["counts"] == {
        **{"shared": 21, "added": 2, "lost": 2, "conflicting": 4}
    }
    assert main(["import", "again.xlsx", "--author", "Ada"]) == 0
    assert "to make it so: pyflow-units use 'again'" in capsys.readouterr().out
    assert answer(capsys, "use", "again") == {"current": "again"}
    assert [change["author"] for change in answer(capsys, "history")][-2] == "Ada"


def test_a_refused_import_leaves_no_store_behind(folder, capsys):
    kavli.save(folder / "cells.xlsx", lambda sheet: sheet.cell(7, 11, 1))
    assert main(["import", "cells.xlsx"]) == 1
    error = capsys.readouterr().err
    assert "rows 6 and 7" in error
    assert not (folder / "units.sqlite").exists()


def test_a_refused_import_leaves_the_store_as_it_was(imported, folder, capsys):
    before = imported.read_bytes()
    kavli.save(folder / "broken.xlsx", lambda sheet: sheet.cell(7, 11, 1))
    assert main(["import", "broken.xlsx"]) == 1
    assert imported.read_bytes() == before


def test_show(imported, capsys):
    for name in ("20", f"{MORNING}/3/1", f"{NOON}/3/1"):
        assert main(["show", name]) == 0
        out = capsys.readouterr().out
        assert "Cell 20; cells" in out
        assert out.count("│ 3     │ 1    │") == 2
    found = answer(capsys, "show", "20")
    assert [(m["session"], m["group"], m["unit"]) for m in found["members"]] == [(MORNING, "3", "1"), (NOON, "3", "1")]
    assert answer(capsys, "show", found["global_id"]) == found
    for name, message in (
        ("40", "link set 'cells' has no cell '40'"),
        (f"{MORNING}/1/11", f"{MORNING}/1/11 is not followed"),
        (f"{MORNING}/1/99", "has no unit '99'"),
    ):
        assert main(["show", name]) == 1
        assert message in capsys.readouterr().err


def test_link_unlink_lock_undo(imported, capsys):
    a, b = f"{MORNING}/1/11", f"{NOON}/1/12"
    before = answer(capsys, "stats")
    assert main(["link", a, b]) == 0
    out = capsys.readouterr().out
    assert f"{a} and {b} are one cell: cell 31" in out  # what b was already
    assert [pin["kind"] for pin in answer(capsys, "show", "31")["pins"]] == ["link"]
    assert main(["lock", "31"]) == 0
    assert main(["unlink", a, b]) == 1
    assert "is locked" in capsys.readouterr().err
    assert main(["unlock", "31"]) == 0
    assert main(["unlink", a]) == 0
    assert "is another cell than the units it was linked with" in capsys.readouterr().out
    assert answer(capsys, "stats")["followed"] == before["followed"]
    for what in ("unlink", "unlock", "lock", "link"):
        assert answer(capsys, "undo")["undone"].split()[0] == what
    assert answer(capsys, "stats") == before
    assert main(["history"]) == 0
    assert capsys.readouterr().out.count("undo") >= 4


def test_names_with_slashes(folder, capsys):
    units = pd.DataFrame({"session": ["a/b", "a/c"], "unit": "1", "identity": ["x", "x"], "group": "p/0"})
    units.to_csv("ids.csv", index=False)
    columns = [f"{key}={key}" for key in ("session", "unit", "identity", "group")]
    assert main(["import", "ids.csv", *(word for column in columns for word in ("--column", column))]) == 0
    capsys.readouterr()
    assert answer(capsys, "show", "a/c/p/0/1")["label"] == "x"


def test_compare(imported, capsys):
    assert main(["import", "cells.xlsx", "--name", "same"]) == 0
    capsys.readouterr()
    assert main(["compare", "cells", "same"]) == 0
    out = capsys.readouterr().out
    assert "│ shared      │    23 │" in out
    assert "Conflicting links" not in out
    main(["link", f"{MORNING}/1/11", f"{NOON}/4/13", "--link-set", "same"])
    capsys.readouterr()
    assert main(["compare", "cells", "same"]) == 0
    out = capsys.readouterr().out
    assert "Added links" in out
    assert f"│ {MORNING}/1/11 │ {NOON}/4/13 │" in out
    assert main(["compare", "cells", "third"]) == 1
    assert "no link set 'third'; it holds 'cells', 'same'" in capsys.readouterr().err


def test_check(imported, capsys):
    assert main(["check"]) == 0
    assert "all is well" in capsys.readouterr().out
    main(["import", "cells.xlsx", "--name", "again"])
    main(["link", f"{MORNING}/1/11", f"{NOON}/1/11"])
    capsys.readouterr()
    assert main(["check"]) == 1
    assert f"link set 'again' separates {MORNING}/1/11 and {NOON}/1/11, pinned as link" in capsys.readouterr().out
    assert len(answer(capsys, "check", code=1)["findings"]) == 1


def test_stats(imported, capsys):
    assert main(["stats"]) == 0
    out = capsys.readouterr().out
    assert "│ *" in out
    assert f"│ {NOON} │ 2019-09-24 │    43 │" in out
    found = answer(capsys, "stats")
    assert found["by_sessions"] == {"1": 16, "2": 23}
    assert [session["n_units"] for session in found["session"]] == [37, 43]


def test_export_and_back(imported, folder, capsys):
    for suffix in ("xlsx", "csv", "npz", "mat"):
        assert answer(capsys, "export", f"out.{suffix}") == {"path": f"out.{suffix}"}
    assert main(["export", "out.doc"]) == 1
    assert main(["import", "out.xlsx", "--store", "again.sqlite"]) == 0
    with UnitStore.open(imported) as a, UnitStore.open("again.sqlite") as b:
        identities = (store.tables()["multi_sess_unit"] for store in (a, b))
        pd.testing.assert_frame_equal(*(frame.drop(columns="multi_sess_unit_id") for frame in identities))


def test_plot(imported, folder, capsys):
    pytest.importorskip("matplotlib", reason="figures need matplotlib (extra: plot)")
    assert answer(capsys, "plot", "presence") == {"path": "presence.png"}
    assert (folder / "presence.png").read_bytes().startswith(b"\x89PNG")
    assert main(["plot", "presence", "--out", "presence.nothing"]) == 1
    for what in ("1", "gallery"):
        assert main(["plot", what]) == 1
        assert "no data to draw" in capsys.readouterr().err
    assert [path.name for path in folder.glob("*.png")] == ["presence.png"]
    assert main(["plot", "99"]) == 1
    assert "has no cell '99'" in capsys.readouterr().err


def test_plot_of_units_with_data(folder, capsys):
    pytest.importorskip("matplotlib", reason="figures need matplotlib (extra: plot)")
    days = simulated.sessions()
    cells = sorted(set().union(*(day.cells for day in days)))
    rows = [[day.row(cell) if cell in day.cells else np.nan for day in days] for cell in cells]
    np.save("assignments.npy", np.array(rows, dtype=float))
    words = ["import", "assignments.npy"]
    for day in days:
        words += ["--session", day.name, "--source", str(simulated.write_nwb2(folder, day))]
    assert main([*words[:-2], "--json"]) == 2
    assert "2 sources for 3 sessions" in capsys.readouterr().err
    assert answer(capsys, *words)["multi_sess_units"] == len(cells)
    for what, path in (("1", "cell_1.png"), ("gallery", "gallery.png")):
        assert answer(capsys, "plot", what) == {"path": path}
        assert (folder / path).stat().st_size > 10_000
    assert answer(capsys, "plot", "1", "--whole", "--out", "whole.png") == {"path": "whole.png"}
    assert (folder / "whole.png").read_bytes() != (folder / "cell_1.png").read_bytes()
    assert main(["plot", "1", "--movie", "natural_movie_one"]) == 1
    assert "no session with data showed 'natural_movie_one'; the stimuli are none" in capsys.readouterr().err


def test_plot_of_movie_responses(folder, capsys):
    pytest.importorskip("matplotlib", reason="figures need matplotlib (extra: plot)")
    days = simulated.sessions()
    cell = set.intersection(*(set(day.cells.tolist()) for day in days)).pop()
    np.save("assignments.npy", np.array([[day.row(cell) for day in days]], dtype=float))
    words = ["import", "assignments.npy"]
    for day in days:
        words += ["--session", day.name, "--source", str(simulated.write_allen(folder, day))]
    answer(capsys, *words)
    path = "cell_1_natural_movie_one.png"
    assert answer(capsys, "plot", "1", "--movie", "natural_movie_one") == {"path": path}
    assert (folder / path).stat().st_size > 10_000


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["import", "units.txt"], "units.txt: a .txt, expected one of .xlsx, .ods"),
        (["import", "empty"], "empty: holds neither cluster_group.tsv nor iscell.npy nor track_ops.npy nor MatchTable"),
        (["import", "units.txt", "empty"], "units.txt: expected a folder with cluster_group.tsv or iscell.npy"),
        (["import", "cells.mat"], "cells.mat: does not name its sessions"),
        (["link", "a", "b"], "'a': expected session/unit or session/group/unit"),
    ],
)
def test_wrong_usage(folder, capsys, words, message):
    (folder / "units.txt").touch()
    (folder / "cells.mat").touch()
    (folder / "empty").mkdir()
    with UnitStore.open("units.sqlite"):
        pass
    assert main(words) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["import"],
        ["import", "x", "--span", "a=1"],
        ["import", "x", "--column", "unit"],
        ["show"],
        ["draw"],
        ["link", "a/1"],
        ["lock", "1", "2"],
    ],
)
def test_words_that_are_no_command(words, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(words)
    assert "usage: pyflow-units" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["show", "1"],
        ["stats"],
        ["check"],
        ["export", "x.csv"],
        ["compare", "a", "b"],
        ["undo"],
        ["history"],
        ["list"],
        ["present-in", "2"],
        ["pins"],
        ["remove", "a"],
        ["id-map", "a", "b"],
        ["merge", "x"],
    ],
)
def test_asking_makes_no_store(folder, capsys, words):
    assert main(words) == 1
    assert "units.sqlite: no such unit store" in capsys.readouterr().err
    assert not list(folder.iterdir())


# What `import` recognises


def write_phy(folder, ids):
    folder.mkdir()
    lines = ["cluster_id\tgroup", *(f"{i}\tgood" for i in ids), "99\tnoise"]
    (folder / "cluster_group.tsv").write_text("\n".join(lines))
    return folder


def test_folders_of_phy(folder):
    for day, ids in (("Mon", (1, 2)), ("Tue", (2, 3))):
        write_phy(folder / day, ids)
    table = read_any(["Mon", "Tue"])
    assert table.units[["session", "unit"]].to_numpy().tolist() == [
        *(["Mon", "1"], ["Mon", "2"], ["Tue", "2"], ["Tue", "3"])
    ]
    assert read_any(["Mon", "Tue"], sessions=["a", "b"], name="n").sessions["name"].tolist() == ["a", "b"]
    assert read_any(["Mon"]).units["unit"].tolist() == ["1", "2"]
    with pytest.raises(UnrecognisedError, match="3 session names for 2 folders"):
        read_any(["Mon", "Tue"], sessions=["a", "b", "c"])


def test_folders_of_tetrodes_within_those_of_sessions(folder, capsys):
    for day, ids in (("Mon", (1, 2)), ("Tue", (2, 3))):
        (folder / day).mkdir()
        for tetrode in ("tt1", "tt2"):
            write_phy(folder / day / tetrode, ids)
    for paths in (["Mon", "Tue"], ["Mon/tt2", "Tue/tt2"]):
        table = read_any(paths, group="tt2")
        assert table.sessions["name"].tolist() == ["Mon", "Tue"]
        assert table.sessions["source"].tolist() == [str(Path(day) / "tt2") for day in ("Mon", "Tue")]
        assert set(table.units["group"]) == {"tt2"}
    for group in (None, "tt3"):
        with pytest.raises(UnrecognisedError, match=r"Mon: holds the results of tt1, tt2; say which one \(--group\)"):
            read_any(["Mon", "Tue"], group=group)
    plane = folder / "Wed" / "suite2p" / "plane0"
    plane.mkdir(parents=True)
    np.save(plane / "iscell.npy", np.array([[1, 0.9], [0, 0.1]]))
    shutil.copytree(folder / "Wed", folder / "Thu")
    table = read_any(["Wed", "Thu"])
    assert table.sessions[["name", "source"]].to_numpy().tolist() == [
        [day, str(Path(day) / "suite2p" / "plane0")] for day in ("Wed", "Thu")
    ]
    assert main(["import", "Mon/tt1", "--store", "one.sqlite"]) == 0
    assert "All in one session; of several that were sorted as one recording, give each its --span" in (
        capsys.readouterr().out
    )


def test_a_folder_with_spans(folder, capsys):
    write_phy(folder / "joined", (1, 2))
    np.save("joined/spike_times.npy", [1, 5, 11, 15])
    np.save("joined/spike_clusters.npy", [1, 2, 1, 99])
    assert main(["import", "joined", "--span", "Mon=0:10", "--span", "Tue=10:20"]) == 0
    capsys.readouterr()
    assert [m["session"] for m in answer(capsys, "show", "1")["members"]] == ["Mon", "Tue"]
    assert [m["session"] for m in answer(capsys, "show", "2")["members"]] == ["Mon"]


def test_folders_of_suite2p_are_called_after_the_recording(folder):
    for day in ("Mon", "Tue"):
        plane = folder / day / "suite2p" / "plane0"
        plane.mkdir(parents=True)
        np.save(plane / "iscell.npy", np.array([[1, 0.9], [0, 0.1]]))
    table = read_any(["Mon/suite2p/plane0", "Tue/suite2p/plane0"])
    assert table.sessions["name"].tolist() == ["Mon", "Tue"]
    assert table.followed["unit"].tolist() == ["0", "0"]
    with pytest.raises(UnrecognisedError, match="two folders are called 'Mon'"):
        read_any(["Mon/suite2p/plane0", "Mon/suite2p/plane0"])
    write_phy(folder / "Wed", (1,))
    with pytest.raises(UnrecognisedError, match=r"Wed: another kind of folder than Mon.suite2p.plane0"):
        read_any(["Mon/suite2p/plane0", "Wed"])


def test_results_of_matchers(folder):
    index = np.array([[1, 2], [2, 0]])
    savemat("cellreg.mat", {"cell_registered_struct": {"cell_to_index_map": index.astype(float)}})
    with h5py.File("cellreg73.mat", "w") as file:
        file["cell_registered_struct/cell_to_index_map"] = index.T.astype(float)
    np.save("assignments.npy", np.where(index, index - 1.0, np.nan))
    (folder / "roicat.json").write_text(json.dumps({"labels_bySession": [[0, 1], [-1, 0]]}))
    for name in ("cellreg.mat", "cellreg73.mat", "assignments.npy", "roicat.json"):
        table = read_any([name], sessions=["Mon", "Tue"], name="claim")
        with UnitStore.open(f"{name}.sqlite") as store:
            store.import_table(table)
            found = store.members(store.present_in(2)[0], link_set="claim")
        assert found[["session", "unit"]].to_numpy().tolist() == [["Mon", "0"], ["Tue", "1"]], name


def test_tetrodes_one_after_the_other(folder, capsys):
    for tetrode, clusters in (("1", [7, 7, 9]), ("2", [7, 8, 7])):
        (folder / tetrode).mkdir()
        np.save(folder / tetrode / "spike_times.npy", np.array([1, 11, 12]))
        np.save(folder / tetrode / "spike_clusters.npy", np.array(clusters))
    how = ["--name", "mouse", "--span", "a=0:10", "--span", "b=10:20"]
    assert main(["import", "1", *how, "--group", "tetrode 1"]) == 0
    assert main(["import", "2", *how, "--probe", "tetrode 2"]) == 1
    assert "link set 'mouse' holds 3 units of group 'tetrode 1'" in capsys.readouterr().err
    assert answer(capsys, "import", "2", *how, "--probe", "tetrode 2", "--append")["followed"] == 6
    assert len(answer(capsys, "show", "tetrode 1/7")["members"]) == 2
    assert answer(capsys, "import", "2", *how, "--group", "tetrode 2", "--replace")["followed"] == 3
    kavli.save(folder / "cells.xlsx")
    assert main(["import", "cells.xlsx", "--plane", "0"]) == 2
    assert "names the groups of its units itself; leave out group '0'" in capsys.readouterr().err


def test_control_characters_of_names_are_shown_not_sent_to_the_terminal(folder, capsys):
    units = pd.DataFrame({"session": ["Mon"], "unit": ["1"], "identity": ["a"], "note": ["\x1b]0;x\x07"]})
    with UnitStore.open("units.sqlite") as store:
        store.import_table(UnitTable(units, name="red", origin="test"))
    with contextlib.closing(sqlite3.connect("units.sqlite")) as file, file:  # such names are refused today
        file.execute("UPDATE multi_sess_unit SET label = 'a\x1b[2J\u202eb'")
        file.execute("UPDATE link_set SET name = 'red\x1b[31m'")
        file.execute("UPDATE change SET detail = 'red\x1b[31m'")
    for words in (["stats"], ["show", "Mon/1"], ["history"], ["show", "no\x1b[1m"], ["import", "no\x1b[1m.csv"]):
        main(words)
        printed = "".join(capsys.readouterr())
        assert not set("\x1b\x07\u202e") & set(printed)
        assert "\\x1b[" in printed


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("UPDATE unit SET attributes = '[1]'", ["list", "units"]),
        ("UPDATE unit SET original_index = 'x'", ["show", "1"]),
        ("DELETE FROM unit WHERE unit_id > 5", ["list"]),
        ("UPDATE session SET source = x'ff'", ["export", "out.npz"]),
        ("UPDATE packed_members SET members = x'00'", ["list"]),
    ],
)
def test_what_a_damaged_store_leads_to_is_told_as_its_damage(imported, capsys, change, words):
    with contextlib.closing(sqlite3.connect("units.sqlite")) as file, file:
        file.execute(change)
    before = Path("units.sqlite").read_bytes()
    assert main(words) == 1
    assert "error units.sqlite: damaged: " in capsys.readouterr().err
    assert Path("units.sqlite").read_bytes() == before


def test_a_fault_of_ours_is_not_hidden_behind_a_whole_store(imported, monkeypatch):
    monkeypatch.setattr(UnitStore, "history", lambda store: {}["a fault"])
    with pytest.raises(KeyError, match="a fault"):
        main(["history"])


def test_list_and_present_in(imported, capsys):
    cells = answer(capsys, "list")
    assert (len(cells), cells[0]["cell"]) == (39, 1)
    assert sum(cell["in sessions"] for cell in cells) == 62
    both = answer(capsys, "present-in", "2")
    assert (len(both), {cell["which"] for cell in both}) == (23, {f"{MORNING}, {NOON}"})
    assert len(answer(capsys, "present-in", "1", "--session", NOON)) == sum(NOON in cell["which"] for cell in cells)
    assert [session["name"] for session in answer(capsys, "list", "sessions")] == list(kavli.SESSIONS)
    units = answer(capsys, "list", "units", "--session", NOON, "--group", "1")
    assert {(unit["session"], unit["group"]) for unit in units} == {(NOON, "1")}
    assert [named["name"] for named in answer(capsys, "list", "link-sets")] == ["cells"]
    assert main(["list"]) == 0
    assert "and 19 more; --json lists all" in capsys.readouterr().out
    assert main(["list", "--group", "9"]) == 1
    assert "no group '9'; there are '1'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [(["present-in", "99"], "0 cells in at least 99 sessions: none"), (["pins"], "Decided by hand: none")],
)
def test_nothing_is_said_in_words(imported, capsys, words, says):
    assert main(words) == 0
    assert capsys.readouterr().out.strip() == says


def test_pins_are_listed(imported, capsys):
    assert main(["unlink", f"{MORNING}/1/11", f"{NOON}/1/12"]) == 0
    assert main(["pins"]) == 0
    assert "unlink" in capsys.readouterr().out
    (pin,) = answer(capsys, "pins")
    assert (pin["kind"], pin["session_a"], pin["unit_b"]) == ("unlink", MORNING, "12")


def test_remove_id_map_merge_and_set_source(imported, folder, capsys):
    main(["import", "cells.xlsx", "--name", "second"])
    capsys.readouterr()
    same = answer(capsys, "id-map", "cells", "second")
    assert len(same) == 39
    assert all(row["shared"] == row["old_size"] == row["new_size"] for row in same)
    assert answer(capsys, "remove", "cells") == {"removed": "cells", "current": "second"}
    assert main(["remove", "cells"]) == 1
    assert "no link set 'cells'" in capsys.readouterr().err
    (folder / "other").mkdir()
    pd.DataFrame({"Session": ["x", "y"], "Cell": ["1", "2"], "Unique unit no": ["a", "a"]}).to_csv("b.csv")
    main(["import", "b.csv", "--store", "other/units.sqlite"])
    capsys.readouterr()
    merged = answer(capsys, "merge", "other/units.sqlite")
    assert (merged["link_sets"], merged["sessions"], merged["units"]) == (["b"], 4, 82)
    assert answer(capsys, "set-source", "x", "other", "--kind", "phy") == {"session": "x", "source": "other"}
    assert main(["set-source", "x", "nowhere"]) == 1
    assert main(["set-source", "z", "other"]) == 1
    assert "no session 'z'" in capsys.readouterr().err


def test_version(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"pyflow {pyflow.__version__}\n"


def test_tables_of_ids(folder, capsys):
    ids = pd.DataFrame({"day": ["Mo", "Mo", "Di"], "unit": ["1", "2", "1"]})
    ids.to_excel("ids.xlsx", index=False)
    words = ["import", "ids.xlsx", "--layout", "ids", "--column", "session=day"]
    assert answer(capsys, *words)["by_sessions"] == {"1": 1, "2": 1}
    pd.DataFrame({"cell": ["A", "B"], "Mo": ["1", "2"], "Di": ["1", None]}).to_csv("wide.csv", index=False)
    assert answer(capsys, "import", "wide.csv", "--layout", "wide")["by_sessions"] == {"1": 1, "2": 1}
    assert answer(capsys, "compare", "ids", "wide")["counts"]["shared"] == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["import", "phy", "--span", "a=0:2", "--span", "a=3:9"], "--span: 'a' is given twice"),
        (["import", "units.csv", "--column", "unit=A", "--column", "unit=B"], "--column: 'unit' is given twice"),
    ],
)
def test_what_may_be_given_once(folder, capsys, words, message):
    assert main(words) == 2
    assert message in capsys.readouterr().err


def test_files_that_cannot_be_written(imported, folder, capsys):
    (folder / "d.csv").mkdir()
    assert main(["export", "d.csv"]) == 1
    assert "d.csv: a folder, not a file to write" in capsys.readouterr().err
    assert main(["plot", "presence", "--out", "x.zip"]) == 1
    assert "x.zip: no figure is written as '.zip'; choose one of " in capsys.readouterr().err


def test_one_of_a_kind_is_said_so(folder, capsys):
    (folder / "one.csv").write_text("session,unit\na,1\n")
    assert main(["import", "one.csv", "--layout", "ids"]) == 0
    assert "1 unit in 1 session\none: 1 of them is followed; it is 1 cell\n" in capsys.readouterr().out
    assert main(["present-in", "1"]) == 0
    assert "1 cell in at least 1 session" in capsys.readouterr().out


def test_sorted_units_have_no_traces_to_draw(folder, capsys):
    (folder / "phy").mkdir()
    for name in ("spike_times", "spike_clusters"):
        np.save(folder / "phy" / f"{name}.npy", np.array([1, 2, 3]))
    assert main(["import", "phy", "--span", "a=0:10"]) == 0
    assert main(["plot", "1"]) == 1
    assert "phy: holds sorted units, which have spikes (`pyflow-units plot CELL --spikes`)" in capsys.readouterr().err
