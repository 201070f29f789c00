"""Each format's ROIs and traces are what was written into it."""

import shutil
import tracemalloc

import h5py
import numpy as np
import pandas as pd
import pytest
from units import simulated

from pyflow.layout import MASK_FILE, ROI_FILE, VIDEO_FILE
from pyflow.units.sources import SourceError, find_sources, open_source
from pyflow.units.sources.dff import dff, running_baseline

WRITERS = {
    "allen": simulated.write_allen,
    "suite2p": simulated.write_suite2p,
    "caiman": simulated.write_caiman,
    "nwb": simulated.write_nwb2,
    "pyflow": simulated.write_recording,
}
ORDER = [4, 0, 0, 3, 4]


@pytest.fixture
def session():
    return simulated.sessions(n_cells=6)[1]


@pytest.fixture(params=WRITERS)
def written(request, tmp_path, session):
    return open_source(WRITERS[request.param](tmp_path / "s", session)), session


def test_formats_are_recognised(written, request):
    source, session = written
    assert source.kind == request.node.callspec.params["written"]
    assert len(source.roi_ids) == len(session.cells)
    assert source.shape == simulated.SHAPE


def test_masks(written):
    source, session = written
    np.testing.assert_array_equal(source.masks(), session.masks)
    np.testing.assert_array_equal(source.masks(ORDER), session.masks[ORDER])
    assert source.masks(ORDER).dtype == np.uint8
    assert source.masks([]).shape == (0, *simulated.SHAPE)


def test_traces_out_of_order_and_repeated(written):
    source, session = written
    for kind in {"fluorescence", "neuropil", "spikes", "demixed"} & set(source.trace_kinds):
        np.testing.assert_allclose(source.traces(kind), session.traces[kind], rtol=1e-5)
        np.testing.assert_allclose(source.traces(kind, ORDER), session.traces[kind][ORDER], rtol=1e-5)
        assert source.timestamps(kind).shape == session.timestamps.shape
        assert source.time_unit == "s"
    assert "fluorescence" in source.trace_kinds
    assert source.traces("dff", []).shape == (0, session.traces["dff"].shape[1])


def test_what_is_not_there_is_named(written):
    source, session = written
    with pytest.raises(SourceError, match=f"{source.path}: no 'wishes' traces; it has .*fluorescence"):
        source.traces("wishes")
    with pytest.raises(IndexError, match=f"ROI {len(session.cells)} of {len(session.cells)}"):
        source.traces("fluorescence", [0, len(session.cells)])
    with pytest.raises(IndexError, match="ROI -1 of"):
        source.masks([-1])


def test_images(tmp_path, session):
    names = {}
    for kind, write in WRITERS.items():
        source = open_source(write(tmp_path / kind, session))
        image, names[kind] = source.image()
        if kind == "suite2p":
            np.testing.assert_array_equal(image[1:-1, 2:-2], session.image[1:-1, 2:-2])
            assert not image[0].any()
            assert image.shape == simulated.SHAPE
        elif kind != "pyflow":
            np.testing.assert_array_equal(image, session.image)
    assert names == {
        "allen": "maximum projection",
        "suite2p": "maximum projection",
        "caiman": "correlation image",
        "nwb": "maximum projection",
        "pyflow": "mean image",
    }


def test_reading_one_trace_takes_little_memory(tmp_path):
    session = simulated.sessions(n_cells=6, n_frames=200_000)[0]
    size = session.traces["fluorescence"].nbytes
    for kind in ("allen", "suite2p", "caiman", "nwb"):
        path = WRITERS[kind](tmp_path / kind, session)
        tracemalloc.start()
        trace = open_source(path).traces("fluorescence", [3])
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        np.testing.assert_allclose(trace[0], session.traces["fluorescence"][3], rtol=1e-5)
        assert peak < 0.75 * size, kind


# Allen


