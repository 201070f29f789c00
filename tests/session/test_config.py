import json

import pytest
from pydantic import ValidationError

from pyflow.motion.options import OFOptions
from pyflow.session import SessionConfig, discover_input_files, find_recordings
from pyflow.session.keys import stage1_options
from pyflow.session.recordings import Recording


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_and_paths(tmp_path):
    config = SessionConfig.from_file(write(tmp_path / "session.toml", 'root = "data"\nfinal_results = "/else/where"'))
    assert config.root == tmp_path / "data"
    assert config.output_root == tmp_path / "data" / "compensated_outputs"
    assert str(config.final_results) == "/else/where"
    assert (config.cc_upsample, config.sigma_smooth, config.alpha_between) == (4, "auto", "auto")
    assert (config.iterations_between, config.align_chunk_size, config.align_output_format) == (
        100,
        64,
        "TIFF",
    )
    with pytest.raises(ValidationError):
        config.root = tmp_path


def test_toml_and_yaml_agree(tmp_path):
    toml = write(
        tmp_path / "s.toml",
        'root = "d"\nalpha_between = 3\nn_workers = -1\n[flow_options]\nsigma = [1, 1, 0.1]\n',
    )
    yaml = write(
        tmp_path / "s.yml",
        "root: d\nalpha_between: 3\nn_workers: -1\nof_options_override:\n  sigma: [1, 1, 0.1]\n",
    )
    assert SessionConfig.from_file(toml) == SessionConfig.from_file(yaml)
    assert SessionConfig.from_yaml(yaml).flow_options == {"sigma": [1, 1, 0.1]}
    empty = write(tmp_path / "empty.yml", "root: d\nflow_options:\n  # alpha: 4\n")
    assert SessionConfig.from_yaml(empty).flow_options == {}
    assert SessionConfig.from_toml(toml).n_threads == 0


def test_options_from_a_json_file_beside_the_toml(tmp_path):
    (tmp_path / "options.json").write_text(json.dumps({"alpha": 4}))
    config = SessionConfig.from_file(write(tmp_path / "s.toml", 'root = "."\nflow_options = "options.json"'))
    assert config.flow_options == {"alpha": 4}


def test_options_that_pyflowreg_saved(tmp_path, caplog):
    """All fields of an object are in its file, also those that a session decides itself."""
    saved = {
        "input_file": "a.h5",
        "output_path": "r",
        "alpha": [4.0, 4.0],
        "constancy_assumption": "cs",
        "verbose": True,
    }
    saved |= {"output_format": "MAT", "save_valid_idx": False, "flow_backend": "diso", "output_typename": ""}
    write(tmp_path / "options.json", f"Compensation options 2025-03-07\n\n{json.dumps(saved)}")
    config = SessionConfig.from_file(write(tmp_path / "s.toml", 'root = "."\nflow_options = "options.json"'))
    assert config.flow_options == {"alpha": [4.0, 4.0], "constancy_assumption": "cs"}
    said = [record.message for record in caplog.records]
    assert [words in line for words, line in zip(("verbose", "diso", "set by the session"), said, strict=True)] == [
        True
    ] * 3
    assert "input_file, output_path, output_format, save_valid_idx" in said[2]
    config.replace(resume=False)
    assert len(caplog.records) == 3
    OFOptions(alpha=4).to_json(tmp_path / "options.json")
    config = SessionConfig.from_file(tmp_path / "s.toml")
    assert config.flow_options["alpha"] == 4
    assert len(caplog.records) == 3, "nothing that our own file sets differs from what the session does"


PYFLOWREG = """
root = "experiment/"
pattern = "*.tif"
output_root = "compensated_outputs"
final_results = "final_results"
resume = true
scheduler = "local"
n_workers = -1
flow_backend = "flowreg_torch"
stage1_quality_setting = "balanced"
cc_upsample = 4
sigma_smooth = 6.0
alpha_between = 25.0
iterations_between = 100
stage2_constancy_assumption = "cs"
[backend_params]
device = "cuda:0"
[flow_options]
buffer_size = 1000
verbose = false
save_w = false
save_valid_idx = true
save_meta_info = true
constancy_assumption = "gradient"
"""


def test_a_session_file_of_pyflowreg(tmp_path, caplog):
    config = SessionConfig.from_file(write(tmp_path / "session.toml", PYFLOWREG))
    assert (config.flow_backend, config.backend_params, config.n_threads) == ("flowreg", {}, 0)
    assert config.stage2_constancy_assumption == "census"
    (record,) = caplog.records
    assert "flow_backend 'flowreg_torch'" in record.message
    options = stage1_options(config, Recording("a", tmp_path / "a.tif", tmp_path / "out"))
    assert (options.quality_setting, options.const_assumption, options.buffer_size) == ("balanced", "gc", 1000)
    config = config.with_flow_options({"quality_setting": "fast"})
    assert stage1_options(config, Recording("a", tmp_path / "a.tif", tmp_path / "out")).quality_setting == "fast"


