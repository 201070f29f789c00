"""Scripts written for pyflowreg run through `pyflow.compat.pyflowreg`, and what it cannot do is said."""

import json
import os
import runpy
import subprocess
import sys
import time
import tomllib
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
import tifffile

import pyflow
from pyflow.flow import backends
from pyflow.flow.parameters import FlowParameters
from pyflow.io import get_video_file_writer
from pyflow.simulate import endpoint_error, simulate_recording, simulate_session

SCRIPTS = Path(__file__).parent / "scripts"
SHAPE = (48, 64)

SESSION = """
root = "experiment"
pattern = "day_*.tif"
output_root = "per_day"
final_results = "together"
resume = true
scheduler = "local"
n_workers = -1
flow_backend = "flowreg"
cc_upsample = 4
sigma_smooth = 2.0
alpha_between = 25.0
iterations_between = 50
stage2_constancy_assumption = "gc"
align_chunk_size = 8
align_output_format = "TIFF"

[backend_params]

[flow_options]
quality_setting = "fast"
buffer_size = 1000
save_w = false
save_valid_idx = true
save_meta_info = true
"""


@pytest.fixture(scope="module")
def layer():
    """The layer, which stays in this process: tests of a fresh one start their own."""
    import pyflow.compat.pyflowreg as layer

    return layer