def test_allen_ids_metadata_and_motion(tmp_path, session):
    source = open_source(simulated.write_allen(tmp_path, session))
    np.testing.assert_array_equal(source.cell_specimen_ids, session.cells)
    np.testing.assert_array_equal(source.roi_ids, np.arange(len(session.cells)) + 9100)
    assert source.experiment_id == 501704221
    found = source.metadata()
    assert found["session_start_time"].isoformat() == "2016-02-02T10:25:24"
    assert found | {"session_start_time": None} == {
        "age_days": 105,
        "cre_line": "Cux2-CreERT2",
        "device": "Nikon A1R",
        "device_name": "CAM2P.2",
        "excitation_lambda": "910 nanometers",
        "experiment_container_id": simulated.CONTAINER,
        "fov": "400x400 microns (512 x 512 pixels)",
        "genotype": "Cux2-CreERT2;Camk2a-tTA;Ai93(TITL-GCaMP6f)",
        "imaging_depth_um": 175,
        "indicator": "GCaMP6f",
        "ophys_experiment_id": 501704221,
        "pipeline_version": "2.0",
        "session_start_time": None,
        "session_type": "three_session_B",
        "sex": "male",
        "specimen_name": "Cux2-CreERT2;Camk2a-tTA;Ai93-222426",
        "targeted_structure": "VISp",
    }
    moves = source.motion_correction()
    assert list(moves) == ["x_motion", "y_motion", "timestamp"]
    assert len(moves) == len(session.timestamps)


@pytest.mark.parametrize(("version", "base"), [("1.0", "fluorescence"), ("2.0", "demixed")])
def test_allen_neuropil_is_subtracted_from_what_the_version_says(tmp_path, session, version, base):
    source = open_source(simulated.write_allen(tmp_path, session, version, "xy_translations"))
    r = np.linspace(0.3, 0.8, len(session.cells))[:, np.newaxis]
    wanted = session.traces[base] - r * session.traces["neuropil"]
    np.testing.assert_allclose(source.traces("corrected", ORDER), wanted[ORDER])
    np.testing.assert_allclose(source.timestamps("dff"), session.timestamps + 0.01)
    np.testing.assert_allclose(source.timestamps("corrected"), session.timestamps)
    assert len(source.motion_correction())


