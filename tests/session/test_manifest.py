"""Which recording a job array's task is about, whatever happens between submitting and running it."""

import json
import os
import shlex
import shutil

import pytest

from pyflow.session import SessionConfig, SessionError, run_stage1_array
from pyflow.session.cli import main
from pyflow.session.manifest import get_array_task_id, read_manifest, write_manifest


@pytest.fixture
def task(monkeypatch):
    """Pretend to be a task of a SLURM array."""

    def pretend(number, job="77", lowest=None):
        monkeypatch.setenv("SLURM_ARRAY_JOB_ID", job)
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", str(number))
        monkeypatch.setenv("SLURM_ARRAY_TASK_MIN", str(number if lowest is None else lowest))

    return pretend


def manifest_of(config, **changes):
    session = {"root": os.path.relpath(config.root, config.final_results), "pattern": config.pattern}
    data = {"session": session, "first": 1, "recordings": ["rec1.tif", "rec2.tif", "rec10.tif"], **changes}
    return {key: value for key, value in data.items() if value is not None}


def write(config, data):
    config.final_results.mkdir(parents=True, exist_ok=True)
    text = data if isinstance(data, str) else json.dumps(data)
    (config.final_results / "array.json").write_text(text, encoding="utf-8")


@pytest.fixture
def toml(config):
    path = config.root / "a session.toml"
    path.write_text('root = "."\n[flow_options]\nquality_setting = "fast"\niterations = 5\nreference_frames = "0:4"\n')
    return path


@pytest.mark.parametrize(
    ("environment", "first", "index"),
    [
        ({"SLURM_ARRAY_TASK_ID": "1"}, 1, 0),
        ({"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_MIN": "3"}, 1, 2),
        ({"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_MIN": "0"}, 1, 2),
        ({"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_MIN": "3"}, 0, 3),
        ({"SLURM_ARRAY_TASK_ID": "0"}, 0, 0),
        ({"SGE_TASK_ID": "undefined", "PBS_ARRAY_INDEX": "2"}, 1, 1),
        ({"PBS_ARRAYID": "4"}, 1, 3),
        ({"LSB_JOBINDEX": "2"}, 1, 1),
    ],
)
def test_numbers_count_from_the_manifests_first(environment, first, index):
    assert get_array_task_id(environment, first=first) == index


@pytest.mark.parametrize("environment", [{}, {"SGE_TASK_ID": "undefined"}, {"LSB_JOBINDEX": "0"}])
def test_no_task_of_an_array(environment):
    with pytest.raises(ValueError, match=r"not a task of a job array.*--index"):
        get_array_task_id(environment)


def test_an_array_that_starts_at_0_is_told_how_to_say_so():
    with pytest.raises(ValueError, match=r"SLURM_ARRAY_TASK_ID=0, but tasks count from 1; .*--first 0"):
        get_array_task_id({"SLURM_ARRAY_TASK_ID": "0", "SLURM_ARRAY_TASK_MIN": "0"})


def test_a_file_that_comes_between_two_tasks_shifts_nothing(config, task):
    task(1, lowest=1)
    assert run_stage1_array(config).name == "rec1"
    shutil.copy(config.root / "rec1.tif", config.root / "rec0.tif")
    task(2, lowest=1)
    assert run_stage1_array(config).name == "rec2"
    task(4, lowest=1)
    with pytest.raises(ValueError, match=r"SLURM_ARRAY_TASK_ID=4: .*array\.json has tasks 1 to 3"):
        run_stage1_array(config)


def test_a_repeated_task_is_about_the_same_recording(config, toml, task):
    assert main(["manifest", str(toml), "--first", "0"]) == 0
    shutil.copy(config.root / "rec1.tif", config.root / "rec0.tif")
    task(1, job="78")  # sbatch --array=1 of an array that was submitted as 0-2
    assert run_stage1_array(config).name == "rec2"
    assert run_stage1_array(config, 1).name == "rec2"


def test_a_manifest_only_grows_at_its_end(config, toml, task, capsys):
    assert main(["manifest", str(toml)]) == 0
    shutil.copy(config.root / "rec1.tif", config.root / "rec0.tif")
    (config.root / "rec2.tif").unlink()
    capsys.readouterr()
    assert main(["manifest", str(toml)]) == 0
    assert json.loads((config.final_results / "array.json").read_text())["recordings"] == [
        *("rec1.tif", "rec2.tif", "rec10.tif", "rec0.tif")
    ]
    said = capsys.readouterr().out
    assert "rec2.tif (gone)" in said
    assert "sbatch --array=1,3-4 " in said
    assert "qsub" not in said  # arrays of SGE and PBS have no gaps
    task(4)
    assert run_stage1_array(config).name == "rec0"
    task(2)
    with pytest.raises(FileNotFoundError, match=r"array\.json: 'rec2\.tif' is not, or no longer"):
        run_stage1_array(config)
    assert main(["manifest", str(toml), "--first", "0"]) == 2
    assert "count from 1, asked for 0" in capsys.readouterr().err


