"""The unit store: what it holds, what it refuses, who changed what, and two processes at once."""

import sqlite3
import subprocess
import sys
import uuid
from contextlib import ExitStack, closing, suppress

import numpy as np
import pandas as pd
import pytest

from pyflow.units import (
    MultiSessUnit,
    StoreLockedError,
    TableError,
    UnitKey,
    UnitStore,
    UnitStoreError,
    UnitTable,
)
from pyflow.units.store import schema

DAYS = ("Mon", "Tue", "Wed")


def table(identities, name="matching", **claim):
    """Units 0, 1, 2 ... of one tetrode in each session; identities by session, None: not followed."""
    rows = [
        {"session": day, "group": "2", "unit": str(unit), "identity": identity}
        for day, of_day in zip(DAYS, identities, strict=False)
        for unit, identity in enumerate(of_day)
    ]
    return UnitTable(pd.DataFrame(rows), name=name, **({"origin": "test"} | claim))


THREE_DAYS = (("7", "8", None), ("8", "7", "9"), ("9", None, "7"))


@pytest.fixture
def store(tmp_path):
    with UnitStore.open(tmp_path / "units.sqlite", author="Ada") as opened:
        opened.import_table(table(THREE_DAYS))
        yield opened


def content(store):
    """All tables but the history, as comparable values."""
    tables = {name: frame.astype(object).where(frame.notna(), None) for name, frame in store.tables().items()}
    return {name: frame.to_dict("records") for name, frame in tables.items() if name != "history"}


def links(store, link_set=None):
    """Identities as sets of day and unit."""
    members = store.members(link_set=link_set)
    return {frozenset(zip(m["session"], m["unit"], strict=True)) for _, m in members.groupby("number")}


def test_tables(store):
    tables = store.tables()
    assert set(tables) == {
        *("session", "unit", "link_set", "multi_sess_unit", "member_unit", "score", "pin", "id_map", "history")
    }
    assert [len(tables[name]) for name in ("session", "unit", "multi_sess_unit", "member_unit")] == [3, 9, 3, 7]
    assert tables["multi_sess_unit"]["label"].tolist() == ["7", "8", "9"]
    assert all(uuid.UUID(i).version == 4 for i in tables["multi_sess_unit"]["global_id"])
    assert tables["history"][["author", "action"]].to_numpy().tolist() == [["Ada", "import"]]


def test_members_of_a_unit_by_all_its_names(store):
    members = store.members(7)
    assert members[["session", "group", "unit"]].to_numpy().tolist() == [
        *(["Mon", "2", "0"], ["Tue", "2", "1"], ["Wed", "2", "2"])
    ]
    unit = store.multi_sess_unit(7)
    assert (unit.number, unit.label, unit.n_sessions, unit.link_set) == (7, "7", 3, "matching")
    for name in ("7", np.int64(7), unit, unit.global_id, ("Tue", "2", "1"), UnitKey("Wed", "2", "2")):
        pd.testing.assert_frame_equal(store.members(name), members)


def test_which_unit_is_this_one(store):
    assert store.find("Tue", "2", "2") == store.multi_sess_unit(9)
    assert isinstance(store.find("Tue", "2", "2"), MultiSessUnit)
    assert store.find("Mon", "2", "2") is None
    for what, message in (
        (("Sun", "0", "2"), "no session 'Sun'"),
        (("Mon", "5", "2"), "group '2' of session 'Mon' has no unit '5'"),
        (("Mon", "0"), "session 'Mon' has no unit '0'"),
    ):
        with pytest.raises(UnitStoreError, match=message):
            store.find(*what)


def test_units_present_in_at_least_k_sessions(store):
    assert store.present_in(1).tolist() == [7, 8, 9]
    assert store.present_in(2).tolist() == [7, 8, 9]
    assert store.present_in(3).tolist() == [7]
    assert store.present_in(4).tolist() == []
    assert store.present_in(1, sessions=["Wed"]).tolist() == [7, 9]
    assert store.present_in(2, sessions=["Mon", "Tue"]).tolist() == [7, 8]
    with pytest.raises(UnitStoreError, match="no session 'Sun'"):
        store.present_in(1, sessions=["Sun"])


def test_a_session_without_members_can_be_asked_about(store):
    store.import_table(UnitTable(pd.DataFrame({"session": ["Thu"], "unit": ["1"]}), name="", origin="list"))
    assert store.present_in(1, sessions=["Thu"]).tolist() == []


def test_stats(store):
    assert store.stats() == {
        **{"sessions": 3, "units": 9, "link_set": "matching", "followed": 7},
        **{"multi_sess_units": 3, "by_sessions": {2: 2, 3: 1}},
    }


def test_an_empty_store_answers(tmp_path):
    with UnitStore.open(tmp_path / "units.sqlite") as store:
        assert store.stats() == {"sessions": 0, "units": 0}
        assert store.check() == []
        assert store.current() is None
        assert all(frame.empty for frame in store.tables().values())
        with pytest.raises(UnitStoreError, match="holds no link set"):
            store.members(1)
        with pytest.raises(UnitStoreError, match="nothing to undo"):
            store.undo()


def test_ids_survive_as_text(tmp_path):
    ids = ["1-2", "00012", "1E5", "٣", "a b", "1.0", "é"]
    units = pd.DataFrame({"session": "Mon", "unit": ids, "identity": ids})
    with UnitStore.open(tmp_path / "units.sqlite") as store:
        store.import_table(UnitTable(units, name="n", origin="test"))
        assert store.tables()["unit"]["unit"].tolist() == ids
        assert [store.members(i)["unit"].item() for i in ids] == ids


