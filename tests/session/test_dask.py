"""Recordings as tasks on the workers of a Dask cluster, which come and go."""

import os
import signal
import subprocess
import sys
import time

import pytest

from pyflow.session import SessionError
from pyflow.session.cli import main
from pyflow.session.dask import _lines, open_cluster, run_session_dask, run_stage1_dask
from pyflow.session.pipeline import verify_session

pytest.importorskip("distributed", reason="the extra cluster is not installed")

# Dask's own, of connections that are closed while the last message is on its way.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.usefixtures("dask_garbage"),
]


@pytest.fixture(scope="module")
def client(dask_garbage_of_module):
    """Two workers with a thread each; they are told of the session only by their tasks."""
    with open_cluster(None, jobs=2, cores=1) as opened:
        yield opened


def test_all_stages_with_progress(config, client, equals_a_local_run):
    said = []
    assert set(client.run(lambda: os.environ["PYFLOW_NUM_THREADS"]).values()) == {"1"}
    assert set(client.nthreads().values()) == {1}
    valid = run_session_dask(config, client, progress=lambda *news: said.append(news))
    assert valid.shape == (48, 56)
    assert verify_session(config) == []
    assert {(name, 6, 6) for name in ("rec1", "rec2", "rec10")} <= set(said)
    equals_a_local_run(config)


def test_failures_are_named_and_the_others_go_on(config, client, caplog):
    (config.root / "rec1.tif").write_bytes(b"no image")
    (config.output_root / "rec10" / "status.json").mkdir(parents=True)  # cannot be written
    with pytest.raises(SessionError, match="2 of 3 recordings failed") as failed:
        run_stage1_dask(config, client)
    assert failed.value.failures.keys() == {"rec1", "rec10"}
    assert "rec10" in str(failed.value.failures["rec10"])
    assert "rec10 failed: " in caplog.text
    assert (config.output_root / "rec2" / "status.json").exists()


def test_a_callback_that_raises_stops_the_run(config, client):
    def stop(name, done, total):
        raise ZeroDivisionError(name)

    with pytest.raises(ZeroDivisionError, match="rec"):
        run_stage1_dask(config, client, progress=stop)


def _travelling():
    """Return what spoils a worker's pyflow and gives it back; functions of this module itself would not travel."""

    def without(spoil):
        import sys

        kept = sys.__dict__.setdefault("kept_by_test", {})
        if spoil:
            kept.update({name: sys.modules.pop(name) for name in list(sys.modules) if name.startswith("pyflow")})
            sys.modules["pyflow"] = None
        else:
            sys.modules.pop("pyflow")
            sys.modules.update(kept)

    def another(spoil):
        import pyflow

        pyflow.__version__ = f"0.0.1 {pyflow.__version__}" if spoil else pyflow.__version__.split()[1]

    return {"without": without, "another": another}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("without", "the Dask worker on .* cannot import pyflow"),
        ("another", "the Dask worker on .* has another pyflow: expected .*, found .*0.0.1"),
    ],
)
def test_a_worker_without_pyflow_or_with_another_is_named(config, client, change, message):
    worker = list(client.scheduler_info()["workers"])[1]
    client.run(_travelling()[change], True, workers=[worker])
    try:
        with pytest.raises(RuntimeError, match=message):
            run_stage1_dask(config, client)
    finally:
        client.run(_travelling()[change], False, workers=[worker])
    assert not config.output_root.exists()


def test_a_lost_worker_costs_an_unfinished_batch(config, frames, write_recordings, equals_a_local_run, tmp_path):
    write_recordings(config.root, n_frames=30, shifts={"rec1": (0.0, 0.0)})
    for name in ("rec2", "rec10"):
        (config.root / f"{name}.tif").unlink()
    killed = []

    def kill_once(name, done, total):
        if done >= 10 and not killed:
            killed.append(frames()[-1])
            (tmp_path / "SLOW").unlink()
            os.kill(killed[0][0], signal.SIGKILL)

    with open_cluster(config, jobs=1) as client:
        run_session_dask(config, client, progress=kill_once)
    pid, reached = killed[0]
    went_on = [done for other, done in frames() if other != pid]
    assert 10 <= reached < 30
    assert 4 < went_on[0] <= reached + 1
    assert went_on[-1] == 30
    equals_a_local_run(config)


def test_the_command_that_is_killed_takes_its_workers_with_it(
    session, config, frames, write_recordings, equals_a_local_run, capsys
):
    """It goes on where it was, also as the configuration asks for it."""
    write_recordings(config.root, n_frames=12)
    words = [sys.executable, "-P", "-m", "pyflow.session.cli", "dask", str(session), "--jobs", "2"]
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL, start_new_session=True)
    while not any(done >= 8 for _, done in frames()):
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    workers = {pid for pid, _ in frames()}
    end = time.monotonic() + 20
    while any(_is_running(pid) for pid in workers):
        assert time.monotonic() < end
        time.sleep(0.1)
    os.unlink(os.environ["SLOW"])
    session.write_text('scheduler = "dask"\n' + session.read_text())
    assert main([str(session)]) == 0
    assert "pixels are valid in every recording" in capsys.readouterr().out
    equals_a_local_run(config.from_file(session))


def _is_running(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(("scheduler", "command"), [("slurm", "sbatch"), ("sge", "qsub"), ("lsf", "bsub")])
def test_a_missing_command_is_named(session, capsys, monkeypatch, scheduler, command):
    monkeypatch.setenv("PATH", "/nowhere")
    assert main(["dask", str(session), "--scheduler", scheduler, "--jobs", "2"]) == 1
    assert f"{scheduler}: there is no command '{command}' on this machine" in capsys.readouterr().err


@pytest.mark.parametrize("module", ["dask", "distributed"])
def test_what_is_not_installed_is_named(session, capsys, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    assert main(["dask", "--config", str(session)]) == 1
    assert "pip install 'pyflow-2p[cluster]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--jobs", "0"], "jobs: expected 1 or more, found 0"),
        (["--cores", "-1"], "cores: expected 1 or more, found -1"),
        (["--partition=x"], "unrecognized arguments: --partition=x"),
    ],
)
def test_wrong_options_are_named(session, capsys, words, message):
    assert main(["dask", str(session), *words]) != 0
    assert message in capsys.readouterr().err


def test_options_and_their_values_share_a_line():
    words = ["--partition=cpu", "-A", "my lab", "-pe", "smp", "4", "--exclusive"]
    assert _lines(words) == ["--partition=cpu", "-A 'my lab'", "-pe smp 4", "--exclusive"]
