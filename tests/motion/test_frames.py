"""Frames in pieces, bins and windows are the recording's frames."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyflow.motion import frames
from pyflow.motion.frames import FrameSource
from pyflow.motion.quality import CONSTANT, NOT_FINITE, frame_problem
from pyflow.motion.streams import windows


@given(
    count=st.integers(1, 12),
    start=st.integers(0, 11),
    radius=st.integers(0, 4),
    piece=st.integers(1, 5),
    bins=st.integers(1, 3),
)
@settings(max_examples=50, deadline=None)
def test_windows_are_those_of_the_mirrored_recording(count, start, radius, piece, bins):
    movie = np.arange(count * 4, dtype=np.float32).reshape(count, 2, 2, 1)
    binned = np.stack([movie[i : i + bins].mean(axis=0) for i in range(0, count, bins)])
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(1) as pool:
        patch.setattr(frames, "PIECE_BYTES", piece * 16)
        first = max(start - radius, 0)
        source = FrameSource(movie, bin_size=bins)
        found = list(windows(source.frames(pool, first), radius, first, start))
    padded = np.pad(binned, ((radius, radius), (0, 0), (0, 0), (0, 0)), mode="symmetric")
    assert len(found) == max(0, len(binned) - start)
    for t, window in enumerate(found, start):
        np.testing.assert_array_equal(window, padded[t : t + 2 * radius + 1])


def test_channels_and_indices():
    movie = np.random.default_rng(0).random((6, 3, 4, 3))
    source = FrameSource(movie, channels=(2, 0), indices=[5, 1, 1])
    assert (len(source), source.frame_shape) == (3, (3, 4, 2))
    np.testing.assert_array_equal(source.read(0, 3), movie[[5, 1, 1]][..., [2, 0]])


class Counted:
    """A movie that notes the slices it is asked for."""

    def __init__(self, movie):
        self.movie, self.asked = movie, []
        self.shape, self.dtype = movie.shape, movie.dtype

    def __len__(self):
        return len(self.movie)

    def __getitem__(self, key):
        self.asked.append((key.start, key.stop))
        return self.movie[key]


def test_frames_that_follow_each_other_are_read_at_once():
    movie = np.random.default_rng(0).random((12, 3, 4, 1))
    reader = Counted(movie)
    indices = [2, 3, 4, 8, 9, 3, 11]
    np.testing.assert_array_equal(FrameSource(reader, indices=indices).read(0, 7), movie[indices])
    assert reader.asked == [(2, 5), (8, 10), (3, 4), (11, 12)]


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ([0, 1], 0),
        ([0, 0], CONSTANT),
        ([7, 7], CONSTANT),
        ([np.nan, 1.0], NOT_FINITE),
        ([np.inf, 1.0], NOT_FINITE),
    ],
)
def test_frame_problem(values, problem):
    assert frame_problem(np.array(values).reshape(1, 2, 1)) == problem