def test_attributes_become_columns_and_are_updated(tmp_path):
    units = pd.DataFrame(
        {"session": "Mon", "unit": ["1", "2"], "quality": ["++", None], "depth": [1600.5, np.nan], "name": ["x", "y"]}
    )
    sessions = pd.DataFrame({"name": ["Mon"], "start_time": ["2024-05-06T09:00:00"], "room": [12]})
    with UnitStore.open(tmp_path / "units.sqlite") as store:
        store.import_table(UnitTable(units, name="", origin="test", sessions=sessions))
        found = store.tables()
        assert found["unit"]["quality"].fillna("").tolist() == ["++", ""]
        assert found["unit"]["depth"].tolist()[0] == 1600.5
        assert found["session"][["start_time", "room"]].to_numpy().tolist() == [["2024-05-06T09:00:00", 12]]
        units["quality"] = [None, "-"]
        store.import_table(UnitTable(units, name="", origin="test", sessions=sessions))
        assert store.tables()["unit"]["quality"].fillna("").tolist() == ["", "-"]


def test_a_source_is_kept_as_seen_from_the_store(tmp_path, monkeypatch):
    for folder in ("lab/Mon", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    sources = ["lab/Mon", str(tmp_path / "elsewhere"), "gone/Wed"]
    sessions = pd.DataFrame({"name": DAYS, "source": sources})
    units = pd.DataFrame({"session": DAYS, "unit": "1"})
    with UnitStore.open("lab/units.sqlite") as store:
        store.import_table(UnitTable(units, name="", origin="test", sessions=sessions))
        assert store.sessions()["source"].tolist() == ["Mon", str(tmp_path / "elsewhere"), "gone/Wed"]


# Link sets


def test_link_sets_stand_side_by_side_and_one_is_current(store):
    store.import_table(table((("a",), ("a",), ("b",)), "other"))
    assert store.current() == "matching"
    assert store.find("Mon", "0", "2", link_set="other").label == "a"
    assert store.members("a", link_set="other")["session"].tolist() == ["Mon", "Tue"]
    store.use("other")
    assert store.members("a")["session"].tolist() == ["Mon", "Tue"]
    with pytest.raises(UnitStoreError, match="no link set 'third'; it holds 'matching', 'other'"):
        store.use("third")
    store.remove("other")
    assert store.current() == "matching"
    assert len(store.tables()["unit"]) == 9


def test_the_same_again_changes_nothing(store):
    before = content(store)
    store.import_table(table(THREE_DAYS))
    assert content(store) == before


def test_a_re_run_keeps_the_ids_of_what_it_agrees_with(store):
    ids = {n: store.multi_sess_unit(n).global_id for n in (7, 8, 9)}
    # 7 lost its Wednesday to a new identity, 8 stayed, 9 is called 7 now, a new one comes in
    rerun = table((("8", "x", "z"), ("x", "8", "7"), ("7", "y", None)))
    assert store.import_table(rerun) == "matching"
    by_label = {u.label: u for u in (store.multi_sess_unit(label) for label in (ids[7], ids[8], ids[9]))}
    assert {label: (u.number, u.global_id) for label, u in by_label.items()} == {
        **{"8": (7, ids[7]), "x": (8, ids[8]), "7": (9, ids[9])}
    }
    assert set(store.members()["number"]) == {7, 8, 9, 10, 11}
    old = "matching (replaced 1)"
    assert store.current() == "matching"
    assert store.link_sets().set_index("name")["replaced_by"].to_dict()[old] == "matching"
    assert links(store, old) == {
        frozenset({("Mon", "0"), ("Tue", "1"), ("Wed", "2")}),
        frozenset({("Mon", "1"), ("Tue", "0")}),
        frozenset({("Tue", "2"), ("Wed", "0")}),
    }
    kept = store.tables()["id_map"]
    assert kept[["old_link_set", "new_link_set"]].drop_duplicates().to_numpy().tolist() == [[old, "matching"]]
    assert {(row.old_global_id, row.new_global_id, row.shared) for row in kept.itertuples()} == {
        (i, i, 2) for i in ids.values()
    }
    mapped = store.id_map(old, "matching")
    assert mapped[["old_number", "new_number", "shared", "old_size", "new_size"]].fillna(-1).to_numpy().tolist() == [
        *([7, 7, 2, 3, 2], [8, 8, 2, 2, 2], [9, 9, 2, 2, 2], [-1, 10, 0, -1, 1], [-1, 11, 0, -1, 1])
    ]


def test_a_split_goes_to_the_larger_part_and_a_given_id_stays(store):
    ids = {n: store.multi_sess_unit(n).global_id for n in (7, 8, 9)}
    rerun = table((("a", "b", None), ("b", "a", "c"), ("c", None, "d")))
    rerun.units.loc[rerun.units["identity"] == "c", "global_id"] = (given := str(uuid.uuid4()))
    rerun.units.loc[rerun.units["identity"] == "d", "global_id"] = ids[9]
    store.import_table(rerun)
    assert [store.multi_sess_unit(label).global_id for label in "abcd"] == [ids[7], ids[8], given, ids[9]]
    assert store.multi_sess_unit("d").number == 9


def test_scores_are_kept(tmp_path):
    units = table((("1", "2"), ("1", "2")))
    scores = pd.DataFrame({"a": [2, 0, 1], "b": [0, 3, 3], "name": "p", "value": [0.9, 0.125, 1 / 3]})
    with UnitStore.open(tmp_path / "units.sqlite") as store:
        store.import_table(UnitTable(units.units, name="n", origin="test", scores=scores))
        found = store.scores(1)
        assert found[["unit_a", "unit_b", "value"]].to_numpy().tolist() == [["0", "0", 0.9], ["0", "1", 0.125]]
        assert sorted(store.tables()["score"]["value"]) == [0.125, 1 / 3, 0.9]


# By hand


def test_link_joins_and_pins(store):
    unit = store.link(("Mon", "2", "1"), ("Wed", "2", "1"))
    assert (unit.number, unit.n_sessions) == (8, 3)
    fresh = store.link(("Mon", "2", "2"), ("Tue", "2", "2"))
    assert (fresh.number, fresh.n_sessions) == (9, 3)
    assert store.pins()[["kind", "session_a", "unit_a", "session_b", "unit_b", "author"]].to_numpy().tolist() == [
        ["link", "Mon", "1", "Wed", "1", "Ada"],
        ["link", "Mon", "2", "Tue", "2", "Ada"],
    ]
    assert store.check() == []


def test_linking_two_that_are_not_followed_makes_a_unit(store):
    store.import_table(table((("1", None, None), (None, None, "1")), "sparse"), make_current=True)
    unit = store.link(("Mon", "2", "1"), ("Tue", "2", "0"))
    assert (unit.number, unit.label, unit.n_sessions) == (2, "2", 2)


def test_unlink_takes_out_and_keeps_apart(store):
    store.unlink(("Wed", "2", "2"))
    assert store.find("Wed", "2", "2") is None
    assert store.multi_sess_unit(7).n_sessions == 2
    assert store.pins()["kind"].tolist() == ["unlink", "unlink"]
    with pytest.raises(UnitStoreError, match="Tue/2/1 and Wed/2/2 are pinned as different cells"):
        store.link(("Mon", "2", "0"), ("Wed", "2", "2"))
    store.unlink(("Mon", "2", "0"), ("Tue", "2", "1"))
    assert store.link(("Mon", "2", "0"), ("Wed", "2", "2")).n_sessions == 2  # a person may think again
    with pytest.raises(UnitStoreError, match="Mon/2/2 is linked with no other unit"):
        store.unlink(("Mon", "2", "2"))


def test_a_lock_holds_until_it_is_taken_off(store):
    store.lock(8)
    for change in (
        lambda: store.link(("Mon", "2", "1"), ("Wed", "2", "1")),
        lambda: store.unlink(("Mon", "2", "1")),
        lambda: store.lock(8),
    ):
        before = content(store)
        with pytest.raises(UnitStoreError, match=r"Mon/2/1 is locked \(by Ada, .*\); unlock it first"):
            change()
        assert content(store) == before
    store.unlock(8)
    store.unlink(("Mon", "2", "1"))
    with pytest.raises(UnitStoreError, match="cell 9 is not locked"):
        store.unlock(9)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (("Mon", "2", "0"), ("Mon", "2", "0"), "cannot be linked with itself"),
        (("Mon", "2", "0"), ("Tue", "2", "0"), "Mon/2/0 and Mon/2/1 are two units of session 'Mon'"),
        (("Mon", "2", "2"), ("Mon", "2", "1"), "two units of session 'Mon'"),
        (("Mon", "2", "0"), ("Sun", "2", "0"), "no session 'Sun'"),
    ],
)
def test_links_that_cannot_be(store, a, b, message):
    before = content(store)
    with pytest.raises(UnitStoreError, match=message):
        store.link(a, b)
    assert content(store) == before
    assert len(store.history()) == 1


