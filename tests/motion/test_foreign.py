"""Options that pyflowreg and MATLAB's OF_options saved, in the form in which they write them."""

import json
import re

import numpy as np
import pytest
import tifffile

from pyflow.flow import backends
from pyflow.motion.foreign import translated
from pyflow.motion.frames import FrameSource
from pyflow.motion.options import OFOptions
from pyflow.motion.reference import find_reference

# All of an object's fields are saved, at their defaults too.
PYFLOWREG = {
    "input_file": "raw.h5",
    "output_path": "results",
    "output_format": "MAT",
    "output_file_name": None,
    "channel_idx": None,
    "alpha": [1.5, 1.5],
    "weight": [0.5, 0.5],
    "levels": 100,
    "min_level": -1,
    "quality_setting": "balanced",
    "eta": 0.8,
    "update_lag": 5,
    "iterations": 50,
    "a_smooth": 1.0,
    "a_data": 0.45,
    "gnc_schedule": None,
    "warping_steps": None,
    "sigma": [[1.0, 1.0, 0.1], [1.0, 1.0, 0.1]],
    "bin_size": 1,
    "buffer_size": 400,
    "reference_frames": list(range(50, 500)),
    "update_reference": False,
    "n_references": 1,
    "min_frames_per_reference": 20,
    "verbose": False,
    "save_meta_info": True,
    "save_w": False,
    "save_valid_mask": False,
    "save_valid_idx": False,
    "output_typename": "double",
    "channel_normalization": "joint",
    "interpolation_method": "cubic",
    "cc_initialization": False,
    "cc_hw": 256,
    "cc_up": 1,
    "update_initialization_w": True,
    "naming_convention": "default",
    "constancy_assumption": "gc",
    "flow_backend": "flowreg",
    "backend_params": {},
    "get_displacement_impl": None,
    "get_displacement_factory": None,
}

# jsonencode writes a list of one as a number, and nothing as [] or "".
MATLAB = {
    "input_file": "C:\\data\\new.tif",
    "datatype": "TIFSTACK",
    "output_path": "results",
    "output_format": "HDF5",
    "channel_idx": [],
    "output_file_name": [],
    "output_file_writer": [],
    "alpha": 4,
    "weight": 1,
    "levels": 100,
    "min_level": 4,
    "quality_setting": "balanced",
    "eta": 0.8,
    "update_lag": 5,
    "iterations": 50,
    "a_smooth": 1,
    "a_data": 0.45,
    "sigma": [1, 1, 0.1],
    "bin_size": 1,
    "buffer_size": 400,
    "verbose": False,
    "save_meta_info": True,
    "save_w": False,
    "save_valid_mask": False,
    "output_typename": "",
    "channel_normalization": "joint",
    "interpolation_method": "cubic",
    "cc_initialization": False,
    "update_reference": False,
    "n_references": 1,
    "min_frames_per_reference": 20,
    "naming_convention": "default",
    "reference_frames": list(range(100, 201)),
}


@pytest.fixture
def save(tmp_path):
    def saved(fields, header="Compensation options 2025-03-07\n\n", **changes):
        text = json.dumps({**fields, **changes}, indent=2)
        if "datatype" in fields:
            text = text.replace("\\\\", "\\")  # as fprintf leaves it
        path = tmp_path / "options.json"
        path.write_text(header + text, encoding="utf-8")
        return path

    return saved


def test_a_file_of_pyflowreg(save, caplog):
    options = OFOptions.from_json(save(PYFLOWREG))
    expected = {
        "input_file": "raw.h5",
        "alpha": 1.5,
        "eta": 0.8,
        "iterations": 50,
        "output_format": "MAT",
        "output_typename": "double",
        "quality_setting": "balanced",
        "save_valid_idx": False,
    }
    expected = OFOptions(**expected, reference_frames=range(50, 500)).replace(alpha=(1.5, 1.5))
    assert options == expected
    assert options.flow().min_level == 4
    assert not caplog.records


def test_a_file_of_matlab(save, caplog):
    options = OFOptions.from_json(save(MATLAB))
    assert str(options.input_file) == "C:\\data\\new.tif"
    assert options.reference_frames == tuple(range(99, 200))
    assert (options.alpha, options.weight, options.min_level, options.output_typename) == (4.0, (1.0,), 4, None)
    assert options.sigma == ((1, 1, 0.1),)
    (record,) = caplog.records
    assert "reference_frames: MATLAB counts from 1; read as 99 to 199, counted from 0" in record.message
    assert "options.json" in record.message


