"""Movies warped into another image's frame, in memory."""

import numpy as np
import pytest

from pyflow.flow.warp import imregister, valid_mask
from pyflow.motion.align import align_sequence


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64"])
@pytest.mark.parametrize("axes", [3, 4])
@pytest.mark.parametrize("each", [False, True])
def test_every_frame_is_warped_and_filled(rng, dtype, axes, each):
    frames = rng.integers(0, 250, (4, 12, 14, 2)[:axes]).astype(dtype)
    reference = rng.uniform(-9, 300, frames.shape[1:])
    w = rng.uniform(-3, 3, (4, 12, 14, 2) if each else (12, 14, 2)).astype(np.float32)
    aligned = align_sequence(frames, w, reference)
    assert aligned.dtype == frames.dtype
    kept = reference
    if np.dtype(dtype).kind == "u":
        kept = np.clip(np.rint(reference), 0, np.iinfo(dtype).max)
    for t, frame in enumerate(frames):
        field = w[t] if each else w
        np.testing.assert_array_equal(aligned[t], imregister(frame, field, fill=kept.astype(dtype)))
        outside = ~valid_mask(field)
        np.testing.assert_allclose(aligned[t][outside], kept.astype(dtype)[outside], rtol=1e-6)
    np.testing.assert_array_equal(align_sequence(frames, w, reference, n_threads=1), aligned)


def test_a_single_channel_may_have_an_axis_or_not(rng):
    frames, w = rng.normal(size=(3, 8, 9, 1)).astype(np.float32), np.full((8, 9, 2), 2, np.float32)
    expected = align_sequence(frames, w, frames[0])
    np.testing.assert_array_equal(align_sequence(frames, w, frames[0, ..., 0]), expected)
    np.testing.assert_array_equal(align_sequence(frames[..., 0], w, frames[0]), expected[..., 0])


@pytest.mark.parametrize(
    ("frames", "w", "reference"),
    [
        ((8, 9), (8, 9, 2), (8, 9)),
        ((3, 8, 9), (9, 8, 2), (8, 9)),
        ((3, 8, 9), (2, 8, 9, 2), (8, 9)),
        ((3, 8, 9), (8, 9, 2), (9, 8)),
        ((3, 8, 9, 2), (8, 9, 2), (8, 9)),
    ],
)
def test_shapes_that_do_not_fit_are_named(frames, w, reference):
    with pytest.raises(ValueError, match="expected") as error:
        align_sequence(np.zeros(frames), np.zeros(w, np.float32), np.zeros(reference))
    assert str(frames) in str(error.value)
