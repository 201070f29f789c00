import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from pyflow.io import ReaderOptions
from pyflow.session import SessionConfig, cli, run_session, run_stage1
from pyflow.session.cli import main
from pyflow.session.commands.arguments import parse_of_params, parse_passing_on
from pyflow.session.commands.terminal import show_progress


@pytest.fixture(autouse=True)
def _keep_handlers():
    """Leave the process as it was: the command sets a signal handler and a log handler."""
    import logging

    logger, handler = logging.getLogger("pyflow"), signal.getsignal(signal.SIGTERM)
    level, handlers = logger.level, logger.handlers
    yield
    signal.signal(signal.SIGTERM, handler)
    logger.handlers, logger.level = handlers, level


@pytest.fixture
def session(config):
    path = config.root / "session.toml"
    path.write_text(
        'root = "."\nsigma_smooth = 1.5\niterations_between = 20\nn_workers = 1\n\n[flow_options]\n'
        'quality_setting = "fast"\niterations = 5\nbuffer_size = 4\nreference_frames = "0:4"\n'
    )
    return path


@pytest.mark.parametrize("words", [["{}"], ["run", "--config", "{}"], ["run", "{}"]])
def test_all_stages(session, capsys, words):
    assert main([word.format(session) for word in words]) == 0
    out = capsys.readouterr().out
    assert "pixels are valid in every recording" in out
    assert (session.parent / "final_results" / "final_valid_idx.mat").exists()


def test_short_options_of_pyflowreg(session, capsys):
    assert main(["run", "-c", str(session), "-s", "1", "-i", "2", "--of-params"]) == 0
    assert [folder.name for folder in (session.parent / "compensated_outputs").iterdir()] == ["rec10"]
    assert main(["run", "-c", str(session), "-s", "2", "-i", "2"]) == 2
    assert "--array and --index are about stage 1" in capsys.readouterr().err


def test_short_options_of_pyflowreg_and_of_schedulers_are_told_apart():
    def parsed(line):
        return parse_passing_on(cli._parser(), line.split())

    options = parsed("dask -c my.toml -j 10 --scheduler slurm -c 8 -j oe -p gpu")
    assert (options.session, options.jobs) == (Path("my.toml"), 10)
    assert options.passed_on == ["-c", "8", "-j", "oe", "-p", "gpu"]
    assert parsed("dask --scheduler sge -j y -c a/my.YAML").session == Path("a/my.YAML")
    assert parsed("submit my.toml --scheduler slurm -c 8 -j 1").passed_on == ["-c", "8", "-j", "1"]


def test_stages_one_by_one(session, capsys):
    assert main([str(session), "--stage", "2"]) == 1
    assert "rec1: stage 1 has to run first (not run yet)" in capsys.readouterr().err
    for index in range(3):
        assert main([str(session), "--stage", "1", "--index", str(index)]) == 0
    assert main([str(session), "--stage", "2"]) == 0
    assert main(["status", str(session)]) == 0
    assert "stage 3: not run yet" in " ".join(capsys.readouterr().out.split())
    assert main([str(session), "--stage", "3"]) == 0
    assert main(["status", "--config", str(session)]) == 0
    assert "stage 3: done" in capsys.readouterr().out


def test_array_task(session, monkeypatch, capsys):
    monkeypatch.setenv("PBS_ARRAY_INDEX", "2")
    assert main([str(session), "--array"]) == 0
    assert [folder.name for folder in (session.parent / "compensated_outputs").iterdir()] == ["rec2"]
    assert "--stage 2" in capsys.readouterr().out
    assert main([str(session), "--index", "7"]) == 2
    assert "index 7 is out of range" in capsys.readouterr().err


