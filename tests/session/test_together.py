"""Several processes on one session."""

import importlib
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from pyflow.session import run_session, run_stage1, run_stage2
from pyflow.session.recordings import find_recordings
from pyflow.session.stage1_compensate import compensate

CODE = """
import sys, time
from pathlib import Path
from pyflow.session import SessionConfig, run_stage1, run_stage3

config = SessionConfig.from_file(sys.argv[1])
time.sleep(max(0, float(sys.argv[3]) - time.time()))
progress = lambda *frames: time.sleep(float(sys.argv[4]))
{"1": run_stage1, "3": run_stage3}[sys.argv[2]](config, progress=progress)
"""


def start(config, stage, at, wait_s=0.0):
    path = config.root / "session.json"
    path.with_suffix(".yaml").write_text(config.model_dump_json())
    arguments = [sys.executable, "-P", "-c", CODE, str(path.with_suffix(".yaml")), stage, str(at), str(wait_s)]
    return subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True)


def all_of(config, contents):
    return {name.split("/", 1)[1]: array for name, array in contents(config).items() if "paths" not in name}


@pytest.mark.parametrize("apart_s", [0.02, 0.15])
def test_two_starts_of_stage_1(config, contents, apart_s):
    at = time.time() + 2.5
    processes = [start(config, "1", at), start(config, "1", at + apart_s)]
    errors = [process.communicate(timeout=60)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "".join(errors)
    together = all_of(config, contents)
    alone = config.replace(output_root="alone")
    run_stage1(alone)
    expected = all_of(alone, contents)
    assert together.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(together[name], array, err_msg=name)


@pytest.mark.skipif(os.name != "posix", reason="kill -9")
def test_stage_3_twice_at_once_and_one_killed(config, contents):
    config = config.replace(align_chunk_size=1)
    run_stage1(config)
    run_stage2(config)
    at = time.time() + 2.5
    first = start(config, "3", at, 0.2)
    second = start(config, "3", at + 0.5, 60)  # stops after the first frame it writes
    time.sleep(max(0, at + 3 - time.time()))
    second.kill()
    second.communicate(timeout=10)
    errors = first.communicate(timeout=60)[1]
    assert first.returncode == 0, errors
    run_session(config)
    found = all_of(config, contents)
    run_session(config.replace(resume=False))
    for name, array in all_of(config, contents).items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


@pytest.mark.parametrize(
    ("place", "during"),
    [
        ("stage2_between_avgs._find", "the fields"),
        ("stage3_valid_mask.align_sequence_video", "the aligned videos"),
        ("stage3_valid_mask.count_valid_of_recording", "the masks"),
    ],
)
def test_stage_1_made_anew_with_other_options_meanwhile(config, contents, monkeypatch, place, during):
    """What was read is then half of one run and half of another, and must not be marked as made from one."""
    config = config.replace(center="rec2.tif")
    run_session(config)
    expected = contents(config)
    other = config.replace(flow_options={**config.flow_options, "alpha": 40})
    recordings = {recording.name: recording for recording in find_recordings(config)}
    module, name = f"pyflow.session.{place}".rsplit(".", 1)
    real, called = getattr(importlib.import_module(module), name), []

    def meanwhile(*arguments, **named):
        if not called:
            called.append(during)
            compensate(other, recordings["rec2"])
        return real(*arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(f"{module}.{name}", meanwhile)
        with pytest.raises((RuntimeError, ValueError), match="rec2: stage 1 "):
            run_session(config.replace(resume=False))
    run_session(config)
    found = contents(config)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)