def test_a_re_run_that_contradicts_a_pin_is_overruled(store, caplog):
    store.unlink(("Wed", "2", "2"), ("Mon", "2", "0"))
    store.link(("Mon", "2", "2"), ("Wed", "2", "1"))
    store.import_table(table(THREE_DAYS))
    assert store.check() == []
    assert store.find("Wed", "2", "2") is None
    assert store.find("Mon", "2", "2") == store.find("Wed", "1", "2")
    told = "overruled by a decision made by hand: Mon/2/0 and Wed/2/2 are different cells (Ada, 20"
    assert told in caplog.text
    assert "Mon/2/2 and Wed/2/1 are one cell (Ada, 20" in caplog.text
    again = content(store)
    store.import_table(table(THREE_DAYS))  # what pins made of it is what it says
    assert content(store) == again


def test_other_link_sets_that_contradict_a_pin_are_found(store):
    store.import_table(table(THREE_DAYS, "other"))
    store.unlink(("Wed", "2", "2"), ("Mon", "2", "0"))
    store.link(("Mon", "2", "2"), ("Wed", "2", "1"))
    assert sorted(store.check()) == [
        "link set 'other' links Mon/2/0 and Wed/2/2, pinned as unlink",
        "link set 'other' separates Mon/2/2 and Wed/2/1, pinned as link",
    ]


def test_a_link_brings_its_partners_where_they_fit(store):
    store.import_table(table((("1", None, None), ("1", "2", None), ("3", "2", "4")), "a", origin="a"))
    store.link(("Mon", "2", "0"), ("Wed", "2", "0"), link_set="a")
    store.import_table(table((("1",), ("1", "2"), ("3", "2")), "b"))
    assert frozenset({("Mon", "0"), ("Tue", "0"), ("Wed", "0")}) in links(store, "b")
    # both have a partner on Tuesday here, and only one can stay
    store.import_table(table((("1",), ("1", "2"), ("2", None)), "c"))
    assert frozenset({("Mon", "0"), ("Wed", "0"), ("Tue", "0")}) not in links(store, "c")
    assert store.find("Mon", "0", "2", link_set="c") == store.find("Wed", "0", "2", link_set="c")
    assert not any("'b'" in finding or "'c'" in finding for finding in store.check())


