import json
import os
import subprocess
import sys
import time

import pytest

from pyflow.session import SessionError, claims, run_stage1
from pyflow.session.artifacts import State, note_failure
from pyflow.session.claims import claim
from pyflow.session.status import Standing, standing


def test_a_folder_has_one_claim(tmp_path):
    with claims.claim(tmp_path):
        with pytest.raises(BlockingIOError, match=f"process {os.getpid()} on"), claims.claim(tmp_path, wait_s=0):
            pass
        assert (tmp_path / ".claim").exists()
    assert not (tmp_path / ".claim").exists()


@pytest.mark.parametrize("pid", [2**22 + 1, os.getpid()])
def test_a_claim_of_a_dead_process_is_taken_over(tmp_path, pid):
    holder = {"host": claims.socket.gethostname(), "pid": pid, "token": "of an earlier process"}
    (tmp_path / ".claim").write_text(json.dumps(holder))
    with claims.claim(tmp_path):
        assert json.loads((tmp_path / ".claim").read_text())["token"] == claims._TOKEN


def test_a_claim_that_was_taken_over_is_left_alone(tmp_path):
    path = tmp_path / ".claim"
    with pytest.raises(RuntimeError, match="taken over by process 1 on elsewhere"), claims.claim(tmp_path):
        path.write_text(json.dumps({"host": "elsewhere", "pid": 1, "token": "another"}))
    assert path.exists()


def test_a_claim_from_elsewhere_holds_while_it_is_fresh(tmp_path):
    path = tmp_path / ".claim"
    path.write_text(json.dumps({"host": "elsewhere", "pid": 1}))
    with pytest.raises(BlockingIOError), claims.claim(tmp_path, wait_s=0):
        pass
    os.utime(path, (0, 0))
    with claims.claim(tmp_path):
        pass


def test_a_claim_that_ends_while_it_is_looked_at_is_free(tmp_path, monkeypatch):
    path = tmp_path / ".claim"
    path.write_text("{}")
    real = claims.Path.stat

    def gone(self, **options):
        if self == path:
            path.unlink(missing_ok=True)
        return real(self, **options)

    monkeypatch.setattr(claims.Path, "stat", gone)
    with claims.claim(tmp_path, wait_s=10):
        assert os.path.exists(path)


@pytest.mark.parametrize("text", ["", "[]", "3", '{"host": 1}', '{"pid": "x", "host": "y"}'])
def test_a_malformed_claim_holds_until_it_is_old(tmp_path, text):
    path = tmp_path / ".claim"
    path.write_text(text)
    with pytest.raises(BlockingIOError, match="does not say which"), claims.claim(tmp_path, wait_s=0):
        pass
    os.utime(path, (0, 0))
    with claims.claim(tmp_path, wait_s=0):
        pass


WORKER = """
import sys, time
from pathlib import Path
from pyflow.session import claims

claims._POLL_S = 0.001
folder, start, rounds = Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
for number in range(rounds):
    time.sleep(max(0, start + 0.1 * number - time.time()))  # all at once
    with claims.claim(folder / str(number)):
        inside = folder / str(number) / "inside"
        inside.mkdir()  # fails if another is inside
        time.sleep(0.002)
        inside.rmdir()
    (folder / str(number) / sys.argv[4]).touch()
"""


