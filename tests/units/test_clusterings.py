"""Several sessions clustered as one, and ids kept the same by hand."""

import json
import logging
import shutil

import numpy as np
import pandas as pd
import pytest

from pyflow.units import UnitStore
from pyflow.units.incoming.clusterings import (
    clustering_table,
    consistent_ids,
    read_clustering,
    read_phy_ids,
    read_suite2p_ids,
    split_spikes,
)
from pyflow.units.incoming.id_tables import read_id_table, read_wide_table
from pyflow.units.incoming.recognise import UnrecognisedError, read_any
from pyflow.units.unit_table import TableError, UnitTable

SPANS = {"morning": (0, 1000), "noon": (1000, 1800), "evening": (2000, 3000)}


def keys(table):
    return [tuple(row) for row in table.units[["session", "unit", "identity"]].to_numpy()]


def write_phy(folder, spikes, groups=None, labels=None):
    """A phy folder; spikes: (time, cluster) pairs."""
    folder.mkdir(parents=True)
    times, clusters = np.array(sorted(spikes)).T
    np.save(folder / "spike_times.npy", times.astype(np.uint64)[:, None])
    np.save(folder / "spike_clusters.npy", clusters.astype(np.int32))
    for name, column, verdicts in (("cluster_group.tsv", "group", groups), ("cluster_KSLabel.tsv", "KSLabel", labels)):
        if verdicts:
            rows = "".join(f"{cluster}\t{verdict}\n" for cluster, verdict in verdicts.items())
            (folder / name).write_text(f"cluster_id\t{column}\n{rows}")
    return folder


SPIKES = [(0, 7), (999, 7), (1000, 7), (5, 12), (2999, 12), (1500, 3), (1799, 9), (2000, 9)]


def test_kilosort_folder_with_session_spans(tmp_path):
    folder = write_phy(tmp_path / "merged", SPIKES, {7: "good", 12: "mua", 3: "noise"}, {9: "good", 7: "mua"})
    sessions = pd.DataFrame({"name": list(SPANS), "start_time": ["2024-01-01T08:00", "2024-01-01T12:00", ""]})
    table = read_clustering(
        folder,
        SPANS,
        author="ab",
        created="2024-02-01",
        sessions=sessions,
        parameters={"location": "/rig", "notes": ""},
    )
    assert keys(table) == [
        *[("morning", "7", "7"), ("morning", "12", "12"), ("noon", "7", "7"), ("noon", "9", "9")],
        *[("evening", "9", "9"), ("evening", "12", "12")],
    ]
    assert table.units["n_spikes"].tolist() == [2, 1, 1, 1, 1, 1]
    assert table.units["quality"].tolist() == ["good", "mua", "good", "good", "good", "mua"]
    with UnitStore.open(tmp_path / "units.sqlite") as store:
        store.import_table(table)
        link_set = store.tables()["link_set"].iloc[0]
        assert store.present_in(2).tolist() == [7, 9, 12]
        assert store.members(12)["session"].tolist() == ["evening", "morning"]
    assert (link_set["name"], link_set["author"], link_set["created"]) == ("merged", "ab", "2024-02-01")
    assert '"spans": {"morning": [0, 1000]' in link_set["parameters"]
    assert '"location": "/rig"' in link_set["parameters"]


def test_spikes_between_the_sessions_are_reported(tmp_path, caplog):
    folder = write_phy(tmp_path / "merged", [*SPIKES, (1800, 7), (1999, 7), (5000, 8)])
    with caplog.at_level(logging.WARNING):
        table = read_clustering(folder, SPANS, group_name="all days")
    assert "3 of 11 spikes are in no session's span" in caplog.text
    assert "8" not in set(table.units["unit"])
    assert "quality" not in table.units
    assert table.name == "all days"


def test_arrays_of_spikes_per_session():
    table = clustering_table({"a": [5, 5, 0], "b": np.array([5]), "c": []}, group_name="g", group="ProbeA")
    assert keys(table) == [("a", "0", "ProbeA/0"), ("a", "5", "ProbeA/5"), ("b", "5", "ProbeA/5")]
    assert set(table.units["group"]) == {"ProbeA"}
    assert table.sessions["name"].tolist() == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("times", "clusters", "spans", "says"),
    [
        ([1, 2], [0], {"a": (0, 5)}, "2 spike times, but 1 clusters"),
        ([1], [0], {"a": (5, 5)}, "span of session 'a' ends at 5, before it starts at 5"),
        ([1], [0], {"b": (4, 9), "a": (0, 5)}, "span of session 'b' starts at 4, before 'a' ends at 5"),
    ],
)
def test_spans_that_make_no_sense(times, clusters, spans, says):
    with pytest.raises(ValueError, match=says):
        split_spikes(times, clusters, spans)