def test_a_lock_keeps_others_out_of_what_is_imported(store, caplog):
    store.unlink(("Wed", "2", "2"))
    store.lock(7)  # Monday's unit 0 and Tuesday's unit 1
    store.import_table(table(THREE_DAYS))
    assert "overruled by a decision made by hand: Mon/2/0 and Tue/2/1 are locked as one cell" in caplog.text
    store.import_table(table((("1",), ("1", "2"), ("1", "2")), "split"))
    for link_set in ("matching", "split"):
        assert frozenset({("Mon", "0"), ("Tue", "1")}) in links(store, link_set)
    assert frozenset({("Tue", "0"), ("Wed", "0")}) in links(store, "split")
    assert store.check() == []
    two = table((("1",), ("2",)), "two days")  # does not know Tuesday's unit 1, which stays Monday's cell
    store.import_table(two)
    assert store.multi_sess_unit(("Mon", "2", "0"), link_set="two days").n_sessions == 2


def test_pins_hold_whatever_is_imported(tmp_path):
    """Random claims against random decisions: those that can hold together do, and nothing else moves."""
    rng = np.random.default_rng(0)
    for trial in range(30):
        with UnitStore.open(tmp_path / f"{trial}.sqlite") as store:
            store.import_table(table([rng.permutation(6).astype(str) for _ in DAYS], "first"))
            for _ in range(5):
                a, b = rng.choice(len(DAYS), 2, replace=False)
                pair = [(DAYS[day], "2", str(rng.integers(6))) for day in (a, b)]
                with suppress(UnitStoreError):
                    rng.choice([store.link, store.unlink, lambda a, b, store=store: store.lock(a)])(*pair)
            assert store.check() == []
            store.import_table(table([rng.permutation(6).astype(str) for _ in DAYS], "second"))
            assert store.check() == []
            store.import_table(table([rng.permutation(6).astype(str) for _ in DAYS], "first"))
            assert store.check() == []


def test_undo_takes_back_change_after_change(store):
    changes = (
        lambda: store.link(("Mon", "2", "1"), ("Wed", "2", "1")),
        lambda: store.link(("Mon", "2", "2"), ("Tue", "2", "2")),
        lambda: store.unlink(("Tue", "2", "1"), ("Mon", "2", "0")),
        lambda: store.unlink(("Mon", "2", "0")),
        lambda: store.link(("Mon", "2", "0"), ("Tue", "2", "1")),
        lambda: store.lock(7),
        lambda: store.unlock(7),
        lambda: store.import_table(table((("7", "9"), ("8", "7", "9"), ("x",)), parameters={"threshold": 0.1})),
        lambda: store.import_table(table((("7",), ("8", "7")), "other"), make_current=True),
        lambda: store.use("matching"),
        lambda: store.remove("matching"),
    )
    states = []
    for change in changes:
        states.append(content(store))
        change()
        assert content(store) != states[-1]
        assert not any(finding for finding in store.check() if "pinned" not in finding)
    for number, state in reversed(list(enumerate(states, 2))):
        assert store.history().set_index("change_id")["undone_by"].isna()[number]
        store.undo()
        assert content(store) == state
        assert store.compare("matching", "matching").counts["added"] == 0
    assert store.undo() == "import test as 'matching'"
    assert all(not rows for rows in content(store).values())
    history = store.history()
    assert history["action"].tolist().count("undo") == len(changes) + 1
    assert history[history["action"] != "undo"]["undone_by"].notna().all()


def test_undo_brings_numbers_back_exactly(tmp_path):
    units = table((("1",), ("1",))).units.assign(probability=[1 / 3, 0.1 + 0.2])
    with UnitStore.open(tmp_path / "units.sqlite") as store:
        store.import_table(UnitTable(units, name="n", origin="test"))
        store.remove("n")
        store.undo()
        assert store.members()["probability"].tolist() == [1 / 3, 0.1 + 0.2]


# What is refused


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"unit": ["0", "0", "2"]}, "rows 10 and 11.*session 'Mon', group '', unit '0' is listed twice"),
        ({"identity": ["1", "1", "2"]}, "rows 10 and 11.*has two units in one session: 'Mon//0' and 'Mon//1'"),
        ({"session": ["Mon", "", "Mon"]}, "row 11.*'' is no session name"),
        ({"unit": ["0", None, "2"]}, "row 11.*is no unit name"),
        ({"unit": ["0", 1, "2"]}, "row 11.*1 is no unit name"),
        ({"unit": ["0", "a\nb", "2"]}, "row 11.*is no unit name"),
        ({"probability": [0.5, 1.5, None]}, "row 11.*1.5 is no probability"),
        ({"global_id": ["x", None, None]}, "row 10.*'x' is no UUID"),
    ],
)
def test_tables_that_contradict_themselves(change, message):
    units = pd.DataFrame(
        {"session": "Mon", "unit": ["0", "1", "2"], "identity": ["1", "2", "3"]} | change, index=[10, 11, 12]
    )
    with pytest.raises(TableError, match=message):
        UnitTable(units, name="n", origin="sheet")


def test_scores_of_units_that_are_not_there():
    scores = pd.DataFrame({"a": [0], "b": [5], "name": "p", "value": [1.0]})
    with pytest.raises(TableError, match="a score of row 5, which holds no unit"):
        UnitTable(pd.DataFrame({"session": ["Mon"], "unit": ["0"]}), name="n", origin="test", scores=scores)


def test_the_database_itself_refuses_two_members_of_one_session(store):
    with sqlite3.connect(store.path) as connection:
        connection.execute("PRAGMA foreign_keys = ON")
        with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
            connection.execute(
                "UPDATE member_unit SET multi_sess_unit_id = (SELECT multi_sess_unit_id FROM multi_sess_unit "
                "WHERE number = 8) WHERE unit_id = 1"
            )
    connection.close()


