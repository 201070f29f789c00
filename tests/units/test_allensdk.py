"""AllenSDK itself reads the simulated files, and finds in them what this package finds; pynwb's files are read as well.

AllenSDK may not be used commercially and is no dependency. It is asked in an environment of its own, Python 3.10 with
``pip install allensdk "statsmodels<0.14" "setuptools<81" "hdmf<4"``, which brings pynwb; the environment
variable PYFLOW_ALLENSDK_PYTHON names the interpreter.
"""

import json
import os
import subprocess

import numpy as np
import pytest
from units import simulated

from pyflow.units.across.opening import open_sessions
from pyflow.units.sources import SourceError

_PYTHON = os.environ.get("PYFLOW_ALLENSDK_PYTHON")

pytestmark = pytest.mark.skipif(
    not _PYTHON,
    reason="ALLENSDK NOT COMPARED: set PYFLOW_ALLENSDK_PYTHON to a Python that has it (see this file's first lines)",
)

_ASK = """
import json, sys
import numpy as np
from allensdk.brain_observatory.brain_observatory_exceptions import NoEyeTrackingException
from allensdk.core.brain_observatory_nwb_data_set import BrainObservatoryNwbDataSet

out, asked = sys.argv[1], json.loads(sys.argv[2])
found = {}
for name, (path, cells) in asked.items():
    data = BrainObservatoryNwbDataSet(path)
    found[name + "/cell_specimen_ids"] = data.get_cell_specimen_ids()
    found[name + "/roi_ids"] = data.get_roi_ids()
    found[name + "/indices"] = data.get_cell_specimen_indices(cells)
    found[name + "/max_projection"] = data.get_max_projection()
    found[name + "/all_masks"] = data.get_roi_mask_array()
    found[name + "/masks"] = data.get_roi_mask_array(cells)
    found[name + "/planes"] = np.stack([mask.get_mask_plane() for mask in data.get_roi_mask(cells)])
    kinds = {"fluorescence": data.get_fluorescence_traces, "neuropil": data.get_neuropil_traces,
             "corrected": data.get_corrected_fluorescence_traces, "dff": data.get_dff_traces}
    if data.get_metadata()["pipeline_version"] >= "2.0":
        kinds["demixed"] = data.get_demixed_traces
    for kind, get in kinds.items():
        found[name + "/times/" + kind], found[name + "/" + kind] = get()
        # h5py refuses indices that are not increasing, and so does AllenSDK
        found[name + "/some/" + kind] = np.concatenate([get([cell])[1] for cell in cells])
    motion = data.get_motion_correction()
    found[name + "/motion"] = motion.to_numpy()
    found[name + "/motion_columns"] = np.array(list(motion))
    for stimulus in [*data.list_stimuli(), "master", None]:
        table = data.get_stimulus_table(stimulus) if stimulus else data.get_stimulus_epoch_table()
        found[f"{name}/stimulus/{stimulus}"] = np.array(table.to_json(orient="table"))
    in_order = sorted(set(cells), key=lambda cell: data.get_cell_specimen_indices([cell]))
    found[name + "/r"] = data.get_neuropil_r(in_order)
    found[name + "/speed"] = np.stack(data.get_running_speed())
    try:
        for key, get in (("spherical", data.get_pupil_location), ("size", data.get_pupil_size),
                         ("location", lambda: data.get_pupil_location(as_spherical=False))):
            found[name + "/pupil_times/" + key], found[name + "/pupil/" + key] = get()
    except NoEyeTrackingException:
        pass
    found[name + "/session_type"] = np.array(data.get_session_type())
    samples = range(-1, 310)
    found[name + "/at_sample"] = np.array(json.dumps([data.stimulus_search.search(n) for n in samples], default=float))
    for n in (62, 82, 97):
        image = data.get_stimulus(n)[1]
        found[f"{name}/image/{n}"] = np.zeros(0) if image is None else image
    if "locally_sparse_noise" in data.list_stimuli():
        noise = data.get_locally_sparse_noise_stimulus_template("locally_sparse_noise")
        found[name + "/noise"], found[name + "/on_screen"] = noise
    found[name + "/images"] = data.get_stimulus_template("natural_movie_one")
    masks = data.get_roi_mask(cells)
    found[name + "/corners"] = np.array([(mask.x, mask.y, mask.width, mask.height) for mask in masks])
    found[name + "/crop"] = masks[0].mask
    found[name + "/metadata"] = np.array(json.dumps(data.get_metadata(), default=lambda value: value.isoformat()))
np.savez(out, **found)
"""


