"""The right cell in every session, whatever wrote the files."""

import h5py
import numpy as np
import pandas as pd
import pytest
from units import simulated

from pyflow.units.across.opening import BrainObservatoryCache, open_sessions
from pyflow.units.incoming.matchers import read_caiman
from pyflow.units.outgoing.nwb_columns import write_nwb_columns
from pyflow.units.sources import SourceError
from pyflow.units.sources.dff import dff
from pyflow.units.store.unit_store import UnitStore
from pyflow.units.unit_table import UnitTable

# Runs against BrainObservatoryCache of either package: what changes is where it is imported from.
NOTEBOOK = """
boc = BrainObservatoryCache(manifest_file=manifest)
id_a = boc.get_ophys_experiments(cell_specimen_ids=[cell_specimen_id], session_types=['three_session_A'])[0]['id']
id_b = boc.get_ophys_experiments(cell_specimen_ids=[cell_specimen_id], session_types=['three_session_B'])[0]['id']
id_c = boc.get_ophys_experiments(cell_specimen_ids=[cell_specimen_id], session_types=['three_session_C'])[0]['id']
data_set_a = boc.get_ophys_experiment_data(id_a)
data_set_b = boc.get_ophys_experiment_data(id_b)
data_set_c = boc.get_ophys_experiment_data(id_c)
index_a = data_set_a.get_cell_specimen_indices([cell_specimen_id])
index_b = data_set_b.get_cell_specimen_indices([cell_specimen_id])
index_c = data_set_c.get_cell_specimen_indices([cell_specimen_id])
projections = [data_set.get_max_projection() for data_set in (data_set_a, data_set_b, data_set_c)]
masks = [
    data_set_a.get_roi_mask_array()[index_a, :, :][0],
    data_set_b.get_roi_mask_array()[index_b, :, :][0],
    data_set_c.get_roi_mask_array()[index_c, :, :][0],
]
planes = [data_set.get_roi_mask([cell_specimen_id])[0].get_mask_plane()
          for data_set in (data_set_a, data_set_b, data_set_c)]
_, dff_a = data_set_a.get_dff_traces()
_, dff_b = data_set_b.get_dff_traces()
time, dff_c = data_set_c.get_dff_traces()
traces = [dff_a[index_a[0]], dff_b[index_b[0]], dff_c[index_c[0]]]
chosen = [data_set.get_dff_traces(cell_specimen_ids=[cell_specimen_id])[1][0]
          for data_set in (data_set_a, data_set_b, data_set_c)]
"""

# And the exercise at the notebook's end: the movie response of the cell in three sessions.
MOVIE = """
assert [data_set.get_session_type() for data_set in (data_set_a, data_set_b, data_set_c)] == boc.get_all_session_types()
responses = []
all_three = (data_set_a, index_a, dff_a), (data_set_b, index_b[0], dff_b), (data_set_c, index_c, dff_c)
for data_set, index, dff in all_three:
    assert 'natural_movie_one' in data_set.list_stimuli()
    table = data_set.get_stimulus_table('natural_movie_one')
    starts = table[table.frame == 0].start.values
    n_frames = len(data_set.get_stimulus_template('natural_movie_one'))
    response = np.empty((n_frames, len(starts)))
    for i, start in enumerate(starts):
        response[:, i] = dff[index, start:start + n_frames]
    responses.append(response)
"""


@pytest.fixture
def days():
    return simulated.sessions()


def common(days):
    """Cells that are there on all days."""
    return sorted(set.intersection(*(set(day.cells.tolist()) for day in days)))