def test_allen_stimuli(tmp_path):
    """What was written comes back in order of time, whatever its order in the file."""
    for day in simulated.sessions():
        source, written = open_source(simulated.write_allen(tmp_path, day)), simulated.stimuli(day)
        assert source.stimuli() == sorted(written)
        for name, (data, span) in written.items():
            found = source.stimulus_table(name)
            if name == "spontaneous":
                assert found[["start", "end"]].to_numpy().tolist() == span[:, 0].reshape(-1, 2).tolist()
                continue
            assert found[["start", "end"]].to_numpy().tolist() == span.tolist()
            columns = list(simulated.GRATINGS.get(name, ["frame"]))
            np.testing.assert_array_equal(found[columns].to_numpy(), data.reshape(len(data), -1))
            if name.startswith("natural_movie"):
                assert found["repeat"].tolist() == [n // simulated.MOVIE_FRAMES for n in range(len(found))]
        with h5py.File(source.path, "r+") as file:
            place = "stimulus/presentation/natural_movie_one_stimulus/data"
            column = file[place][()][:, np.newaxis]  # as early versions of their pipeline have other series
            before = source.stimulus_table("natural_movie_one")
            del file[place]
            file[place] = column
        pd.testing.assert_frame_equal(source.stimulus_table("natural_movie_one"), before)
        assert len(source.stimulus_table("master")) == sum(len(source.stimulus_table(name)) for name in written)
        np.testing.assert_array_equal(source.stimulus_template("natural_movie_one")[3, 2, 1], 3 * 24 + 13)


@pytest.mark.parametrize(
    ("kind", "epochs"),
    [
        ("three_session_A", [(10, 40), (150, 168)]),  # a gap of 110 frames, sweeps every 12
        ("three_session_B", [(5, 25), (45, 65)]),  # of 20: static gratings do not pause
        ("three_session_C", [(3, 33), (41, 71)]),  # of 8
        ("my own", [(5, 65)]),  # nobody knows how long it pauses
    ],
)
def test_allen_epochs(tmp_path, kind, epochs):
    day = next((day for day in simulated.sessions() if day.kind == kind), simulated.sessions()[1])
    path = simulated.write_allen(tmp_path, day)
    with h5py.File(path, "r+") as file:
        file["general/session_type"][()] = np.bytes_(kind)
    found = open_source(path).stimulus_epochs()
    assert found["start"].is_monotonic_increasing
    interrupted = {"three_session_A": "drifting_gratings", "three_session_C": "locally_sparse_noise"}
    of_one = found[found["stimulus"] == interrupted.get(kind, "static_gratings")]
    assert list(zip(of_one["start"], of_one["end"], strict=True)) == epochs


@pytest.mark.parametrize(("number", "pause"), [(0, 39), (1, 15), (2, 7)])
def test_the_longest_pause_within_an_epoch(tmp_path, number, pause):
    """AllenSDK 2.16 joins across 39, 15 and 7 frames, and parts where there is one more."""
    day = simulated.sessions()[number]
    name = ("drifting_gratings", "static_gratings", "locally_sparse_noise")[number]
    for gap, more in ((pause, 0), (pause + 1, 1)):
        path = simulated.write_allen(tmp_path, day)
        with h5py.File(path, "r+") as file:
            spans = file[f"stimulus/presentation/{name}_stimulus/frame_duration"]
            before = spans[-2, 1]
            spans[-1] = [before + gap, before + gap + 3]
        assert (open_source(path).stimulus_epochs()["stimulus"] == name).sum() == 2 + more


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("drifting_gratings_stimulus/data", np.zeros((4, 3)), "data has 4 rows, frame_duration has 5"),
        ("drifting_gratings_stimulus/features", np.array([b"a"]), r"shape \(5, 3\), expected 1 columns: a"),
        ("natural_movie_one_stimulus/data", np.zeros((48, 2)), r"shape \(48, 2\), expected 1 columns: frame"),
        ("spontaneous_stimulus/data", np.array([1, -1, 1, 1]), r"has 3 starts \(1\) and 1 ends \(-1\)"),
        ("natural_movie_one_stimulus/frame_duration", None, "frame_duration: expected a data set, found nothing"),
    ],
)
def test_damaged_allen_stimuli_are_named(tmp_path, place, value, message):
    path = simulated.write_allen(tmp_path, simulated.sessions()[0])
    with h5py.File(path, "r+") as file:
        del file[f"stimulus/presentation/{place}"]
        if value is not None:
            file[f"stimulus/presentation/{place}"] = value
    with pytest.raises(SourceError, match=message):
        open_source(path).stimulus_table("master")


def test_stimuli_that_are_not_there(written):
    source, _ = written
    if source.kind == "allen":
        for ask in (source.stimulus_table, source.stimulus_template):
            with pytest.raises(SourceError, match=r"stimulus 'natural_movie'; it has .*natural_movie_one"):
                ask("natural_movie")
        with h5py.File(source.path, "r+") as file:
            del file["stimulus"]
    assert source.stimuli() == []
    for ask in (lambda: source.stimulus_table("x"), source.stimulus_epochs, lambda: source.stimulus_template("x")):
        with pytest.raises(SourceError, match=r"keep no stimuli|no stimuli|'x'; it has none"):
            ask()