def test_an_import_that_fails_half_way_leaves_the_file_as_it_was(store):
    before = store.path.read_bytes()
    broken = table((("1", "2"), ("1", "2")), "new", parameters={"no": object()})
    with pytest.raises(TypeError):
        store.import_table(broken)
    assert store.path.read_bytes() == before
    assert len(store.tables()["history"]) == 1


def test_files_that_are_no_store(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such unit store"):
        UnitStore.open(tmp_path / "absent.sqlite", create=False)
    with pytest.raises(FileNotFoundError, match="no folder"):
        UnitStore.open(tmp_path / "no" / "units.sqlite")
    (tmp_path / "text.sqlite").write_text("units of Monday\n" * 100)
    with sqlite3.connect(tmp_path / "other.sqlite") as connection:
        connection.execute("CREATE TABLE unit (name TEXT)")
    connection.close()
    for name, message in (("text.sqlite", "file is not a database"), ("other.sqlite", "but not a unit store")):
        before = (tmp_path / name).read_bytes()
        with pytest.raises(UnitStoreError, match=f"{name}.*{message}"):
            UnitStore.open(tmp_path / name)
        assert (tmp_path / name).read_bytes() == before


def test_a_store_of_a_newer_version(store):
    store.close()
    with sqlite3.connect(store.path) as connection:
        connection.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    connection.close()
    before = store.path.read_bytes()
    newer = schema.VERSION + 1
    with pytest.raises(UnitStoreError, match=rf"units.sqlite: unit store of version {newer}, made by a newer pyflow"):
        UnitStore.open(store.path)
    assert store.path.read_bytes() == before


def test_a_locked_store(store):
    connection = sqlite3.connect(store.path, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(StoreLockedError, match=r"units.sqlite: locked by another process for more than 0.1 s"):
            UnitStore.open(store.path, timeout_s=0.1)
    finally:
        connection.close()
    assert len(store.tables()["unit"]) == 9


_WRITER = """
import sys

import pandas as pd

from pyflow.units import UnitStore, UnitTable

path, writer, n = sys.argv[1], sys.argv[2], int(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
with UnitStore.open(path, author=writer) as store:
    for i in range(n):
        name = f"{writer}-{i}"
        units = pd.DataFrame({"session": [name, "common"], "unit": name, "identity": "1"})
        store.import_table(UnitTable(units, name=name, origin="test"))
        store.unlink((name, "", name), link_set=name)
"""


def test_two_processes_writing_at_once_lose_nothing(tmp_path):
    path, n = tmp_path / "units.sqlite", 15
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with ExitStack() as stack:
        writers = [
            stack.enter_context(subprocess.Popen([sys.executable, "-c", _WRITER, path, name, str(n)], **pipes))
            for name in ("a", "b")
        ]
        for writer in writers:
            assert writer.stdout.readline() == "ready\n"
        for writer in writers:  # neither finds a store: both want to make it
            writer.stdin.write("go\n")
            writer.stdin.flush()
        for writer in writers:
            _, errors = writer.communicate(timeout=60)
            assert writer.returncode == 0, errors
    with UnitStore.open(path) as store:
        tables = store.tables()
        assert [len(tables[name]) for name in ("link_set", "pin", "member_unit", "history")] == [
            2 * n,
            2 * n,
            2 * n,
            4 * n,
        ]
        assert sorted(tables["session"]["name"]) == sorted([f"{w}-{i}" for w in "ab" for i in range(n)] + ["common"])
        assert len(tables["unit"]) == 4 * n
        assert tables["history"]["author"].value_counts().to_dict() == {"a": 2 * n, "b": 2 * n}
        assert store.check() == []


def test_text_names_a_label_before_a_number(tmp_path):
    """A sheet renumbered 1 <-> 2 keeps the numbers of its cells, but people ask for what the sheet says."""
    rows = pd.DataFrame({"session": ["a", "b", "a"], "group": "", "unit": ["x", "x", "y"]})
    with UnitStore.open(tmp_path / "units.sqlite") as store:
        for identity in (["1", "1", "2"], ["2", "2", "1"]):
            store.import_table(UnitTable(rows.assign(identity=identity), name="n", origin="test"))
        assert store.members("1")["unit"].tolist() == ["y"]
        assert store.members(1)["unit"].tolist() == ["x", "x"]
        assert store.multi_sess_unit("1").number == 2


def test_start_times_of_two_zones_sort_by_time(tmp_path):
    rows = pd.DataFrame({"session": ["late", "early"], "group": "", "unit": "1", "identity": "1"})
    times = ["2024-05-01T09:00:00+00:00", "2024-05-01T10:00:00+02:00"]
    sessions = pd.DataFrame({"name": ["late", "early"], "start_time": times})
    with UnitStore.open(tmp_path / "units.sqlite") as store:
        store.import_table(UnitTable(rows, name="n", origin="test", sessions=sessions))
        assert store.sessions()["name"].tolist() == ["early", "late"]
        for members in (store.members(), store.members(1)):
            assert members["session"].tolist() == ["early", "late"]


@pytest.mark.parametrize("column", ["session", "group", "unit"])
def test_padded_names_are_refused(column):
    """A sheet gives them back without the space, as other sessions and units."""
    rows = pd.DataFrame({"session": ["a"], "group": ["g"], "unit": ["1"], "identity": ["1"]})
    with pytest.raises(TableError, match=f"row 0, column '{column}': ' lead' is no {column} name: .* a space") as error:
        UnitTable(rows.assign(**{column: " lead"}), name="n", origin="test")
    assert error.value.values == (" lead",)


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("None", "is what programs write where nothing is"),
        ("nan", "is what programs write where nothing is"),
        ("\u202eevil", r"holds the invisible character U\+202E \(RIGHT-TO-LEFT OVERRIDE\)"),
        ("a\u200db", r"holds the invisible character U\+200D \(ZERO WIDTH JOINER\)"),
        ("\u200d", r"holds the invisible character U\+200D \(ZERO WIDTH JOINER\)"),
        ("a\x00b", r"holds the invisible character U\+0000 \(a control character\)"),
        (" lead", "starts or ends with a space"),
    ],
)
@pytest.mark.parametrize("column", ["session", "group", "unit", "identity", "name"])
def test_names_that_other_programs_would_change_are_refused(column, name, fault):
    """Written as a sheet and read again, two cells called 'a' and ' a' would be one."""
    rows = {"session": ["Mon", "Tue"], "group": ["", ""], "unit": ["1", "1"], "identity": ["1", "1"]}
    if column != "name":
        rows[column][1] = name
    with pytest.raises(TableError, match=fault):
        UnitTable(pd.DataFrame(rows), name=name if column == "name" else "a", origin="t")


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"original_index": [0, -1]}, "row 1, column 'original_index': -1 is no index"),
        ({"original_index": [0, 2**63]}, "row 1, column 'original_index': 9223372036854775808 is no index"),
        ({"original_index": [0, 1.5]}, "row 1, column 'original_index': .*1.5.* is no index"),
        ({"original_index": [0, "3"]}, "row 1, column 'original_index': '3' is no index"),
        ({"original_index": [0, True]}, "row 1, column 'original_index': True is no index"),
        ({"probability": [0.5, "x"]}, "row 1, column 'probability': 'x' is no probability"),
        ({"shape": [1, np.zeros(2)]}, r"row 1, column 'shape': array\(\[0., 0.\]\) is no attribute: expected text"),
        ({"snr": [1.5, np.inf]}, "row 1, column 'snr': inf is no attribute"),
        ({"snr": [1.5, 1j]}, "row 1, column 'snr': .*1j.* is no attribute"),
        ({"session": None}, "t: no column 'session'; found 'unit', 'identity'"),
    ],
)
def test_columns_that_hold_something_else_are_named(tmp_path, columns, says):
    units = {"session": ["Mon", "Tue"], "unit": ["1", "1"], "identity": ["1", "1"]} | columns
    units = {name: pd.Series(values, dtype=object) for name, values in units.items() if values is not None}
    with UnitStore.open(tmp_path / "units.sqlite") as store:
        before = store.path.read_bytes()
        with pytest.raises(TableError, match=says):
            store.import_table(UnitTable(pd.DataFrame(units), name="a", origin="t"))
        assert store.path.read_bytes() == before