def test_clusterings_that_are_refused(tmp_path):
    with pytest.raises(TableError, match="has 65 characters, not 1 to 64"):
        clustering_table({"a": [1]}, group_name="x" * 65)
    with pytest.raises(TableError, match="has 0 characters"):
        clustering_table({"a": [1]}, group_name="")
    with pytest.raises(TableError, match="no units: 1 clusters, all of them noise"):
        clustering_table({"a": [1, 1]}, group_name="g", quality={1: "noise"})
    folder = write_phy(tmp_path / "merged", SPIKES)
    with pytest.raises(TableError, match=r"merged: span of session 'b' starts"):
        read_clustering(folder, {"a": (0, 9), "b": (8, 12)})
    (folder / "cluster_group.tsv").write_text("cluster_id\tgroup\n1\tgood\nx\tmua\n")
    with pytest.raises(TableError, match=r"cluster_group.tsv, row 3, column 'cluster_id': 'x' is no cluster"):
        read_clustering(folder, SPANS)
    (folder / "cluster_group.tsv").write_text("id\tgroup\n1\tgood\n")
    with pytest.raises(TableError, match="no column 'cluster_id'; found 'id', 'group'"):
        read_clustering(folder, SPANS)
    (folder / "spike_times.npy").unlink()
    with pytest.raises(FileNotFoundError):
        read_clustering(folder, SPANS)


# Ids kept by hand


def test_the_same_id_is_the_same_unit(tmp_path):
    table = consistent_ids({"Mo": [1, "00012"], "Tu": [], "We": ["00012", 3]}, name="by hand")
    assert keys(table) == [("Mo", "1", "1"), ("Mo", "00012", "00012"), ("We", "00012", "00012"), ("We", "3", "3")]
    with UnitStore.open(tmp_path / "units.sqlite") as store:
        store.import_table(table)
        assert store.members("00012")["session"].tolist() == ["Mo", "We"]
    with pytest.raises(TableError, match=r"rows 0 and 1, column 'unit'.*'4' is listed twice"):
        consistent_ids({"Mo": [4, "4"]}, name="by hand")


def test_phy_folders(tmp_path):
    one = write_phy(tmp_path / "d1", SPIKES, {7: "good", 12: "mua", 3: "noise"}, {3: "good", 5: "mua"})
    two = write_phy(tmp_path / "d2", SPIKES, {7: "noise", 12: "good"})
    table = read_phy_ids({"d1": one, "d2": two}, name="curated")
    # cluster 5 was merged into another: it has the sorter's verdict and no spikes
    assert keys(table) == [("d1", "7", "7"), ("d1", "12", "12"), ("d2", "12", "12")]
    assert table.units["quality"].tolist() == ["good", "mua", "good"]
    assert table.sessions["source"].tolist() == [str(one), str(two)]
    with pytest.raises(FileNotFoundError, match=r"cluster_group\.tsv"):
        read_phy_ids({"d3": tmp_path}, name="curated")


def test_kilosort_folders_that_nobody_curated(tmp_path):
    """Kilosort 2.5 to 4 copy cluster_KSLabel.tsv, whose column is not called group, to cluster_group.tsv."""
    folder = write_phy(tmp_path / "d1", SPIKES, None, {7: "good", 12: "mua", 3: "noise", 9: "good"})
    shutil.copyfile(folder / "cluster_KSLabel.tsv", folder / "cluster_group.tsv")
    assert keys(read_phy_ids({"d1": folder}, name="a")) == [("d1", "7", "7"), ("d1", "9", "9"), ("d1", "12", "12")]
    assert set(read_clustering(folder, SPANS).units["unit"]) == {"7", "9", "12"}
    (folder / "cluster_group.tsv").write_text("cluster_id\tother\n7\tgood\n")
    with pytest.raises(TableError, match=r"no column 'group' or 'KSLabel'; found 'cluster_id', 'other'"):
        read_clustering(folder, SPANS)


