"""Sorted units with known spikes, waveforms and depths, in the folders and files that sorters leave."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from pyflow.units import UnitStore, autocorrelogram, read_clustering
from pyflow.units.cli import main
from pyflow.units.sources import SourceError
from pyflow.units.sources.spikes import find_spikes
from pyflow.units.unit_table import UnitTable

RATE = 30_000.0
POSITIONS = np.stack([np.tile([0.0, 32.0], 8), np.repeat(20.0 * np.arange(8), 2)], axis=1)
N_SAMPLES, TROUGH = 61, 20


def template(depth, width=3.0):
    """A trough that is loudest at a depth, (T, C)."""
    shape = -np.exp(-(((np.arange(N_SAMPLES) - TROUGH) / width) ** 2))
    return (shape[:, None] * np.exp(-(((POSITIONS[:, 1] - depth) / 20) ** 2))).astype(np.float32)


class Sorting:
    """Spikes of units 3, 7 and 12 in one session: `samples` by unit, `depth` by unit."""

    def __init__(self, seed, seconds=20.0, drift=0.0):
        rng = np.random.default_rng(seed)
        self.seconds, self.units = seconds, (3, 7, 12)
        self.depth = {3: 40.0 + drift, 7: 80.0 + drift, 12: 120.0 + drift}
        self.samples = {}
        for unit, rate in zip(self.units, (5, 12, 30), strict=True):
            gaps = 60 + rng.exponential(RATE / rate, int(2 * seconds * rate))  # nothing within 2 ms of a spike
            samples = np.cumsum(gaps).astype(np.int64)
            self.samples[unit] = samples[samples < seconds * RATE]

    def joined(self):
        """Samples and units of all spikes, by time."""
        samples = np.concatenate([self.samples[unit] for unit in self.units])
        units = np.repeat(self.units, [len(self.samples[unit]) for unit in self.units])
        order = np.argsort(samples, kind="stable")
        return samples[order], units[order]

    def templates(self):
        return np.stack([template(self.depth[unit]) for unit in self.units])


def write_phy(folder, sorting, kilosort=4):
    """What Kilosort 2.5 (through its rezToPhy) and Kilosort 4 leave, with templates whitened by a factor."""
    folder.mkdir(parents=True)
    samples, units = sorting.joined()
    row = np.searchsorted(sorting.units, units)
    whitening = 2.0 * np.eye(len(POSITIONS))
    column = (-1, 1) if kilosort < 4 else (-1,)
    np.save(folder / "spike_times.npy", samples.astype(np.uint64 if kilosort < 4 else np.int64).reshape(column))
    np.save(folder / "spike_clusters.npy", units.astype(np.int32).reshape(column))
    np.save(folder / "spike_templates.npy", row.astype(np.uint32).reshape(column))
    np.save(folder / "templates.npy", sorting.templates() @ whitening.astype(np.float32))
    np.save(folder / "whitening_mat_inv.npy", np.linalg.inv(whitening))
    np.save(folder / "channel_positions.npy", POSITIONS)
    depths = np.array([sorting.depth[unit] for unit in units])
    rng = np.random.default_rng(0)
    if kilosort == 4:
        np.save(folder / "spike_positions.npy", np.stack([0 * depths, depths + rng.normal(0, 2, len(units))], 1))
    elif kilosort == 3:
        index = np.tile(np.arange(len(POSITIONS)), (3, 1))
        loud = np.exp(-(((POSITIONS[:, 1] - depths[:, None]) / 20) ** 2))
        np.save(folder / "pc_features.npy", np.stack([loud, 0 * loud, 0 * loud], axis=1).astype(np.float32))
        np.save(folder / "pc_feature_ind.npy", index.astype(np.uint32))
    (folder / "params.py").write_text(
        f"dat_path = ['a.bin']\nn_channels_dat = 16\ndtype = 'int16'\nsample_rate = {RATE}\nhp_filtered = False\n"
    )
    return folder


def write_spikeinterface(folder, sorting, analyzer=True):
    """What SpikeInterface 0.104 writes: a numpy_folder sorting and, around it, a binary_folder analyzer."""
    inside = folder / "sorting" if analyzer else folder
    inside.mkdir(parents=True)
    samples, units = sorting.joined()
    kind = [("sample_index", "int64"), ("unit_index", "int64"), ("segment_index", "int64")]
    spikes = np.zeros(len(samples), kind)
    spikes["sample_index"], spikes["unit_index"] = samples, np.searchsorted(sorting.units, units)
    np.save(inside / "spikes.npy", spikes)
    ids = [str(unit) for unit in sorting.units]
    said = {"unit_ids": ids, "sampling_frequency": RATE, "num_segments": 1}
    (inside / "numpysorting_info.json").write_text(json.dumps(said))
    if analyzer:
        (folder / "extensions" / "templates").mkdir(parents=True)
        np.save(folder / "extensions" / "templates" / "average.npy", sorting.templates())
        (folder / "recording_info").mkdir()
        probe = {"contact_positions": POSITIONS.tolist(), "device_channel_indices": list(range(16))}
        (folder / "recording_info" / "probegroup.json").write_text(json.dumps({"probes": [probe]}))
    return folder


def write_npz_sorting(folder, sorting):
    """A ``npz_folder`` sorting of SpikeInterface."""
    folder.mkdir(parents=True)
    samples, units = sorting.joined()
    np.savez(
        folder / "sorting_cached.npz",
        unit_ids=np.array(sorting.units)[::-1],  # in an order of their own
        num_segment=np.array([1]),
        sampling_frequency=np.array([RATE]),
        spike_indexes_seg0=samples,
        spike_labels_seg0=units,
    )
    return folder


def write_nwb(path, sorting):
    pynwb = pytest.importorskip("pynwb")
    import datetime

    start = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
    file = pynwb.NWBFile("sorted", path.stem, start)
    file.add_unit_column("depth", "along the probe, um")
    for unit in sorting.units:
        mean = 1e-6 * template(sorting.depth[unit])
        file.add_unit(id=unit, spike_times=sorting.samples[unit] / RATE, waveform_mean=mean, depth=sorting.depth[unit])
    with pynwb.NWBHDF5IO(path, "w") as io:
        io.write(file)
    return path


WRITERS = {
    "Kilosort 4": lambda path, sorting: write_phy(path, sorting, 4),
    "Kilosort 3": lambda path, sorting: write_phy(path, sorting, 3),
    "Kilosort 2": lambda path, sorting: write_phy(path, sorting, 2),
    "SpikeInterface analyzer": write_spikeinterface,
    "SpikeInterface folder": lambda path, sorting: write_spikeinterface(path, sorting, analyzer=False),
    "SpikeInterface npz": write_npz_sorting,
    "NWB": lambda path, sorting: write_nwb(path.with_suffix(".nwb"), sorting),
}
WITHOUT_WAVEFORMS = ("SpikeInterface folder", "SpikeInterface npz")


@pytest.mark.parametrize("name", WRITERS)
def test_spikes_waveforms_and_depths_are_those_that_were_written(tmp_path, name):
    sorting = Sorting(0)
    source = find_spikes(WRITERS[name](tmp_path / "sorted", sorting))
    assert sorted(source.unit_ids.astype(int).tolist()) == [3, 7, 12]
    for unit in sorting.units:
        row = source.row(str(unit))
        np.testing.assert_allclose(source.spike_times_s(row), sorting.samples[unit] / RATE, rtol=0, atol=1e-9)
        found = source.waveform(row)
        if name in WITHOUT_WAVEFORMS:
            assert found is None
            assert np.isnan(source.depth_um(row))
            continue
        np.testing.assert_allclose(found.samples, template(sorting.depth[unit]), atol=1e-5)
        assert POSITIONS[found.loudest, 1] == sorting.depth[unit]
        assert name == "NWB" or found.times_s[TROUGH] == 0
        assert abs(source.depth_um(row) - sorting.depth[unit]) < 1.5
    assert sorting.seconds - 1 < source.duration_s <= sorting.seconds
    with pytest.raises(SourceError, match="no unit '99' among its 3 units"):
        source.row("99")


@pytest.mark.parametrize("name", ["templates_ind.npy", "template_ind.npy"])
def test_templates_with_channels_in_an_order_of_their_own(tmp_path, name):
    """As SpikeInterface's export to phy writes them (0.104), all channels but the loudest first."""
    sorting = Sorting(0)
    folder = write_phy(tmp_path / "a", sorting, 2)
    whole = np.load(folder / "templates.npy")
    index = np.argsort(-np.ptp(whole, axis=1), axis=1)
    np.save(folder / "templates.npy", np.take_along_axis(whole, index[:, None], axis=2))
    np.save(folder / name, index)
    source = find_spikes(folder)
    for row, unit in enumerate(sorting.units):
        np.testing.assert_allclose(source.waveform(row).samples, template(sorting.depth[unit]), atol=1e-5)
    np.save(folder / name, index[:2])
    with pytest.raises(SourceError, match=r"channels of templates have shape \(2, 16\), expected \(3, 16\)"):
        find_spikes(folder).waveform(0)