def test_the_command_says_how_to_submit(config, toml, capsys):
    assert main(["manifest", str(toml)]) == 0
    out = capsys.readouterr().out
    assert f"{config.final_results / 'array.json'}: 3 tasks, 1 to 3" in out
    lines = {line.split()[0]: shlex.split(line)[1:] for line in out.splitlines() if "--array" in line}
    assert lines["SLURM"][:3] == ["sbatch", "--array=1-3", "--wrap"]
    assert lines["SGE"][2:] == ["|", "qsub", "-t", "1-3"]
    assert lines["PBS"][2:] == ["|", "qsub", "-J", "1-3"]
    assert lines["LSF"][:3] == ["bsub", "-J", "pyflow[1-3]"]
    for command in (lines["SLURM"][3], lines["SGE"][1], lines["PBS"][1], lines["LSF"][3]):
        assert shlex.split(command) == ["pyflow-session", str(toml), "--array"]


def test_pbs_is_not_offered_an_array_of_one_task(config, toml, capsys):
    for name in ("rec2.tif", "rec10.tif"):
        (config.root / name).unlink()
    assert main(["manifest", str(toml)]) == 0
    out = capsys.readouterr().out
    assert "sbatch --array=1 " in out
    assert "qsub -J" not in out


def test_schedulers_without_task_0_are_not_offered_it(config, toml, capsys):
    assert main(["manifest", str(toml), "--first", "0"]) == 0
    out = capsys.readouterr().out
    assert "sbatch --array=0-2" in out
    assert "bsub" not in out
    assert "-t 0" not in out


@pytest.mark.parametrize("name", ["../../outside/evil.tif", "/evil.tif", "sub/../rec1.tif", "notes.txt", "", "."])
def test_paths_that_are_no_recording_are_refused(config, task, name):
    outside = config.root.parent / "outside" / "evil.tif"
    outside.parent.mkdir()
    shutil.copy(config.root / "rec1.tif", outside)
    write(config, manifest_of(config, recordings=["rec1.tif", name.replace("/evil", f"{outside.parent}/evil", 1)]))
    task(2)
    with pytest.raises(FileNotFoundError, match=r"array\.json: .* is not, or no longer, among the files"):
        run_stage1_array(config)
    assert not config.output_root.exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not a manifest"),
        ("{", "not a manifest"),
        ("[" * 100_000, "not a manifest"),
        ('{"a": 1', "not a manifest"),
        ('["rec1.tif"]', "expected session, first, recordings"),
        ("7", "expected session, first, recordings"),
        ({"first": None}, "expected session, first, recordings"),
        ({"first": "1"}, "first: expected 0 or 1, found '1'"),
        ({"first": True}, "first: expected 0 or 1, found True"),
        ({"first": 1.0}, "first: expected 0 or 1, found 1.0"),
        ({"first": 7}, "first: expected 0 or 1, found 7"),
        ({"first": [1]}, r"first: expected 0 or 1, found \[1\]"),
        ({"recordings": {}}, "recordings: expected a list"),
        ({"recordings": []}, "recordings: expected a list"),
        ({"recordings": "rec1.tif"}, "recordings: expected a list"),
        ({"recordings": ["rec1.tif", 3]}, "recordings: expected file names, each once, found 3"),
        ({"recordings": ["rec1.tif", None]}, "recordings: expected file names, each once, found None"),
        ({"recordings": ["rec1.tif", "rec1.tif"]}, "each once, found 'rec1.tif'"),
        ({"session": {"root": "..", "pattern": "*.h5"}}, r"made for .*\*\.h5.*, this session is .*\*\.tif"),
        ({"session": 3}, "made for 3"),
    ],
)
def test_malformed_manifests_are_named(config, toml, task, capsys, text, words):
    write(config, manifest_of(config, **text) if isinstance(text, dict) else text)
    task(1)
    with pytest.raises(ValueError, match=r"array\.json: .*" + words):
        run_stage1_array(config)
    assert not config.output_root.exists()
    assert main(["manifest", str(toml)]) == 2
    assert "array.json: " in capsys.readouterr().err


def test_a_manifest_that_is_not_text_is_named(config, task):
    config.final_results.mkdir()
    (config.final_results / "array.json").write_bytes(b"\xff\xfe\x00")
    task(1)
    with pytest.raises(ValueError, match=r"array\.json: not a manifest"):
        run_stage1_array(config)


def test_a_moved_session_keeps_its_manifest(config, toml, task):
    assert main(["manifest", str(toml)]) == 0
    moved = config.root.rename(config.root.with_name("moved"))
    shutil.copy(moved / "rec1.tif", moved / "rec0.tif")
    task(1)
    assert run_stage1_array(SessionConfig.from_file(moved / toml.name)).name == "rec1"


def test_an_unreadable_recording_of_a_task_is_named(config, task):
    (config.root / "rec2.tif").write_bytes(b"no image")
    task(2)
    with pytest.raises(SessionError, match="rec2: "):
        run_stage1_array(config)


def test_an_array_that_the_scheduler_says_starts_at_0(config, task):
    task(2, lowest=0)
    assert run_stage1_array(config).name == "rec10"
    task(0, lowest=0)
    assert run_stage1_array(config).name == "rec1"
    assert read_manifest(config).first == 0
    task(1, lowest=1)  # repeated alone
    assert run_stage1_array(config).name == "rec2"


def test_a_manifest_that_is_there_has_the_say_about_0(config, task):
    write_manifest(config)
    task(2, lowest=0)
    assert run_stage1_array(config).name == "rec2"