def test_suite2p_folders(tmp_path):
    cells = {"d1": [1, 0, 1], "d2": [1, 1, 0]}
    for day, is_cell in cells.items():
        (tmp_path / day).mkdir()
        np.save(tmp_path / day / "iscell.npy", np.stack([is_cell, [0.9, 0.5, 0.1]], axis=1))
    folders = {day: tmp_path / day for day in cells}
    table = read_suite2p_ids(folders, name="same ROIs", group="plane0")
    assert keys(table.__class__(table.followed, name="n", origin="o")) == [
        *[("d1", "0", "plane0/0"), ("d1", "2", "plane0/2"), ("d2", "0", "plane0/0"), ("d2", "1", "plane0/1")],
    ]
    assert len(table.units) == 6
    assert table.units["original_index"].tolist() == [0, 1, 2, 0, 1, 2]
    assert table.sessions["kind"].tolist() == ["suite2p"] * 2
    np.save(tmp_path / "d2" / "iscell.npy", np.ones((4, 2)))
    with pytest.raises(TableError, match=r"iscell.npy: 4 ROIs, but session 'd1' has 3"):
        read_suite2p_ids(folders, name="same ROIs")
    np.save(tmp_path / "d2" / "iscell.npy", np.ones(3))
    with pytest.raises(TableError, match="but iscell has two columns"):
        read_suite2p_ids(folders, name="same ROIs")


def test_tables(tmp_path):
    (tmp_path / "ids.csv").write_text("day,shank,id,note\nMo,0,00012,good\nMo,1,00012,\nTu,1,00012,1E5\n")
    table = read_id_table(tmp_path / "ids.csv", session="day", unit="id", group="shank")
    assert keys(table) == [("Mo", "00012", "0/00012"), ("Mo", "00012", "1/00012"), ("Tu", "00012", "1/00012")]
    assert table.units["note"].tolist()[::2] == ["good", "1E5"]
    assert table.name == "ids"
    with pytest.raises(TableError, match="rows 2 and 3, column 'id': day 'Mo', group '', id '00012' is listed twice"):
        read_id_table(tmp_path / "ids.csv", session="day", unit="id")
    with pytest.raises(TableError, match="no header with 'session', 'unit'; the most similar row has 'day'"):
        read_id_table(tmp_path / "ids.csv")
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(TableError, match=r"empty.csv: the sheet is empty"):
        read_id_table(tmp_path / "empty.csv")
    (tmp_path / "gap.tsv").write_text("session\tunit\nMo\t1\n\t2\n")
    with pytest.raises(TableError, match=r"gap.tsv, row 3, column 'session': .* is no session name"):
        read_id_table(tmp_path / "gap.tsv")


@pytest.mark.parametrize("suffix", ["xlsx", "csv"])
def test_table_of_units_with_uuids(tmp_path, suffix):
    """One row per unit and session, a UUID says which cell it is: the UUIDs live on in the store."""
    a, b = "6f0c1f3e-0000-4000-8000-00000000000a", "6f0c1f3e-0000-4000-8000-00000000000b"
    frame = pd.DataFrame(
        {"session_name": ["d1", "d1", "d1", "d2"], "unit": [3, 8, 9, 8], "uuid": [a, b.upper(), None, b.upper()]}
    )
    path = tmp_path / f"units.{suffix}"
    frame.to_excel(path, index=False) if suffix == "xlsx" else frame.to_csv(path, index=False)
    with UnitStore.open(tmp_path / "units.sqlite") as store:
        store.import_table(read_id_table(path, session="session_name", identity="uuid"))
        assert store.multi_sess_unit(b).n_sessions == 2
        assert store.find("d1", "3").global_id == a
        assert store.find("d1", "9") is None
        columns = {"session": "session_name", "unit": "unit", "identity": "uuid"}
        store.import_spreadsheet(path, columns=columns, name="as a spreadsheet")
        assert store.multi_sess_unit(b, link_set="as a spreadsheet").n_sessions == 2


@pytest.mark.parametrize("suffix", ["xlsx", "csv", "tsv"])
def test_wide_table(tmp_path, suffix):
    frame = pd.DataFrame({"cell": ["A", "B", "C"], "d1": ["00012", None, "1-2"], "d2": [None, "7", "1E5"]})
    path = tmp_path / f"wide.{suffix}"
    if suffix == "xlsx":
        frame.to_excel(path, index=False)
    else:
        frame.to_csv(path, index=False, sep="\t" if suffix == "tsv" else ",")
    table = read_wide_table(path)
    expected = [("d1", "00012", "A"), ("d2", "7", "B"), ("d1", "1-2", "C"), ("d2", "1E5", "C")]
    assert keys(table) == expected
    assert table.sessions["name"].tolist() == ["d1", "d2"]
    assert keys(read_wide_table(path, sessions=["d2"], group="p")) == [("d2", "7", "p/B"), ("d2", "1E5", "p/C")]
    unnamed = frame.drop(columns="cell")
    unnamed.to_csv(tmp_path / "unnamed.csv", index=False)
    assert keys(read_wide_table(tmp_path / "unnamed.csv")) == [
        (session, unit, str("ABC".index(cell) + 1)) for session, unit, cell in expected
    ]