_WRITE = """
import sys
from datetime import datetime, timezone
import numpy as np
from pynwb import NWBFile, NWBHDF5IO
from pynwb.base import Images, TimeSeries
from pynwb.behavior import BehavioralTimeSeries, EyeTracking, PupilTracking, SpatialSeries
from pynwb.epoch import TimeIntervals
from pynwb.image import GrayscaleImage, ImageSeries, IndexSeries
from pynwb.ophys import DfOverF, Fluorescence, ImageSegmentation, OpticalChannel, RoiResponseSeries

path, data, how = sys.argv[1:]
data = np.load(data)
file = NWBFile("a test", "id-1", datetime(2024, 1, 1, 10, tzinfo=timezone.utc), session_id="7")
device = file.create_device("microscope")
channel = OpticalChannel("channel", "green", 520.0)
plane = file.create_imaging_plane("plane", channel, "an image", device, 910.0, "GCaMP6f", "VISp", imaging_rate=10.0)
ophys = file.create_processing_module("ophys", "results")
ophys.add(Images("images", images=[GrayscaleImage("max_projection", data["image"])]))
segmentation = ImageSegmentation()
ophys.add(segmentation)
table = segmentation.create_plane_segmentation("cells", plane, "rois")
table.add_column("cell_specimen_id", "who is who")
for cell, mask in zip(data["cells"], data["masks"]):
    y, x = np.nonzero(mask)
    if how == "image":
        mask = {"image_mask": mask.astype(np.float32)}
    elif how == "pixel":
        mask = {"pixel_mask": [(int(a), int(b), 1.0) for a, b in zip(x, y)]}
    else:
        mask = {"voxel_mask": [(int(a), int(b), z, 1.0) for a, b in zip(x, y) for z in (0, 1)]}
    table.add_roi(cell_specimen_id=int(cell), **mask)
everything = table.create_roi_table_region("all", region=list(range(len(data["cells"]))))
some = table.create_roi_table_region("two", region=[3, 1])
ophys.add(Fluorescence(roi_response_series=[
    RoiResponseSeries("RoiResponseSeries", data["fluorescence"].T, "a.u.", everything, rate=10.0, starting_time=1.0)]))
ophys.add(DfOverF(roi_response_series=[
    RoiResponseSeries("traces", data["dff"][[3, 1]].T, "1", some, timestamps=data["times"])]))
shown = TimeIntervals("movie_presentations", "shown")
shown.add_column("stimulus_name", "which")
shown.add_column("frame", "of the movie")
for n in range(6):
    shown.add_interval(start_time=4 + n / 10, stop_time=4 + (n + 1) / 10, stimulus_name="my_movie", frame=n % 3)
file.add_time_intervals(shown)
file.add_epoch(4.0, 5.0, ["movie", "first"])
images = ImageSeries("other", data=np.zeros((2, 3, 5), np.uint8), unit="n.a.", rate=1.0)
file.add_stimulus_template(images)
file.add_stimulus(IndexSeries("other", data=np.array([1, 0], np.uint32), unit="N/A", indexed_timeseries=images,
                              timestamps=[6.0, 7.0]))
behavior = file.create_processing_module("behavior", "what it did")
running = TimeSeries("running_speed", data=np.arange(5.0), unit="cm/s", timestamps=np.arange(5.0))
behavior.add(BehavioralTimeSeries(time_series=running))
size = TimeSeries("pupil_size", data=np.arange(50.0, 54.0), unit="pixels", rate=30.0, starting_time=1.0)
behavior.add(PupilTracking(time_series=size))
behavior.add(EyeTracking(spatial_series=[
    SpatialSeries("gaze", data=np.ones((4, 2)), unit="meters", conversion=0.01, timestamps=np.arange(4.0)),
    SpatialSeries("gaze_spherical", data=np.ones((4, 2)), unit="degrees", timestamps=np.arange(4.0))]))
with NWBHDF5IO(path, "w") as io:
    io.write(file)
"""


