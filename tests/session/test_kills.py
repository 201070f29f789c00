"""A few kills of small sessions; `tests/session/kills.py` does as many as one likes."""

import os

import pytest
from session import kills


@pytest.mark.skipif(os.name != "posix", reason="process groups")
def test_killed_sessions_end_like_one_that_was_not(tmp_path):
    killed = kills.check(tmp_path, n_recordings=2, n_frames=60, size=64, n_kills=3, ways=("local", "array"))
    assert killed.total() == 3