def test_two_columns_of_one_name_are_refused():
    units = pd.DataFrame([["Mon", "1", 2, 3]], columns=["session", "unit", "z", "z"])
    with pytest.raises(TableError, match="t: two columns are called 'z'"):
        UnitTable(units, name="a", origin="t")


def test_joined_letters_and_emoji_are_names(tmp_path):
    names = ["\U0001f469\u200d\U0001f467", "\u0645\u06cc\u200c\u062e\u0648"]
    units = pd.DataFrame({"session": names, "unit": names, "identity": names[:1] * 2})
    with UnitStore.open(tmp_path / "a.sqlite") as store:
        store.import_table(UnitTable(units, name="a", origin="t"))
        before = store.members()
        for suffix in ("xlsx", "csv"):
            store.export(tmp_path / f"a.{suffix}")
            with UnitStore.open(tmp_path / f"{suffix}.sqlite") as again:
                again.import_spreadsheet(tmp_path / f"a.{suffix}")
                pd.testing.assert_frame_equal(again.members(), before)


def test_a_unit_of_another_group_is_named(tmp_path):
    units = pd.DataFrame({"session": "noon", "group": ["1", "2", "10"], "unit": "1", "identity": ["a", "b", "c"]})
    with UnitStore.open(tmp_path / "units.sqlite") as store:
        store.import_table(UnitTable(units, name="x", origin="test"))
        with pytest.raises(UnitStoreError, match=r"session 'noon' has no unit '1' without a group; .* '1', '2', '10'"):
            store.find("noon", "1")
        with pytest.raises(UnitStoreError, match=r"group '3' of session 'noon' has no unit '1'; .* '1', '2', '10'"):
            store.find("noon", "1", "3")
        with pytest.raises(UnitStoreError, match=r"session 'noon' has no unit '7'$"):
            store.find("noon", "7")


@pytest.mark.parametrize("dropped", ["TABLE pin", "TABLE unit", "INDEX unit_session", "TRIGGER member_added"])
def test_check_sees_what_the_file_lacks(store, dropped):
    store.close()
    with sqlite3.connect(store.path) as connection:
        connection.execute(f"DROP {dropped}")
    connection.close()
    with UnitStore.open(store.path) as damaged:
        kind, name = dropped.lower().split()
        assert f"the {kind} {name} is missing" in damaged.check()


def test_check_tells_of_damaged_pages(tmp_path):
    with UnitStore.open(tmp_path / "units.sqlite") as store:
        units = pd.DataFrame({"session": "Mon", "unit": [str(i) for i in range(3000)], "identity": None})
        store.import_table(UnitTable(units, name="", origin="test"))
        page = store._database.value("PRAGMA page_size")
        root = store._database.value("SELECT rootpage FROM sqlite_master WHERE name = 'unit'")
    for damage in (b"\xff" * page, b"\0" * page):
        content = bytearray(store.path.read_bytes())
        content[(root - 1) * page : root * page] = damage
        (tmp_path / "damaged.sqlite").write_bytes(content)
        with UnitStore.open(tmp_path / "damaged.sqlite") as damaged:
            assert damaged.check()