@pytest.fixture(scope="module")
def simulated():
    return simulate_recording(SHAPE, 12, seed=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, simulated):
    """Inputs of the scripts: one movie of two channels as TIFF, HDF5 and array, and a session of three days."""
    folder = tmp_path_factory.mktemp("scripts")
    movie = np.stack([simulated.movie, simulated.movie // 2 + 100], axis=-1)
    np.save(folder / "movie.npy", movie)
    for name in ("movie.tif", "movie.h5"):
        with get_video_file_writer(folder / name) as writer:
            writer.write_frames(movie)
    days = simulate_session(3, (64, 72), 6, offset_px=3.0, deformation_px=0.5, seed=1).recordings
    for number, day in enumerate(days, 1):
        day.save(folder / "experiment" / f"day_{number}")
    (folder / "session.toml").write_text(SESSION)

    (folder / "session.yml").write_text(json.dumps(tomllib.loads(SESSION)))
    return folder


@pytest.fixture
def run(layer, folder, monkeypatch):
    """Run a script in the folder of its inputs; return what it defines."""

    def script(name):
        monkeypatch.chdir(folder)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", layer.names.PyflowregDifference)
            return runpy.run_path(str(SCRIPTS / f"{name}.py"))

    return script


def test_arrays(run, simulated):
    found = run("arrays")
    registered, flow = found["registered"], found["flow"]
    assert found["movie"].shape == registered.shape == (12, *SHAPE, 2)
    assert registered.dtype == np.float64
    assert [(first, stop) for first, stop, _ in found["pieces"]] == [(0, 5), (5, 10), (10, 12)]
    np.testing.assert_array_equal(np.concatenate([frames for *_, frames in found["pieces"]]), registered)
    np.testing.assert_allclose(found["lengths"], np.hypot(*np.moveaxis(flow, -1, 0)).mean(axis=(1, 2)))
    assert found["counts"][-1] == (12, 12)
    assert found["grey"].shape == (12, *SHAPE)
    assert found["grey_flow"].shape == flow.shape
    assert (found["one"].shape, found["one_flow"].shape) == (registered.shape[1:], flow.shape[1:])
    truth = simulated.displacement_px[7] - simulated.displacement_px[0]
    assert endpoint_error(found["pair"], truth, 8) < 0.5 * endpoint_error(np.zeros_like(truth), truth, 8)


def test_what_is_computed_is_what_pyflow_computes_with_the_toolboxs_options(run, folder):
    found = run("arrays")
    options = pyflow.OFOptions(
        alpha=4, grid_spacing=1, quality_setting="balanced", buffer_size=5, output_typename="double"
    )
    registered, flow = pyflow.compensate_arr(np.load(folder / "movie.npy"), found["template"], options)
    np.testing.assert_array_equal(found["registered"], registered)
    np.testing.assert_array_equal(found["flow"], flow)


def test_recordings(run, folder):
    found = run("recording")
    assert found["reference"].shape == (*SHAPE, 2)
    assert found["reference"].dtype == np.float64
    kept = folder / "kept"
    names = {"compensated.HDF5", "w.h5", "idx.hdf", "statistics.npz", "reference_frame.npy"}
    assert names <= {file.name for file in kept.iterdir()}
    with pyflow.open_video(kept / "compensated.HDF5") as video:
        assert (video.shape, video.dtype) == ((12, *SHAPE, 2), np.uint16)
    with h5py.File(kept / "w.h5") as file:
        assert file["u"].shape == file["v"].shape == (12, *SHAPE)
    with pyflow.open_video(folder / "matlab" / "movie_compensated.MAT") as video:
        assert video.shape == (12, *SHAPE, 2)
    assert found["kept_frames"].shape == (12, *SHAPE, 2)
    assert not (folder / "results").exists() or not list((folder / "results").glob("compensated*"))
    watch = found["watch"]
    assert watch.spans == [(0, 4), (4, 8), (8, 12)]
    assert watch.frames == 12
    assert len(found["largest"]) == 3
    assert found["progress"][-1] == 1
    assert not list((folder / "watched").glob("compensated*"))


def test_videos(run, folder):
    found = run("videos")
    movie = np.load(folder / "movie.npy")
    assert found["sizes"] == [5, 5, 2]
    np.testing.assert_array_equal(found["first"], movie[0])
    np.testing.assert_array_equal(found["some"], movie[[0, 3, 11]])
    np.testing.assert_array_equal(found["corner"], movie[2:6, 10:20, 4:9])
    np.testing.assert_array_equal(np.concatenate(found["looped"]), movie)
    np.testing.assert_array_equal(found["again"], movie[:5])
    np.testing.assert_allclose(found["means"], movie.reshape(4, 3, *movie.shape[1:]).mean(axis=1), rtol=1e-6)
    np.testing.assert_array_equal(pyflow.open_video(folder / "converted" / "movie.h5")[:], movie)
    frames = found["frames"]
    for name in ("one.mat", "one.tif", "each_ch1.HDF5", "each_ch2.HDF5"):
        with pyflow.open_video(folder / "written" / name) as video:
            channel = frames if name.startswith("one") else frames[..., int(name[7]) - 1 :][..., :1]
            np.testing.assert_array_equal(video[:], channel)
    with h5py.File(folder / "written" / "caiman" / "compensated_ch2.HDF5") as file:
        np.testing.assert_array_equal(file["mov"], frames[..., 1])
    np.testing.assert_array_equal(found["in_memory"].get_array(), frames)
    assert (found["nothing"].frames_written, found["nothing"].batches_written) == (6, 1)
    for name in ("channels", "listed"):
        np.testing.assert_array_equal(found[name], frames)
    np.testing.assert_array_equal(found["wrapped"][:], frames)


def test_warping(run, simulated):
    found = run("warping")
    truth = simulated.displacement_px[7] - simulated.displacement_px[0]
    assert endpoint_error(found["w"], truth, 8) < 0.5 * endpoint_error(np.zeros_like(truth), truth, 8)
    assert found["keyword"].shape == (*SHAPE, 2)
    scaled, warped = found["scaled"], found["warped"]
    assert warped.shape == scaled[0].shape
    inside = found["valid"]
    assert abs(warped - scaled[0])[inside].mean() < abs(scaled[7] - scaled[0])[inside].mean()
    np.testing.assert_array_equal(warped[~inside], scaled[0][~inside])
    assert found["grey"].shape == SHAPE
    np.testing.assert_array_equal(found["masks"][0], inside * np.uint8(255))
    assert found["moved_mask"].dtype == bool
    assert found["aligned"].shape == (4, *SHAPE, 2)
    assert "flowreg" in found["backends"]
    assert (found["has_own"], found["has_other"]) == (True, False)


@pytest.fixture(scope="module")
def session(layer, folder):
    """What the script of a session defines."""
    before = os.getcwd()
    os.chdir(folder)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", layer.names.PyflowregDifference)
            return runpy.run_path(str(SCRIPTS / "session.py"))
    finally:
        os.chdir(before)


def test_session_finds_files_and_tasks_as_pyflowreg_counts_them(session):
    assert [file.name for file in session["files"]] == ["day_1.tif", "day_2.tif", "day_3.tif"]
    assert (session["middle"][0], session["middle"][1].name) == (1, "day_2.tif")
    assert (session["chosen"][0], session["chosen"][1].name) == (1, "day_2.tif")
    assert (session["outside"], session["inside"]) == (None, 2)
    assert session["array_folder"].name == "day_2"
    assert [folder.name for folder in session["third"]] == ["day_3"]


def test_session_results(session, folder):
    assert [path.name for path in session["folders"]] == ["day_1", "day_2", "day_3"]
    for path in session["folders"]:
        assert {"compensated.hdf5", "idx.hdf", "temporal_average.npy", "w.h5", "w_to_reference.npz", "status.json"} <= {
            file.name for file in path.iterdir()
        }
        with h5py.File(path / "compensated.hdf5") as file:
            assert file["ch1"].compression == "gzip"
    assert session["middle_idx"] == 1
    assert session["center_file"].name == "day_2.tif"
    assert session["largest"][1] == 0
    assert 1 < max(session["largest"]) < 8
    np.testing.assert_array_equal(session["field_again"], session["fields"][2])
    mask, bundle = session["mask"], session["bundle"]
    assert mask.dtype == bool
    assert mask.any()
    np.testing.assert_array_equal(bundle["final_valid"], mask)
    assert session["shapes"] == [(6, 64, 72, 1)] * 6
    assert session["inside_mask"].shape == (6, mask.sum(), 1)
    assert session["final_results"] == Path("experiment/together")
    assert (folder / "experiment/together/aligned_day_1.tif").exists()
    np.testing.assert_array_equal(
        scipy.io.loadmat(folder / "experiment/together/final_valid_idx.mat")["final_valid"], mask
    )
    np.testing.assert_array_equal(np.load(folder / "both.npz")["own"], session["own_mask"])


def test_a_session_that_is_done_is_kept_by_the_one_that_runs_all_stages(session, layer, folder, monkeypatch):
    monkeypatch.chdir(folder)
    from pyflowreg.session.cli import run_all_stages

    file = folder / "experiment/per_day/day_1/compensated.hdf5"
    before = file.stat().st_mtime_ns
    run_all_stages(session["config"])
    assert file.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("statement", "answer"),
    [
        ("import pyflowreg.util.download", "pyflow.simulate makes some"),
        ("from pyflowreg.z_align import ZAlignConfig", "pyflow.motion.depth estimates depths"),
        ("from pyflowreg.core.level_solver import compute_flow", "pyflow.get_displacement solves for a whole flow"),
        ("from pyflowreg.core.optical_flow import add_boundary", "pyflow.get_displacement computes a whole one"),
        ("from pyflowreg.motion_correction import OFOption", "did you mean pyflowreg.motion_correction.OFOptions?"),
        ("import pyflowreg.motion_corection", "did you mean pyflowreg.motion_correction?"),
        ("from pyflowreg import compensate_pair", "it is in pyflowreg.motion_correction.compensate_arr"),
        ("from pyflowreg.session.cli import nothing", "pyflow.session has SessionConfig"),
    ],
)
def test_unknown_names_say_what_to_use(layer, statement, answer):
    with pytest.raises(ImportError, match=rf"has no counterpart in pyflow: .*{answer}.*; docs/migration.md"):
        exec(statement)


def test_attributes_that_are_missing_are_no_attributes(layer):
    import pyflowreg.core

    with pytest.raises(AttributeError, match=r"core\.compute_flow has no counterpart"):
        pyflowreg.core.compute_flow  # noqa: B018
    assert not hasattr(pyflowreg, "nothing")
    assert pyflowreg.__version__ == pyflow.__version__


def test_every_name_of_the_table_is_at_home(layer):
    for path, home in layer.names.HOME.items():
        module = sys.modules[".".join(filter(None, [layer.names.NAME, path]))]
        assert sorted(home) == module.__all__
        for name in home:
            assert getattr(module, name).__doc__, name


def test_a_function_goes_before_the_module_of_its_name(layer):
    import pyflowreg.motion_correction.compensate_recording  # noqa: F401
    from pyflowreg.motion_correction import compensate_recording

    assert callable(compensate_recording)


def test_what_pyflow_does_otherwise_is_named_once(layer, tmp_path):
    from pyflowreg.motion_correction import OFOptions
    from pyflowreg.motion_correction.compensate_recording import RegistrationConfig
    from pyflowreg.util.io import get_video_file_reader, get_video_file_writer

    layer.names._told.clear()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        options = OFOptions(flow_backend="flowreg_cuda", backend_params={"device": "cuda"}, verbose=True)
        options.alpha = 3  # checked again, and not told again
        RegistrationConfig(parallelization="multiprocessing")
        get_video_file_writer(tmp_path / "a.h5", "HDF5", chunk_size=10).discard()
        get_video_file_reader(np.zeros((4, 8, 9)), bin_size=2)
        OFOptions(gnc_schedule=(0, 0.5, 1), verbose=True)
    assert options.to_pyflow().flow_backend == "flowreg"
    options = [str(one.message).split(":")[0] for one in told]
    assert options == [
        *("verbose", "flow_backend 'flowreg_cuda'", "parallelization 'multiprocessing'"),
        *("chunk_size", "bin_size", "gnc_schedule"),
    ]
    assert all(one.category is layer.PyflowregDifference for one in told)
    assert {one.filename for one in told} == {__file__}


def test_what_cannot_be_done_is_refused(layer, tmp_path):
    from pyflowreg.core.optical_flow import get_displacement
    from pyflowreg.session import SessionConfig
    from pyflowreg.util.io import get_video_file_writer

    movie = np.zeros((2, 16, 16))
    with pytest.raises(ValueError, match=r"dataset_names: only 'ch\*' stands for several .* found 'green\*'"):
        get_video_file_writer(tmp_path / "a.h5", "HDF5", dataset_names="green*")
    with pytest.raises(ValueError, match="level_solver_backend: pyflow's solver is compiled"):
        get_displacement(movie[0], movie[1], level_solver_backend=print)
    with pytest.raises(ValueError, match="flow_options: reference_frames is in memory"):
        SessionConfig(root=tmp_path, flow_options={"reference_frames": movie[0]})
    with pytest.raises(ValueError, match="unknown key 'patern', did you mean 'pattern'"):
        SessionConfig(root=tmp_path, patern="*.tif")
    with pytest.raises(ValueError, match="save_valid_idx is always true"):
        SessionConfig(root=tmp_path, flow_options={"save_valid_idx": False})
    with pytest.raises(ValueError, match="unknown option 'qualty_setting', did you mean 'quality_setting'"):
        SessionConfig(root=tmp_path, flow_options={"qualty_setting": "fast"})
    config = SessionConfig(root=tmp_path)
    with pytest.raises(ValueError, match="iterations_between"):
        config.iterations_between = 0
    assert config.iterations_between == 100


def python(script, *, path="", **more):
    """Run a script in an interpreter of its own; return what it prints."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(path), os.environ.get("PYTHONPATH")]))}
    return subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, env=environment, **more)


def test_only_who_asks_for_it_gets_it():
    done = python(
        "import sys, pyflow, pyflow.motion.options, pyflow.session\n"
        "assert not [name for name in sys.modules if 'compat' in name and name.startswith('pyflow')]\n"
        "try:\n    import pyflowreg\nexcept ModuleNotFoundError as error:\n    print(error.name)\n"
        "import pyflow.compat.pyflowreg\n"
        "import pyflowreg.session.config as config, pyflowreg as pfr\n"
        "print(config.SessionConfig.__module__, pfr.get_displacement.__module__)"
    )
    assert done.stderr == ""
    assert done.stdout.split() == ["pyflowreg", "pyflow.compat.pyflowreg.session", "pyflow.compat.pyflowreg.flow"]


def test_pyflowreg_itself_is_told_apart(tmp_path):
    package = tmp_path / "pyflowreg"
    package.mkdir()
    (package / "__init__.py").write_text("itself = True\n")
    (package / "session.py").write_text("itself = True\n")
    done = python(
        "import pyflow.compat.pyflowreg\nimport pyflowreg\nprint(hasattr(pyflowreg, 'itself'))", path=tmp_path
    )
    assert done.stdout.strip() == "False"
    assert "pyflowreg is installed as well" in done.stderr
    assert "is not used" in done.stderr
    done = python("import pyflowreg.session\nimport pyflow.compat.pyflowreg", path=tmp_path)
    assert done.returncode == 1
    assert "ImportError: pyflowreg itself is already imported" in done.stderr
    assert "put 'import pyflow.compat.pyflowreg' above its first import" in done.stderr


def test_whoever_loads_the_layer_anew_is_let(tmp_path):
    """As consoles and notebooks do before they run a script again."""
    run = python(
        "import importlib, sys\n"
        "import pyflow.compat.pyflowreg as layer\n"
        "from pyflowreg.motion_correction import OFOptions\n"
        "importlib.reload(layer)\n"
        "for name in [name for name in sys.modules if name.partition('.')[0] == 'pyflow']:\n"
        "    del sys.modules[name]\n"
        "import pyflow.compat.pyflowreg\n"
        "from pyflowreg.motion_correction import OFOptions as again\n"
        "import pyflow.compat.pyflowreg.options as options\n"
        "assert again is options.OFOptions is not OFOptions\n"
        "import pyflowreg.nothing"
    )
    assert "pyflowreg.nothing has no counterpart" in run.stderr


def test_options(run, folder):
    found = run("options")
    defaults = found["defaults"]
    assert (defaults.alpha, defaults.levels, defaults.output_format.value) == ((1.5, 1.5), 100, "MAT")
    assert (defaults.sigma, defaults.reference_frames) == ([[1.0, 1.0, 0.1]] * 2, list(range(50, 500)))
    assert (defaults.output_typename, defaults.output_path) == ("double", Path("results"))
    options = found["options"]
    assert (options.alpha, options.sigma, options.constancy_assumption.value) == ((2.0, 2.0), [[1.5, 1.5, 0.3]], "cs")
    assert found["levels"] == [4, 2, "custom", 4, "balanced"]
    for word, message in zip(("alpha", "did you mean 'alpha'", "levels"), found["refused"], strict=True):
        assert word in message
        assert "pydantic" not in message
    assert found["again"].model_dump(exclude={"reference_frames"}) == options.model_dump(exclude={"reference_frames"})
    np.testing.assert_array_equal(np.load(folder / "saved/reference_frames.npy"), np.zeros((8, 9)))
    assert (found["other"].alpha, options.alpha) == ((7.0, 7.0), (2.0, 2.0))


@pytest.mark.filterwarnings("ignore:output_format 'SUITE2P_TIFF'")
def test_options_mean_to_pyflow_what_they_mean_to_pyflowreg(layer):
    from pyflowreg.motion_correction import OFOptions

    def what_the_flow_sees(image):
        return image

    plain = OFOptions().to_pyflow()
    assert (plain.alpha, plain.grid_spacing, plain.coherent, plain.scheduled) == ((1.5, 1.5), 1, False, False)
    assert (plain.reference_frames, plain.output_file_name, plain.output_typename) == (
        "50:500",
        "compensated.MAT",
        None,
    )
    options = OFOptions(
        constancy_assumption="cs",
        min_level=3,
        reference_frames=[4, 7],
        output_format="SUITE2P_TIFF",
        cc_hw=(64, 128),
        eta=1.0,
        bin_size=3,
        save_valid_mask=True,
        preproc_funct=what_the_flow_sees,
    ).to_pyflow()
    assert (options.const_assumption, options.min_level, options.reference_frames) == ("census", 3, (4, 7))
    assert (options.output_format, options.output_file_name) == ("TIFF", "compensated.SUITE2P_TIFF")
    assert (options.cc_hw, options.eta, options.bin_size, options.save_valid_mask) == ((64, 128), 1.0, 3, True)
    assert options.preprocess is what_the_flow_sees


@pytest.mark.filterwarnings("ignore:bin_size")
def test_a_reader_is_opened_once_and_its_bins_are_not_binned_again(layer, folder):
    from pyflowreg.motion_correction import OFOptions

    options = OFOptions(input_file=folder / "movie.h5", bin_size=2, buffer_size=4, reference_frames=[1, 2])
    reader = options.get_video_reader()
    assert (len(reader), reader.buffer_size) == (6, 4)
    assert options.get_video_reader() is options.input_file is reader
    assert (options.to_pyflow().bin_size, options.bin_size) == (1, 2)
    assert options.get_reference_frame().shape == (*SHAPE, 2)
    reader.close()


def test_what_options_open_and_compute(layer, tmp_path):
    from pyflowreg.core.optical_flow import get_displacement
    from pyflowreg.motion_correction import OFOptions

    options = OFOptions(output_path=tmp_path / "new", output_format="HDF5", quality_setting="fast")
    with options.get_video_writer() as writer:
        writer.write_frames(np.zeros((2, 8, 9, 1), np.uint8))
    assert (tmp_path / "new" / "compensated.HDF5").exists()
    assert options.resolve_get_displacement() is get_displacement
    image = np.random.default_rng(0).random((32, 40)).astype(np.float32)
    given = {**options.to_dict(), "weight": None}
    assert given["min_level"] == 6
    assert not get_displacement(image, image, **given).any()


def test_weights(layer):
    from pyflowreg.motion_correction import OFOptions

    assert OFOptions(weight=[1, 3]).weight == [0.25, 0.75]
    assert OFOptions(weight=np.array([2.0])).weight == [1.0]
    assert OFOptions(weight=[1, 3]).get_weight_at(1, 2) == 0.75
    weights = np.random.default_rng(0).random((5, 6, 2))
    np.testing.assert_allclose(OFOptions(weight=weights).get_weight_at(1, 2), weights[..., 1], rtol=1e-6)


def test_live(run, folder):
    found = run("live")
    movie = np.load(folder / "movie.npy").astype(np.float32)
    for (frame, w), given in zip(found["waiting"], movie, strict=False):
        np.testing.assert_array_equal(frame, given)
        assert not w.any()
    assert found["kept"] == 4
    registered, fields = (np.stack(some) for some in zip(*found["results"], strict=True))
    assert (registered.shape, fields.shape) == (movie.shape, (12, *SHAPE, 2))
    still = abs(movie[..., 0] - movie[3, ..., 0]).mean()
    assert abs(registered[..., 0] - registered[3, ..., 0]).mean() < still
    assert found["counted"] == 12
    np.testing.assert_array_equal(found["current"], fields[-1])
    assert found["live"].options.quality_setting.value == "fast"
    assert (found["stack"].shape, found["fields"].shape) == ((4, *SHAPE, 2), (4, *SHAPE, 2))


@pytest.mark.parametrize("how", ["impl", "factory", "argument", "backend"])
def test_flows_of_the_scripts_own(layer, folder, how, monkeypatch):
    from pyflowreg.core import get_backend, list_backends, register_backend
    from pyflowreg.core.backend_registry import get_backend_executors
    from pyflowreg.motion_correction import OFOptions, compensate_arr

    monkeypatch.setattr(backends, "_FACTORIES", dict(backends._FACTORIES))  # the script's end with it
    seen = []

    def factory(px=2.0):
        def shift(fixed, moving, **others):
            seen.append((fixed.shape, moving.shape, others["alpha"], others["weight"].tolist(), others["uv"].any()))
            return np.full((*fixed.shape[:2], 2), px)

        return shift

    movie = np.load(folder / "movie.npy")[:4]
    common = {"alpha": 3, "update_initialization_w": False, "weight": [3, 1]}
    options, given = OFOptions(**common), {}
    if how == "impl":
        options = OFOptions(get_displacement_impl=factory(), **common)
    elif how == "factory":
        options = OFOptions(get_displacement_factory=factory, backend_params={"px": 2}, **common)
    elif how == "argument":
        given = {"get_displacement": factory()}
    else:
        register_backend("of the script", factory, supported_executors={"sequential"})
        assert "of the script" in list_backends()
        assert get_backend_executors("of the script") == {"sequential"}
        assert get_backend("of the script") is factory
        given = {"flow_backend": "of the script", "backend_params": {"px": 2}}
    _, w = compensate_arr(movie, movie[0], options, **given)
    np.testing.assert_array_equal(w, np.full((4, *SHAPE, 2), 2, np.float32))
    assert seen[-1] == ((*SHAPE, 2), (*SHAPE, 2), (3.0, 3.0), [0.75, 0.25], False)
    if how == "backend":
        start = (
            backends.get_backend("of the script", px=2)
            .prepare(np.ones((1, 8, 9), np.float32), FlowParameters())
            .start(np.ones((3, 4, 2), np.float32))
        )
        np.testing.assert_allclose(start, np.ones((8, 9, 2)))
    if how in ("impl", "factory"):
        own = options.resolve_get_displacement()
        assert own(movie[0], movie[1], alpha=1, weight=np.ones(2), uv=w[0]).max() == 2


def test_a_flow_that_supports_no_threads_is_called_by_one_at_a_time(layer, folder, monkeypatch):
    from pyflowreg.core import register_backend
    from pyflowreg.motion_correction import OFOptions, compensate_arr
    from pyflowreg.motion_correction.compensate_recording import RegistrationConfig

    monkeypatch.setattr(backends, "_FACTORIES", dict(backends._FACTORIES))
    inside, most = [], []

    def still(fixed, moving, **others):
        inside.append(moving)
        most.append(len(inside))
        time.sleep(0.005)
        inside.pop()
        return np.zeros((*fixed.shape[:2], 2))

    register_backend("alone", lambda: still, supported_executors={"sequential"})
    movie = np.load(folder / "movie.npy")[:8]
    compensate_arr(movie, movie[0], OFOptions(flow_backend="alone"), registration_config=RegistrationConfig(n_jobs=4))
    assert (len(most) >= 8, max(most)) == (True, 1)


def test_two_images_are_two_channels(layer, tmp_path):
    from pyflowreg.util.io import get_video_file_reader

    for name in ("green", "red"):
        tifffile.imwrite(tmp_path / f"{name}.tif", np.zeros((8, 9), np.uint16))
    with get_video_file_reader([tmp_path / "green.tif", tmp_path / "red.tif"]) as reader:
        assert reader.shape == (1, 8, 9, 2)


@pytest.mark.filterwarnings("ignore:FlowRegLive")
def test_a_live_reference_is_made_anew_as_often_as_asked_for(layer, folder):
    from pyflowreg.motion_correction import FlowRegLive

    movie = np.load(folder / "movie.npy").astype(np.float32)
    live = FlowRegLive(alpha=4, reference_update_interval=3)
    live.set_reference(movie[0])
    live.register_frames(movie[:7])
    native = live._live
    live.close()  # after what is worked on
    assert native.statistics.renewed == 2


def test_a_copy_with_another_preset_has_its_level(layer):
    from pyflowreg.motion_correction import OFOptions, QualitySetting

    options = OFOptions(quality_setting="balanced")
    for preset in (QualitySetting.FAST, "fast"):
        copy = options.model_copy(update={"quality_setting": preset})
        assert (copy.effective_min_level, copy.to_pyflow().min_level) == (6, 6)
    words = {"output_format": "HDF5", "naming_convention": "batch", "constancy_assumption": "gray", "alpha": 4}
    copy = options.model_copy(update={**words, "input_file": "a.tif"})  # not checked, and not made what they stand for
    assert (copy.to_pyflow().output_file_name, copy.to_pyflow().alpha) == ("a_compensated.HDF5", 4)
    assert copy.to_dict()["const_assumption"] == "gray"
    custom = OFOptions(quality_setting="balanced", min_level=1)
    assert (custom.effective_min_level, custom.to_pyflow().min_level) == (1, 1)
    custom.min_level = -1
    assert custom.effective_min_level == 4


def test_a_session_takes_a_file_of_options_without_what_it_decides_itself(layer, tmp_path):
    from pyflowreg.motion_correction import OFOptions
    from pyflowreg.session import SessionConfig

    (tmp_path / "saved").mkdir()
    OFOptions(alpha=7, output_format="TIFF", save_w=True).save_options(tmp_path / "saved" / "stage1.json")
    config = SessionConfig(root=tmp_path, flow_options="saved/stage1.json", stage1_quality_setting="fast")
    options = config.to_pyflow().flow_options
    assert (options["alpha"], options["min_level"], options["save_w"]) == ([7.0, 7.0], 0, True)
    assert not {"output_format", "save_valid_idx", "output_path", "input_file"} & set(options)
    with pytest.raises(ValueError, match=r"SessionConfig\n  iterations_between: .*found 0 \[") as caught:
        SessionConfig(root=tmp_path, iterations_between=0)
    assert "validation error for" in str(caught.value).splitlines()[0]


def test_the_presets_marker_is_the_finest_level(layer):
    from pyflowreg import get_displacement

    images = np.random.default_rng(0).random((2, 24, 24)).astype(np.float32)
    settings = {"levels": 3, "iterations": 2}
    np.testing.assert_array_equal(
        get_displacement(*images, min_level=-1, **settings), get_displacement(*images, min_level=0, **settings)
    )


def test_several_references_are_what_pyflow_has_under_that_name(layer):
    from pyflowreg.motion_correction import OFOptions

    options = OFOptions(n_references=2, min_frames_per_reference=30).to_pyflow()
    assert (options.n_references, options.min_frames_per_reference) == (2, 30)


def test_one_reference_that_is_made_anew_goes_before_several(layer):
    from pyflowreg.motion_correction import FlowRegLive, OFOptions

    with pytest.warns(layer.PyflowregDifference, match="n_references: there is one reference"):
        assert OFOptions(n_references=2, update_reference=True).to_pyflow().n_references == 1
    frames = np.random.default_rng(0).uniform(10, 90, (4, 32, 32, 1)).astype(np.float32)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        live = FlowRegLive(OFOptions(n_references=2))
    assert any("FlowRegLive, n_references: there is one reference" in str(one.message) for one in told)
    live.set_reference(frames[0])
    assert live(frames[1])[0].shape == (32, 32, 1)
    live.close()