@pytest.mark.parametrize(
    ("changes", "field", "value", "note"),
    [
        ({"gnc_schedule": [0, 1], "warping_steps": 9}, "warping_steps", 9, "gnc_schedule: runs along the levels"),
        ({"verbose": True}, "save_w", False, "verbose: what pyflow has to say goes to Python's logging"),
        ({"preproc_funct": "@(x)x"}, "preprocess", None, "preproc_funct: a function cannot be read"),
        ({"output_format": "SUITE2P_TIFF"}, "output_format", "TIFF", "pages of channels alternate as well"),
        ({"output_format": "BEGONIA"}, "output_format", "HDF5", "does not write this format"),
        ({"flow_backend": "diso"}, "flow_backend", "flowreg", "diso.*displacements differ"),
        ({"n_references": 2, "update_reference": True}, "n_references", 1, "n_references: there is one reference"),
        ({"flow_backend": "flowreg_torch", "backend_params": {"device": "cuda"}}, "backend_params", {}, "same method"),
    ],
)
def test_what_has_no_meaning_here_is_said_once_with_its_consequence(save, caplog, changes, field, value, note):
    path = save(PYFLOWREG, **changes)
    options = OFOptions.from_json(path)
    assert getattr(options, field) == value
    options.replace(alpha=3)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert str(path) in record.message
    assert re.search(note, record.message)


def test_a_back_end_of_their_name_is_taken_where_it_is_installed(save, caplog, monkeypatch):
    factory = backends._FACTORIES["flowreg"]
    monkeypatch.setitem(backends._FACTORIES, "flowreg_torch", factory)
    assert OFOptions.from_json(save(PYFLOWREG, flow_backend="flowreg_torch")).flow_backend == "flowreg_torch"
    assert not caplog.records


@pytest.mark.parametrize(
    ("changes", "field", "value"),
    [
        ({"constancy_assumption": "cs"}, "const_assumption", "census"),
        ({"constancy_assumption": "gradient"}, "const_assumption", "gc"),
        ({"constancy_assumption": "brightness"}, "const_assumption", "gray"),
        ({"alpha": [3.0]}, "alpha", 3.0),
        ({"quality_setting": "custom", "min_level": 3}, "min_level", 3),
        ({"quality_setting": "custom"}, "min_level", 0),
        ({"cc_hw": [128, 64]}, "cc_hw", (128, 64)),
        ({"reference_frames": 7}, "reference_frames", (7,)),
        ({"output_typename": ""}, "output_typename", None),
    ],
)
def test_other_words_for_the_same(save, caplog, changes, field, value):
    assert getattr(OFOptions.from_json(save(PYFLOWREG, **changes)), field) == value
    assert not caplog.records


@pytest.mark.parametrize("fields", [PYFLOWREG, MATLAB])
def test_maps_of_weights_and_channels(save, fields):
    weight = np.arange(24.0).reshape(3, 4, 2)
    written = np.moveaxis(weight, -1, 0) if fields is MATLAB else weight
    options = OFOptions.from_json(save(fields, weight=written.tolist(), channel_idx=[1, 2]))
    np.testing.assert_array_equal(options.weight, weight)
    one_for_all = OFOptions.from_json(save(fields, weight=weight[..., 0].tolist())).weight
    np.testing.assert_array_equal(one_for_all, weight[..., 0])
    assert options.channel_idx == ((0, 1) if fields is MATLAB else (1, 2))


def test_two_names_of_one_option(save):
    path = save(PYFLOWREG, constancy_assumption="cs")
    assert OFOptions.from_json(path, const_assumption="gray").const_assumption == "gray"
    assert OFOptions.from_json(path, constancy_assumption="gray").const_assumption == "gray"
    assert OFOptions().replace(constancy_assumption="gray").const_assumption == "gray"
    with pytest.raises(ValueError, match="const_assumption and constancy_assumption are two names of one option"):
        OFOptions(const_assumption="gc", constancy_assumption="gc")


def test_a_file_in_the_shells_encoding(save):
    path = save(PYFLOWREG, alpha=3)
    path.write_text(path.read_text(encoding="utf-8"), encoding="utf-16")
    assert OFOptions.from_json(path).alpha == 3


def test_a_file_that_an_editor_of_windows_saved_anew(save):
    path = save(PYFLOWREG, alpha=3)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert OFOptions.from_json(path).alpha == 3