def test_wide_arrays(tmp_path):
    arrays = {
        "numbers": np.array([[12, -1], [np.nan, 7], [3, 0]]),
        "text": np.array([["12", ""], ["", "7"], ["3", " 0 "]]),
        "whole": np.array([[12, -1], [-1, 7], [3, 0]]),
        "mixed": np.array([[12, None], [None, "7"], ["3", 0.0]], dtype=object),
    }
    expected = [("d1", "12", "1"), ("d2", "7", "2"), ("d1", "3", "3"), ("d2", "0", "3")]
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array, allow_pickle=True)
        table = read_any([tmp_path / f"{name}.npy"], layout="wide", sessions=["d1", "d2"])
        assert keys(table) == expected
        assert table.name == name
    for array, message in (
        (np.array([[1.5, 2]]), r"row 1, column 'd1': 1.5 is no id: expected whole numbers or text"),
        (np.array([[np.inf, 2]]), r"row 1, column 'd1': inf is no id"),
        (np.array([[1, 2], [1, 3]]), r"rows 1 and 2, column 'unit'.*'1' is listed twice"),
        (np.array([[1, 2, 3]]), r"shape \(1, 3\), int64, but 2 names of sessions; expected one per column"),
        (np.array([[True, False]]), r"shape \(1, 2\), bool, but 2 names of sessions"),
        (np.array([[-1, -1]]), "no units"),
    ):
        np.save(tmp_path / "bad.npy", array)
        with pytest.raises(TableError, match=message):
            read_any([tmp_path / "bad.npy"], layout="wide", sessions=["d1", "d2"])
    with pytest.raises(UnrecognisedError, match="does not name its sessions"):
        read_any([tmp_path / "bad.npy"], layout="wide")


def test_wide_tables_that_are_refused(tmp_path):
    path = tmp_path / "wide.csv"
    for text, message in (
        (
            "cell,d1,d2\nA,1,2\nB,1,3\n",
            r"rows 2 and 3, column 'd1': unit '1' of session 'd1' is two cells",
        ),
        ("cell,d1,d2\nA,1,2\n,3,4\n", r"row 3, column 'cell': A3 is empty: the cell has no name"),
        ("cell,d1,d1\nA,1,2\n", r"two columns of that name, B1 and C1"),
        ("cell,d1\n", r"no units below the header"),
        ("", r"the sheet is empty"),
    ):
        path.write_text(text)
        with pytest.raises(TableError, match=message):
            read_wide_table(path)
    path.write_text("cell,d1\nA,1\n")
    with pytest.raises(TableError, match="no header with 'd3'"):
        read_wide_table(path, sessions=["d1", "d3"])


def of_tetrode(group, clusters):
    """Clusterings of one tetrode in two sessions, all under the name of the experiment."""
    return clustering_table(clusters, group_name="mouse 7", group=group)


FIRST = ("tetrode 1", {"day 1": [1, 1, 2], "day 2": [1]})
SECOND = ("tetrode 2", {"day 1": [1, 3], "day 2": [1, 3]})


def test_a_clustering_of_a_second_tetrode_is_appended(tmp_path):
    with UnitStore.open(tmp_path / "units.sqlite") as store:
        store.import_table(of_tetrode(*FIRST))
        before = store.members()
        store.link(("day 1", "tetrode 1", "1"), ("day 2", "tetrode 1", "1"))
        store.import_table(of_tetrode(*SECOND), other_groups="append")
        members = store.members()
        after = members[members["group"] == "tetrode 1"]
        for column in ("session", "unit", "number", "global_id", "label"):
            assert after[column].tolist() == before[column].tolist()
        assert (
            store.tables()["unit"].set_index(["group", "session", "unit"]).loc[("tetrode 1", "day 1", "1"), "n_spikes"]
            == 2
        )
        ones = members[members["unit"] == "1"]
        assert ones.groupby("group")["global_id"].nunique().tolist() == [1, 1]
        assert ones["global_id"].nunique() == 2
        assert set(members["label"]) == {"tetrode 1/1", "tetrode 1/2", "tetrode 2/1", "tetrode 2/3"}
        assert store.check() == []
        store.import_table(of_tetrode("tetrode 2", {"day 1": [1], "day 2": [1]}), other_groups="append")
        assert set(store.members()["label"]) == {"tetrode 1/1", "tetrode 1/2", "tetrode 2/1"}
        store.undo()
        assert store.members().equals(members)