@pytest.mark.parametrize("stale", [False, True])
def test_many_processes_one_after_the_other(tmp_path, stale):
    """All take the same claims at the same moments, fresh ones or such as a dead process left."""
    rounds, workers = 30, 4
    for number in range(rounds if stale else 0):
        (tmp_path / str(number)).mkdir()
        holder = {"host": claims.socket.gethostname(), "pid": 2**22 + 1, "token": "dead"}
        (tmp_path / str(number) / ".claim").write_text(json.dumps(holder))
    start = time.time() + 1.5
    arguments = [sys.executable, "-P", "-c", WORKER, str(tmp_path), str(start), str(rounds)]
    processes = [
        subprocess.Popen([*arguments, f"worker{i}"], stderr=subprocess.PIPE, text=True) for i in range(workers)
    ]
    errors = [process.communicate(timeout=60)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * workers, "".join(errors)
    for number in range(rounds):
        found = sorted(path.name for path in (tmp_path / str(number)).iterdir())
        assert found == [f"worker{i}" for i in range(workers)]


def test_who_is_waited_for_is_said(tmp_path, caplog):
    caplog.set_level("INFO", "pyflow")
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom pyflow.session.claims import claim\n"
        "with claim(Path(sys.argv[1])):\n    print('in', flush=True); time.sleep(0.5)\n"
    )
    process = subprocess.Popen([sys.executable, "-P", "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    process.stdout.readline()
    with claims.claim(tmp_path):
        process.communicate(timeout=10)
    assert process.returncode == 0
    assert caplog.text.count(f"waiting for process {process.pid} on") == 1


def test_who_waits_for_a_claim_that_says_nothing_says_so(tmp_path, caplog):
    caplog.set_level("INFO", "pyflow")
    (tmp_path / ".claim").touch()
    with pytest.raises(BlockingIOError), claims.claim(tmp_path, wait_s=1.5):
        pass
    assert caplog.text.count("waiting for a process that does not say which") == 1


def test_an_interrupt_while_a_claim_is_written_leaves_none(tmp_path, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(claims.json, "dump", interrupted)
    with pytest.raises(KeyboardInterrupt), claims.claim(tmp_path):
        pass
    assert not (tmp_path / ".claim").exists()


@pytest.mark.parametrize(("age_s", "taken"), [(claims._STALE_S - 60, False), (claims._STALE_S + 1, True)])
@pytest.mark.parametrize("left", ["from elsewhere", "broken link"])
def test_a_claim_is_given_up_after_five_minutes(tmp_path, left, age_s, taken):
    assert claims._STALE_S == 300
    path = tmp_path / ".claim"
    if left == "broken link":
        path.symlink_to(tmp_path / "nowhere")
    else:
        path.write_text(json.dumps({"host": "elsewhere", "pid": 1}))
    then = time.time() - age_s
    os.utime(path, (then, then), follow_symlinks=False)
    if taken:
        with claims.claim(tmp_path, wait_s=0):
            assert claims._is_own(path)
    else:
        with pytest.raises(BlockingIOError), claims.claim(tmp_path, wait_s=0):
            pass


def test_a_claim_of_a_forked_process_is_not_its_parents(tmp_path):
    path = tmp_path / ".claim"
    with pytest.raises(RuntimeError, match=f"taken over by process {os.getppid()} on"), claims.claim(tmp_path):
        holder = json.loads(path.read_text())
        path.write_text(json.dumps({**holder, "pid": os.getppid()}))
    assert path.exists()


def test_who_slept_and_lost_a_recording_stops_before_it_writes_results(config, monkeypatch):
    """They would lie between those of the process that took over, which marks what it finds there."""
    config = config.replace(pattern="rec1.tif")
    folder = config.output_root / "rec1"

    def sleeps(name, done, total):
        if done == 2:
            monkeypatch.setattr(claims, "_HEARTBEAT_S", -1.0)
            (folder / ".claim").write_text(json.dumps({"host": "elsewhere", "pid": 1, "token": "another"}))

    with pytest.raises(SessionError, match="taken over by process 1 on elsewhere"):
        run_stage1(config, progress=sleeps)
    assert [path.name for path in folder.iterdir() if not path.name.startswith(".")] == ["status.json"]


def test_what_failed_and_is_worked_on_again_is_running(tmp_path):
    note_failure(tmp_path, "stage1", ValueError("no image"))
    assert standing(tmp_path, "stage1", State(False, "not run yet")) == Standing("failed", "no image")
    with claim(tmp_path):
        found = standing(tmp_path, "stage1", State(False, "not run yet"))
    assert found.word == "running"
    assert f"process {os.getpid()} on " in found.why