def test_sparse_templates_of_merged_clusters(tmp_path):
    """After a merge in phy a cluster has the spikes of two templates, each kept on some channels."""
    sorting = Sorting(0)
    folder = write_phy(tmp_path / "a", sorting, 2)
    clusters = np.load(folder / "spike_clusters.npy")
    np.save(folder / "spike_clusters.npy", np.where(clusters == 7, 3, clusters))
    index = np.array([[2, 3, 4, 5], [6, 7, 8, 9], [10, 11, 12, -1]])
    whole = np.load(folder / "templates.npy")
    sparse = np.stack([t[:, i] * (i >= 0) for t, i in zip(whole, index, strict=True)])
    np.save(folder / "templates.npy", sparse)
    np.save(folder / "templates_ind.npy", index.astype(float))
    source = find_spikes(folder)
    counts = [len(sorting.samples[unit]) for unit in (3, 7)]
    expected = np.zeros((N_SAMPLES, 16))
    for unit, channels, n in zip((3, 7), index[:2], counts, strict=True):
        expected[:, channels] += template(sorting.depth[unit])[:, channels] * n / sum(counts)
    np.testing.assert_allclose(source.waveform(source.row("3")).samples, expected, atol=1e-5)
    assert len(source.spike_times_s(source.row("3"))) == sum(counts)


