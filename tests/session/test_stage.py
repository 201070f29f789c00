"""One way to run a step."""

import json
import os

import pytest

from pyflow.session.artifacts import read_marker, read_status
from pyflow.session.stage import Stage, execute


def stage_of(folder, name="stage1", run=lambda: {}, parts=None, **more):
    output = folder / f"{name}.txt"

    def write():
        output.write_text(name)
        return run()

    return Stage(name, name, folder, "rec", lambda: parts or {"schema": 1}, write, (output,), **more)


def test_what_is_made_from_its_outputs_is_void_once_it_runs_again(tmp_path):
    def stop():
        raise InterruptedError

    execute(stage_of(tmp_path, "aligned_rec", voids=("stage3",)))
    execute(stage_of(tmp_path, "stage3"))
    assert execute(stage_of(tmp_path, "aligned_rec", voids=("stage3",))).done
    assert read_marker(tmp_path, "stage3") is not None
    with pytest.raises(InterruptedError):
        execute(stage_of(tmp_path, "aligned_rec", stop, {"schema": 2}, voids=("stage3",)))
    assert read_marker(tmp_path, "stage3") is None
    assert read_status(tmp_path)["stage3"] == "outdated"
    assert read_status(tmp_path, "aligned_rec")["aligned_rec"] == "incomplete"


def test_who_lost_the_folder_meanwhile_marks_nothing(tmp_path):
    """The files may be those that the other process is writing."""

    def taken_over():
        (tmp_path / ".claim").write_text(json.dumps({"host": "elsewhere", "pid": 1, "token": "another"}))
        return {}

    with pytest.raises(RuntimeError, match="taken over by process 1 on elsewhere"):
        execute(stage_of(tmp_path, run=taken_over))
    assert read_marker(tmp_path, "stage1") is None
    os.utime(tmp_path / ".claim", (0, 0))
    assert not execute(stage_of(tmp_path)).done
    assert read_marker(tmp_path, "stage1") is not None