def test_a_session_can_be_described_before_its_folder_is_there(tmp_path):
    config = SessionConfig(root=tmp_path / "later", pattern="*.h5").replace(pattern="*.tif", alpha_between=3)
    assert (config.pattern, config.alpha_between) == ("*.tif", 3)
    assert not config.root.exists()
    with pytest.raises(FileNotFoundError, match=r"root: there is no folder .*later"):
        discover_input_files(config)
    with pytest.raises(ValidationError, match="alpha_betwen"):
        config.replace(alpha_betwen=3)
    assert config.replace(of_options_override={"alpha": 7}).flow_options == {"alpha": 7}
    touch(config.root, "a.tif")
    assert [path.name for path in discover_input_files(config)] == ["a.tif"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("alpha_betwen = 3", ["alpha_betwen", "did you mean 'alpha_between'"]),
        ("alpha_between = -1", ["alpha_between", "greater than 0", "-1"]),
        ("alpha_between = nan", ["alpha_between", "finite"]),
        ("sigma_smooth = 'x'", ["sigma_smooth", "'x'"]),
        ("valid_fraction = 0", ["valid_fraction", "greater than 0"]),
        ("scheduler = 'moab'", ["scheduler", "'moab' is not available in this release", "local, array, dask"]),
        ("memory_limit_gb = 0", ["memory_limit_gb", "greater than 0"]),
        ("align_output_format = 'AVI'", ["align_output_format", "not available in this release"]),
        ("flow_backend = 'torch'", ["'torch'", "expected one of flowreg"]),
        ("backend_params = {device = 'cuda'}", ["backend_params", "device"]),
        ("output_root = '.'", ["output_root", "is or contains root"]),
        ("pattern = '/data/*.tif'", ["pattern", "relative to root"]),
        ("flow_options = {alhpa = 3}", ["flow_options", "alhpa", "did you mean 'alpha'"]),
        ("flow_options = {alpha = -3}", ["flow_options", "alpha", "-3"]),
        ("flow_options = {output_path = 'x'}", ["flow_options", "output_path is set by the session"]),
        ("flow_options = {naming_convention = 'batch'}", ["flow_options", "naming_convention is set by the session"]),
        ("flow_options = 'gone.json'", ["gone.json"]),
        ("stage1_quality_setting = 'best'", ["stage1_quality_setting", "'best'", "balanced"]),
        ("stage2_constancy_assumption = 'hue'", ["stage2_constancy_assumption", "'hue'", "census"]),
        ("flow_options = {}\nof_options_override = {}", ["two names of one key"]),
        ("this is no toml", ["s.toml", "not valid TOML"]),
        (r'output_root = "D:\Users\me"', ["not valid TOML", "single quotes"]),
    ],
)
def test_mistakes_are_named(tmp_path, text, words):
    path = write(tmp_path / "s.toml", f'root = "data"\n{text}\n')
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        SessionConfig.from_file(path)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("text", ["verbose = true", "n_jobs = 3", "flow_options = {silent = true}", "'' = 3"])
def test_names_that_resemble_nothing_are_not_guessed_at(tmp_path, text):
    with pytest.raises(ValueError, match=r"unknown (key|option)") as caught:
        SessionConfig.from_file(write(tmp_path / "s.toml", f'root = "data"\n{text}\n'))
    assert "did you mean" not in str(caught.value)


def test_save_valid_idx_may_be_asked_for_and_not_refused(tmp_path):
    text = 'root = "data"\n[of_options_override]\nsave_valid_idx = {}\nalpha = 4\n'
    config = SessionConfig.from_file(write(tmp_path / "s.toml", text.format("true")))
    assert config.flow_options == {"alpha": 4}
    for other in ("false", "1", "'yes'"):
        with pytest.raises(ValueError, match=r"flow_options: save_valid_idx: expected true, stage 3 needs the masks"):
            SessionConfig.from_file(write(tmp_path / "s.toml", text.format(other)))


def test_missing_root_key_and_odd_files(tmp_path):
    with pytest.raises(ValueError, match=r"s\.toml: root: Field required"):
        SessionConfig.from_file(write(tmp_path / "s.toml", "center = 'a'"))
    with pytest.raises(ValueError, match=r"\.toml, \.yaml or \.yml"):
        SessionConfig.from_file(tmp_path / "s.json")
    with pytest.raises(FileNotFoundError):
        SessionConfig.from_file(tmp_path / "gone.toml")
    with pytest.raises(ValueError, match="expected keys and values, found list"):
        SessionConfig.from_file(write(tmp_path / "s.yaml", "- a"))


def test_files_come_in_natural_order(tmp_path):
    touch(tmp_path, "r10.tif", "r2.tif", "R1.tif", "note.txt")
    config = SessionConfig(root=tmp_path)
    assert [file.name for file in discover_input_files(config)] == ["R1.tif", "r2.tif", "r10.tif"]