@pytest.mark.parametrize("how", ["image", "pixel", "voxel"])
def test_files_that_pynwb_writes(tmp_path, how):
    day = simulated.sessions()[0]
    arrays = {"cells": day.cells, "masks": day.masks, "image": day.image, "times": day.timestamps + 3}
    np.savez(tmp_path / "data.npz", **arrays, **{kind: day.traces[kind] for kind in ("fluorescence", "dff")})
    command = [_PYTHON, "-W", "ignore", "-c", _WRITE, str(tmp_path / "a.nwb"), str(tmp_path / "data.npz"), how]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    ours = open_sessions(tmp_path).get_ophys_experiment_data("a")
    np.testing.assert_array_equal(ours.get_cell_specimen_ids(), day.cells)
    np.testing.assert_array_equal(ours.get_roi_mask_array(), day.masks)
    np.testing.assert_array_equal(ours.get_max_projection(), day.image)
    times, traces = ours.get_fluorescence_traces(day.cells[[2, 0]])
    np.testing.assert_array_equal(traces, day.traces["fluorescence"][[2, 0]])
    np.testing.assert_allclose(times, day.timestamps + 1)
    times, traces = ours.get_dff_traces(day.cells[[1, 3, 1]])
    np.testing.assert_array_equal(traces, day.traces["dff"][[1, 3, 1]])
    np.testing.assert_allclose(times, day.timestamps + 3)
    found = ours.get_metadata()
    assert (found["identifier"], found["session_id"], found["targeted_structure"]) == ("id-1", "7", "VISp")
    assert found["excitation_lambda"] == 910.0
    assert ours.list_stimuli() == ["my_movie", "other"]
    shown = ours.get_stimulus_table("my_movie")[["frame", "repeat", "start", "end"]]  # the fluorescence begins at 1 s
    assert shown.to_numpy().tolist() == [[n % 3, n // 3, 30 + n, 30 + n] for n in range(6)]
    assert ours.get_stimulus_table("other")[["frame", "start", "end"]].to_numpy().tolist() == [[1, 50, 59], [0, 60, 69]]
    assert ours.get_stimulus_epoch_table().to_numpy().tolist() == [["movie, first", 30, 39]]
    assert ours.get_stimulus_template("other").shape == (2, 3, 5)
    np.testing.assert_array_equal(ours.get_running_speed(), [np.arange(5.0)] * 2)
    times, size = ours.get_pupil_size()
    np.testing.assert_allclose(times, 1 + np.arange(4) / 30)
    np.testing.assert_array_equal(size, np.arange(50.0, 54.0))
    for spherical in (True, False):
        np.testing.assert_allclose(ours.get_pupil_location(as_spherical=spherical)[1], np.ones((4, 2)))


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The simulated sessions, what AllenSDK finds in them, and what we find."""
    folder = tmp_path_factory.mktemp("allen")
    days = simulated.sessions()
    asked = {}
    for day, version, name in zip(
        days, ("2.0", "1.0", "3.0"), ("xy_translation", "xy_translations", "xy_translation"), strict=True
    ):
        day.path = simulated.write_allen(folder, day, version, name)
        asked[day.name] = (str(day.path), day.cells[[4, 0, 0, 2]].tolist())
    out = folder / "found.npz"
    done = subprocess.run(
        [_PYTHON, "-W", "ignore", "-c", _ASK, str(out), json.dumps(asked)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    with np.load(out) as file:
        theirs = dict(file)
    return days, asked, theirs, open_sessions(folder)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_allensdk_finds_the_same(both, number):
    days, asked, theirs, sessions = both
    name = days[number].name
    cells = asked[name][1]
    ours = sessions.get_ophys_experiment_data(501704220 + number)
    same = lambda key, value: np.testing.assert_array_equal(value, theirs[f"{name}/{key}"], err_msg=key)  # noqa: E731
    same("cell_specimen_ids", ours.get_cell_specimen_ids())
    same("roi_ids", ours.get_roi_ids())
    same("indices", ours.get_cell_specimen_indices(cells))
    same("max_projection", ours.get_max_projection())
    same("all_masks", ours.get_roi_mask_array())
    same("masks", ours.get_roi_mask_array(cells))
    same("planes", np.stack([mask.get_mask_plane() for mask in ours.get_roi_mask(cells)]))
    kinds = [key.split("/")[2] for key in theirs if key.startswith(f"{name}/times/")]
    assert set(kinds) >= {"fluorescence", "neuropil", "corrected", "dff"}
    for kind in kinds:
        times, traces = ours.get_traces(kind)
        same(f"times/{kind}", times)
        same(kind, traces)
        same(f"some/{kind}", ours.get_traces(kind, cells)[1])
    motion = ours.get_motion_correction()
    same("motion", motion.to_numpy())
    same("motion_columns", list(motion))


@pytest.mark.parametrize("number", [0, 1, 2])
def test_allensdk_finds_the_same_behaviour(both, number):
    days, asked, theirs, sessions = both
    name = days[number].name
    ours = sessions.get_ophys_experiment_data(501704220 + number)
    in_order = sorted(set(asked[name][1]), key=lambda cell: ours.get_cell_specimen_indices([cell]))
    np.testing.assert_array_equal(ours.get_neuropil_r(in_order), theirs[f"{name}/r"])
    np.testing.assert_array_equal(np.stack(ours.get_running_speed()), theirs[f"{name}/speed"])
    gets = {
        "size": ours.get_pupil_size,
        "spherical": ours.get_pupil_location,
        "location": lambda: ours.get_pupil_location(as_spherical=False),
    }
    for key, get in gets.items():
        if number == 2:
            with pytest.raises(SourceError, match="no eye tracking"):
                get()
            continue
        times, values = get()
        np.testing.assert_array_equal(times, theirs[f"{name}/pupil_times/{key}"])
        np.testing.assert_array_equal(values, theirs[f"{name}/pupil/{key}"])


@pytest.mark.parametrize("number", [0, 1, 2])
def test_allensdk_finds_the_same_stimuli(both, number):
    days, asked, theirs, sessions = both
    name = days[number].name
    ours = sessions.get_ophys_experiment_data(501704220 + number)
    stimuli = [key.split("/")[2] for key in theirs if key.startswith(f"{name}/stimulus/")]
    assert [*ours.list_stimuli(), "master", "None"] == stimuli
    for stimulus in stimuli:
        table = ours.get_stimulus_epoch_table() if stimulus == "None" else ours.get_stimulus_table(stimulus)
        assert (
            json.loads(table.to_json(orient="table"))["data"]
            == json.loads(str(theirs[f"{name}/stimulus/{stimulus}"]))["data"]
        )
    # AllenSDK finds nothing at the last sample of an epoch
    ends = set(ours.get_stimulus_epoch_table()["end"].tolist())
    at_sample = json.loads(str(theirs[f"{name}/at_sample"]))
    for sample, expected in zip(range(-1, 310), at_sample, strict=True):
        if sample not in ends:
            found = json.dumps(ours.stimulus_search.search(sample), default=float)
            assert json.loads(found, parse_int=float) == json.loads(json.dumps(expected), parse_int=float), sample
    for n in (62, 82, 97):
        image = ours.get_stimulus(n)[1]
        np.testing.assert_array_equal(np.zeros(0) if image is None else image, theirs[f"{name}/image/{n}"])
    if f"{name}/noise" in theirs:
        noise, on_screen = ours.get_locally_sparse_noise_stimulus_template("locally_sparse_noise")
        np.testing.assert_array_equal(noise, theirs[f"{name}/noise"])
        np.testing.assert_array_equal(on_screen, theirs[f"{name}/on_screen"])
    assert ours.get_session_type() == str(theirs[f"{name}/session_type"])
    np.testing.assert_array_equal(ours.get_stimulus_template("natural_movie_one"), theirs[f"{name}/images"])
    masks = ours.get_roi_mask(asked[name][1])
    np.testing.assert_array_equal([(m.x, m.y, m.width, m.height) for m in masks], theirs[f"{name}/corners"])
    np.testing.assert_array_equal(masks[0].mask, theirs[f"{name}/crop"])


@pytest.mark.parametrize("number", [0, 1, 2])
def test_allensdk_finds_the_same_metadata(both, number):
    days, _, theirs, sessions = both
    ours = sessions.get_ophys_experiment_data(501704220 + number).get_metadata()
    ours["session_start_time"] = ours["session_start_time"].isoformat()
    assert ours == json.loads(str(theirs[f"{days[number].name}/metadata"]))


_FILTER = """
import json, sys
from allensdk.api.queries.brain_observatory_api import BrainObservatoryApi

api = BrainObservatoryApi()
experiments, cells, asked = json.loads(sys.argv[1])
for record in experiments:
    kinds = {record["cre_line"]: "driver", record["reporter_line"]: "reporter"}
    lines = [{"name": name, "transgenic_line_type_name": kinds.get(name, "driver")} for name in record.pop("lines")]
    record["specimen"] = {"name": "", "donor": {"external_donor_name": "", "transgenic_lines": lines}}
    record["targeted_structure"] = {"acronym": record["targeted_structure"]}
    record["stimulus_name"] = record["session_type"]
found = [[record["id"] for record in api.filter_ophys_experiments(experiments, **wanted)] for wanted in asked[0]]
found += [[cell["cell_specimen_id"] for cell in api.filter_cell_specimens(cells, **wanted)] for wanted in asked[1]]
print(json.dumps(found))
"""


def test_allensdk_s_filters_choose_the_same(both):
    days, asked, _, sessions = both
    cell = asked[days[0].name][1][0]
    of_experiments = [
        {},
        {"ids": [501704222, 501704220, 3]},
        {"experiment_container_ids": [simulated.CONTAINER]},
        {"experiment_container_ids": [1]},
        {"targeted_structures": ["VISp", "VISl"], "imaging_depths": [175]},
        {"imaging_depths": [200]},
        {"cre_lines": ["cux2-creert2"], "reporter_lines": ["ai93(titl-gcamp6f)"]},
        {"cre_lines": []},
        {"transgenic_lines": ["Camk2a-tTA"], "include_failed": True},
        {"transgenic_lines": ["Ai94"]},
        {"stimuli": ["natural_scenes", "natural_movie_two"]},
        {"stimuli": ["natural_movie_one"], "session_types": ["three_session_C", "three_session_B"]},
        {"session_types": ["three_session_C2"]},
    ]
    of_cells = [
        {},
        {"ids": [cell, 3]},
        {"experiment_container_ids": [1]},
        *(
            {"filters": [{"field": field, "op": op, "value": value}]}
            for field, op, value in (
                ("all_stim", "is", True),
                ("area", "in", ["VISp"]),
                ("imaging_depth", "between", [170, 175]),
                ("imaging_depth", "<", 175),
                ("cell_specimen_id", "<=", cell),
                ("cell_specimen_id", ">", cell),
                ("cell_specimen_id", "=", cell),
            )
        ),
    ]
    lines = ["Cux2-CreERT2", "Camk2a-tTA", "Ai93(TITL-GCaMP6f)"]
    experiments = [record | {"lines": lines} for record in sessions.get_ophys_experiments()]
    said = json.dumps([experiments, sessions.get_cell_specimens(), [of_experiments, of_cells]])
    done = subprocess.run([_PYTHON, "-W", "ignore", "-c", _FILTER, said], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    ours = [[record["id"] for record in sessions.get_ophys_experiments(**wanted)] for wanted in of_experiments]
    ours += [[c["cell_specimen_id"] for c in sessions.get_cell_specimens(**wanted)] for wanted in of_cells]
    assert ours == json.loads(done.stdout.splitlines()[-1])
