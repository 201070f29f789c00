"""OFOptions: checked once, never changed, readable again."""

import json

import numpy as np
import pytest
import tifffile

from pyflow.flow.parameters import SCHEDULES, FlowParameters
from pyflow.motion.options import OFOptions


def test_defaults_are_the_toolbox_s():
    options = OFOptions()
    expected = {
        "alpha": "auto",
        "weight": (0.5, 0.5),
        "levels": 100,
        "min_level": None,
        "quality_setting": "quality",
        "update_lag": 5,
        "a_smooth": 1.0,
        "a_data": 0.45,
        "sigma": ((1, 1, 0.1), (1, 1, 0.1)),
        "bin_size": 1,
        "buffer_size": 400,
        "reference_frames": "50:500",
        "update_reference": False,
        "update_initialization_w": True,
        "cc_initialization": False,
        "channel_normalization": "joint",
        "interpolation_method": "cubic",
        "save_w": False,
        "save_meta_info": True,
        "const_assumption": "gc",
    }
    assert {name: getattr(options, name) for name in expected} == expected


@pytest.mark.parametrize("quality", ["quality", "balanced", "fast"])
def test_presets_mean_the_toolbox_s_levels_with_a_number_for_alpha(quality):
    options = OFOptions(alpha=1.5, quality_setting=quality)
    assert options.flow() == FlowParameters(alpha=1.5, min_level={"quality": 0, "balanced": 4, "fast": 6}[quality])
    assert options.with_alpha(20).flow() == options.replace(alpha=20).flow()


@pytest.mark.parametrize("quality", ["quality", "balanced", "fast"])
def test_presets_mean_schedules_where_alpha_is_found(quality):
    flow = OFOptions(quality_setting=quality).with_alpha(60).flow()
    assert (flow.eta, flow.iterations, flow.min_level) == SCHEDULES[quality]
    assert flow.grid_spacing == 4


@pytest.mark.parametrize("given", [{"eta": 0.8}, {"iterations": 50}, {"min_level": 0}, {"min_level": 3}])
def test_what_is_given_leaves_nothing_to_a_schedule(given):
    flow = OFOptions(grid_spacing=1, **given).with_alpha(60).flow()
    assert flow == FlowParameters(alpha=60, **given)


