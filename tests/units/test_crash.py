"""A process killed while it imports: the store is what it was before, or what it is after."""

import json
import os
import subprocess
import sys

import pytest

N_KILLS = 50

# Runs alone, for a fork of pytest with its threads would not be safe. Half of the imports have a small cache, so that
# pages are written over the store long before the commit.
_KILLER = """
import json, os, random, shutil, signal, sys, time
from pathlib import Path

import numpy as np
import pandas as pd

from pyflow.units import UnitStore, UnitTable
from pyflow.units.store import database

path, before, n_kills = Path(sys.argv[1]), Path(sys.argv[1] + ".before"), int(sys.argv[2])
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


def add(table, cache_kib):
    database._CACHE_KIB = cache_kib
    with UnitStore.open(path) as store:
        store.import_table(table)


add(table(300, 1), 100_000)
shutil.copy(path, before)
states = {"before": state()}
rerun = table(600, 2)
start = time.perf_counter()
add(rerun, 100)
duration = time.perf_counter() - start
states["after"] = state()

found = {"before": 0, "after": 0, "hot": 0}
for kill in range(n_kills):
    Path(f"{path}-journal").unlink(missing_ok=True)  # it may outlive a kill before the first byte was synced
    shutil.copy(before, path)
    child = os.fork()
    if not child:
        add(rerun, 100 if kill % 2 else 100_000)
        os._exit(0)
    time.sleep(rng.uniform(0, 1.3 * duration))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    found["hot"] += Path(f"{path}-journal").exists()
    now = state()
    which = [name for name, expected in states.items() if now == expected]
    assert which, f"kill {kill}: {now} is neither of {states}"
    found[which[0]] += 1
    assert which == ["after"] or path.read_bytes() == before.read_bytes(), f"kill {kill}: not the file before"
print(json.dumps(found))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="killing an import needs fork")
def test_killed_at_any_moment_the_store_is_whole(tmp_path):
    command = [sys.executable, "-P", "-W", "error", "-c", _KILLER, str(tmp_path / "units.sqlite"), str(N_KILLS)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert found["before"] + found["after"] == N_KILLS
    assert found["before"] > 5
    assert found["hot"] > 5  # kills that met an import half written