def test_of_params(session):
    assert main([str(session), "--index", "0", "--of-params", "alpha=2,3", "save_w=true"]) == 0
    folder = session.parent / "compensated_outputs" / "rec1"
    options = json.loads((folder / "status.json").read_text())["markers"]["stage1"]["parts"]["options"]
    assert options["alpha"] == [2, 3]
    assert options["quality_setting"] == "fast"
    assert (folder / "w.hdf").exists()
    assert main([str(session), "--index", "0"]) == 0
    assert not (folder / "w.hdf").exists()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2", 2),
        ("1.5", 1.5),
        ("1,1,0.1", [1, 1, 0.1]),
        ("[1, 2]", [1, 2]),
        ("[[1,1,0.1],[2,2,0.1]]", [[1, 1, 0.1], [2, 2, 0.1]]),
        ("true", True),
        ("False", False),
        ("None", None),
        ("NULL", "NULL"),
        ("fast", "fast"),
        ("50:500", "50:500"),
        ('"2"', "2"),
        ("a=b", "a=b"),
        ("", ""),
    ],
)
def test_of_params_values(text, value):
    assert parse_of_params([f"key={text}"]) == {"key": value}


@pytest.mark.parametrize("item", ["alpha", "=3", ""])
def test_of_params_need_key_and_value(item):
    with pytest.raises(ValueError, match="expected KEY=VALUE"):
        parse_of_params([item])


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ([], "usage"),
        (["run"], "required"),
        (["dask", "--config", "{}", "--scheduler", "moab"], "invalid choice"),
        (["{}", "--stage", "4"], "invalid choice"),
        (["{}", "--nonsense"], "unrecognized"),
        (["gone.toml"], "error gone.toml: there is no such file"),
        (["."], "error .: is a folder, expected a session's configuration"),
        (["statsu", "{}"], "'statsu' is no command and no file, did you mean 'status'?"),
        (["{}", "--array"], "not a task of a job array"),
        (["{}", "--index", "3"], "index 3 is out of range"),
        (["{}", "--of-params", "alpha"], "KEY=VALUE"),
        (["{}", "--of-params", "alhpa=3"], "did you mean 'alpha'"),
        (["{}", "--stage", "2", "--index", "1"], "--index"),
    ],
)
def test_wrong_usage_is_2(session, capsys, arguments, word):
    try:
        code = main([argument.format(session) for argument in arguments])
    except SystemExit as exit_:
        code = exit_.code
    assert code == 2
    assert word in " ".join(capsys.readouterr().err.split())