# Working with it


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("UPDATE unit SET original_index = 'x'", "table unit: original_index 'x' is no INTEGER"),
        ("UPDATE unit SET attributes = '[1]'", "table unit: attributes '[1]' is no JSON object"),
        ("UPDATE session SET source = x'ff'", r"table session: source b'\xff' is no TEXT"),
        ("UPDATE multi_sess_unit SET number = number + 0.5", ".5 is no INTEGER"),
        ("UPDATE packed_members SET members = x'00'", "'a': the table packed_members says otherwise than member_unit"),
    ],
)
def test_check_sees_content_that_sqlite_does_not_mind(store, change, says):
    store.import_table(table((("1", None, None), ("1", "2", None), ("3", "2", "4")), "a", origin="a"))
    assert store.check() == []
    with closing(sqlite3.connect(store.path)) as file, file:
        file.execute("ANALYZE")  # whose tables are SQLite's own
        file.execute(change)
    assert says in "; ".join(store.check())


def test_members_of_some_sessions_and_groups(tmp_path):
    units = pd.DataFrame(
        {
            "session": ["Mon", "Mon", "Tue", "Tue"],
            "group": ["1", "2", "1", "2"],
            "unit": "7",
            "identity": ["a", "b", "a", None],
            "quality": ["good", "mua", "good", "good"],
        }
    )
    with UnitStore.open(tmp_path / "units.sqlite") as store:
        assert store.units().empty
        store.import_table(UnitTable(units, name="x", origin="test"))
        assert store.members(sessions=["Tue"])["group"].tolist() == ["1"]
        assert store.members(groups=["2", "1"], sessions=["Mon"])["label"].tolist() == ["a", "b"]
        assert store.members("a", sessions=["Mon"])["session"].tolist() == ["Mon"]
        assert store.members(where={"session": "Mon", "label": ["b", "c"]})["group"].tolist() == ["2"]
        assert store.units({"quality": "good", "group": "2"})[["session", "number"]].to_numpy().tolist() == [
            ["Tue", pd.NA]
        ]
        assert store.sessions({"name": ["Tue"]})["n_units"].tolist() == [2]
        with pytest.raises(UnitStoreError, match="no group '3'; there are '1', '2'"):
            store.members(groups=["3"])
        with pytest.raises(UnitStoreError, match="no session 'Sun'; there are 'Mon', 'Tue'"):
            store.members(sessions=["Sun"])
        with pytest.raises(TypeError, match="expected a list of names"):
            store.members(sessions="Mon")
        with pytest.raises(ValueError, match="no column 'depth'; there are session, group, unit"):
            store.units({"depth": 3})


def test_a_store_says_what_is_inside(tmp_path):
    with UnitStore.open(tmp_path / "units.sqlite") as store:
        assert repr(store) == f"<UnitStore {store.path}: 0 sessions, 0 units>"
        store.import_table(table(THREE_DAYS))
        store.import_table(table(THREE_DAYS, "other"))
        inside = "3 sessions, 9 units; 3 cells in link set 'matching' and 1 more"
        assert repr(store) == f"<UnitStore {store.path}: {inside}>"
    assert repr(store).endswith("closed or damaged>")


