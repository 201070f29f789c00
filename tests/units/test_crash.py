"""A process killed while it imports, merges or undoes: the store is what it was before, or what it is after."""

import json
import os
import subprocess
import sys

import pytest

N_KILLS = {"import": 30, "merge": 12, "undo": 12}

# Runs alone, for a fork of pytest with its threads would not be safe. Half of the imports have a small cache, so that
# pages are written over the store long before the commit.
_KILLER = """
import json, os, random, shutil, signal, sys, time
from pathlib import Path

import numpy as np
import pandas as pd

from pyflow.units import UnitStore, UnitTable
from pyflow.units.store import database

path, before, other, n_kills = Path(sys.argv[1]), Path("before"), Path("other"), json.loads(sys.argv[2])
rng = random.Random(7)


def table(n, seed):
    identity = np.concatenate([np.random.default_rng(seed).permutation(n) for _ in range(4)])
    session = np.repeat(["Mon", "Tue", "Wed", "Thu"], n)
    units = pd.DataFrame({"session": session, "unit": np.tile(np.arange(n), 4).astype(str)})
    return UnitTable(units.assign(identity=identity.astype(str)), name="matching", origin="test")


def state():
    with UnitStore.open(path) as store:
        assert store.check() == []
        return [len(store.tables()[name]) for name in ("unit", "link_set", "member_unit", "id_map", "history")]


def change(action, cache_kib):
    database._CACHE_KIB = cache_kib
    with UnitStore.open(path) as store:
        action(store)


rerun = table(600, 2)
with UnitStore.open(other) as store:
    store.import_table(rerun)
with UnitStore.open(path) as store:
    store.import_table(table(300, 1))
actions = {"import": lambda store: store.import_table(rerun), "merge": lambda store: store.merge(other),
           "undo": lambda store: store.undo()}
found = {}
for name, action in actions.items():  # undo takes back what the merge before it did
    shutil.copy(path, before)
    states = {"before": state()}
    start = time.perf_counter()
    change(action, 100)
    duration = time.perf_counter() - start
    states["after"] = state()
    whole = path.read_bytes()
    counts = found[name] = {"before": 0, "after": 0, "hot": 0}
    for kill in range(n_kills[name]):
        Path(f"{path}-journal").unlink(missing_ok=True)  # it may outlive a kill before the first byte was synced
        shutil.copy(before, path)
        child = os.fork()
        if not child:
            change(action, 100 if kill % 2 else 100_000)
            os._exit(0)
        time.sleep(rng.uniform(0, 1.3 * duration))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        counts["hot"] += Path(f"{path}-journal").exists()
        now = state()
        which = [when for when, expected in states.items() if now == expected]
        assert which, f"{name}, kill {kill}: {now} is neither of {states}"
        counts[which[0]] += 1
        same = path.read_bytes() == before.read_bytes()
        assert which == ["after"] or same, f"{name}, kill {kill}: not the file before"
    if name == "import":
        shutil.copy(before, path)  # the merge brings the same
    else:
        path.write_bytes(whole)
print(json.dumps(found))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="killing needs fork")
def test_killed_at_any_moment_the_store_is_whole(tmp_path):
    command = [sys.executable, "-P", "-W", "error", "-c", _KILLER, str(tmp_path / "units.sqlite"), json.dumps(N_KILLS)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert {name: counts["before"] + counts["after"] for name, counts in found.items()} == N_KILLS
    assert found["import"]["before"] > 3
    assert found["import"]["hot"] > 3  # kills that met an import half written
    assert sum(found[name]["hot"] for name in ("merge", "undo")) > 3