def test_typing_errors_are_errors_in_their_files_too(save):
    with pytest.raises(ValueError, match=r"(?s)options\.json.*'itterations', did you mean 'iterations'"):
        OFOptions.from_json(save(PYFLOWREG, itterations=3))
    with pytest.raises(ValueError, match=r"options\.json: not valid JSON"):
        OFOptions.from_json(save(PYFLOWREG, header="Other options\n\n"))


@pytest.mark.parametrize("kind", ["pyflowreg", "MATLAB", "one channel"])
def test_a_reference_saved_beside_the_options(save, tmp_path, monkeypatch, rng, kind):
    image = rng.integers(0, 900, (40, 48, 1 if kind == "one channel" else 2)).astype(np.uint16)
    pages = np.moveaxis(image, -1, 0) if kind == "MATLAB" else image.squeeze()
    tifffile.imwrite(tmp_path / "reference_frames.tif", pages)
    path = save(PYFLOWREG, reference_frames="reference_frames.tif")
    monkeypatch.chdir("/")
    reference = find_reference(FrameSource(np.zeros((3, *image.shape))), OFOptions.from_json(path))
    np.testing.assert_array_equal(reference, image)


def test_ours_stay_as_they_are():
    options = OFOptions(weight=(1, 2), channel_idx=[0], gnc_schedule=(0, 1))
    fields = json.loads(options.model_dump_json(exclude={"preprocess"}))
    assert translated(fields)[1] == []
    assert OFOptions(**translated(fields)[0]) == options
    assert translated({"preproc_funct": np.sqrt}) == ({"preprocess": np.sqrt}, [])


@pytest.mark.parametrize(
    ("damaged", "said"),
    [
        ('{"output_path": "Müller"}'.encode("latin-1"), "not valid JSON: .*utf-8"),
        (b'{"alpha": "\xfc"}', "not valid JSON: .*utf-8"),
        (json.dumps({"alpha": 2}).encode("utf-16")[:9], "not valid JSON: "),
        (b'{"alpha": ' + b"[" * 100_000, "not valid JSON"),
        (b'{"output_format": ["HDF5"]}', "output_format"),
        (b'{"output_format": {}}', "output_format"),
        (b'{"flow_backend": ["flowreg"]}', "flow_backend"),
        (b'{"datatype": "MAT", "reference_frames": [1, NaN]}', "reference_frames"),
        (b'{"datatype": "MAT", "reference_frames": [1, 1e999]}', "reference_frames"),
        (b'{"datatype": "MAT", "reference_frames": [1, null]}', "reference_frames"),
        (b'{"datatype": "MAT", "reference_frames": [1.5, 2]}', "reference_frames"),
        (b'{"datatype": "MAT", "reference_frames": [0, 1]}', r"MATLAB.*found \[0, 1\]"),
        (b'{"datatype": "MAT", "channel_idx": ["red"]}', "channel_idx"),
        (b'{"datatype": "MAT", "weight": [[[1, 2], [3]], [[1, 2], [3, 4]]]}', "weight"),
        (b'{"datatype": "MAT", "weight": [[[1, 2], 3], [[1, 2], [3, 4]]]}', "weight"),
    ],
)
def test_damaged_files_are_errors_that_name_the_file_and_the_option(tmp_path, damaged, said):
    path = tmp_path / "options.json"
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match=rf"(?s)options\.json: .*{said}"):
        OFOptions.from_json(path)


def test_an_image_given_as_numbers_is_no_list_of_frames(save):
    image = np.arange(20.0).reshape(4, 5)
    options = OFOptions.from_json(save(MATLAB, reference_frames=image.tolist()))
    np.testing.assert_array_equal(options.reference_frames, image)


def test_a_path_whose_letters_look_like_tabs_and_line_breaks_is_read(save):
    assert str(OFOptions.from_json(save(MATLAB, input_file="C:\\new\\table.tif")).input_file) == "C:\\new\\table.tif"


@pytest.mark.parametrize(("frames", "shown"), [(7, "6"), ([7, 9], "6, 8"), ([7, 8, 9], "6 to 8")])
def test_what_is_counted_otherwise_is_shown(save, caplog, frames, shown):
    OFOptions.from_json(save(MATLAB, reference_frames=frames))
    assert f"reference_frames: MATLAB counts from 1; read as {shown}, counted from 0" in caplog.text
