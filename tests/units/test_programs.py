"""What other programs write themselves is imported with the members that they found, which are mostly the true ones.

The programs stand in environments of their own: ``tests/matchers.sh`` makes them, and the environment variable
PYFLOW_MATCHERS names their folder. CellReg runs in GNU Octave where PYFLOW_CELLREG names a copy of its repository.
"""

import json
import os
import shutil
import subprocess
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.io
import tifffile

from pyflow.simulate import simulate_session
from pyflow.units import UnitStore, open_sessions
from pyflow.units.incoming.recognise import read_any

DAYS = ["day1", "day2", "day3"]


def run(program, script, *arguments, **options):
    folder = os.environ.get("PYFLOW_MATCHERS")
    python = folder and Path(folder) / program / "bin" / "python"
    if not python or not python.exists():
        pytest.skip(f"{program.upper()} NOT COMPARED: PYFLOW_MATCHERS names no folder with it (see tests/matchers.sh)")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [python, "-W", "ignore", Path(__file__).parent / "programs" / script, *arguments]
    environment |= {"MPLBACKEND": "agg", "QT_QPA_PLATFORM": "offscreen"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200, env=environment, **options)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


def pairs(units, column):
    """Pairs of units of different sessions that are one cell by a column."""
    cells = units.dropna(subset=[column]).groupby(column)
    found = (p for _, cell in cells for p in combinations(sorted(zip(cell["session"], cell["unit"], strict=True)), 2))
    return {(a, b) for a, b in found if a[0] != b[0]}


def assert_mostly_true(units, truth, missed=0.1):
    """`truth`: the cell that each unit is, by session and unit; `missed`: share of the pairs that may be missed."""
    units = units.assign(true=[truth[key] for key in zip(units["session"], units["unit"], strict=True)])
    found, true = pairs(units, "identity"), pairs(units, "true")
    counts = len(found & true), len(found), len(true)
    assert counts[0] > 0.95 * counts[1], counts
    assert counts[0] > (1 - missed) * counts[2], counts