@pytest.mark.parametrize(
    ("given", "field", "value"),
    [
        ({"alpha": [1, 2]}, "alpha", (1.0, 2.0)),
        ({"min_level": -1}, "min_level", None),
        ({"sigma": [2, 2, 0.1]}, "sigma", ((2, 2, 0.1),)),
        ({"sigma": np.ones((3, 3))}, "sigma", ((1, 1, 1),) * 3),
        ({"reference_frames": range(3)}, "reference_frames", (0, 1, 2)),
        ({"reference_frames": np.arange(2)}, "reference_frames", (0, 1)),
        ({"constancy_assumption": "gray"}, "const_assumption", "gray"),
        ({"const_assumption": "census"}, "const_assumption", "census"),
        ({"gnc_schedule": np.linspace(0, 1, 3)}, "gnc_schedule", (0, 0.5, 1)),
        ({"cc_hw": np.array([64, 32])}, "cc_hw", (64, 32)),
        ({"eta": 1}, "eta", 1.0),
    ],
)
def test_accepts(given, field, value):
    assert getattr(OFOptions(**given), field) == value


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"alpah": 3}, "'alpah', did you mean 'alpha'"),
        ({"alpha": -1}, "alpha.*greater than"),
        ({"alpha": (1, 2, 3)}, "alpha.*at most 2"),
        ({"alpha": "strong"}, "alpha.*'auto'"),
        ({"alpha": float("nan")}, "alpha.*finite"),
        ({"eta": 1.01}, "eta.*less than"),
        ({"cc_hw": (64, 4)}, "cc_hw.*greater than or equal to 8"),
        ({"cc_hw": "small"}, "cc_hw.*pair"),
        ({"naming_convention": "best"}, "naming_convention.*default.*batch"),
        ({"preprocess": 3}, "preprocess.*callable"),
        ({"iterations": 2.5}, "iterations.*integer"),
        ({"sigma": (1, 1)}, "sigma"),
        ({"weight": []}, "weight.*at least 1"),
        ({"channel_idx": [-1]}, "channel_idx"),
        ({"reference_frames": [3, -1]}, "reference_frames.*greater than or equal to 0"),
        ({"gnc_schedule": (0, 0.5)}, "gnc_schedule.*the last 1"),
        ({"gnc_schedule": 1}, "gnc_schedule.*valid tuple"),
        ({"quality_setting": "best"}, "quality_setting.*quality.*balanced"),
        ({"quality_setting": "custom"}, "custom.*needs min_level"),
        ({"output_typename": "string"}, "output_typename.*uint16"),
        ({"output_file_name": "a/b.h5"}, "output_file_name.*output_path"),
    ],
)
def test_refuses(given, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        OFOptions(**given)


def test_cannot_be_changed():
    options = OFOptions()
    with pytest.raises(ValueError, match="frozen"):
        options.alpha = 3
    changed = options.replace(alpha=3)
    assert (options.alpha, changed.alpha) == ("auto", 3)
    with pytest.raises(ValueError, match="alpha"):
        options.replace(alpha=0)


def test_json_round_trip(tmp_path):
    options = OFOptions(input_file="a b.tif", alpha=(1, 2), reference_frames=[1, 2], sigma=(1, 1, 0), weight="map.npy")
    path = tmp_path / "options.json"
    options.to_json(path)
    assert OFOptions.from_json(path) == options
    assert OFOptions.from_json(path, alpha=4).alpha == 4
    assert [p.name for p in tmp_path.iterdir()] == ["options.json"]


@pytest.mark.parametrize(
    ("text", "message"), [("{", "not valid JSON"), ("[1]", "JSON object"), ('{"alpha": 0}', "alpha")]
)
def test_json_errors_name_the_file(tmp_path, text, message):
    path = tmp_path / "options.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"(?s)options.json.*{message}"):
        OFOptions.from_json(path)


def test_execution_options_are_no_part_of_the_result(tmp_path):
    options = OFOptions()
    execution = {
        "input_file": "x.tif",
        "output_path": "y",
        "output_file_name": "z.h5",
        "compression": "gzip",
        "n_workers": 7,
    }
    assert options.replace(**execution).result_fields() == options.result_fields()
    assert not execution.keys() & options.result_fields().keys()
    json.dumps(options.result_fields())
    assert options.replace(alpha=2).result_fields() != options.result_fields()


def test_named_files_count_by_content(tmp_path):
    path = tmp_path / "reference.npy"
    np.save(path, np.zeros(3))
    before = OFOptions(reference_frames=path).result_fields()
    np.save(path, np.ones(3))
    assert OFOptions(reference_frames=path).result_fields() != before


def test_an_image_in_memory_counts_by_content():
    image = np.arange(12.0).reshape(3, 4)
    options = OFOptions(reference_frames=image)
    same, expected = OFOptions(reference_frames=image.copy()), image.copy()
    image[0, 0] = 7  # the caller's, and no part of the options
    np.testing.assert_array_equal(options.replace(alpha=2).reference_frames, expected)
    assert options.replace(alpha=2).replace(alpha="auto") == options
    json.dumps(options.result_fields())
    assert options.result_fields() == same.result_fields() != OFOptions(reference_frames=image).result_fields()


def test_options_that_came_later_change_no_key_where_they_are_left_out():
    fields = OFOptions().result_fields()
    later = {"warping_steps": 2, "preprocess": np.sqrt, "save_valid_mask": True, "reader": {"bin_size": 2}}
    assert not later.keys() & fields.keys()
    for name, value in later.items():
        changed = OFOptions(**{name: value}).result_fields()
        assert changed.keys() - fields.keys() == {name}
        json.dumps(changed)


def test_images_in_memory_are_saved_beside_the_options(tmp_path, monkeypatch):
    weight, reference = np.random.default_rng(0).random((2, 4, 5))
    options = OFOptions(weight=weight, reference_frames=reference)
    (tmp_path / "a").mkdir()
    options.to_json(tmp_path / "a" / "fast.json")
    (tmp_path / "a").rename(tmp_path / "moved")
    monkeypatch.chdir("/")
    found = OFOptions.from_json(tmp_path / "moved" / "fast.json")
    np.testing.assert_array_equal(found.channel_weights((4, 5, 1))[..., 0], weight.astype(np.float32))
    np.testing.assert_array_equal(np.load(found.reference_path), reference)
    with pytest.raises(ValueError, match="preprocess is a function"):
        OFOptions(preprocess=np.sqrt).to_json(tmp_path / "other.json")


def test_channel_weights(tmp_path):
    np.testing.assert_allclose(OFOptions().channel_weights((4, 5, 1)), [1])
    np.testing.assert_allclose(OFOptions(weight=(1, 3)).channel_weights((4, 5, 2)), [0.25, 0.75])
    np.testing.assert_allclose(OFOptions(weight=(2, 2)).channel_weights((4, 5, 3)), [0.375, 0.375, 0.25])
    with pytest.raises(ValueError, match="none of the recording's 1 channels"):
        OFOptions(weight=(0, 1)).channel_weights((4, 5, 1))
    np.save(tmp_path / "map.npy", np.ones((4, 5)))
    assert OFOptions(weight=tmp_path / "map.npy").channel_weights((4, 5, 2)).shape == (4, 5, 2)
    np.save(tmp_path / "map.npy", np.ones((4, 5, 3)))
    with pytest.raises(ValueError, match=r"map.npy has shape \(4, 5, 3\)"):
        OFOptions(weight=tmp_path / "map.npy").channel_weights((4, 5, 2))


def test_the_largest_value_of_an_image_of_weights_stands_for_1(tmp_path):
    image = np.full((4, 5), 200, np.uint8)
    image[0] = 50
    tifffile.imwrite(tmp_path / "mask.tif", image)
    weights = OFOptions(weight=tmp_path / "mask.tif").channel_weights((4, 5, 2))
    np.testing.assert_allclose(weights, np.stack([image / 200] * 2, axis=-1), rtol=1e-6)


def test_how_a_recording_is_read_counts_where_it_changes_what_is_read():
    plain = OFOptions().result_fields()
    assert OFOptions(reader={"buffer_size": 10, "frame_rate": 30}).result_fields() == plain
    assert OFOptions(reader={"bin_size": 2}).result_fields() != plain


def test_frames_of_the_reference_need_a_step():
    with pytest.raises(ValueError, match=r"reference_frames(?s:.)*a step other than 0, found '0:9:0'"):
        OFOptions(reference_frames="0:9:0")


def test_mistakes_are_told_without_pages_of_the_checker_s_own_words():
    with pytest.raises(ValueError, match="alpha") as caught:
        OFOptions(alpha="four", quality_setting="high")
    assert str(caught.value) == (
        "2 validation errors for OFOptions\n"
        "alpha\n  expected a number, a pair (x, y) or 'auto', found 'four' [type=wrong_option]\n"
        "quality_setting\n  expected 'quality', 'balanced', 'fast' or 'custom', found 'high' [type=wrong_option]"
    )
    with pytest.raises(ValueError, match=r"reader.n_channels\n  expected a valid integer.*, found 'two' \[[^ ]*\]$"):
        OFOptions(reader={"n_channels": "two"})
    with pytest.raises(ValueError, match=r"alpha\n  frozen; give alpha= .*replace\(\)"):
        OFOptions().alpha = 3


def test_a_number_in_quotes_is_a_number():
    assert OFOptions(alpha="4", grid_spacing="2", bidiphase="-3") == OFOptions(alpha=4, grid_spacing=2, bidiphase=-3)
    assert OFOptions(alpha="1e1").alpha == 10


def test_options_are_shown_by_what_differs_from_the_defaults():
    assert repr(OFOptions()) == "OFOptions()"
    options = OFOptions(alpha=4, reader={"plane": 1}, weight=np.ones((9, 9)))
    expected = "OFOptions(reader=ReaderOptions(plane=1), alpha=4.0, weight=<float64 (9, 9)>)"
    assert repr(options) == str(options) == expected