def link(folder, days, *, planes=1, group=lambda place: "", kind="suite2p", source=str, skip=()):
    """A store in `folder` that knows who is who; units are named by their place among their plane's ROIs."""
    rows = [
        {
            "session": day.name,
            "group": group(place % planes),
            "unit": str(place // planes),
            "original_index": place // planes,
            "identity": str(cell),
        }
        for day in days
        for place, cell in enumerate(day.cells.tolist())
        if cell not in skip
    ]
    sessions = pd.DataFrame(
        {
            "name": [day.name for day in days],
            "start_time": [f"2024-01-0{day.number + 1}T10:00:00" for day in days],
            "source": [source(day.path) if day.path else "" for day in days],
            "kind": kind,
            "session_type": [day.kind for day in days],
            "experiment_container_id": simulated.CONTAINER,
        }
    )
    store = UnitStore.open(folder / "units.sqlite")
    store.import_table(UnitTable(pd.DataFrame(rows), name="by hand", origin="test", sessions=sessions))
    return store


def number_of(store, cell):
    members = store.members()
    return int(members.loc[members["label"] == str(cell), "number"].iloc[0])


@pytest.fixture
def allen(tmp_path, days):
    for day in days:
        day.path = simulated.write_allen(tmp_path / "allen" / "ophys_experiment_data", day)
    return tmp_path / "allen", days


@pytest.fixture
def suite2p(tmp_path, days):
    for day in days:
        day.path = simulated.write_suite2p(tmp_path / day.name, day)
    with link(tmp_path, days) as store:
        yield store, days


def test_the_notebook_on_allen_files(allen):
    folder, days = allen
    for cell in common(days):
        found = {
            "BrainObservatoryCache": BrainObservatoryCache,
            "manifest": str(folder / "manifest.json"),
            "cell_specimen_id": cell,
        }
        exec(NOTEBOOK, found)
        check_notebook(found, days, cell, [day.traces["dff"] for day in days])
        np.testing.assert_array_equal(found["time"], days[2].timestamps + 0.01)


def test_the_notebook_to_its_end(allen):
    folder, days = allen
    cell = common(days)[0]
    found = {"np": np, "BrainObservatoryCache": BrainObservatoryCache, "cell_specimen_id": cell}
    found["manifest"] = folder / "manifest.json"
    exec(NOTEBOOK + MOVIE, found)
    ours = found["boc"].movie_responses(cell, "natural_movie_one")
    assert list(ours) == [f"ophys_experiment_data/{day.path.stem}" for day in days]
    for day, theirs, mine in zip(days, found["responses"], ours.values(), strict=True):
        starts = simulated.movie_starts(day)
        assert theirs.T.shape == mine.shape == starts.shape
        trace = day.traces["dff"][day.row(cell)]
        np.testing.assert_array_equal(mine, trace[starts])
        # the notebook counts on from each repeat's first frame, where one of session C's was dropped
        np.testing.assert_array_equal(theirs.T, trace[starts[:, :1] + np.arange(simulated.MOVIE_FRAMES)])


def test_movie_responses(allen):
    folder, days = allen
    sessions = open_sessions(folder)
    names = [f"ophys_experiment_data/{day.path.stem}" for day in days]
    (first, *_), movie = common(days), "natural_movie_one"
    absent = next(cell for cell in days[0].cells.tolist() if cell not in days[1].cells)
    assert list(sessions.movie_responses(first, "natural_movie_two")) == [names[2]]
    # a session that did not show it is not asked for the cell
    assert sessions.movie_responses(absent, "natural_movie_three")[names[0]].shape == (2, simulated.MOVIE_FRAMES)
    with pytest.raises(ValueError, match=f"is absent in '{names[1]}'; missing='nan'"):
        sessions.movie_responses(absent, movie)
    found = sessions.movie_responses(absent, movie, missing="nan", as_="dataframe")
    assert set(found["session"]) == {names[0], names[2]}
    last = found.iloc[-1]
    assert (last["repeat"], last["frame"]) == (simulated.MOVIE_REPEATS - 1, simulated.MOVIE_FRAMES - 1)
    assert last["dff"] == days[2].traces["dff"][days[2].row(absent), simulated.movie_starts(days[2])[-1, -1]]
    with pytest.raises(
        SourceError, match="no session with data showed 'natural_movie_four'; the stimuli are drifting_g"
    ):
        sessions.movie_responses(first, "natural_movie_four")
    with pytest.raises(SourceError, match="'natural_scenes' is no movie; its columns: frame, start, end"):
        sessions.movie_responses(first, "natural_scenes")


def test_movie_responses_of_a_store_s_cell(allen):
    folder, days = allen
    cell = common(days)[0]
    with link(folder, days, kind="allen") as store:
        found = store.movie_responses(("day2", "", str(days[1].row(cell))), "natural_movie_one")
        assert list(found) == [day.name for day in days]
        for day in days:
            expected = day.traces["dff"][day.row(cell), simulated.movie_starts(day)]
            np.testing.assert_array_equal(found[day.name], expected)
        with pytest.raises(SourceError, match="no session with data showed 'natural_movie_four'; the stimuli are dr"):
            store.movie_responses(str(cell), "natural_movie_four")


def test_a_movie_that_outlasts_the_traces_is_refused(allen):
    folder, days = allen
    with h5py.File(days[0].path, "r+") as file:
        file["stimulus/presentation/natural_movie_one_stimulus/frame_duration"][3] = [300, 301]
    with pytest.raises(SourceError, match="'natural_movie_one' goes on at sample 300, but the dff traces have 300"):
        open_sessions(folder).get_ophys_experiment_data(501704220).get_movie_responses("natural_movie_one")


def test_movie_responses_of_whole_numbers_have_room_for_nan(allen):
    folder, days = allen
    place = "processing/brain_observatory_pipeline/DfOverF/imaging_plane_1/data"
    with h5py.File(days[2].path, "r+") as file:
        del file[place]
        file[place] = days[2].traces["fluorescence"].astype(np.int16)
        place = "stimulus/presentation/natural_movie_one_stimulus/data"
        frames = file[place][()].astype(np.float64)  # and the movie's frames may be kept as real numbers
        del file[place]
        file[place] = frames
    found = open_sessions(folder).get_ophys_experiment_data(501704222).get_movie_responses("natural_movie_one")
    expected = days[2].traces["fluorescence"].astype(np.int16)[:, simulated.movie_starts(days[2])]
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.float32


def test_a_frame_that_a_repeat_skips_is_nan(allen):
    folder, days = allen
    place = "stimulus/presentation/natural_movie_one_stimulus"
    with h5py.File(days[0].path, "r+") as file:
        data, span = (file[f"{place}/{name}"][()] for name in ("data", "frame_duration"))
        order = np.argsort(span[:, 0])[:-1]
        for name, values in (("data", data), ("frame_duration", span)):
            del file[f"{place}/{name}"]
            file[f"{place}/{name}"] = values[order]
    cell = common(days)[0]
    found = open_sessions(folder).movie_responses(cell, "natural_movie_one")[
        f"ophys_experiment_data/{days[0].path.stem}"
    ]
    assert np.argwhere(np.isnan(found)).tolist() == [[simulated.MOVIE_REPEATS - 1, simulated.MOVIE_FRAMES - 1]]


def test_session_types_of_a_store(suite2p):
    store, days = suite2p
    sessions = open_sessions(store)
    assert [sessions.get_ophys_experiment_data(day.name).get_session_type() for day in days] == list(simulated.TYPES)
    assert "natural_movie_two" in sessions.get_all_stimuli()
    assert sessions.get_ophys_experiment_data("day1").list_stimuli() == []
    data = open_sessions(days[0].path).get_ophys_experiment_data("day1")
    with pytest.raises(SourceError, match=r"session 'day1' .*: no session type"):
        data.get_session_type()


def test_the_notebook_on_suite2p_folders(suite2p):
    store, days = suite2p
    computed = [dff(day.traces["fluorescence"] - 0.6 * day.traces["neuropil"], simulated.FRAME_RATE) for day in days]
    for cell in common(days):
        found = {
            "BrainObservatoryCache": BrainObservatoryCache,
            "manifest": str(store.path),
            "cell_specimen_id": number_of(store, cell),
        }
        exec(NOTEBOOK, found)
        check_notebook(found, days, cell, computed, crop=2)


def check_notebook(found, days, cell, traces, crop=0):
    inner = np.s_[crop : simulated.SHAPE[0] - crop, crop : simulated.SHAPE[1] - crop]
    for n, day in enumerate(days):
        row = day.row(cell)
        np.testing.assert_array_equal(found["projections"][n][inner], day.image[inner])
        np.testing.assert_array_equal(found["masks"][n], day.masks[row])
        np.testing.assert_array_equal(found["planes"][n], day.masks[row])
        for name in ("traces", "chosen"):
            np.testing.assert_allclose(found[name][n], traces[n][row], rtol=1e-3, atol=1e-5)


def test_cells_out_of_order_and_repeated(allen):
    folder, days = allen
    data = open_sessions(folder).get_ophys_experiment_data(501704221)
    cells = days[1].cells[[3, 0, 0, 4]]
    assert data.get_cell_specimen_indices(cells) == [3, 0, 0, 4]
    np.testing.assert_array_equal(data.get_roi_mask_array(cells), days[1].masks[[3, 0, 0, 4]])
    for kind, get in (
        ("dff", data.get_dff_traces),
        ("fluorescence", data.get_fluorescence_traces),
        ("neuropil", data.get_neuropil_traces),
        ("demixed", data.get_demixed_traces),
    ):
        times, traces = get(cell_specimen_ids=list(cells))
        np.testing.assert_array_equal(traces, days[1].traces[kind][[3, 0, 0, 4]])
        assert times.shape == (traces.shape[1],)
    assert data.get_corrected_fluorescence_traces(cells)[1].shape == traces.shape
    assert data.number_of_cells == len(days[1].cells)
    assert [mask.label for mask in data.get_roi_mask(cells)] == ["9103", "9100", "9100", "9104"]
    np.testing.assert_array_equal(data.get_roi_ids(), np.arange(len(days[1].cells)) + 9100)
    for mask in data.get_roi_mask(cells):
        whole = np.zeros(simulated.SHAPE, np.uint8)
        whole[mask.y : mask.y + mask.height, mask.x : mask.x + mask.width] = mask.mask
        np.testing.assert_array_equal(whole, mask.get_mask_plane())
        assert all(edge.any() for edge in (mask.mask[0], mask.mask[-1], mask.mask[:, 0], mask.mask[:, -1]))
    np.testing.assert_array_equal(data.get_fluorescence_timestamps(), days[1].timestamps)
    assert data.get_metadata()["ophys_experiment_id"] == 501704221
    assert list(data.get_motion_correction()) == ["x_motion", "y_motion", "timestamp"]


def test_unknown_cells_name_themselves_and_the_session(allen):
    folder, days = allen
    sessions = open_sessions(folder)
    data = sessions.get_ophys_experiment_data(501704220)
    with pytest.raises(ValueError, match="cell specimen 12 is not in session '501704220'"):
        data.get_dff_traces([int(days[0].cells[0]), 12])
    for wrong in (12, "12"):
        with pytest.raises(TypeError, match="expected a list of ids"):
            data.get_cell_specimen_indices(wrong)
    with pytest.raises(ValueError, match="cell specimen 12 is in none of the sessions"):
        sessions.traces(12)
    with pytest.raises(KeyError, match="no experiment 5; there are 501704220, 501704221, 501704222"):
        sessions.get_ophys_experiment_data(5)
    with pytest.raises(KeyError, match="no experiment '501704220': it is the number 501704220, without quotes"):
        sessions.get_ophys_experiment_data("501704220")
    cell = int(days[0].cells[0])
    for ask in (lambda: data.get_cell_specimen_indices([str(cell)]), lambda: sessions.traces(str(cell))):
        with pytest.raises(ValueError, match=f"cell specimen '{cell}' .*: it is the number {cell}, without quotes"):
            ask()


def test_experiments_pass_all_filters(allen):
    folder, days = allen
    sessions = open_sessions(folder)
    ids = lambda **filters: [found["id"] for found in sessions.get_ophys_experiments(**filters)]  # noqa: E731
    everything = [501704220, 501704221, 501704222]
    assert ids() == everything
    absent = next(cell for cell in days[0].cells.tolist() if cell not in days[1].cells)
    assert ids(cell_specimen_ids=[absent]) == [501704220, 501704222]
    assert ids(cell_specimen_ids=[absent], session_types=["three_session_A", "three_session_B"]) == [501704220]
    assert ids(cell_specimen_ids=[absent], session_types=["three_session_B"]) == []
    assert ids(cell_specimen_ids=[absent, common(days)[0]]) == everything
    assert ids(experiment_container_ids=[simulated.CONTAINER], cell_specimen_ids=[absent]) == [501704220, 501704222]
    assert ids(experiment_container_ids=[1]) == []
    assert ids(ids=[501704222, 501704220, 3]) == [501704220, 501704222]
    assert ids(targeted_structures=["VISp"], imaging_depths=[175], cre_lines=["Cux2-CreERT2"]) == everything
    assert ids(targeted_structures=["VISl"]) == ids(imaging_depths=[200]) == ids(cre_lines=[]) == []
    for name in ("cre_lines", "cell_specimen_ids"):
        with pytest.raises(TypeError, match="'VISp', expected a list"):
            sessions.get_ophys_experiments(**{name: "VISp"})
    container = {
        "id": simulated.CONTAINER,
        "imaging_depth": 175,
        "targeted_structure": "VISp",
        "cre_line": "Cux2-CreERT2",
        "reporter_line": "Ai93(TITL-GCaMP6f)",
        "donor_name": "222426",
        "specimen_name": "Cux2-CreERT2;Camk2a-tTA;Ai93-222426",
        "tags": [],
        "failed": False,
    }
    assert sessions.get_experiment_containers(targeted_structures=["VISp"], ids=[simulated.CONTAINER]) == [container]
    assert sessions.get_experiment_containers(imaging_depths=[1]) == []
    assert ids(cre_lines=["cux2-creert2"], reporter_lines=["AI93(TITL-GCaMP6f)"]) == everything
    assert ids(transgenic_lines=["Camk2a-tTA"], include_failed=True) == everything
    assert ids(transgenic_lines=["Ai94"]) == ids(reporter_lines=["Cux2-CreERT2"]) == []
    assert ids(stimuli=["natural_scenes", "natural_movie_two"]) == [501704221, 501704222]
    assert ids(stimuli=["natural_movie_one"], session_types=["three_session_C"]) == [501704222]
    assert ids(require_eye_tracking=True) == [501704220, 501704221]
    with h5py.File(days[1].path, "r+") as file:
        del file["general/subject/genotype"]
        file["general/subject/genotype"] = b"Cux2-CreERT2/wt;Camk2a-tTA/wt;Ai93(TITL-GCaMP6f)/Ai93(TITL-GCaMP6f)"
    sessions = open_sessions(folder)
    assert ids(cre_lines=["Cux2-CreERT2"], reporter_lines=["Ai93(TITL-GCaMP6f)"]) == everything
    assert sessions.get_experiment_containers(transgenic_lines=["camk2a-tta"]) == [container]
    assert sessions.get_experiment_containers(reporter_lines=["Ai94"]) == []


def test_everything_that_is_listed(allen):
    folder, days = allen
    boc = BrainObservatoryCache(folder / "manifest.json")
    assert boc.get_all_targeted_structures() == ["VISp"]
    assert boc.get_all_cre_lines() == ["Cux2-CreERT2"]
    assert boc.get_all_reporter_lines() == ["Ai93(TITL-GCaMP6f)"]
    assert boc.get_all_imaging_depths() == [175]
    assert boc.get_all_session_types() == list(simulated.TYPES)
    shown = [set(simulated.stimuli(day)) for day in days]
    assert boc.get_all_stimuli() == sorted(set.union(*shown))
    for number, of_day in enumerate(shown):
        assert boc.get_ophys_experiment_stimuli(501704220 + number) == sorted(of_day)
        with h5py.File(days[number].path, "r+") as file:
            del file["stimulus"]
    assert BrainObservatoryCache(folder / "manifest.json").get_all_stimuli() == sorted(set.union(*shown))


def test_cell_specimens(allen):
    folder, days = allen
    sessions = open_sessions(folder)
    where = {
        int(cell): [501704220 + day.number for day in days if cell in day.cells]
        for cell in np.concatenate([day.cells for day in days])
    }
    found = {cell["cell_specimen_id"]: cell for cell in sessions.get_cell_specimens()}
    assert {cell: listed["ophys_experiment_ids"] for cell, listed in found.items()} == where
    assert {cell: listed["all_stim"] for cell, listed in found.items()} == {
        c: len(ids) == 3 for c, ids in where.items()
    }
    first, *_ = where
    assert found[first]["experiment_container_id"] == simulated.CONTAINER
    assert (found[first]["area"], found[first]["tld1_name"]) == ("VISp", "Cux2-CreERT2")
    cells = lambda **wanted: {cell["cell_specimen_id"] for cell in sessions.get_cell_specimens(**wanted)}  # noqa: E731
    only = lambda field, op, value: cells(filters=[{"field": field, "op": op, "value": value}])  # noqa: E731
    assert cells(ids=[first, 3]) == {first}
    assert cells(experiment_container_ids=[1]) == set()
    assert only("all_stim", "is", True) == set(common(days))
    assert only("imaging_depth", "between", [100, 175]) == set(where)
    assert only("area", "in", ["VISp", "VISl"]) == only("imaging_depth", "between", [175, 200]) == set(where)
    assert only("imaging_depth", "<", 175) == only("specimen_id", "=", None) == set()
    assert only("cell_specimen_id", ">=", first) == {cell for cell in where if cell >= first}
    with pytest.raises(ValueError, match="field is 'osi_dg', but cells of local files have cell_specimen_id"):
        only("osi_dg", ">", 0.5)
    with pytest.raises(ValueError, match="op is '~', expected one of '='"):
        only("area", "~", "VISp")
    for field, op, value in (("area", "<", 3), ("imaging_depth", "between", 3), ("imaging_depth", "between", [3])):
        with pytest.raises(ValueError, match=r"filter .*: .* cannot be compared so with"):
            only(field, op, value)
    with pytest.raises(TypeError, match=r"filters is \{'field': 'area'\}, expected a list"):
        cells(filters={"field": "area"})


def test_a_store_s_attributes_are_searched_too(suite2p):
    store, days = suite2p
    sessions = open_sessions(store)
    cell = number_of(store, common(days)[0])
    found = sessions.get_ophys_experiments(cell_specimen_ids=[cell], session_types=["three_session_B"])
    assert [record["id"] for record in found] == ["day2"]
    assert found[0]["experiment_container_id"] == simulated.CONTAINER
    assert [container["id"] for container in sessions.get_experiment_containers()] == [simulated.CONTAINER]


def test_a_store_shows_only_cells_it_follows(tmp_path, days):
    for day in days:
        day.path = simulated.write_suite2p(tmp_path / day.name, day)
    skipped = common(days)[0]
    with link(tmp_path, days, skip=[skipped], source=lambda path: path.name) as store:
        data = open_sessions(store).get_ophys_experiment_data("day1")
        followed = sorted(set(days[0].cells.tolist()) - {skipped}, key=lambda cell: number_of(store, cell))
        assert data.get_cell_specimen_ids().tolist() == [number_of(store, cell) for cell in followed]
        places = [days[0].row(cell) for cell in followed]
        np.testing.assert_array_equal(data.get_roi_mask_array(), days[0].masks[places])
        np.testing.assert_array_equal(data.get_roi_ids(), places)


def test_planes_of_a_store(tmp_path, days):
    for day in days:
        day.path = simulated.write_suite2p(tmp_path / day.name, day, planes=2)
    with link(tmp_path, days, planes=2, group=lambda plane: f"plane{plane}") as store:
        sessions = open_sessions(store)
        assert {found["id"] for found in sessions.get_ophys_experiments()} == {
            f"{day.name}/plane{plane}" for day in days for plane in (0, 1)
        }
        for cell in common(days):
            masks = sessions.masks(number_of(store, cell))
            assert list(masks) == ["day1", "day2", "day3"]
            for day in days:
                np.testing.assert_array_equal(masks[day.name], day.masks[day.row(cell)])
        # an absent cell would be in the plane where it is on other days
        found = set()
        for cell in {cell for day in days for cell in day.cells.tolist()} - set(common(days)):
            planes = {f"plane{day.row(cell) % 2}" for day in days if cell in day.cells}
            if len(planes) == 1:
                absent = [place for place in sessions.find(number_of(store, cell)).values() if not place.present]
                assert {place.data.source.group for place in absent} == planes
                found |= planes
        assert found == {"plane0", "plane1"}


@pytest.mark.parametrize("kind", ["caiman", "nwb2", "recording", "allen"])
def test_one_unit_in_all_sessions_of_any_kind(tmp_path, days, kind):
    for day in days:
        day.path = getattr(simulated, f"write_{kind}")(tmp_path / day.name, day)
    with link(tmp_path, days, kind=kind) as store:
        for cell in common(days):
            number = number_of(store, cell)
            traces = store.traces(number, kind="fluorescence")
            for day in days:
                wanted = day.traces["fluorescence"][day.row(cell)]
                np.testing.assert_allclose(traces[day.name].values, wanted, rtol=1e-5)
            masks = store.masks(number)
            for day in days:
                np.testing.assert_array_equal(masks[day.name], day.masks[day.row(cell)])


def test_units_named_by_the_source_s_ids(tmp_path, days):
    """Without an original index, a unit is the ROI that has its id: the source's own, or the one across sessions."""
    day = days[0]
    day.path = simulated.write_allen(tmp_path, day)
    rows = pd.DataFrame(
        {
            "session": day.name,
            "group": "",
            "unit": ["9003", str(day.cells[1])],
            "identity": ["a", "b"],
        }
    )
    sessions = pd.DataFrame({"name": [day.name], "source": [str(day.path)], "kind": "allen"})
    with UnitStore.open(tmp_path / "units.sqlite") as store:
        store.import_table(UnitTable(rows, name="x", origin="test", sessions=sessions))
        data = open_sessions(store).get_ophys_experiment_data(day.name)
        assert [mask.label for mask in data.get_roi_mask()] == ["9003", "9001"]


@pytest.mark.parametrize(
    ("unit", "original_index", "message"),
    [
        ("0", 99, "no unit '0' among the 5 ROIs of .*, where its original index is 99"),
        ("77", None, "no unit '77' among the 5 ROIs of .*, whose ids are others"),
    ],
)
def test_units_that_the_source_lacks(tmp_path, days, unit, original_index, message):
    day = days[0]
    day.path = simulated.write_suite2p(tmp_path, day)
    rows = pd.DataFrame(
        {"session": [day.name], "group": "", "unit": unit, "original_index": original_index, "identity": "a"}
    )
    sessions = pd.DataFrame({"name": [day.name], "source": [str(day.path)], "kind": "suite2p"})
    with UnitStore.open(tmp_path / "units.sqlite") as store:
        store.import_table(UnitTable(rows, name="x", origin="test", sessions=sessions))
        with pytest.raises(SourceError, match=f"session 'day1'.*{message}"):
            open_sessions(store).get_ophys_experiment_data(day.name).get_roi_mask_array()


def test_absent_units_raise_or_are_nan(suite2p):
    store, days = suite2p
    cell = next(cell for cell in days[0].cells.tolist() if cell not in days[1].cells)
    number = number_of(store, cell)
    with pytest.raises(ValueError, match=f"cell {number} is absent in 'day2'; missing='nan'"):
        store.traces(number)
    with pytest.raises(ValueError, match=f"cell {number} is absent in 'day2'"):
        store.masks(number)
    with pytest.raises(ValueError, match="missing is 'no', expected 'raise' or 'nan'"):
        store.traces(number, missing="no")
    traces = store.traces(number, kind="spikes", missing="nan")
    assert list(traces) == ["day1", "day2", "day3"]
    np.testing.assert_array_equal(traces["day2"].timestamps, days[1].timestamps)
    assert np.isnan(traces["day2"].values).all()
    np.testing.assert_array_equal(traces["day3"].values, days[2].traces["spikes"][days[2].row(cell)])
    masks = store.masks(number, missing="nan")
    assert masks["day2"].shape == simulated.SHAPE
    assert np.isnan(masks["day2"]).all()
    assert masks["day1"].dtype == np.uint8


def test_sessions_without_a_source(tmp_path, days):
    for day in days[:2]:
        day.path = simulated.write_suite2p(tmp_path / day.name, day)
    with link(tmp_path, days) as store:
        with pytest.raises(SourceError, match="session 'day3' has no source in the unit store"):
            store.traces(number_of(store, common(days)[0]))
        cell = next(cell for cell in days[0].cells.tolist() if cell not in days[2].cells)
        assert len(store.traces(number_of(store, cell), missing="nan")["day3"].values) == 0
        assert open_sessions(store).get_ophys_experiments(ids=["day3"])[0]["session_type"] == "three_session_C"
        days[0].path.rename(tmp_path / "elsewhere")
        with pytest.raises(FileNotFoundError, match=r"session 'day1': its source .*day1 does not exist"):
            store.traces(number_of(store, cell), missing="nan")


def test_a_session_s_own_attribute_called_id(tmp_path, days):
    day = days[0]
    sessions = pd.DataFrame({"name": [day.name], "id": ["77"], "kind": ""})
    rows = pd.DataFrame({"session": [day.name], "group": "", "unit": "1", "identity": "a"})
    with UnitStore.open(tmp_path / "units.sqlite") as store:
        store.import_table(UnitTable(rows, name="x", origin="test", sessions=sessions))
        opened = open_sessions(store)
        assert [found["id"] for found in opened.get_ophys_experiments(cell_specimen_ids=[1])] == [day.name]


def test_units_by_key_and_by_uuid(suite2p):
    store, days = suite2p
    cell = common(days)[1]
    members = store.members()
    mine = members[members["label"] == str(cell)].iloc[0]
    wanted = store.traces(int(mine["number"]))
    for unit in (mine["global_id"], (mine["session"], mine["group"], mine["unit"])):
        np.testing.assert_array_equal(store.traces(unit)["day3"].values, wanted["day3"].values)


def test_as_dataframe(suite2p):
    store, days = suite2p
    cell = next(cell for cell in days[0].cells.tolist() if cell not in days[1].cells)
    number = number_of(store, cell)
    table = store.traces(number, kind="spikes", missing="nan", as_="dataframe")
    assert list(table) == ["session", "timestamp", "spikes"]
    mine = table[table["session"] == "day3"]
    np.testing.assert_array_equal(mine["spikes"], days[2].traces["spikes"][days[2].row(cell)])
    np.testing.assert_array_equal(mine["timestamp"], days[2].timestamps)
    assert table.loc[table["session"] == "day2", "spikes"].isna().all()
    pixels = store.masks(number, missing="nan", as_="dataframe")
    mine = pixels[pixels["session"] == "day1"]
    np.testing.assert_array_equal(np.stack([mine["y"], mine["x"]], 1), np.argwhere(days[0].masks[days[0].row(cell)]))
    assert "day2" not in set(pixels["session"])
    with pytest.raises(ValueError, match="as_ is 'list', expected"):
        store.traces(number, missing="nan", as_="list")


def test_as_xarray(tmp_path, days):
    pytest.importorskip("xarray", reason="xarray is not installed: arrays with labels are not tested")
    days[1].traces = {kind: traces[:, :200] for kind, traces in days[1].traces.items()}
    for day in days:
        day.path = simulated.write_suite2p(tmp_path / day.name, day)
    with link(tmp_path, days) as store:
        cell = common(days)[0]
        traces = store.traces(number_of(store, cell), kind="fluorescence", as_="xarray")
        masks = store.masks(number_of(store, cell), as_="xarray")
    assert traces.dims == ("session", "frame")
    assert traces.name == "fluorescence"
    for day in days:
        mine = traces.sel(session=day.name).dropna("frame")
        np.testing.assert_array_equal(mine, day.traces["fluorescence"][day.row(cell)])
        np.testing.assert_allclose(mine["timestamp"], day.timestamps)
        np.testing.assert_array_equal(masks.sel(session=day.name), day.masks[day.row(cell)])
    assert masks.dims == ("session", "y", "x")


def test_a_folder_of_mixed_sessions(tmp_path, days):
    simulated.write_suite2p(tmp_path / "mouse.1" / "monday", days[0])
    simulated.write_suite2p(tmp_path / "mouse.1" / "tuesday", days[1], planes=2)
    simulated.write_caiman(tmp_path / "results", days[2])
    simulated.write_nwb2(tmp_path, days[0])
    sessions = open_sessions(tmp_path)
    assert [found["id"] for found in sessions.get_ophys_experiments()] == [
        "day1",
        "mouse.1/monday",
        "mouse.1/tuesday/plane0",
        "mouse.1/tuesday/plane1",
        "results/day3",
    ]
    data = sessions.get_ophys_experiment_data("mouse.1/monday")
    np.testing.assert_array_equal(data.get_roi_mask_array(), days[0].masks)
    with pytest.raises(ValueError, match=r"session 'mouse\.1/monday'.*has no cell specimen ids.*open the unit store"):
        data.get_cell_specimen_ids()
    cell = int(days[0].cells[2])
    assert [found["id"] for found in sessions.get_ophys_experiments(cell_specimen_ids=[cell])] == ["day1"]


def test_lists_of_files_and_what_cannot_be_opened(tmp_path, days):
    one = simulated.write_caiman(tmp_path / "a", days[0])
    two = simulated.write_suite2p(tmp_path / "b", days[1])
    assert [found["id"] for found in open_sessions([one, two / "suite2p"]).get_ophys_experiments()] == ["a/day1", "b"]
    assert [found["id"] for found in open_sessions(one).get_ophys_experiments()] == ["day1"]
    assert len(open_sessions(two / "suite2p" / "plane0")) == 1
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(SourceError, match=r"notes\.txt: expected an NWB file"):
        open_sessions([one, tmp_path / "notes.txt"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="empty: expected an NWB file"):
        open_sessions(tmp_path / "empty")
    with pytest.raises(FileNotFoundError):
        open_sessions(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError):
        open_sessions([tmp_path / "nowhere.nwb"])
    with pytest.raises(SourceError, match="no sessions"):
        open_sessions([])


def test_nothing_is_read_before_it_is_asked_for(tmp_path, days):
    day = days[0]
    place = simulated.write_suite2p(tmp_path / "a", day) / "suite2p" / "plane0"
    for name in ("F.npy", "ops.npy", "stat.npy"):
        (place / name).write_bytes(b"damaged")
    path = simulated.write_allen(tmp_path / "b", day)
    with h5py.File(path, "r+") as file:
        for name in ("DfOverF/imaging_plane_1", "ImageSegmentation/imaging_plane_1"):
            del file["processing/brain_observatory_pipeline"][name]
    sessions = open_sessions(tmp_path)
    ids = [found["id"] for found in sessions.get_ophys_experiments(cell_specimen_ids=[int(day.cells[0])])]
    assert ids == [501704220]
    data = sessions.get_ophys_experiment_data(501704220)
    np.testing.assert_array_equal(data.get_fluorescence_traces([day.cells[3]])[1][0], day.traces["fluorescence"][3])
    for ask in (data.get_dff_traces, data.get_max_projection, sessions.get_ophys_experiment_data("a").get_dff_traces):
        with pytest.raises(ValueError, match=str(tmp_path)):
            ask()


def test_the_same_session_twice(allen):
    folder, days = allen
    (folder / "copy.nwb").write_bytes(days[0].path.read_bytes())
    with pytest.raises(ValueError, match=r"copy\.nwb and .*501704220\.nwb both call themselves 501704220"):
        open_sessions(folder)


def test_ids_that_a_file_does_not_follow_are_no_cells(tmp_path, days):
    path = simulated.write_nwb2(tmp_path, days[0], ids=False)
    numbers = np.array([5, -1, 3, -1, 0, 9][: len(days[0].cells)])
    with h5py.File(path, "r+") as file:
        file["processing/ophys/ImageSegmentation/PlaneSegmentation/multi_sess_unit"] = numbers
    sessions = open_sessions(path)
    data = sessions.get_ophys_experiment_data("day1")
    followed = np.flatnonzero(numbers != -1)
    assert data.get_cell_specimen_ids().tolist() == numbers[followed].tolist()
    np.testing.assert_array_equal(data.get_roi_mask_array([3]), days[0].masks[[2]])
    assert data.get_roi_mask_array().shape[0] == len(followed)
    assert list(sessions.presence.index) == sorted(numbers[followed])


def test_columns_that_a_store_wrote_into_files_are_read(tmp_path, days):
    for day in days:
        day.path = simulated.write_nwb2(tmp_path / "files", day, ids=False)
    skipped = common(days)[0]
    with link(tmp_path, days, kind="nwb", skip=[skipped]) as store:
        for day in days:
            write_nwb_columns(store, day.path, session=day.name)
        numbers = {cell: number_of(store, cell) for cell in common(days) if cell != skipped}
    sessions = open_sessions(tmp_path / "files")
    for cell, number in numbers.items():
        traces, masks = sessions.traces(number), sessions.masks(number)
        for day in days:
            np.testing.assert_array_equal(traces[day.name].values, day.traces["dff"][day.row(cell)])
            np.testing.assert_array_equal(masks[day.name], day.masks[day.row(cell)])
    assert sessions.get_ophys_experiment_data("day1").number_of_cells == len(days[0].cells) - 1


def test_presence(suite2p):
    store, days = suite2p
    presence = open_sessions(store).presence
    assert list(presence.columns) == ["day1", "day2", "day3"]
    for day in days:
        assert {number_of(store, cell) for cell in day.cells} == set(presence.index[presence[day.name]])


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """NWB 2 files with stimuli."""
    folder, days = tmp_path_factory.mktemp("shown"), simulated.sessions()
    for day in days:
        simulated.write_nwb2(folder, day, shown=True)
    return days, open_sessions(folder)


def test_stimuli_of_nwb_2(shown):
    days, sessions = shown
    data = sessions.get_ophys_experiment_data("day1")
    assert data.list_stimuli() == ["flashes", "gratings", "natural_movie_one", "natural_movie_two"]
    starts = simulated.movie_starts(days[0])
    movie = data.get_stimulus_table("natural_movie_one")
    assert movie["start"].tolist() == starts.ravel().tolist()
    assert movie["end"].tolist() == starts.ravel().tolist()
    assert movie["frame"].tolist() == list(range(simulated.MOVIE_FRAMES)) * simulated.MOVIE_REPEATS
    assert movie["repeat"].tolist() == np.repeat(range(simulated.MOVIE_REPEATS), simulated.MOVIE_FRAMES).tolist()
    gratings = data.get_stimulus_table("gratings")
    assert "repeat" not in gratings
    assert "orientation" not in movie
    assert gratings[["start", "end", "orientation"]].to_numpy().tolist() == [[20, 29, 45], [40, 49, 90]]
    assert gratings["start_time"].tolist() == pytest.approx([4, 6], abs=1e-4)
    second = data.get_stimulus_table("natural_movie_two")
    assert second[["frame", "repeat", "start", "end"]].to_numpy().tolist() == [
        [n % 4, n // 4, 200 + 2 * n, 201 + 2 * n] for n in range(8)
    ]
    flashes = data.get_stimulus_table("flashes")
    assert flashes[["size", "contrast", "start", "end"]].to_numpy().tolist() == [
        [1, 0.2, 250, 259],
        [2, 0.4, 260, 269],
        [3, 0.6, 270, 279],
    ]
    assert len(data.get_stimulus_table("master")) == len(movie) + 2 + 8 + 3
    with pytest.raises(SourceError, match="no stimulus 'gabors'; it has flashes, gratings"):
        data.get_stimulus_table("gabors")
    assert data.get_stimulus_epoch_table().to_numpy().tolist() == [["dark", 0, 9], ["gratings, loud", 20, 49]]
    assert data.get_stimulus_template("natural_movie_two").shape == (4, 3, 5)
    with pytest.raises(SourceError, match="no images of stimulus 'flashes'; it has natural_movie_two"):
        data.get_stimulus_template("flashes")
    speed, times = data.get_running_speed()
    assert (speed[3], times[3]) == (3, 3)
    assert [e["id"] for e in sessions.get_ophys_experiments(stimuli=["gratings"])] == ["day1", "day2", "day3"]


def test_movie_responses_of_nwb_2(shown):
    days, sessions = shown
    cell = next(c for c in days[0].cells if all(c in day.cells for day in days))
    found = sessions.movie_responses(cell, "natural_movie_one", kind="fluorescence")
    for day in days:
        expected = day.traces["fluorescence"][day.row(cell)][simulated.movie_starts(day)]
        np.testing.assert_array_equal(found[day.name], expected)


def test_epochs_of_nwb_2_are_joined_where_the_file_names_none(tmp_path):
    day = simulated.sessions()[0]
    path = simulated.write_nwb2(tmp_path, day, shown=True)
    with h5py.File(path, "r+") as file:
        del file["intervals/epochs"]
    found = open_sessions(path).get_ophys_experiment_data("day1").get_stimulus_epoch_table()
    starts = simulated.movie_starts(day).ravel()
    assert found.to_numpy().tolist() == [
        ["gratings", 20, 49],
        ["natural_movie_one", starts[0], starts[-1]],
        ["natural_movie_two", 200, 215],
        ["flashes", 250, 279],
    ]


def test_nwb_2_without_stimuli(tmp_path):
    simulated.write_nwb2(tmp_path, simulated.sessions()[0])
    data = open_sessions(tmp_path).get_ophys_experiment_data("day1")
    assert data.list_stimuli() == []
    with pytest.raises(SourceError, match="no stimuli"):
        data.get_stimulus_epoch_table()
    with pytest.raises(SourceError, match="expected one series of running speed, found none"):
        data.get_running_speed()
    with pytest.raises(SourceError, match="expected one series of pupil size, found none"):
        data.get_pupil_size()
    with pytest.raises(SourceError, match="nwb results keep no r of the neuropil"):
        data.get_neuropil_r()


def test_damaged_stimuli_of_nwb_2_are_named(tmp_path):
    table, series = "intervals/shown_presentations", "stimulus/presentation"
    changes = {
        f"{table}/stop_time": (None, "has no column stop_time"),
        f"{table}/start_time": (np.full(50, np.nan), "start_time holds what is no time"),
        f"{table}/stop_time ": (["a"] * 50, "stop_time holds what is no time"),
        f"{table}/orientation": (np.zeros(3), "columns of different lengths: .*'orientation': 3"),
        f"{series}/natural_movie_two/data": (np.arange(3), "two/data has 3 rows and 8 timestamps"),
        f"{series}/flashes/features": (["a"], r"flashes/data has shape \(3, 2\), expected 1 columns: a"),
    }
    for place, (value, message) in changes.items():
        path, place = simulated.write_nwb2(tmp_path, simulated.sessions()[0], shown=True), place.strip()
        with h5py.File(path, "r+") as file:
            file["intervals/other"], file[f"{series}/other"] = 1, 2  # no tables: not looked at
            del file[place]
            if value is not None:
                file[place] = value
        data = open_sessions(path).get_ophys_experiment_data("day1")
        assert "natural_movie_two" in data.list_stimuli()  # sessions are listed even so
        with pytest.raises(SourceError, match=rf"day1.nwb: /.*{message}"):
            data.get_stimulus_table("master")
    with h5py.File(path, "r+") as file:
        del file["intervals"], file["stimulus"], file["processing/running/speed/data"]
        file["processing/running/speed/data"] = np.zeros(3)
    data = open_sessions(path).get_ophys_experiment_data("day1")
    with pytest.raises(SourceError, match="speed has 3 values and 10 timestamps"):
        data.get_running_speed()


def test_presentations_outside_the_traces_are_left_out(tmp_path):
    path = simulated.write_nwb2(tmp_path, simulated.sessions()[0], shown=True)
    with h5py.File(path, "r+") as file:
        for name in ("start_time", "stop_time"):
            file[f"intervals/shown_presentations/{name}"][:] = -5 if name == "start_time" else -4
        del file["stimulus"]
    data = open_sessions(path).get_ophys_experiment_data("day1")
    assert data.list_stimuli() == ["gratings", "natural_movie_one"]
    assert len(data.get_stimulus_table("gratings")) == 0
    assert list(data.get_stimulus_table("master")) == ["end", "start", "stimulus"]


def test_a_presentation_within_a_sample_has_that_sample(tmp_path):
    path = simulated.write_nwb2(tmp_path, simulated.sessions()[0], shown=True)
    with h5py.File(path, "r+") as file:
        file["intervals/shown_presentations/start_time"][-1] = 6.01
        file["intervals/shown_presentations/stop_time"][-1] = 6.05
    table = open_sessions(path).get_ophys_experiment_data("day1").get_stimulus_table("gratings")
    assert table[["start", "end"]].to_numpy().tolist() == [[20, 29], [41, 41]]


def test_pupil_of_nwb_2(shown, tmp_path):
    _, sessions = shown
    data = sessions.get_ophys_experiment_data("day1")
    for times, values, expected in (
        (*data.get_pupil_size(), [60, 70]),
        (*data.get_pupil_location(as_spherical=False), [[1, 2], [3, 4]]),
        (*data.get_pupil_location(), np.degrees([[0.1, 0.2], [0.3, 0.4]])),
    ):
        assert times.tolist() == [2, 2.25]
        np.testing.assert_allclose(values, expected)
    assert len(sessions.get_ophys_experiments(require_eye_tracking=True)) == 3
    path = simulated.write_nwb2(tmp_path, simulated.sessions()[0], shown=True)
    pupil, gaze = "acquisition/PupilTracking", "processing/eye/EyeTracking/gaze"
    with h5py.File(path, "r+") as file:
        file[f"{gaze}/data"].attrs.update(unit="millimeters", conversion=10.0)  # the values are centimetres
    _, values = open_sessions(path).get_ophys_experiment_data("day1").get_pupil_location(as_spherical=False)
    np.testing.assert_allclose(values, [[1, 2], [3, 4]])
    with h5py.File(path, "r+") as file:
        file.move(f"{pupil}/pupil_area", f"{pupil}/diameter")
        del file[f"{gaze}/data"]
        file[f"{gaze}/data"] = np.zeros((2, 3))
    data = open_sessions(path).get_ophys_experiment_data("day1")
    with pytest.raises(SourceError, match=f"of pupil size, found /{pupil}/diameter, /{pupil}/pupil_raw"):
        data.get_pupil_size()
    with pytest.raises(SourceError, match=r"gaze/data has shape \(2, 3\), expected \(n, 2\)"):
        data.get_pupil_location(as_spherical=False)
    with h5py.File(path, "r+") as file:
        del file["acquisition"], file["processing/eye"]
        ellipses = file.create_group("acquisition/EyeTracking/pupil_tracking")
        ellipses.parent.attrs["neurodata_type"] = "EllipseEyeTracking"
        ellipses["data"], ellipses["area"], ellipses["timestamps"] = np.zeros((3, 2)), [5.0, 6.0, 7.0], np.arange(3.0)
    data = open_sessions(path).get_ophys_experiment_data("day1")
    assert np.stack(data.get_pupil_size()).tolist() == [[0, 1, 2], [5, 6, 7]]
    with pytest.raises(SourceError, match="expected one series of pupil location, found none"):
        data.get_pupil_location(as_spherical=False)
    with h5py.File(path, "r+") as file:
        del file["acquisition"]
    assert open_sessions(path).get_ophys_experiments(require_eye_tracking=True) == []


def test_events_beside_allen_files(allen):
    folder, days = allen
    first, second = 501704220, 501704221
    events = np.random.default_rng(0).random(days[0].traces["dff"].shape).astype(np.float32)
    (folder / "ophys_experiment_events").mkdir()
    np.savez(folder / "ophys_experiment_events" / f"{first}_events.npz", ev=events)
    boc = BrainObservatoryCache(folder / "manifest.json")
    np.testing.assert_array_equal(boc.get_ophys_experiment_events(first), events)
    data = boc.get_ophys_experiment_data(first)
    cell = days[0].cells[2]
    times, trace = data.get_traces("spikes", [cell])
    np.testing.assert_array_equal(trace, events[[2]])
    np.testing.assert_array_equal(times, data.get_dff_traces()[0])
    assert boc.get_nwb_filepath(first) == str(days[0].path)
    with pytest.raises(SourceError, match=f"{second}.nwb: no 'spikes' traces; it has fluorescence"):
        boc.get_ophys_experiment_events(second)
    np.savez(folder / "ophys_experiment_events" / f"{first}_events.npz", ev=events[:-1])
    with pytest.raises(SourceError, match=rf"{first}_events.npz: ev has shape .*, expected \({len(events)}, T\)"):
        boc.get_ophys_experiment_events(first)


def test_what_was_shown_at_a_sample(allen, shown):
    folder, days = allen
    gratings, scenes, noise = (open_sessions(folder).get_ophys_experiment_data(501704220 + d.number) for d in days)
    found = gratings.stimulus_search.search(12)
    assert found[:2] == (10, 15.99)
    assert found[2]["stimulus"] == "drifting_gratings"
    assert gratings.stimulus_search.search(20)[:2] == found[:2]  # pauses between gratings belong to the one before
    assert [gratings.stimulus_search.search(sample) for sample in (9, 41, 1000, -1)] == [None] * 4
    assert gratings.get_stimulus(50) == (None, None)  # only the grey monitor
    assert gratings.get_stimulus(12)[1] is None
    for data, day, sample, name, n_images in (
        (scenes, days[1], 81, "natural_scenes", 118),
        (noise, days[2], 45, "locally_sparse_noise", 118),
        (noise, days[2], 97, "natural_movie_one", simulated.MOVIE_FRAMES),
    ):
        rows, spans = simulated.stimuli(day)[name]
        frame = rows[np.flatnonzero(spans[:, 0] <= sample)[-1]]
        presentation, image = data.get_stimulus(sample)
        assert (presentation[2]["stimulus"], presentation[2]["frame"]) == (name, frame)
        images = data.get_stimulus_template(name)
        assert len(images) == n_images
        seen = image != 64  # squares of the noise outside the monitor
        assert seen.all() == (name != "locally_sparse_noise")
        np.testing.assert_array_equal(image[seen], images[frame][seen])
    with h5py.File(days[2].path, "r+") as file:
        del file["stimulus/templates/locally_sparse_noise_image_stack"]
    np.testing.assert_array_equal(noise.get_stimulus(98)[1], noise.get_stimulus_template("natural_movie_one")[5])
    with pytest.raises(SourceError, match="no images of stimulus 'locally_sparse_noise'"):
        noise.get_stimulus(45)  # those of the movie were kept last
    np.testing.assert_array_equal(noise.get_stimulus(80)[1], noise.get_stimulus_template("natural_movie_one")[0])
    with pytest.raises(SourceError, match="no images of stimulus 'natural_movie_three'"):
        gratings.get_stimulus(252)
    with h5py.File(days[1].path, "r+") as file:
        file["stimulus/presentation/natural_scenes_stimulus/data"][:2] = [-1, 400]
    scenes = open_sessions(folder).get_ophys_experiment_data(501704221)
    presentation, image = scenes.get_stimulus(71)
    assert presentation[2]["frame"] == -1
    assert image is None  # a blank is not the last image
    with pytest.raises(SourceError, match="'natural_scenes' shows image 400 at sample 73, but has 118 images"):
        scenes.get_stimulus(73)
    _, sessions = shown
    data = sessions.get_ophys_experiment_data("day1")
    assert data.get_stimulus(29)[0][2]["orientation"] == 45  # a file's own epochs may name no stimulus
    assert data.get_stimulus(35) == (None, None)
    assert data.get_stimulus(204)[1].shape == (3, 5)


def test_locally_sparse_noise_outside_the_monitor(allen):
    folder, days = allen
    data = open_sessions(folder).get_ophys_experiment_data(501704222)
    whole, on_screen = data.get_locally_sparse_noise_stimulus_template("locally_sparse_noise", mask_off_screen=False)
    masked, _ = data.get_locally_sparse_noise_stimulus_template("locally_sparse_noise")
    np.testing.assert_array_equal(whole, data.get_stimulus_template("locally_sparse_noise"))
    np.testing.assert_array_equal(masked[:, on_screen], whole[:, on_screen])
    assert (masked[:, ~on_screen] == 64).all()
    np.testing.assert_array_equal(on_screen, on_screen[::-1, ::-1])
    assert on_screen.sum(axis=1).tolist() == [20, 22, 24, 24, 24, 24, 24, 26, 26, 24, 24, 24, 24, 24, 22, 20]
    with pytest.raises(SourceError, match="'natural_movie_one' have 4 x 6 squares"):
        data.get_locally_sparse_noise_stimulus_template("natural_movie_one")
    with h5py.File(days[2].path, "r+") as file:
        file["stimulus/templates/locally_sparse_noise_8deg_image_stack/data"] = np.zeros((2, 8, 14), np.uint8)
    _, on_screen = data.get_locally_sparse_noise_stimulus_template("locally_sparse_noise_8deg")
    assert on_screen.sum(axis=1).tolist() == [10, 12, 12, 12, 12, 12, 12, 10]


def test_running_speed_and_pupil_of_allen_files(allen):
    folder, days = allen
    first, _, last = (open_sessions(folder).get_ophys_experiment_data(501704220 + day.number) for day in days)
    speed, times = first.get_running_speed()
    np.testing.assert_array_equal(times, days[0].timestamps)
    assert np.flatnonzero(np.isnan(speed)).tolist() == [0, 1, 2, len(times) - 2, len(times) - 1]
    with h5py.File(days[0].path, "r+") as file:  # on another clock
        file["processing/brain_observatory_pipeline/BehavioralTimeSeries/running_speed/timestamps"][:] += 0.01
    speed, times = first.get_running_speed()
    assert times[0] == days[0].timestamps[3] + 0.01
    assert not np.isnan(speed[0])
    assert [len(part) for part in first.get_pupil_size()] == [40, 40]
    assert first.get_pupil_location()[1].shape == (40, 2)
    assert not np.array_equal(first.get_pupil_location()[1], first.get_pupil_location(as_spherical=False)[1])
    with pytest.raises(SourceError, match="no eye tracking"):
        last.get_pupil_size()
    np.testing.assert_allclose(
        first.get_neuropil_r(days[0].cells[[2, 0]]), np.linspace(0.3, 0.8, len(days[0].cells))[[2, 0]]
    )


def test_planes_imported_one_after_the_other_keep_their_own_files(tmp_path):
    days = simulated.sessions(n_sessions=2)
    with UnitStore.open(tmp_path / "units.sqlite") as store:
        for plane, seed in (("left", 0), ("right", 1)):
            days = simulated.sessions(n_sessions=2, seed=seed)
            files = [simulated.write_caiman(tmp_path / plane, day) for day in days]
            found = read_caiman(np.array([[2, 3]]), ["day1", "day2"], sources=files, group=plane)
            store.import_table(found, other_groups="append")
        for plane, seed in (("left", 0), ("right", 1)):
            traces = store.traces(("day1", plane, "2"), kind="dff")
            for day, row in zip(simulated.sessions(n_sessions=2, seed=seed), (2, 3), strict=True):
                np.testing.assert_array_equal(traces[day.name].values, day.traces["dff"][row])