# Imaging


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Three days of suite2p, and which cell each of its ROIs is."""
    root, truth = tmp_path_factory.mktemp("imaging"), {}
    still = {"rigid_px": 0, "nonrigid_px": 0, "jerks": 0, "scan_shear": False}
    session = simulate_session(
        3, (192, 192), 200, offset_px=5, deformation_px=0, turnover=0.15, seed=3, photons=60, **still
    )
    for day, recording in zip(DAYS, session.recordings, strict=True):
        (root / day).mkdir()
        tifffile.imwrite(root / day / "raw.tif", recording.movie.astype(np.int16))
    run("imaging", "run_suite2p.py", *(root / day for day in DAYS))
    for day, recording in zip(DAYS, session.recordings, strict=True):
        masks = open_sessions(root / day / "suite2p").get_ophys_experiment_data(day).get_roi_mask_array().astype(bool)
        for roi, mask in enumerate(masks):
            overlap = (mask & recording.masks).sum((1, 2)) / (mask | recording.masks).sum((1, 2))
            cell = recording.cell_ids[overlap.argmax()] if overlap.max() > 0.3 else None
            truth[day, str(roi)] = cell
    return root, truth


def test_suite2p_s_folders_are_sources(recordings):
    root, truth = recordings
    plane = root / "day1" / "suite2p" / "plane0"
    data = open_sessions(root / "day1" / "suite2p").get_ophys_experiment_data("day1")
    fluorescence = np.load(plane / "F.npy")
    np.testing.assert_array_equal(data.get_fluorescence_traces()[1], fluorescence)
    assert data.get_dff_traces()[1].shape == fluorescence.shape
    assert sum(cell is not None for cell in truth.values()) > 0.9 * len(truth)
    is_cell = np.load(plane / "iscell.npy")[:, 0]
    table = read_any([plane], sessions=["day1"])
    assert table.units["identity"].notna().tolist() == (is_cell == 1).tolist()


@pytest.mark.parametrize("threshold", ["curated", "0.0"])
def test_track2p(recordings, tmp_path, threshold):
    root, truth = recordings
    run("track2p", "run_track2p.py", tmp_path, threshold, *(root / day for day in DAYS))
    table = read_any([tmp_path / "track2p"])
    assert_mostly_true(table.units, truth)
    theirs = pd.read_csv(tmp_path / "track2p" / "plane0_suite2p_indices.csv", sep=";")
    tracks = [{day: int(roi) for day, roi in track.items() if roi == roi} for track in theirs.to_dict("records")]
    tracks = [track for track in tracks if track]
    found = table.followed.groupby("identity", sort=False)
    assert [dict(zip(cell["session"], cell["original_index"], strict=True)) for _, cell in found] == tracks

    # its window writes a verdict on each of the tracks that are in all sessions
    whole = [track for track in tracks if len(track) == 3]
    path = tmp_path / "track2p" / "track_ops.npy"
    options = np.load(path, allow_pickle=True).item()
    np.save(path, options | {"vector_curation_plane_0": np.r_[0, np.ones(len(whole) - 1, int)]}, allow_pickle=True)
    left = read_any([tmp_path / "track2p"]).followed
    assert left["identity"].nunique() == len(tracks) - 1
    assert whole[0]["day1"] not in left.loc[left["session"] == "day1", "original_index"].tolist()


def test_roicat(recordings, tmp_path):
    root, truth = recordings
    run("imaging", "run_roicat.py", tmp_path, root)
    files = sorted(tmp_path.glob("*.tracking.results_*"))
    assert len(files) == 5
    tables = [read_any([path], sessions=DAYS).units for path in files]
    assert_mostly_true(tables[0], truth)
    for units in tables:
        pd.testing.assert_frame_equal(units, tables[0])
    results = json.loads(files[-1].read_text())
    key = list(zip(tables[0]["session"], tables[0]["unit"], strict=True))
    clusters = [[key[roi] for roi in rois] for label, rois in results["labels_dict"].items() if int(label) >= 0]
    assert pairs(tables[0], "identity") == {p for rois in clusters for p in combinations(sorted(rois), 2)}


def test_cellreg(tmp_path):
    repository = os.environ.get("PYFLOW_CELLREG")
    if not repository or not shutil.which("octave-cli"):
        pytest.skip("CELLREG NOT COMPARED: needs GNU Octave, and PYFLOW_CELLREG naming a copy of its repository")
    rng = np.random.default_rng(1)
    y, x = np.indices((130, 130))
    place = 12 + 20 * np.stack(np.divmod(np.arange(36), 6), 1) + rng.uniform(-3, 3, (36, 2))
    orders = [rng.permutation(np.flatnonzero(rng.random(36) < 0.8)) for _ in DAYS]
    centroids, footprints = np.empty((1, 3), object), np.empty((1, 3), object)
    for s, order in enumerate(orders):
        centroids[0, s] = place[order] + rng.normal(0, 0.7, (len(order), 2))
        distance = [(x - a) ** 2 + (y - b) ** 2 for a, b in centroids[0, s]]
        footprints[0, s] = np.stack([np.exp(-d / 32) * (d < 100) for d in distance])
    scipy.io.savemat(tmp_path / "centroids.mat", {"centroids": centroids, "footprints": footprints})
    script = Path(__file__).parent / "programs" / "run_cellreg.m"
    done = subprocess.run(
        ["octave-cli", "-q", script, repository], cwd=tmp_path, capture_output=True, text=True, timeout=600
    )
    (path,) = tmp_path.glob("cellRegistered_*.mat")
    assert path.stat().st_size, done.stderr[-2000:]
    truth = {(day, str(i)): cell for day, order in zip(DAYS, orders, strict=True) for i, cell in enumerate(order)}
    table = read_any([path], sessions=DAYS)
    assert len(table.followed) == sum(map(len, orders))
    assert_mostly_true(table.units, truth)


# Spikes


def write_waveforms(folder, ids, shapes, positions, rng):
    """What UnitMatch reads: raw waveforms (samples, channels, two halves), with noise."""
    (folder / "RawWaveforms").mkdir(parents=True)
    np.save(folder / "channel_positions.npy", positions)
    verdicts = "".join(f"{i}\tgood\n" for i in ids)
    (folder / "cluster_group.tsv").write_text(f"cluster_id\tgroup\n{verdicts}")
    for i, shape in zip(ids, shapes, strict=True):
        halves = [shape * rng.normal(1, 0.03) + rng.normal(0, 2, shape.shape) for _ in range(2)]
        np.save(folder / "RawWaveforms" / f"Unit{i}_RawSpikes.npy", np.stack(halves, -1))


def test_unitmatch(tmp_path):
    rng, n_units = np.random.default_rng(0), 40
    positions = np.stack([np.tile([0.0, 32.0], 48), np.repeat(np.arange(48) * 15.0, 2)], 1)
    t, truth = np.arange(82) - 41, {}
    low, high = [80, 0, 3, 0.1, 8, 80, 18], [625, 32, 8, 0.6, 18, 300, 40]
    depth, x, width, post, tail, amplitude, reach = rng.uniform(low, high, (n_units, 7)).T[..., np.newaxis]
    for day in DAYS:
        distance = np.hypot(positions[:, 0] - x, positions[:, 1] - depth - rng.normal(0, 4))
        late = t[:, np.newaxis] - distance[:, np.newaxis] / 40
        spike = -np.exp(-((late / width[..., None]) ** 2))
        spike += post[..., None] * np.exp(-(((late - tail[..., None]) / (2 * width[..., None])) ** 2))
        shapes = (amplitude * np.exp(-distance / reach))[:, np.newaxis] * spike
        cells = rng.permutation(np.flatnonzero((np.arange(n_units) < 10) | (rng.random(n_units) < 0.8)))
        ids = np.sort(rng.choice(200, len(cells), replace=False))
        write_waveforms(tmp_path / day, ids, shapes[cells], positions, rng)
        truth |= {(day, str(i)): cell for i, cell in zip(ids, cells, strict=True)}
    run("unitmatch", "run_unitmatch.py", tmp_path / "out", *(tmp_path / day for day in DAYS))
    table = read_any([tmp_path / "out"], sessions=DAYS, oversplit="best")
    assert set(zip(table.units["session"], table.units["unit"], strict=True)) == set(truth)
    assert_mostly_true(table.units, truth, missed=0.3)
    theirs = pd.read_csv(tmp_path / "out" / "MatchTable.csv").astype({"ID1": int, "ID2": int})
    theirs = theirs[(theirs["UID 1"] == theirs["UID 2"]) & (theirs["RecSes 1"] < theirs["RecSes 2"])]
    theirs = theirs[["RecSes 1", "ID1", "RecSes 2", "ID2"]].astype(int).to_numpy().tolist()
    found, theirs = (
        pairs(table.units, "identity"),
        {((DAYS[a - 1], str(b)), (DAYS[c - 1], str(d))) for a, b, c, d in theirs},
    )
    assert found <= theirs
    assert len(found) > 0.9 * len(theirs)


def test_phy(tmp_path):
    run("spikes", "run_phy.py", tmp_path)
    truth = json.loads((tmp_path / "truth.json").read_text())
    spans = {"a": (0, 100_000), "b": (100_000, 240_000)}
    table = read_any([tmp_path / "phy"], spans=spans, name="sorted")
    assert set(table.units["unit"]) == {i for i, verdict in truth["verdicts"].items() if verdict != "noise"}
    with UnitStore.open(tmp_path / "units.sqlite") as store:
        store.import_table(table)
        for unit in table.units["unit"].unique():
            samples = np.array(truth["samples"][unit])
            for day, train in store.spikes(unit, missing="none").items():
                start, end = spans[day]
                expected = samples[(samples >= start) & (samples < end)] - start
                np.testing.assert_allclose(train.times_s * 20_000, expected, atol=1e-6)
                assert train.waveform.samples.shape[1] == 16
    assert set(read_any([tmp_path / "phy"]).units["unit"]) == set(table.units["unit"])
