"""The unit store at the size of a large lab: 200 sessions of 2000 units, 100000 cells, four sessions each."""

import numpy as np
import pandas as pd
import pytest

from pyflow.units import UnitStore, UnitTable

N_SESSIONS, N_UNITS, N_CELLS = 200, 2000, 100_000
SESSIONS = [f"session {i:03}" for i in range(N_SESSIONS)]


def claim(name, swapped):
    """Link set in which a share of the units of each session swapped their identities."""
    rng = np.random.default_rng(0)
    identity = np.arange(N_SESSIONS * N_UNITS).reshape(N_SESSIONS, N_UNITS) % N_CELLS
    for of_session in identity:
        chosen = np.flatnonzero(rng.random(N_UNITS) < swapped)
        of_session[chosen] = of_session[rng.permutation(chosen)]
    units = pd.DataFrame(
        {
            "session": np.repeat(SESSIONS, N_UNITS),
            "group": "plane0",
            "unit": np.tile(np.arange(N_UNITS), N_SESSIONS).astype(str),
            "original_index": np.tile(np.arange(N_UNITS), N_SESSIONS),
            "identity": identity.ravel().astype(str),
        }
    )
    return UnitTable(units, name=name, origin=name)


def test_undo(benchmark, tmp_path):
    with UnitStore.open(tmp_path / "units.sqlite") as opened:
        opened.import_table(claim("one", 0))
        benchmark.pedantic(opened.undo, setup=lambda: opened.import_table(claim("one", 0.02)) and None, rounds=2)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with UnitStore.open(tmp_path_factory.mktemp("units") / "units.sqlite") as opened:
        for name, swapped in (("one", 0), ("2 % swapped", 0.02), ("all swapped", 1)):
            opened.import_table(claim(name, swapped))
        yield opened


def test_import(benchmark, tmp_path):
    table, paths = claim("one", 0), (tmp_path / f"{i}.sqlite" for i in range(10))

    def run():
        with UnitStore.open(next(paths)) as opened:
            opened.import_table(table)

    benchmark.pedantic(run, rounds=3)


def test_replace(benchmark, tmp_path):
    with UnitStore.open(tmp_path / "units.sqlite") as opened:
        opened.import_table(claim("one", 0))
        benchmark.pedantic(opened.import_table, (claim("one", 0.02),), rounds=1)


@pytest.mark.parametrize("suffix", ["xlsx", "csv", "npz", "mat"])
def test_export(benchmark, store, tmp_path, suffix):
    benchmark.group = "one link set out of three"
    benchmark.pedantic(store.export, (tmp_path / f"one.{suffix}",), {"link_set": "one"}, rounds=2)


@pytest.mark.parametrize("what", ["tables", "members"])
def test_everything(benchmark, store, what):
    benchmark.group = "whole tables"
    benchmark.pedantic(getattr(store, what), rounds=3)


QUERIES = {
    "members of a unit": lambda store: store.members(17),
    "which unit is this": lambda store: store.find(SESSIONS[150], "1234", "plane0"),
    "present in at least 3": lambda store: store.present_in(3),
    "present in at least 2 of 100": lambda store: store.present_in(2, sessions=SESSIONS[:100]),
    "scores of a unit": lambda store: store.scores(17),
    "sessions": lambda store: store.sessions(),
    "link sets": lambda store: store.link_sets(),
    "stats": lambda store: store.stats(),
    "compare, 2 % swapped": lambda store: store.compare("one", "2 % swapped"),
    "compare, all swapped": lambda store: store.compare("one", "all swapped"),
}


@pytest.mark.parametrize("query", QUERIES)
def test_query(benchmark, store, query):
    benchmark.group = "queries"
    benchmark(QUERIES[query], store)


def test_links_that_differ(benchmark, store):
    benchmark.group = "queries"
    benchmark(lambda: store.compare("one", "2 % swapped").conflicting)


def test_link_and_undo(benchmark, store):
    def run():
        store.unlink((SESSIONS[0], "plane0", "5"))
        store.undo()

    benchmark.pedantic(run, rounds=3)