def two_days(folder, writer="Kilosort 4"):
    """A store of two sessions whose units 3 and 7 are the same cells; 12 is there on the first day only."""
    days = {"Mon": Sorting(1), "Tue": Sorting(2, drift=20.0)}
    paths = {name: WRITERS[writer](folder / name, sorting) for name, sorting in days.items()}
    units = pd.DataFrame(
        {
            "session": ["Mon", "Mon", "Mon", "Tue", "Tue"],
            "unit": ["3", "7", "12", "3", "7"],
            "identity": ["a", "b", "c", "a", "b"],
        }
    )
    sessions = pd.DataFrame({"name": list(days), "source": [str(path) for path in paths.values()], "kind": "phy"})
    with UnitStore.open(folder / "units.sqlite") as store:
        store.import_table(UnitTable(units, name="n", origin="test", sessions=sessions))
    return days


@pytest.mark.parametrize("writer", ["Kilosort 4", "SpikeInterface analyzer", "NWB"])
def test_a_cell_across_sessions(tmp_path, writer):
    days = two_days(tmp_path, writer)
    with UnitStore.open(tmp_path / "units.sqlite") as store:
        times = store.spike_times("b")
        assert list(times) == ["Mon", "Tue"]
        for day, sorting in days.items():
            np.testing.assert_allclose(times[day], sorting.samples[7] / RATE, rtol=0, atol=1e-9)
        trains = store.spikes("b")
        assert abs(trains["Tue"].depth_um - trains["Mon"].depth_um - 20) < 1.5  # the drift between the days
        starts, rate = trains["Mon"].rate(2.0)
        assert (rate * 2).sum() == len(days["Mon"].samples[7])
        assert starts[1] == 2.0
        assert abs(trains["Mon"].rate_hz - len(days["Mon"].samples[7]) / 20) < 1
        with pytest.raises(ValueError, match=r"cell 3 is absent in 'Tue'; missing='none' gives None there"):
            store.spike_times("c")
        assert store.spike_times("c", missing="none")["Tue"] is None
        with pytest.raises(ValueError, match="missing is 'nan', expected"):
            store.spike_times("c", missing="nan")


def test_sessions_sorted_as_one_recording(tmp_path):
    """Each session's spikes, counted from its own start."""
    sorting = Sorting(5)
    folder = write_phy(tmp_path / "joined", sorting)
    spans = {"first": (0, 240_000), "second": (300_000, 600_000)}
    with UnitStore.open(tmp_path / "units.sqlite") as store:
        store.import_table(read_clustering(folder, spans))
        times = store.spike_times(("first", "", "7"))
        for session, (start, end) in spans.items():
            inside = sorting.samples[7][(sorting.samples[7] >= start) & (sorting.samples[7] < end)]
            np.testing.assert_allclose(times[session], (inside - start) / RATE, atol=1e-9)
        assert store.spikes(("first", "", "7"))["second"].duration_s == 10.0