def test_allen_with_little_metadata(tmp_path, session):
    path = simulated.write_allen(tmp_path, session)
    with h5py.File(path, "r+") as file:
        for name in ("general/subject", "general/devices", "general/generated_by", "session_start_time"):
            del file[name]
        del file["processing/brain_observatory_pipeline/MotionCorrection"]
    source = open_source(path)
    found = source.metadata()
    assert (found["age_days"], found["device"], found["session_start_time"]) == (None, None, None)
    assert found["pipeline_version"] == "0.9"
    with pytest.raises(SourceError, match="xy_translation"):
        source.motion_correction()


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("ImageSegmentation/roi_ids", None, "expected a data set, found nothing"),
        ("ImageSegmentation/roi_ids", np.arange(3), "names 5 ROIs, roi_ids has 3"),
        ("ImageSegmentation/imaging_plane_1/roi_001/img_mask", np.zeros((2, 2)), r"shape \(2, 2\), the image has"),
        ("ImageSegmentation/imaging_plane_1/roi_001/img_mask", np.zeros(3), r"expected 2 dimensions, found shape"),
        ("DfOverF/imaging_plane_1/data", np.zeros((2, 300)), "has 2 ROIs, but the table of ROIs has more"),
    ],
)
def test_damaged_allen_files_are_named(tmp_path, session, place, value, message):
    path = simulated.write_allen(tmp_path, session)
    with h5py.File(path, "r+") as file:
        pipeline = file["processing/brain_observatory_pipeline"]
        del pipeline[place]
        if value is not None:
            pipeline[place] = value
    with pytest.raises(SourceError, match=message) as caught:
        source = open_source(path)
        source.masks([1])
        source.traces("dff", [4])
    assert str(path) in str(caught.value)


# suite2p


def test_suite2p_planes(tmp_path, session):
    simulated.write_suite2p(tmp_path, session, planes=2, combined=True)
    for path in (tmp_path, tmp_path / "suite2p"):
        planes = find_sources(path)
        assert [source.group for source in planes] == ["plane0", "plane1"]
        for plane, source in enumerate(planes):
            np.testing.assert_array_equal(source.masks(), session.masks[plane::2])
            np.testing.assert_array_equal(source.traces("spikes"), session.traces["spikes"][plane::2])
    np.testing.assert_array_equal(open_source(tmp_path, "plane1").masks(), session.masks[1::2])
    np.testing.assert_array_equal(open_source(tmp_path / "suite2p" / "combined").masks(), session.masks)
    with pytest.raises(SourceError, match="no plane ''; it has 'plane0', 'plane1'"):
        open_source(tmp_path)
    for plane in (0, 1):
        shutil.rmtree(tmp_path / "suite2p" / f"plane{plane}")
    np.testing.assert_array_equal(open_source(tmp_path).masks(), session.masks)


def test_a_single_plane_answers_to_its_name_only(tmp_path, session):
    simulated.write_suite2p(tmp_path, session)
    assert open_source(tmp_path, "plane0").path == open_source(tmp_path).path
    with pytest.raises(SourceError, match="no plane 'plane1'; it has 'plane0'"):
        open_source(tmp_path, "plane1")


def test_suite2p_computes_dff(tmp_path, session):
    source = open_source(simulated.write_suite2p(tmp_path, session))
    corrected = session.traces["fluorescence"] - 0.6 * session.traces["neuropil"]
    np.testing.assert_allclose(source.traces("corrected", ORDER), corrected[ORDER], rtol=1e-5)
    np.testing.assert_allclose(source.traces("dff", ORDER), dff(corrected, 10.0)[ORDER], rtol=1e-4, atol=1e-5)
    moves = source.motion_correction()
    np.testing.assert_array_equal(moves["x_motion"], np.arange(5) - 2)
    np.testing.assert_array_equal(moves["y_motion"], np.arange(5))
    assert source.metadata()["frame_rate_hz"] == 10.0