def test_other_groups_of_a_link_set_are_not_lost_unasked(tmp_path):
    path = tmp_path / "units.sqlite"
    with UnitStore.open(path) as store:
        store.import_table(of_tetrode(*FIRST))
    content = path.read_bytes()
    with UnitStore.open(path) as store:
        with pytest.raises(
            ValueError, match=r"'mouse 7' holds 3 units of group 'tetrode 1', which .* lacks: append to it \(--append"
        ):
            store.import_table(of_tetrode(*SECOND))
        with pytest.raises(ValueError, match="other_groups is 'keep', expected"):
            store.import_table(of_tetrode(*SECOND), other_groups="keep")
    assert path.read_bytes() == content
    with UnitStore.open(path) as store:
        store.import_table(of_tetrode(*SECOND), other_groups="replace")
        assert set(store.members()["group"]) == {"tetrode 2"}
        assert set(store.members(link_set="mouse 7 (replaced 1)")["group"]) == {"tetrode 1"}


def test_tetrodes_of_one_table_do_not_share_identities(tmp_path):
    ids = {"day 1": ["1"], "day 2": ["1"]}
    tables = [consistent_ids(ids, name="by hand", group=group) for group in ("a", "b")]
    with UnitStore.open(tmp_path / "units.sqlite") as store:
        for table in tables:
            store.import_table(table, other_groups="append")
        assert store.find("day 1", "1", "a").n_sessions == 2
        assert store.find("day 1", "1", "a") != store.find("day 1", "1", "b")


def test_an_appended_identity_that_stands_in_that_session_already(tmp_path):
    rows = pd.DataFrame({"session": ["day 1"], "unit": ["1"], "identity": ["x"]})
    with UnitStore.open(tmp_path / "units.sqlite") as store:
        store.import_table(UnitTable(rows.assign(group="a"), name="n", origin="first"))
        with pytest.raises(TableError, match="identity 'x' of session 'day 1' has a unit in group 'a' already"):
            store.import_table(UnitTable(rows.assign(group="b"), name="n", origin="second"), other_groups="append")


def test_appending_keeps_scores_and_says_both_sources(tmp_path):
    units = pd.DataFrame({"session": ["d1", "d2"], "unit": ["1", "1"], "identity": ["x", "x"]})
    scores = pd.DataFrame({"a": [0], "b": [1], "name": ["p"], "value": [0.7]})
    with UnitStore.open(tmp_path / "units.sqlite") as store:
        for group in ("a", "b"):
            of_group = units.assign(group=group, identity=f"{group}/x")
            said = {"source": f"{group}.csv", "algorithm": "test", "parameters": {group: 1}}
            store.import_table(
                UnitTable(of_group, name="n", origin=group, scores=scores, **said), other_groups="append"
            )
        claim = store.link_sets().set_index("name").loc["n"]
        assert (claim["source"], claim["algorithm"]) == ("a.csv; b.csv", "test")
        assert json.loads(claim["parameters"]) == {"a": 1, "b": 1}
        assert [len(store.scores(key)) for key in (("d1", "a", "1"), ("d2", "b", "1"))] == [1, 1]


@pytest.mark.parametrize("clusters", [[7.0, np.nan, 12], ["a", "b", "c"], [1.5, 2, 3], [np.inf, 1, 2]])
def test_clusters_that_are_none(tmp_path, clusters):
    folder = write_phy(tmp_path / "d1", SPIKES[:3], {7: "good"})
    np.save(folder / "spike_clusters.npy", np.array(clusters))
    for read in (lambda: read_clustering(folder, SPANS), lambda: read_phy_ids({"d1": folder}, name="a")):
        with pytest.raises(TableError, match=r"spike_clusters\.npy: .* are no clusters: expected whole numbers"):
            read()
    np.save(folder / "spike_clusters.npy", np.array([7.0, 7.0, 12.0]))
    assert set(read_clustering(folder, SPANS).units["unit"]) == {"7", "12"}


def test_numbers_are_the_same_ids_whatever_their_type(tmp_path):
    """A column of pandas with gaps holds 1.0 where another holds 1."""
    with UnitStore.open(tmp_path / "a.sqlite") as store:
        store.import_table(consistent_ids({"Mon": [1, 2], "Tue": np.array([1.0, 3.0]), "Wed": ["1"]}, name="n"))
        assert store.members("1")["session"].tolist() == ["Mon", "Tue", "Wed"]
    for value in (True, np.True_, 1.5, np.nan, b"1"):
        with pytest.raises(TableError, match=r"n: .* in session 'Mon' is no id: expected whole numbers or text"):
            consistent_ids({"Mon": [value]}, name="n")