def test_tetrodes_in_folders_of_their_own(tmp_path):
    sortings = {"tetrode 1": Sorting(1), "tetrode 2": Sorting(2)}
    for group, sorting in sortings.items():
        write_phy(tmp_path / "Mon" / group, sorting)
    units = pd.DataFrame({"session": "Mon", "group": list(sortings), "unit": "7", "identity": ["a", "b"]})
    sessions = pd.DataFrame({"name": ["Mon"], "source": [str(tmp_path / "Mon")], "kind": "phy"})
    with UnitStore.open(tmp_path / "units.sqlite") as store:
        store.import_table(UnitTable(units, name="n", origin="test", sessions=sessions))
        for group, cell in zip(sortings, "ab", strict=True):
            assert len(store.spike_times(cell)["Mon"]) == len(sortings[group].samples[7])


def test_tetrodes_imported_one_after_the_other_keep_their_own_folders(tmp_path, monkeypatch):
    """Wherever they lie, and wherever the store goes."""
    monkeypatch.chdir(tmp_path)
    sortings = {"tetrode 1": Sorting(1), "tetrode 2": Sorting(2), "tetrode 3": Sorting(3)}
    spans = {"a": (0, 240_000), "b": (300_000, 600_000)}

    def spikes(store):
        found = {g: [len(times) for times in store.spike_times(f"{g}/7").values()] for g in sortings}
        expected = {
            g: [int(((s.samples[7] >= start) & (s.samples[7] < end)).sum()) for start, end in spans.values()]
            for g, s in sortings.items()
        }
        return found == expected

    with UnitStore.open("units.sqlite") as store:
        for number, (group, sorting) in enumerate(sortings.items()):
            folder = write_phy(tmp_path / f"anywhere{number}", sorting)
            table = read_clustering(folder, spans, group=group, group_name="rat")
            store.import_table(table, other_groups="append")
        assert spikes(store)
        of = lambda **which: store.members(**which)["source"].tolist()  # noqa: E731
        assert of(unit="tetrode 2/7") == of(groups=["tetrode 2"])[:2] == ["anywhere1"] * 2
        store.import_table(table, other_groups="append")  # again: nothing changes
        assert len(store.link_sets()) == 3
        (tmp_path / "anywhere1").rename("moved")
        store.import_table(read_clustering("moved", spans, group="tetrode 2", group_name="rat"), other_groups="append")
        assert of(unit="tetrode 2/7") == ["moved"] * 2
        assert spikes(store)
        store.export("rat.xlsx")
    (tmp_path / "new").mkdir()
    for way in ("sheet", "merge"):
        with UnitStore.open(tmp_path / "new" / f"{way}.sqlite") as other:
            other.import_spreadsheet("rat.xlsx") if way == "sheet" else other.merge("units.sqlite")
            assert spikes(other)
    for number, group in enumerate(sortings):
        (tmp_path / ("moved" if number == 1 else f"anywhere{number}")).rename(tmp_path / "new" / group)
    with UnitStore.open("units.sqlite") as store:
        for session in spans:
            store.set_source(session, "new")  # which holds a folder for each
        assert spikes(store)
        assert set(of(groups=["tetrode 2"])) == {"new"}


def test_autocorrelogram_counts_every_pair():
    times = np.sort(np.random.default_rng(0).uniform(0, 10, 400))
    lags, rate = autocorrelogram(times, bin_s=0.01, window_s=0.1)
    between = times[None, :] - times[:, None]
    for lag, found in zip(lags, rate, strict=True):
        inside = (between >= lag - 0.005) & (between < lag + 0.005) & ~np.eye(len(times), dtype=bool)
        assert abs(found * 400 * 0.01 - inside.sum()) <= 1  # a lag on the edge of two bins
    assert (rate == rate[::-1]).all()
    assert autocorrelogram([], bin_s=0.01, window_s=0.02)[1].tolist() == [0, 0, 0, 0]


def test_a_spike_at_the_border_is_of_the_next_session(tmp_path):
    np.save(tmp_path / "spike_times.npy", [10, 20, 20, 30, 40])
    np.save(tmp_path / "spike_clusters.npy", [1] * 5)
    (tmp_path / "params.py").write_text("sample_rate = 10.0")
    with UnitStore.open(tmp_path / "units.sqlite") as store:
        store.import_table(read_clustering(tmp_path, {"a": (0, 20), "b": (20, 40)}))
        times = store.spike_times("1")
        counts = store.units()["n_spikes"].tolist()
    assert {session: found.tolist() for session, found in times.items()} == {"a": [1.0], "b": [0.0, 0.0, 1.0]}
    assert counts == [1, 3]


def test_the_rate_of_an_autocorrelogram_is_per_spike():
    """Of two spikes 5.5 ms apart each has one other, half of them on each side: 0.5 in 1 ms."""
    lags, rate = autocorrelogram([1.0, 1.0055], bin_s=0.001, window_s=0.01)
    assert rate.tolist() == pytest.approx([500.0 if abs(abs(lag) - 0.0055) < 1e-9 else 0.0 for lag in lags])