def test_suite2p_weights_and_spread_options(tmp_path, session):
    simulated.write_suite2p(tmp_path, session)
    place = tmp_path / "suite2p" / "plane0"
    ops = np.load(place / "ops.npy", allow_pickle=True).item()
    parts = {
        "db.npy": {"data_path": ["/raw"]},
        "settings.npy": {"fs": ops["fs"], "extraction": {"neuropil_coefficient": 0.5}},
        "reg_outputs.npy": {key: ops[key] for key in ("Ly", "Lx", "yrange", "xrange", "meanImg", "xoff", "yoff")},
        "detect_outputs.npy": {"max_proj": ops["max_proj"]},
    }
    for name, content in parts.items():
        np.save(place / name, content, allow_pickle=True)
    (place / "ops.npy").unlink()
    source = open_source(tmp_path)
    footprint = source.footprint(2)
    np.testing.assert_allclose(footprint.weight, np.linspace(0.1, 1, len(footprint.y)), rtol=1e-5)
    wanted = session.traces["fluorescence"] - 0.5 * session.traces["neuropil"]
    np.testing.assert_allclose(source.traces("corrected"), wanted, rtol=1e-5)
    assert source.image()[1] == "maximum projection"


def test_suite2p_without_a_projection_shows_the_mean(tmp_path, session):
    simulated.write_suite2p(tmp_path, session)
    path = tmp_path / "suite2p" / "plane0" / "ops.npy"
    ops = np.load(path, allow_pickle=True).item()
    projection = ops.pop("max_proj")
    np.save(path, ops, allow_pickle=True)
    image, name = open_source(tmp_path).image()
    np.testing.assert_array_equal(image, session.image / 2)
    assert name == "mean image"
    np.save(path, ops | {"max_proj": projection[2:]}, allow_pickle=True)
    with pytest.raises(SourceError, match=r"ops\.npy: max_proj has shape \(36, 44\), expected \(38, 44\)"):
        open_source(tmp_path).image()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("stat.npy", np.array([{"ypix": [1]}], dtype=object), "ROI 0 has no ypix and xpix"),
        ("stat.npy", np.array([{"ypix": [1], "xpix": [99]}], dtype=object), "ROI 0 leaves the image of 40 x 48 pixels"),
        ("F.npy", np.zeros((3, 300)), r"shape \(3, 300\), expected \(5, T\)"),
        ("ops.npy", np.array({"Lx": 3}, dtype=object), "no Ly"),
        ("ops.npy", None, "no ops.npy"),
    ],
)
def test_damaged_suite2p_folders_are_named(tmp_path, session, name, content, message):
    simulated.write_suite2p(tmp_path, session)
    path = tmp_path / "suite2p" / "plane0" / name
    if content is None:
        path.unlink()
    else:
        np.save(path, content, allow_pickle=True)
    with pytest.raises(SourceError, match=message) as caught:
        source = open_source(tmp_path)
        source.masks([0])
        source.traces("fluorescence", [0])
    assert str(path.parent) in str(caught.value)


# CaImAn


def test_caiman_kinds(tmp_path, session):
    source = open_source(simulated.write_caiman(tmp_path, session))
    assert set(source.trace_kinds) == {"denoised", "spikes", "dff", "fluorescence"}
    np.testing.assert_allclose(source.traces("denoised", ORDER), session.traces["demixed"][ORDER])
    np.testing.assert_allclose(source.traces("dff", ORDER), session.traces["dff"][ORDER])
    y, x, weight = source.footprint(1)
    assert (weight > 0.2 * weight.max()).all()
    assert session.masks[1][y, x].all()


def test_caiman_without_dff_or_frame_rate(tmp_path, session):
    source = open_source(simulated.write_caiman(tmp_path, session, dff=False, frame_rate=False))
    with pytest.raises(SourceError, match=r"no F_dff; CaImAn computes it with estimates\.detrend_df_f"):
        source.traces("dff")
    assert source.time_unit == "frames"
    np.testing.assert_array_equal(source.timestamps("spikes"), np.arange(300))