def test_a_source_is_set_later(store, tmp_path, monkeypatch):
    (tmp_path / "suite2p").mkdir()
    monkeypatch.chdir(tmp_path)
    store.set_source("Mon", tmp_path / "suite2p", kind="suite2p")
    assert store.sessions({"name": "Mon"})[["source", "kind"]].to_numpy().tolist() == [["suite2p", "suite2p"]]
    store.undo()
    assert store.sessions({"name": "Mon"})["source"].tolist() == [""]
    with pytest.raises(UnitStoreError, match="no session 'Sun'"):
        store.set_source("Sun", tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere: no such file"):
        store.set_source("Mon", "nowhere")


def test_two_stores_become_one(store, tmp_path):
    before, ours = content(store), links(store)
    (tmp_path / "elsewhere" / "results").mkdir(parents=True)
    with UnitStore.open(tmp_path / "elsewhere" / "units.sqlite", author="Bob") as other:
        later = table((("1", "2"), ("2", "1")), "matching").units.replace({"Mon": "Wed", "Tue": "Thu"})
        other.import_table(UnitTable(later, name="matching", origin="later", parameters={"a": 1}))
        scores = pd.DataFrame({"a": [0], "b": [3], "name": "p", "value": [0.1 + 0.2]})
        other.import_table(UnitTable(later, name="second", origin="later", scores=scores))
        other.set_source("Thu", tmp_path / "elsewhere" / "results")
        other.unlink(("Wed", "2", "0"), ("Thu", "2", "1"), link_set="second")
        expected = other.members(link_set="second")
        names = store.merge(other)
    assert names == ["matching (from units.sqlite)", "second"]
    columns = ["number", "global_id", "label", "session", "group", "unit"]
    assert store.members(link_set="second")[columns].equals(expected[columns])
    assert store.scores(("Thu", "2", "1"), link_set="second")["value"].tolist() == [0.1 + 0.2]
    assert store.pins()[["kind", "session_a", "unit_a", "session_b", "unit_b"]].to_numpy().tolist() == [
        ["unlink", "Wed", "0", "Thu", "1"]
    ]
    assert store.sessions({"name": "Thu"})["source"].tolist() == ["elsewhere/results"]
    assert links(store, "matching") == ours
    merged = content(store)
    assert store.merge(tmp_path / "elsewhere" / "units.sqlite") == names  # nothing is new
    assert content(store) == merged
    store.undo()
    store.undo()
    assert content(store) == before


def test_stores_that_cannot_be_one(store, tmp_path):
    with pytest.raises(UnitStoreError, match="cannot be merged with itself"):
        store.merge(store.path)
    with pytest.raises(FileNotFoundError, match="no such unit store"):
        store.merge(tmp_path / "nothing.sqlite")
    sessions = pd.DataFrame({"name": ["Mon"], "start_time": ["2024-01-01"]})
    for path, start in (("a", "2024-01-01"), ("b", "2024-01-02")):
        with UnitStore.open(tmp_path / path) as other:
            units = pd.DataFrame({"session": ["Mon"], "unit": ["0"], "group": "2"})
            other.import_table(UnitTable(units, name="", origin="o", sessions=sessions.assign(start_time=start)))
    store.merge(tmp_path / "a")
    before = content(store)
    with pytest.raises(UnitStoreError, match=r"session 'Mon' started at 2024-01-01 in .*, but at 2024-01-02 in"):
        store.merge(tmp_path / "b")
    assert content(store) == before


def unit(day, number):
    return day, "2", str(number)


@pytest.mark.parametrize(
    ("ours", "theirs", "kinds", "says"),
    [
        # a locked cell is one decision: where a part of it contradicts ours, none of it comes in
        ("unlink Mon/0 Tue/1", "lock 7", ["unlink"], "Mon/2/0 and Tue/2/1 are locked as one cell"),
        ("unlink Mon/0 Wed/2", "lock 7", ["unlink"], "Tue/2/1 and Wed/2/2 are locked as one cell"),
        ("link Mon/1 Wed/1", "lock 8", ["link"], "Mon/2/1 and Tue/2/0 are locked as one cell"),
        ("lock 7", "unlink Mon/0 Wed/2", ["lock", "lock"], "Mon/2/0 and Wed/2/2 are different cells"),
        ("lock 8", "link Wed/1 Tue/0", ["lock"], "Tue/2/0 and Wed/2/1 are one cell"),
        ("unlink Mon/1 Tue/0", "link Mon/1 Tue/0", ["unlink"], "Mon/2/1 and Tue/2/0 are one cell"),
        ("lock 7", "lock 7", ["lock", "lock"], None),
        ("lock 8", "lock 7", ["lock", "lock", "lock"], None),
        ("lock 8", "link Mon/1 Wed/1; lock 8", ["lock"], "Tue/2/0 and Wed/2/1 are locked as one cell"),
    ],
)
def test_a_merge_takes_over_the_decisions_that_ours_leave_room_for(store, tmp_path, caplog, ours, theirs, kinds, says):
    with UnitStore.open(tmp_path / "other.sqlite", author="Bob") as other:
        other.import_table(table(THREE_DAYS))
        for into, what in ((store, ours), *((other, what) for what in theirs.split(";"))):
            verb, *words = what.split()
            words = [unit(*word.split("/")) for word in words] if verb != "lock" else words
            getattr(into, verb)(*words)
        store.merge(other)
    assert store.pins()["kind"].tolist() == kinds
    said = [record.message for record in caplog.records if "is left out" in record.message]
    assert bool(said) == (says is not None)
    assert says is None or any(says in message for message in said)
    assert store.check() == []


def test_names_that_look_alike_are_one(tmp_path, caplog):
    """macOS writes an accent as a letter of its own in names of files, and other systems do not."""
    one, other = "caf\u00e9", "cafe\u0301"
    rows = [{"session": one, "unit": "1", "identity": other}, {"session": "b", "unit": other, "identity": one}]
    with UnitStore.open(tmp_path / "units.sqlite") as store:
        store.import_table(UnitTable(pd.DataFrame(rows), name="a", origin="a"))
        again = [{"session": other, "unit": "1", "identity": one}, {"session": "b", "unit": one, "identity": one}]
        store.import_table(UnitTable(pd.DataFrame(again), name="a", origin="a"))
        assert len(store.sessions()) == 2
        assert len(store.link_sets()) == 1
        for name in (one, other):
            assert store.multi_sess_unit(name).n_sessions == 2
            assert store.find(name, "1") == store.find("b", name)
            assert len(store.members(sessions=[name])) == 1
        caplog.clear()
        rows = pd.DataFrame({"session": ["B", "CAF\u00c9"], "unit": "1", "identity": "1"})
        store.import_table(UnitTable(rows, name="b", origin="b"))
        assert [record.message for record in caplog.records if "case" in record.message] == [
            "b: session 'B' differs from session 'b' in nothing but case; they are two sessions",
            f"b: session 'CAF\u00c9' differs from session {one!r} in nothing but case; they are two sessions",
        ]


def test_numbers_of_sessions_that_cannot_be(store):
    assert store.present_in(10**30).size == 0
    for sessions in (None, ["Mon"]):
        with pytest.raises(ValueError, match="at_least is -1, expected 1 or more"):
            store.present_in(-1, sessions=sessions)


def test_an_empty_file_is_a_store_only_where_one_is_made(tmp_path):
    path = tmp_path / "units.sqlite"
    path.write_bytes(b"")
    with pytest.raises(UnitStoreError, match=r"units.sqlite: an empty file, not a unit store"):
        UnitStore.open(path, create=False)
    assert path.read_bytes() == b""
    with UnitStore.open(path) as store:
        assert store.stats() == {"sessions": 0, "units": 0}


def test_text_that_is_none(store):
    with pytest.raises(UnitStoreError, match=r"units.sqlite: 'a\\udcff' is no text"):
        store.multi_sess_unit("a\udcff")
