"""Comparing link sets, against lists of all links."""

import sqlite3
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyflow.units import UnitStore, UnitTable
from pyflow.units.store.comparison import Comparison, Members, Overlap, _unpacked_ones, mutual_best, overlap

N_SESSIONS = 4


@st.composite
def claims(draw):
    """Identity of each unit (session, unit) by two claims; 0: not followed."""
    n_units = draw(st.integers(1, 5))

    def claim():
        sessions = [draw(st.permutations(range(1, 6)))[:n_units] for _ in range(N_SESSIONS)]
        followed = draw(st.lists(st.booleans(), min_size=N_SESSIONS * n_units, max_size=N_SESSIONS * n_units))
        return np.where(followed, np.ravel(sessions), 0)

    return np.repeat(np.arange(1, N_SESSIONS + 1), n_units), claim(), claim()


def members(session, identity, offset):
    unit = np.flatnonzero(identity)
    return Members(unit + 1, session[unit], identity[unit] + offset)


def all_links(session, identity):
    """Link -> ; partner of each unit in each other session."""
    pairs = [
        (u + 1, v + 1) for u, v in combinations(range(len(identity)), 2) if identity[u] and identity[u] == identity[v]
    ]
    partners = {(u, session[v - 1]): v for u, v in pairs} | {(v, session[u - 1]): u for u, v in pairs}
    return set(pairs), partners


def as_keys(ids):
    return pd.DataFrame({"session": "s", "group": "g", "unit": np.asarray(ids, dtype=np.int64)})


def as_links(frame):
    return sorted(tuple(sorted(pair)) for pair in frame[["unit", "partner_unit"]].to_numpy().tolist())


@settings(max_examples=200, deadline=None)
@given(claims())
def test_against_lists_of_links(case):
    session, of_a, of_b = case
    comparison = Comparison(members(session, of_a, 1000), members(session, of_b, 5), as_keys)
    (links_a, partner_a), (links_b, partner_b) = all_links(session, of_a), all_links(session, of_b)
    conflicts = [(*key, v, partner_b[key]) for key, v in partner_a.items() if partner_b.get(key, v) != v]
    assert as_links(comparison.shared) == sorted(links_a & links_b)
    assert as_links(comparison.added) == sorted(links_b - links_a)
    assert as_links(comparison.lost) == sorted(links_a - links_b)
    found = comparison.conflicting[["unit", "unit_in_a", "unit_in_b"]].to_numpy().tolist()
    assert sorted(map(tuple, found)) == sorted((u, v, w) for u, _, v, w in conflicts)
    assert comparison.counts == {
        "shared": len(links_a & links_b),
        "added": len(links_b - links_a),
        "lost": len(links_a - links_b),
        "conflicting": len(conflicts),
    }


@given(claims())
def test_overlap_counts_common_members(case):
    session, of_a, of_b = case
    found = overlap(members(session, of_a, 0), members(session, of_b, 0))
    both = (of_a > 0) & (of_b > 0)
    expected = pd.Series(1, index=[of_a[both], of_b[both]]).groupby(level=[0, 1]).sum()
    assert list(zip(*(column.tolist() for column in found), strict=True)) == [(*k, n) for k, n in expected.items()]


def test_ones_without_numpy_2():
    words = np.array([0, 1, 2**51 + 2**7, 2**52 - 1], dtype=np.uint64)
    assert _unpacked_ones(words).tolist() == [0, 1, 2, 52]


def test_mutual_best():
    pairs = Overlap(*np.array([[1, 1, 5], [1, 2, 3], [2, 2, 4], [3, 4, 2], [3, 5, 2], [4, 5, 3]]).T)
    best = mutual_best(pairs)
    assert list(zip(*(column.tolist() for column in best), strict=True)) == [(1, 1, 5), (2, 2, 4), (3, 4, 2), (4, 5, 3)]


def test_in_a_store(tmp_path):
    def claim(name, identities):
        units = pd.DataFrame({"session": ["Mon", "Tue", "Tue", "Wed"], "unit": ["1", "1", "2", "1"]})
        return UnitTable(units.assign(group="p", identity=identities), name=name, origin="test")

    with UnitStore.open(tmp_path / "units.sqlite") as store:
        store.import_table(claim("a", ["1", "1", None, "1"]))
        store.import_table(claim("b", ["1", None, "1", "1"]))
        found = store.compare("a", "b")
        assert found.counts == {"shared": 1, "added": 2, "lost": 2, "conflicting": 2}
        assert found.shared.to_numpy().tolist() == [["Mon", "p", "1", "Wed", "p", "1"]]
        assert found.conflicting.to_dict("records")[0] == {
            **{"session": "Mon", "group": "p", "unit": "1", "partner_session": "Tue"},
            **{"group_in_a": "p", "unit_in_a": "1", "group_in_b": "p", "unit_in_b": "2"},
        }
        store.unlink(("Tue", "p", "1"), link_set="a")
        assert store.compare("a", "b").counts == {"shared": 1, "added": 2, "lost": 0, "conflicting": 0}
        store.undo()
        assert store.compare("a", "b").counts == found.counts
        with sqlite3.connect(store.path) as connection:  # what another program deletes is seen, too
            connection.execute("DELETE FROM member_unit WHERE link_set_id = 1 AND unit_id = 2")
        connection.close()
        assert store.compare("a", "b").counts == {"shared": 1, "added": 2, "lost": 0, "conflicting": 0}
        with pytest.raises(ValueError, match="no link set 'c'"):
            store.compare("a", "c")


def test_a_cell_in_many_sessions_is_counted_without_listing_its_links(tmp_path):
    sessions = [f"{i:04}" for i in range(3000)]
    units = pd.DataFrame({"session": sessions, "unit": "1", "identity": "1"})
    with UnitStore.open(tmp_path / "units.sqlite") as store:
        store.import_table(UnitTable(units, name="a", origin="test"))
        store.import_table(UnitTable(units.assign(identity=["1"] * 2999 + ["2"]), name="b", origin="test"))
        counts = store.compare("a", "b").counts
    assert counts == {"shared": 2999 * 2998 // 2, "added": 0, "lost": 2999, "conflicting": 0}