def test_caiman_background_stands_in_for_the_image(tmp_path, session):
    path = simulated.write_caiman(tmp_path, session)
    with h5py.File(path, "r+") as file:
        del file["estimates/Cn"]
        file["estimates/Cn"] = "NoneType"
        file["estimates/b"] = session.image.reshape(-1, 1, order="F")
        file["estimates/f"] = np.array([[1.0, 3.0]])
    image, name = open_source(path).image()
    np.testing.assert_allclose(image, 2 * session.image)
    assert name == "mean background"
    with h5py.File(path, "r+") as file:
        del file["estimates/b"]
        del file["dims"]
        file["dims"] = (3, 4)
    with pytest.raises(SourceError, match="no image"):
        open_source(path).image()
    with pytest.raises(SourceError, match=r"dims is \[3 4\], expected height and width with 1920 pixels"):
        open_source(path).masks([0])


# NWB 2


@pytest.mark.parametrize("masks", ["image", "pixel", "voxel"])
def test_nwb2(tmp_path, session, masks):
    source = open_source(simulated.write_nwb2(tmp_path, session, masks=masks))
    np.testing.assert_array_equal(source.masks(ORDER), session.masks[ORDER])
    np.testing.assert_array_equal(source.roi_ids, np.arange(5) + 70)
    np.testing.assert_array_equal(source.cell_specimen_ids, session.cells)
    assert set(source.trace_kinds) == {"fluorescence", "neuropil", "dff"}
    np.testing.assert_allclose(source.traces("dff", ORDER), session.traces["dff"][ORDER])
    np.testing.assert_allclose(source.timestamps("dff"), session.timestamps + 0.5)
    np.testing.assert_allclose(source.timestamps("neuropil"), session.timestamps + 2)
    found = source.metadata()
    assert (found["targeted_structure"], found["indicator"], found["specimen_name"]) == ("VISp", "GCaMP6f", "mouse 1")
    assert found["session_start_time"].isoformat() == "2024-01-02T10:00:00+01:00"
    assert found["genotype"] is None


@pytest.mark.parametrize("masks", ["image", "pixel", "voxel"])
def test_nwb2_masks_without_an_image(tmp_path, session, masks):
    """Lists of pixels do not say how large the image is: it ends where they do."""
    source = open_source(simulated.write_nwb2(tmp_path, session, masks=masks, image=False))
    inside = session.masks.any(axis=0)
    shape = inside.shape if masks == "image" else tuple(np.max(np.nonzero(inside), axis=1) + 1)
    assert source.shape == shape != (0, 0)
    here = session.masks[:, : shape[0], : shape[1]]
    np.testing.assert_array_equal(source.masks(ORDER), here[ORDER])
    image, name = source.image()
    np.testing.assert_array_equal(image, here.sum(axis=0))
    assert name == "masks"


def test_nwb2_voxels_above_each_other_are_one_pixel(tmp_path, session):
    y, x, weight = open_source(simulated.write_nwb2(tmp_path, session, masks="voxel")).footprint(3)
    assert len(y) == session.masks[3].sum() == len(set(zip(y.tolist(), x.tolist(), strict=True)))
    assert set(weight.tolist()) == {0.5, 1.0}
    there = set(zip(y[weight == 1].tolist(), x[weight == 1].tolist(), strict=True))
    assert there == set(map(tuple, np.argwhere(session.masks[3])[::2].tolist()))


def test_nwb2_written_by_suite2p_has_rows_as_x(tmp_path, session):
    path = simulated.write_nwb2(tmp_path, session, masks="pixel")
    with h5py.File(path, "r+") as file:
        pixels = file["processing/ophys/ImageSegmentation/PlaneSegmentation/pixel_mask"]
        content = pixels[()]
        content["x"], content["y"] = content["y"].copy(), content["x"].copy()
        pixels[...] = content
        del file["session_description"]
        file["session_description"] = "suite2p_proc"
    np.testing.assert_array_equal(open_source(path).masks(), session.masks)