def test_help_fits_a_terminal_and_names_every_key(monkeypatch, capsys):
    """Of each command: its examples can be parsed, and what is filled is no wider than 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    parser = cli._parser()
    known = parser.get_default("known")
    assert {"run", "dask", "init", "demo"} <= known
    for words in ([], *([name] for name in known)):
        with pytest.raises(SystemExit) as exit_:
            main([*words, "--help"])
        assert exit_.value.code == 0
        said = capsys.readouterr().out
        assert max(map(len, said.splitlines())) <= 80, said
        examples = re.findall(r"^  pyflow-session (.+?)(?:   .*)?$", said, re.MULTILINE)
        assert examples, words
        for example in (words for words in examples if "COMMAND" not in words):
            example = example.split()
            parser.parse_known_args(example if example[0] in known else ["run", *example])
        if words == ["run"]:
            titles = re.findall(r"^  (\w+)( = .+)?$", said, re.MULTILINE)
            fields = [*SessionConfig.model_fields, *ReaderOptions.model_fields]
            assert sorted(name for name, _ in titles) == sorted(fields)
            assert dict(titles)["align_output_format"] == ' = "TIFF"'
        if not words:
            assert not set(SessionConfig.model_fields) - set(re.findall(r"\w+", said))


def test_a_wrong_key_is_2(session, capsys):
    session.write_text(session.read_text().replace("sigma_smooth", "sigma_smoth"))
    assert main([str(session)]) == 2
    assert "did you mean 'sigma_smooth'" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("command", [[], ["status"], ["verify"], ["manifest"], ["--stage", "2"], ["--index", "0"]])
@pytest.mark.parametrize(
    ("line", "word"),
    [
        ('root = "nowhere"', "there is no folder"),
        ('root = "."\npattern = "*.h5"', "matches pattern '*.h5'"),
        ('root = "."\ncenter = "rec7.tif"', "center 'rec7.tif' is not among the recordings"),
    ],
)
def test_what_names_nothing_is_2_and_begins_nothing(session, capsys, command, line, word):
    session.write_text(session.read_text().replace('root = "."', line))
    words = (
        [*command, str(session)] if command[:1] in (["status"], ["verify"], ["manifest"]) else [str(session), *command]
    )
    assert main(words) == 2
    assert word in capsys.readouterr().err
    assert not (session.parent / "final_results").exists()


def test_results_of_another_session_are_2(session, capsys):
    assert main([str(session), "--stage", "1"]) == 0
    session.write_text(session.read_text().replace('root = "."', 'root = "."\npattern = "rec1*.tif"'))
    assert main([str(session)]) == 2
    assert "is of the session with pattern '*.tif'" in capsys.readouterr().err


def test_each_run_says_what_is_done_and_no_result_twice(session, capsys):
    for _ in range(2):
        for words, said in (
            (["--stage", "1"], f"Stage 1 is done: 3 recordings in {session.parent}/compensated_outputs"),
            (["--index", "1"], f"Stage 1 is done: {session.parent}/compensated_outputs/rec2"),
            (["--stage", "2"], f"Stage 2 is done: 3 recordings are aligned to {session.parent}/rec2.tif"),
            (["--stage", "3"], "pixels are valid in every recording"),
        ):
            assert main([str(session), *words]) == 0
            out, err = capsys.readouterr()
            assert said in out
            assert "aligned_" not in err
            assert "valid in every" not in err


def test_status_says_what_changed(session, capsys):
    """Options with their values, files and stages by name, and nothing as changed that means the same."""

    def reasons():
        capsys.readouterr()
        assert main(["status", str(session)]) == 0
        return [line for line in capsys.readouterr().out.splitlines() if line.startswith("stage")]

    text = session.read_text()
    assert main([str(session)]) == 0
    for same in ("sigma = [1, 1, 0.1]", "sigma = [[1, 1, 0.1], [1, 1, 0.1]]"):
        session.write_text(f"{text}{same}\n")
        assert reasons() == ["stage 3: done"]
    session.write_text(text.replace("iterations_between = 20", "iterations_between = 21"))
    assert reasons()[0] == "stage 2 of all: changed: options.iterations_between: 20 -> 21"
    assert main([str(session), "--stage", "2"]) == 0
    assert reasons() == [f"stage 3: changed: {', '.join(f'{n} was aligned anew' for n in ('rec1', 'rec2', 'rec10'))}"]
    assert main([str(session)]) == 0
    (session.parent / "rec10.tif").write_bytes((session.parent / "rec1.tif").read_bytes())
    assert "stage 1 of rec10: changed: content of the input file, input.mtime: 20" in reasons()[1]
    assert main([str(session), "--stage", "1"]) == 0
    assert reasons()[0] == "stage 2 of rec10: changed: stage 1 of the recording was made anew"
    session.write_text(session.read_text().replace('root = "."', 'root = "."\ncenter = "rec1.tif"'))
    assert "stage 2 of rec1, rec2: changed: center: rec2 -> rec1" in reasons()


def test_status_says_what_was_interrupted(session, config, capsys):
    class Stop(Exception):
        pass

    def stop(name, done, total):
        if name == "rec2" and done >= 5:
            raise Stop

    with pytest.raises(Stop):
        run_stage1(SessionConfig.from_file(session), progress=stop)
    assert main(["status", str(session)]) == 0
    said = capsys.readouterr().out
    assert "stage 1 of rec2: begun, but not finished" in said
    assert "stage 1 of rec10: not run yet" in said
    assert main([str(session)]) == 0
    (config.final_results / "aligned_rec2.tif").unlink()
    with pytest.raises(Stop):
        run_session(SessionConfig.from_file(session), progress=stop)
    capsys.readouterr()
    assert main(["status", str(session)]) == 0
    assert "stage 3: what it is made from was made anew" in capsys.readouterr().out


def test_failed_recordings_are_1_and_named(session, capsys):
    (session.parent / "rec2.tif").write_bytes(b"no image")
    assert main([str(session)]) == 1
    assert "failed rec2:" in capsys.readouterr().err
    assert (session.parent / "compensated_outputs" / "rec10" / "status.json").exists()


def test_names_are_printed_as_they_are(session, config, capsys):
    """Brackets and colons in names of files mean nothing to the terminal."""
    root = config.root.rename(config.root.with_name("data [b] :bug:"))
    (root / "rec1.tif").rename(root / "rec1 [red] :bug:.tif")
    (root / "rec2.tif").write_bytes(b"no image")
    assert main([str(root / "session.toml"), "--stage", "1"]) == 1
    assert f"failed rec2: {root}/rec2.tif" in capsys.readouterr().err
    (root / "rec2.tif").unlink()
    assert main([str(root / "session.toml")]) == 0
    assert f"Results: {root}/final_results\n" in capsys.readouterr().out
    assert main(["status", str(root / "session.toml")]) == 0
    assert "rec1 [red] :bug:" in capsys.readouterr().out
    assert main([str(root / "[b]gone.toml")]) == 2
    assert "[b]gone.toml" in capsys.readouterr().err


def test_bars_show_names_as_they_are(monkeypatch):
    from io import StringIO

    from rich.console import Console

    console = Console(file=StringIO(), force_terminal=True, width=100)
    with show_progress(console) as progress:
        progress("rec [b]1[/b]", 1, 2)
    assert "rec [b]1[/b]" in console.file.getvalue()


def test_status_says_each_reason_once(session, capsys):
    assert main([str(session), "--index", "0"]) == 0
    assert main([str(session), "--index", "1", "--of-params", "alpha=3"]) == 0
    assert main(["status", str(session)]) == 0
    lines = capsys.readouterr().out.splitlines()
    words = [line.strip("│ ").split("│") for line in lines if line.startswith("│")]
    assert [[word.strip() for word in row] for row in words] == [
        ["rec1", "done", "waits"],
        ["rec2", "stale", "waits"],
        ["rec10", "to do", "waits"],
    ]
    below = [line for line in lines if line.startswith("stage")]
    assert below[0] == "stage 2 of all: waits for stage 1 of all recordings"
    assert below[1].startswith("stage 1 of rec2: changed: options.alpha: 3")
    assert below[2:] == ["stage 1 of rec10: not run yet", "stage 3: waits for stage 1 of all recordings"]


def run_slowly(session, frames_per_s):
    """Start the command in a process of its own, which waits after each frame and says how far it is."""
    code = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored in what a shell runs in the background
        "from pyflow.session import SessionConfig, run_stage1\n"
        "from pyflow.session import cli\n"
        "from pyflow.session.commands import run\n"
        "def slow(name, done, total):\n"
        f"    print(name, done, flush=True); time.sleep({1 / frames_per_s})\n"
        "from contextlib import nullcontext\n"
        "run.show_progress = lambda console: nullcontext(slow)\n"
        "sys.exit(cli.main(sys.argv[1:]))\n"
    )
    arguments = [sys.executable, "-P", "-c", code, str(session), "--stage", "1"]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def wait_for(process, line):
    for found in process.stdout:
        if found.strip() == line:
            return
    raise AssertionError(f"the process ended before it said {line!r}")


@pytest.mark.parametrize("line", ["rec1 2", "rec1 9", "rec2 5", "rec10 12"])
def test_kill_and_run_again_equals_one_run(session, write_recordings, config, contents, line):
    write_recordings(config.root, n_frames=12)
    process = run_slowly(session, 200)
    wait_for(process, line)
    process.kill()
    process.wait()
    process.stdout.close()
    assert main([str(session)]) == 0
    resumed = contents(config)
    again = config.root / "again.toml"
    again.write_text('output_root = "clean"\nfinal_results = "clean_results"\n' + session.read_text())
    assert main([str(again)]) == 0
    clean = contents(config.replace(output_root="clean", final_results="clean_results"))
    rename = {"clean": "compensated_outputs", "clean_results": "final_results"}
    clean = {"/".join([rename[name.split("/")[0]], *name.split("/")[1:]]): array for name, array in clean.items()}
    assert resumed.keys() == clean.keys()
    for name in resumed:
        if "paths" not in name:
            np.testing.assert_array_equal(resumed[name], clean[name], err_msg=name)
    leftovers = [path.name for path in config.output_root.rglob("*") if path.name.startswith(".")]
    assert not leftovers


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_interrupted_is_75_and_goes_on(session, write_recordings, config, number):
    write_recordings(config.root, n_frames=12)
    process = run_slowly(session, 50)
    wait_for(process, "rec1 6")
    started = time.monotonic()
    process.send_signal(number)
    process.stdout.read()
    assert process.wait(timeout=20) == cli.INTERRUPTED
    process.stdout.close()
    assert time.monotonic() - started < 10
    assert not (config.output_root / "rec1" / ".claim").exists()
    assert main([str(session), "--stage", "1"]) == 0


def test_verify_finds_one_flipped_byte(session, config, write_recordings, capsys):
    write_recordings(config.root, n_frames=140, shifts={"rec2": (0.0, 0.0)})
    assert main(["verify", str(session)]) == 1
    said = capsys.readouterr().out
    assert [line.rpartition("/")[2] for line in said.splitlines()[:-1]] == [
        *(f"{name}: stage 1 and stage 2 not done" for name in ("rec1", "rec2", "rec10")),
        "final_results: stage 3 not done",
    ]
    assert "Nothing is damaged" in said
    assert main([str(session)]) == 0
    capsys.readouterr()
    assert main(["verify", str(session)]) == 0
    files = [p for folder in (config.output_root, config.final_results) for p in folder.rglob("*.*")]
    n_results = sum(not path.name.startswith(("status", "session.json")) for path in files)
    assert capsys.readouterr().out == f"{n_results} files checked, all are as they were written\n"
    video = session.parent / "compensated_outputs" / "rec2" / "compensated.hdf5"
    average = session.parent / "compensated_outputs" / "rec10" / "temporal_average.npy"
    content = bytearray(video.read_bytes())
    assert len(content) > 2 << 18  # more than a look at head and tail sees
    content[len(content) // 2] ^= 1
    video.write_bytes(content)
    average.unlink()
    assert main(["verify", str(session)]) == 1
    *problems, advice = capsys.readouterr().out.splitlines()
    assert "Remove what is damaged and run" in advice
    assert sorted(problems) == [
        f"{average.parent}: temporal_average.npy is missing or unreadable",
        f"{video.parent}: compensated.hdf5 is not as it was written",
    ]
    video.unlink()
    assert main([str(session)]) == 0
    capsys.readouterr()
    assert main(["verify", str(session)]) == 0


@pytest.mark.parametrize("other", [3, None, {}, []])
def test_verify_of_a_status_with_a_strange_marker(session, capsys, other):
    assert main([str(session)]) == 0
    path = session.parent / "final_results" / "status.json"
    status = json.loads(path.read_text())
    status["markers"]["aligned_gone"] = other
    path.write_text(json.dumps(status))
    assert main(["verify", str(session)]) == 0


def test_status_says_when_an_input_changed(session, capsys):
    assert main([str(session), "--index", "0"]) == 0
    was = 1_600_000_000_123_456_789
    path = session.parent / "compensated_outputs" / "rec1" / "status.json"
    status = json.loads(path.read_text())
    status["markers"]["stage1"]["parts"]["input"]["mtime_ns"] = was
    status["markers"]["stage1"]["key"] = "another"
    path.write_text(json.dumps(status))
    os.utime(session.parent / "rec1.tif", ns=(was, 1_600_000_010_000_000_000))
    assert main(["status", str(session)]) == 0
    assert "input.mtime: 2020-09-13T12:26:40.123456Z -> 2020-09-13T12:26:50.000000Z" in capsys.readouterr().out
    status["markers"]["stage1"]["parts"]["input"]["mtime_ns"] = 10**40
    path.write_text(json.dumps(status))
    assert main(["status", str(session)]) == 0


def test_a_finished_session_is_handed_over(tmp_path, session, capsys):
    path = session
    assert main(["export", str(path), "--to", "caiman"]) == 1
    assert "all stages of the session have to run first" in capsys.readouterr().err
    assert main([str(path)]) == 0
    capsys.readouterr()
    for words, code, expected in (
        (["--to", "suite2p"], 1, "frame_rate: the recordings do not tell the frames per second (rec1: not known"),
        (["--to", "suite2p", "--frame-rate", "30"], 0, "suite2p/plane0/ops.npy"),
        (["--to", "caiman"], 0, "caiman/aligned_d1_48_d2_56_d3_1_order_C_frames_18_.mmap"),
        (["--to", "caiman", "--output", str(tmp_path / "x")], 0, f"{tmp_path}/x/aligned_d1_48"),
        (["--to", "nwb", "--frame-rate", "30"], 1, "rec1: session_description is missing"),
        (["--to", "nwb", "--metadata", "gone.toml"], 2, "gone.toml"),
    ):
        assert main(["export", str(path), *words]) == code
        said = capsys.readouterr()
        assert expected in said.out + said.err, words
    assert main(["status", str(path)]) == 0
    assert "stage 3: done" in capsys.readouterr().out


def test_what_is_no_session_is_told_what_to_do_with_it(session, config, capsys):
    assert main([str(config.root)]) == 2
    assert f"pyflow-session {session}" in capsys.readouterr().err
    session.rename(config.root / "other.toml")
    assert main([str(config.root)]) == 2
    assert f"'pyflow-session init {config.root}' writes one" in capsys.readouterr().err
    recording = next(config.root.glob("*.tif"))
    assert main([str(recording)]) == 2
    assert f"'pyflow-session compensate {recording}'" in capsys.readouterr().err


def test_a_single_recording_needs_no_session(config, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recording = next(config.root.glob("*.tif"))
    words = ["compensate", str(recording), "--of-params", "alpha=10", "reference_frames=0:4", "n_workers=1"]
    assert main([*words, "iterations=5", "--reader", "frames=0:6"]) == 0
    folder = Path(f"{recording.stem}_compensated")
    out = capsys.readouterr().out
    assert "6 of 6 frames are registered" in out
    assert f"Movie: {folder}/compensated.hdf5" in out
    assert f"Report: {folder}/report.html" in out
    assert (folder / "report.html").is_file()
    assert main(["compensate", str(recording), "--of-params", "alhpa=10"]) == 2
    assert "did you mean 'alpha'" in capsys.readouterr().err
    assert main(["compensate", str(recording), "--of-params", "alpha=high"]) == 2
    assert "error alpha: expected a number, a pair (x, y) or 'auto', found 'high'" in capsys.readouterr().err
    assert main(["compensate", str(recording), "--output", str(recording)]) == 2
    assert "is a file, expected a folder" in capsys.readouterr().err
    assert main(["compensate", "session.toml"]) == 2
    assert "'pyflow-session session.toml' runs it" in capsys.readouterr().err
    assert main(["compensate", str(config.root), "--of-params", "alpha=10", "output_format=NULL", "iterations=2"]) == 0
    assert "its 3 files are taken for channels: are they recordings?" in capsys.readouterr().err
    assert main(["compensate", "gone.tif"]) == 2
    assert "gone.tif: no such file" in capsys.readouterr().err
    assert not Path("gone_compensated").exists()


def test_version(capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["--version"])
    assert exit_.value.code == 0
    assert capsys.readouterr().out.startswith("pyflow ")