def test_hidden_files_are_no_recordings_unless_they_are_asked_for(tmp_path):
    """As Macs leave them on drives of other systems, one beside each file."""
    touch(tmp_path, "a.tif", "._a.tif", "sub/b.tif", "sub/._b.tif", ".trash/c.tif")

    def found(pattern):
        files = discover_input_files(SessionConfig(root=tmp_path, pattern=pattern))
        return [path.relative_to(tmp_path).as_posix() for path in files]

    assert found("*.tif") == ["a.tif"]
    assert found("**/*.tif") == ["a.tif", "sub/b.tif"]
    assert found("._*.tif") == ["._a.tif"]
    assert found(".trash/*") == [".trash/c.tif"]


def test_own_results_are_never_inputs(tmp_path):
    touch(
        tmp_path,
        "a.tif",
        "day/b.tif",
        "compensated_outputs/a/x.tif",
        "final_results/aligned_a.tif",
        "old_results/aligned_a.tif",
    )
    (tmp_path / "old_results/status.json").write_text('{"stage3": "done"}')
    config = SessionConfig(root=tmp_path, pattern="**/*.tif")
    assert [file.name for file in discover_input_files(config)] == ["a.tif", "b.tif"]


def test_nothing_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        discover_input_files(SessionConfig(root=tmp_path / "gone"))
    with pytest.raises(FileNotFoundError, match=r"matches pattern '\*\.tif'"):
        find_recordings(SessionConfig(root=tmp_path))


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["a.tif", "b.tif"], ["a", "b"]),
        (["a.tif", "a.tiff", "b.tif"], ["a.tif", "a.tiff", "b"]),
        (["day1/a.tif", "day2/a.tif"], ["day1_a.tif", "day2_a.tif"]),
        (["A.tif", "a.tiff"], ["A.tif", "a.tiff"]),
        (["schön 1.tif"], ["schön 1"]),
    ],
)
def test_names_are_distinct(tmp_path, files, names):
    touch(tmp_path, *files)
    recordings = find_recordings(SessionConfig(root=tmp_path, pattern="**/*.tif*"))
    assert [recording.name for recording in recordings] == names
    assert recordings[0].folder == tmp_path / "compensated_outputs" / names[0]


def test_names_that_differ_in_case_only_are_refused(tmp_path):
    config = SessionConfig(root=tmp_path)
    with pytest.raises(ValueError, match=r"A\.tif and .*a\.tif would both"):
        find_recordings(config, [tmp_path / "A.tif", tmp_path / "a.tif"])


@pytest.mark.parametrize(("n", "middle"), [(1, 0), (2, 0), (3, 1), (4, 1), (5, 2)])
def test_default_center_is_the_middle(tmp_path, n, middle):
    files = [tmp_path / f"{i}.tif" for i in range(n)]
    assert SessionConfig(root=tmp_path).resolve_center_file(files) == files[middle]


def test_center_by_name(tmp_path):
    files = [tmp_path / "a" / "x.tif", tmp_path / "b" / "x.tif", tmp_path / "y.tif"]
    assert SessionConfig(root=tmp_path, center="y.tif").resolve_center_file(files) == files[2]
    assert SessionConfig(root=tmp_path, center="b/x.tif").resolve_center_file(files) == files[1]
    with pytest.raises(ValueError, match="names several recordings"):
        SessionConfig(root=tmp_path, center="x.tif").resolve_center_file(files)
    with pytest.raises(ValueError, match=r"'z.tif' is not among the recordings, did you mean"):
        SessionConfig(root=tmp_path, center="z.tif").resolve_center_file(files)


@pytest.mark.parametrize(("option", "words"), [({"alpa": 40}, "did you mean 'alpha'"), ({"eta": 3}, "eta: .* found 3")])
def test_flow_options_of_a_run_are_refused_in_one_line(tmp_path, option, words):
    config = SessionConfig(root=tmp_path)
    with pytest.raises(ValueError, match=words) as caught:
        config.with_flow_options(option)
    assert "\n" not in str(caught.value)
    assert "pydantic" not in str(caught.value)


@pytest.mark.parametrize(("name", "text"), [("s.toml", 'root = "."'), ("s.yaml", "root: .")])
def test_the_mark_that_editors_put_before_a_text_is_no_part_of_it(tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8-sig")
    assert SessionConfig.from_file(tmp_path / name).root == tmp_path


def test_a_back_end_that_is_no_name_is_named(tmp_path):
    (tmp_path / "s.toml").write_text('root = "."\nflow_backend = 5\n[backend_params]\n')
    with pytest.raises(ValueError, match=r"s\.toml: flow_backend: .* found 5$"):
        SessionConfig.from_file(tmp_path / "s.toml")