def test_nwb2_pixels_outside_the_image_are_refused(tmp_path, session):
    path = simulated.write_nwb2(tmp_path, session, masks="pixel")
    with h5py.File(path, "r+") as file:
        pixels = file["processing/ophys/ImageSegmentation/PlaneSegmentation/pixel_mask"]
        content = pixels[()]
        content["x"][0] = 48
        pixels[...] = content
    with pytest.raises(SourceError, match=r"pixel_mask: ROI 0 reaches \(y, x\) = \(\d+, 48\) outside the image"):
        open_source(path).masks([0])


def test_nwb2_with_two_planes(tmp_path, session):
    path = simulated.write_nwb2(tmp_path, session)
    with h5py.File(path, "r+") as file:
        ophys = file["processing/ophys"]
        ophys.move("ImageSegmentation/PlaneSegmentation", "ImageSegmentation/upper")
        ophys.copy("ImageSegmentation/upper", "ImageSegmentation/lower")
        lower = ophys["ImageSegmentation/lower"]
        lower["image_mask"][...] = lower["image_mask"][()][::-1]
        ophys.move("images/max_projection", "images/max_upper")
        ophys.copy("images/max_upper", "images/max_lower")
        ophys["images/max_lower"][...] += 1
        ophys.copy("dff/traces", "dff/lower")
        ophys["dff/lower/data"][...] = ophys["dff/lower/data"][()] + 100
        ophys["dff/lower/rois"].attrs["table"] = lower.ref
    assert [source.group for source in find_sources(path)] == ["lower", "upper"]
    upper, lower = open_source(path, "upper"), open_source(path, "lower")
    np.testing.assert_array_equal(lower.masks(), session.masks[::-1])
    assert set(upper.trace_kinds) == {"fluorescence", "neuropil", "dff"}
    assert lower.trace_kinds == ("dff",)
    np.testing.assert_allclose(lower.traces("dff"), session.traces["dff"] + 100, rtol=1e-5)
    np.testing.assert_array_equal(lower.image()[0], session.image + 1)


def test_nwb2_columns_and_orders(tmp_path, session):
    path = simulated.write_nwb2(tmp_path, session, ids=False)
    with h5py.File(path, "r+") as file:
        series = file["processing/ophys/Fluorescence/RoiResponseSeries"]
        for name, content in (("data", session.traces["fluorescence"][:3]), ("rois", np.arange(3))):
            attributes = dict(series[name].attrs)
            del series[name]
            series[name] = content
            series[name].attrs.update(attributes)
    source = open_source(path)
    assert source.cell_specimen_ids is None
    np.testing.assert_array_equal(source.traces("fluorescence", [2, 0]), session.traces["fluorescence"][[2, 0]])
    with pytest.raises(SourceError, match="has no trace of ROI 73"):
        source.traces("fluorescence")
    with h5py.File(path, "r+") as file:
        file["processing/ophys/ImageSegmentation/PlaneSegmentation/multi_sess_unit"] = [4, -1, 2, -1, 0]
        file["processing/ophys/dff"].copy("traces", "again")
    assert open_source(path).cell_specimen_ids.tolist() == [4, -1, 2, -1, 0]
    with pytest.raises(SourceError, match=r"both /processing/ophys/dff/again and .*/traces seem to hold dff traces"):
        open_source(path).traces("dff")


# the package's own folders


