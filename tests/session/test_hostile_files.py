"""Small files that say nothing sensible: each counts as absent or is named, none ends a run by surprise."""

import json
import os
import socket

import numpy as np
import pytest

from pyflow.session import run_session, run_stage1, session_status
from pyflow.session.cli import main

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