def test_the_depth_of_a_template_is_where_its_power_is(tmp_path):
    """Channels at 0 and 100 um with amplitudes 4 and 3: powers 16 and 9, so 9 / 25 of the way."""
    folder = write_phy(tmp_path / "Mon", Sorting(1))
    for name in ("spike_positions.npy", "pc_features.npy", "whitening_mat_inv.npy", "templates_ind.npy"):
        (folder / name).unlink(missing_ok=True)
    np.save(folder / "channel_positions.npy", np.array([[0.0, 0.0], [0.0, 100.0]]))
    shape = template(0.0)[:, :1]
    np.save(folder / "templates.npy", np.stack([shape * [4.0, 3.0]] * 3).astype(np.float32))
    assert find_spikes(folder).depth_um(0) == pytest.approx(36, abs=1e-3)


def damage(folder, what):
    if what == "no params":
        (folder / "params.py").unlink()
    elif what == "params without rate":
        (folder / "params.py").write_text("import os\nos.abort()\n")
    elif what == "other length":
        np.save(folder / "spike_clusters.npy", np.arange(5))
    elif what == "no clusters":
        (folder / "spike_clusters.npy").unlink()
        (folder / "spike_templates.npy").unlink()


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("no params", r"params\.py: no such file; its sample_rate turns samples into seconds"),
        ("params without rate", r"params\.py: no line 'sample_rate = ...'"),
        ("other length", r"Mon: \d+ spike times, but 5 clusters"),
        ("no clusters", r"Mon: neither spike_clusters.npy nor spike_templates.npy"),
    ],
)
def test_damaged_folders_are_named(tmp_path, what, message):
    two_days(tmp_path)
    damage(tmp_path / "Mon", what)
    with UnitStore.open(tmp_path / "units.sqlite") as store, pytest.raises(SourceError, match=message):
        store.spike_times("a")


def test_sessions_without_sorted_units(tmp_path):
    two_days(tmp_path)
    (tmp_path / "empty").mkdir()
    with UnitStore.open(tmp_path / "units.sqlite") as store:
        store.set_source("Mon", tmp_path / "empty")
        with pytest.raises(
            SourceError, match=r"session 'Mon': .*empty holds no sorted units; expected a folder of phy"
        ):
            store.spike_times("a")


def test_figure(tmp_path, capsys, monkeypatch):
    plots = pytest.importorskip("pyflow.plots")
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: FIGURES ARE NOT TESTED")
    days = two_days(tmp_path)
    with UnitStore.open(tmp_path / "units.sqlite") as store:
        figure = plots.plot_unit_spikes(store.spikes("b"))
        for row, sorting in enumerate(days.values()):
            waveform, lags, raster = figure.axes[3 * row : 3 * row + 3]
            times, best = waveform.lines[0].get_data()
            assert times[np.argmin(best)] == 0
            assert lags.patches[50].get_height() == lags.patches[51].get_height() == 0  # nothing within 2 ms
            np.testing.assert_allclose(raster.collections[0].get_positions(), sorting.samples[7] / RATE, atol=1e-9)
        drift = figure.axes[-1].lines[0].get_xdata()
        assert abs(drift[1] - drift[0] - 20) < 1.5
        with pytest.raises(ValueError, match="no spikes to draw"):
            plots.plot_unit_spikes({"Mon": None})
        trains = store.spikes("b")
    few = dataclasses.replace(trains["Mon"], times_s=trains["Mon"].times_s[:1])
    figure = plots.plot_unit_spikes({"Mon": few, "Tue": None, "Wed": trains["Mon"]})
    assert [text.get_text() for text in figure.axes[1].texts] == ["none"]  # one spike has no intervals
    figure.draw_without_rendering()
    names = [figure.axes[3 * row].yaxis.label.get_window_extent().x1 for row in range(3)]
    assert np.ptp(names) < 2  # pixels: one below the other
    monkeypatch.chdir(tmp_path)
    assert main(["plot", "c", "--spikes"]) == 0
    assert main(["plot", "b", "--spikes", "--session", "Mon", "--out", "mon.png"]) == 0
    assert (tmp_path / "mon.png").stat().st_size > 10_000
    assert main(["plot", "b", "--spikes", "--session", "Sun"]) == 1
    assert "no session 'Sun'; there are 'Mon'" in capsys.readouterr().err
    assert (tmp_path / "cell_3_spikes.png").stat().st_size > 20_000