@pytest.mark.parametrize("labels", [True, False])
def test_recording_folders(tmp_path, session, labels):
    source = open_source(simulated.write_recording(tmp_path, session, labels=labels))
    np.testing.assert_array_equal(source.roi_ids, (np.arange(5) + 1) * 10 if labels else np.arange(5))
    wanted = session.traces["fluorescence"]
    np.testing.assert_allclose(source.traces("fluorescence", ORDER), wanted[ORDER], rtol=1e-5)
    np.testing.assert_allclose(source.traces("dff"), dff(wanted, 10.0), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(source.timestamps("dff"), session.timestamps)


def test_recording_pixels_out_of_view_do_not_count(tmp_path, session):
    simulated.write_recording(tmp_path, session)
    y, x = np.nonzero(session.masks[0])
    with h5py.File(tmp_path / VIDEO_FILE, "r+") as file:
        file["ch1"][3, y[0], x[0]] = 1e6
        valid = np.full(file["ch1"].shape, 255, np.uint8)
    valid[3, y[0], x[0]] = 0
    valid[4, session.masks[0]] = 0
    with h5py.File(tmp_path / MASK_FILE, "w") as file:
        file["idx"] = valid
    found = open_source(tmp_path).traces("fluorescence", [0])[0]
    wanted = session.traces["fluorescence"][0].copy()
    wanted[4] = np.nan
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_recording_without_frame_rate(tmp_path, session):
    source = open_source(simulated.write_recording(tmp_path, session, frame_rate=False))
    assert source.time_unit == "frames"
    np.testing.assert_array_equal(source.timestamps("fluorescence"), np.arange(300))
    with pytest.raises(SourceError, match=r"rois\.npz: no frame_rate_hz, which dF/F needs"):
        source.traces("dff")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"spots": np.zeros((2, 2))}, "expected either labels or masks, found spots"),
        ({"labels": np.zeros((2, 2, 2))}, r"labels has shape \(2, 2, 2\), expected 2 dimensions"),
        ({"labels": np.ones((3, 3), int)}, r"frames of \(40, 48\) pixels, rois\.npz has \(3, 3\)"),
    ],
)
def test_bad_roi_files_are_named(tmp_path, session, content, message):
    simulated.write_recording(tmp_path, session)
    np.savez(tmp_path / ROI_FILE, **content)
    with pytest.raises(SourceError, match=message):
        open_source(tmp_path).traces("fluorescence")


# anything else


def test_other_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        open_source(tmp_path / "none.nwb")
    (tmp_path / "a.nwb").write_bytes(b"no HDF5")
    with pytest.raises(SourceError, match=r"a\.nwb: expected an NWB file"):
        open_source(tmp_path / "a.nwb")
    with h5py.File(tmp_path / "movie.h5", "w") as file:
        file["data"] = np.zeros((3, 4, 4))
    assert find_sources(tmp_path / "movie.h5") == []
    assert find_sources(tmp_path) == []


# dF/F


def test_baseline_ignores_transients_and_follows_drift():
    times = np.arange(3000)
    drift = 100 + 20 * times / 3000
    trace = np.tile(drift, (2, 1))
    trace[0, 1000:1020] += 300
    baseline = running_baseline(trace, 300)
    np.testing.assert_allclose(baseline[0, 700:1300], drift[700:1300], rtol=0.03)
    found = dff(trace, 5.0)
    assert found.dtype == np.float32
    assert found[0, 1010] == pytest.approx(300 / drift[1010], rel=0.05)
    assert np.abs(found[1]).max() < 0.03


def test_holes_in_a_trace_stay_holes(caplog):
    trace = 100 + np.random.default_rng(0).normal(0, 1, 1000)
    holes = trace.copy()
    holes[200:230] = holes[0] = np.nan
    whole, found = dff(np.stack([trace, holes]), 5.0)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(holes))
    np.testing.assert_allclose(found[~np.isnan(holes)], whole[~np.isnan(holes)], atol=0.01)
    assert np.isnan(dff(np.full((1, 50), np.nan), 5.0)).all()


def test_a_baseline_of_nothing_gives_no_ratio(caplog):
    found = dff(np.array([[-1.0] * 50, [2.0] * 50]), 10.0)
    assert np.isnan(found[0]).all()
    assert not found[1].any()
    assert "1 of 2 traces have a baseline of 0 or less" in caplog.text
