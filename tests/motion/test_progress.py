"""What ``progress=True`` shows."""

import re

import numpy as np
import pytest

from pyflow.motion import progress
from pyflow.motion.compensate import compensate_arr, compensate_recording
from pyflow.motion.options import OFOptions


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass when they are told to."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def run(clock, line, total=100, seconds=1.0):
    for done in range(1, total + 1):
        clock[0] += seconds
        line(done, total)


def test_a_file_gets_a_line_now_and_then_and_the_last(clock, capsys):
    run(clock, progress.ProgressLine())
    lines = capsys.readouterr().err.split("\n")
    assert lines[0] == "frame 10 of 100, 1 frames/s, 1:30 min left"
    assert lines[-2:] == ["frame 100 of 100, 1 frames/s", ""]
    assert 10 <= len(lines) <= 12


def test_a_terminal_has_one_line_that_changes(clock, capsys, monkeypatch):
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True, raising=False)
    run(clock, progress.ProgressLine(), seconds=0.1)
    shown = capsys.readouterr().err
    assert shown.startswith("reference")
    assert shown.count("\n") == 1
    assert 30 <= shown.count("\r") <= 60


def test_time_left_is_in_hours_where_it_is_long(clock, capsys):
    line = progress.ProgressLine()
    line(1, 50000)
    clock[0] = 20
    line(41, 50000)
    assert "2 frames/s, 6 h 56 min left" in capsys.readouterr().err


def test_true_shows_it_and_false_does_not(scene, tmp_path, capsys):
    movie = scene.movie(np.zeros((3, 2)))
    options = OFOptions(input_file=movie, output_path=tmp_path, alpha=10, n_workers=1)
    for asked, expected in ((True, ["frame 3 of 3"] * 2), (False, []), (None, [])):
        compensate_arr(movie, options=options, progress=asked)
        compensate_recording(options, progress=asked)
        assert re.findall(r"frame \d+ of \d+", capsys.readouterr().err) == expected
