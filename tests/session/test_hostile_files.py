"""Small files that say nothing sensible: each counts as absent or is named, none ends a run by surprise."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys

import numpy as np
import pytest

from pyflow.layout import read_field
from pyflow.session import SessionConfig, run_session, run_stage1, session_status
from pyflow.session.cli import main
from pyflow.session.pipeline import verify_session

DEEP = "[" * 5_000


def claims():
    here = {"host": socket.gethostname(), "pid": 1, "token": "x"}
    yield from ("", "garbage", "[]", "3", "null", '"text"', "{}", DEEP)
    for change in ({"pid": "1"}, {"pid": None}, {"pid": [1]}, {"pid": -1}, {"pid": 0}, {"pid": 10**30}, {"host": 3}):
        yield json.dumps({**here, **change})
    yield json.dumps({"host": socket.gethostname(), "pid": os.getpid()})


@pytest.mark.parametrize("text", [*claims()])
def test_an_old_claim_is_taken_over_whatever_it_says(config, text):
    config = config.replace(pattern="rec1.tif")
    path = config.output_root / "rec1" / ".claim"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    os.utime(path, (0, 0))
    run_stage1(config)
    assert not path.exists()


@pytest.fixture
def done(config):
    config = config.replace(pattern="rec1.tif")
    return config, run_session(config)


def statuses():
    yield from ("", "garbage", "[]", '"[]"', "3", "null", "{}", DEEP)
    yield from ('{"markers": []}', '{"stage1": "done"}', '{"markers": {"stage1": []}, "stage1": "done"}')


def changes():
    """Wrong types inside a marker, as (key, value)."""
    for key in ("key", "parts", "outputs"):
        yield from ((key, value) for value in (3, None, [], "text"))
    yield from (("key", {}), ("outputs", {}))
    for value in (3, None, [], "text", {}, {"size": "3"}, {"size": None, "ends": 3}):
        yield "outputs", {"compensated.hdf5": value}


@pytest.mark.parametrize("text", [*statuses()])
def test_a_status_that_says_nothing_makes_the_stage_run_again(done, text):
    config, mask = done
    for folder in (config.output_root / "rec1", config.final_results):
        (folder / "status.json").write_text(text)
    session_status(config)
    np.testing.assert_array_equal(run_session(config), mask)
    assert session_status(config)[1].done


@pytest.mark.parametrize(("key", "value"), [*changes()])
def test_a_marker_of_wrong_types_makes_the_stage_run_again(done, key, value):
    config, mask = done
    for folder in (config.output_root / "rec1", config.final_results):
        status = json.loads((folder / "status.json").read_text())
        for marker in status["markers"].values():
            marker[key] = value
        (folder / "status.json").write_text(json.dumps(status))
    recordings, session = session_status(config)
    assert not recordings[0].stage1.done
    assert not session.done
    np.testing.assert_array_equal(run_session(config), mask)
    assert session_status(config)[1].done


@pytest.mark.parametrize("name", ["root", "pattern", "center", "output_root", "n_workers", "flow_options"])
@pytest.mark.parametrize("value", ["3", "true", "[]", "{}", '""', '"\\u0000"', "1979-05-27", "inf"])
def test_strange_values_are_usage_errors_or_failures(tmp_path, capsys, name, value):
    path = tmp_path / "s.toml"
    path.write_text(f"{name} = {value}\n" + ("" if name == "root" else 'root = "."\n'))
    assert main([str(path), "--stage", "2"]) in (1, 2)
    assert "error" in capsys.readouterr().err


def test_a_status_that_is_cut_off_is_said_by_status_and_verify(done):
    config, _ = done
    path = config.output_root / "rec1" / "status.json"
    os.truncate(path, path.stat().st_size // 2)
    recordings, _ = session_status(config)
    assert recordings[0].stage1.reason == "status.json cannot be read"
    assert verify_session(config) == [f"{path.parent}: status.json cannot be read"]


def test_a_field_that_is_damaged_in_its_middle_is_named(done):
    path = done[0].output_root / "rec1" / "w_to_reference.npz"
    content = bytearray(path.read_bytes())
    content[len(content) // 3 : len(content) // 2] = bytes(len(content) // 2 - len(content) // 3)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{re.escape(str(path))} cannot be read: "):
        read_field(path.parent)


_ALL_COMMANDS = """\
import sys
from pyflow.session.cli import main
for command in ("status", "verify", "report", "submit"):
    words = ["--scheduler", "slurm", "--dry-run"] if command == "submit" else []
    print(command, main([command, sys.argv[1], *words]), flush=True)
"""


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
def test_a_folder_that_may_not_be_read_costs_its_own_recording(config, session):
    """Root may read anything, unless it is told not to."""
    as_somebody = []
    if os.geteuid() == 0:
        as_somebody = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
        if shutil.which("setpriv") is None:
            pytest.skip("setpriv, which takes root's power to read anything, is not here")
    run_session(SessionConfig.from_file(session))
    folder = config.output_root / "rec2"
    folder.chmod(0)
    try:
        command = [*as_somebody, sys.executable, "-P", "-c", _ALL_COMMANDS, str(session)]
        said = subprocess.run(command, capture_output=True, text=True, check=True)
    finally:
        folder.chmod(0o755)
    text = " ".join(said.stdout.split())
    assert re.findall(r"(?:status|verify|report|submit) \d", text) == ["status 0", "verify 1", "report 0", "submit 0"]
    assert re.search("rec1 . done", text)
    assert re.search("rec2 . failed", text)
    assert f"stage 1 of rec2: [Errno 13] Permission denied: '{folder}" in text
    assert f"{folder}: [Errno 13] Permission denied" in text
    report = (config.final_results / "report.html").read_text(encoding="utf-8")
    assert "Stage 1 failed: [Errno 13] Permission denied" in " ".join(report.split())
