"""Recordings that drift between states are registered to a reference of each."""

import h5py
import numpy as np
import pytest
import scipy.io
import tifffile

from pyflow.motion.compensate import compensate_arr, compensate_recording
from pyflow.motion.noise import Tuning
from pyflow.motion.options import OFOptions
from pyflow.motion.register import RegisteredFrame
from pyflow.motion.state import LoopState
from pyflow.motion.states import _groups, _stretches
from pyflow.simulate.movement import Conditions, margin_of, motion_of
from pyflow.simulate.recording import record
from pyflow.simulate.scene import Scene, Tissue
from pyflow.simulate.truth import jitter


@pytest.fixture(scope="module")
def two_depths():
    """A recording that goes from one depth to another and back, where it also gets brighter, and where it was."""
    n, shape = 80, (96, 96)
    conditions, rng = Conditions(shape, n, photons=8), np.random.default_rng(0)
    scene = Scene(shape, margin_of(conditions, 3.0), rng)
    tissue, still = Tissue(scene, 5, rng), np.zeros((*shape, 2), np.float32)
    deep = np.arange(n) // 20 % 2 == 1
    motion, cells = motion_of(conditions, rng), np.arange(len(scene.patches))
    depth = np.where(deep, 3.0, 1.0)
    recording = record(scene, still, cells, motion, conditions, 1.0, rng, tissue, depth)
    movie = (recording.movie * np.where(deep, 2, 1)[:, None, None]).astype(np.uint16)
    return movie, recording.displacement_px, deep


OPTIONS = OFOptions(
    alpha=40,
    eta=0.6,
    min_level=1,
    iterations=20,
    reference_frames="0:20",
    update_initialization_w=False,
    n_workers=2,
)


def test_each_frame_goes_to_the_reference_of_its_state(two_depths, tmp_path):
    movie, truth, deep = two_depths
    _, alone = compensate_arr(movie, options=OPTIONS)
    options = OPTIONS.replace(n_references=2, input_file=movie, output_path=tmp_path, output_format="NULL", save_w=True)
    result = compensate_recording(options)
    np.testing.assert_array_equal(result.chosen, deep)
    with h5py.File(tmp_path / "w.hdf") as file:
        w = np.stack([file["u"][:], file["v"][:]], axis=-1)
    # the frames of the second state are displaced wrongly by one reference, and as well as the others by two,
    assert jitter(w[deep], truth[deep], 8) < 0.4 * jitter(alone[deep], truth[deep], 8)
    assert jitter(w[deep], truth[deep], 8) < 1.3 * jitter(w[~deep], truth[~deep], 8)
    # which lie in one frame: both states agree where a pixel is
    assert jitter(w, truth, 8) < 0.5 * jitter(alone, truth, 8)
    assert result.references.shape == (2, 96, 96)
    np.testing.assert_array_equal(result.references[0], result.reference)
    np.testing.assert_array_equal(w[~deep][:5], alone[~deep][:5])


@pytest.fixture
def recording(tmp_path, scene, shifts, rng):
    """A short recording of two textures that have half of their structure in common."""
    other = type(scene)(rng)
    other.image = 0.5 * (scene.image + other.image)
    movie = np.concatenate([scene.movie(shifts), other.movie(shifts)])[..., 0]
    tifffile.imwrite(tmp_path / "recording.tif", movie)
    return OFOptions(
        input_file=tmp_path / "recording.tif",
        output_path=tmp_path / "out",
        alpha=10,
        buffer_size=5,
        reference_frames="0:6",
        n_references=2,
        min_frames_per_reference=5,
        n_workers=2,
    )


class Killed(BaseException):
    """Stands for a signal."""


def test_what_several_references_leave(recording, tmp_path):
    """The same after an interruption, and on one thread."""
    expected = compensate_recording(recording.replace(output_path=tmp_path / "whole", n_workers=1))
    for stop in (0, 7, 13):

        def progress(done, total, stop=stop):
            if done > stop:
                raise Killed

        with pytest.raises(Killed):
            compensate_recording(recording, progress=progress)
    result = compensate_recording(recording)
    assert result.chosen.tolist() == [0] * 12 + [1] * 12
    for name in ("compensated.hdf5", "idx.hdf"):
        with h5py.File(tmp_path / "whole" / name) as one, h5py.File(tmp_path / "out" / name) as other:
            for key in one:
                np.testing.assert_array_equal(other[key][:], one[key][:])
    np.testing.assert_array_equal(result.references, expected.references)
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "reference_frames.npy"), expected.references)
    matlab = scipy.io.loadmat(tmp_path / "out" / "reference_frames.mat")["reference_frames"]
    np.testing.assert_array_equal(matlab, expected.references)
    with np.load(tmp_path / "out" / "statistics.npz") as file:
        assert file["reference_idx"].tolist() == result.chosen.tolist()


def test_frames_without_an_image_belong_to_no_state(recording):
    movie = tifffile.imread(recording.input_file).astype(np.float32)
    movie[14], movie[20] = np.nan, 3
    result = compensate_recording(recording.replace(input_file=movie))
    assert sorted(result.problems) == [14, 20]
    assert result.chosen.tolist() == [0] * 12 + [1, 1, 0, 1, 1, 1, 1, 1, 0, 1, 1, 1]


def test_as_many_references_as_asked_for_from_enough_frames(recording, caplog):
    """Two stretches show the second state, ten frames; frames are looked at one by one, whatever filters in time."""
    result = compensate_recording(recording.replace(min_frames_per_reference=10, sigma=(1, 1, 0.5)))
    assert result.chosen.tolist() == [0] * 12 + [1] * 12
    assert "were asked for" not in caplog.text


def test_too_few_frames_make_no_reference(recording, caplog):
    result = compensate_recording(recording.replace(min_frames_per_reference=11))
    assert len(result.references) == 1
    assert not result.chosen.any()
    assert "2 references were asked for, 1 found: no other group of 11 frames looks different" in caplog.text
    alone = compensate_recording(recording.replace(n_references=1, output_path=recording.output_path / "alone"))
    assert not (alone.output_path / "reference_frames.npy").exists()
    with h5py.File(result.video_file) as one, h5py.File(alone.video_file) as other:
        np.testing.assert_array_equal(one["ch1"][:], other["ch1"][:])


def test_a_state_that_forgets_its_frames_counts_on():
    """As for frames that come for ever."""
    image = np.zeros((4, 5, 1))
    state = LoopState.begin(image, image, Tuning(1.0, 0.0), np.inf)
    field = np.zeros((1, 1, 2), np.float32)
    for valid in (False, True):
        for _ in range(100):
            state.add(RegisteredFrame(image, np.full((4, 5), valid), field, field, (0.0,) * 5, reference=1))
        assert state.valid.all() == valid
        state.forget_frames()
    assert len(state.chosen) == len(state.problem) == 0


def test_a_moving_reference_is_not_one_of_several():
    with pytest.raises(ValueError, match="n_references 2 with update_reference: expected only one of the two"):
        OFOptions(n_references=2, update_reference=True)


@pytest.mark.parametrize("n_frames", [1, 4, 5, 23, 400, 5000])
def test_stretches_are_from_all_over_the_recording(n_frames):
    found = _stretches(n_frames)
    frames = [t for stretch in found for t in stretch]
    assert frames == sorted(set(frames))  # so that no frame counts twice
    assert (frames[0], frames[-1]) == (0, n_frames - 1)
    assert len(frames) == min(n_frames - n_frames % 5 or n_frames, 400)
    assert max(np.diff([stretch.start for stretch in found]), default=0) < 2 * max(n_frames / 80, 5)


def looks(rng, *kinds):
    """Noisy rows of norm 1, one for each letter, of which equal ones show the same; the first is a mean of many."""
    common = rng.normal(size=200)
    patterns = {kind: common + rng.normal(size=200) for kind in sorted(set(kinds))}
    rows = np.stack([patterns[kind] + 0.5 * rng.normal(size=200) for kind in kinds])
    rows[0] = patterns["a"]
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("kinds", "n_groups", "least", "expected"),
    [
        ("aabab", 2, 2, ["b"]),
        ("aabcabcc", 3, 2, ["b", "c"]),
        ("aaaxbbab", 2, 2, ["b"]),  # one artefact is no state
        ("aabxbyab", 4, 3, ["b"]),  # nor are two
        ("aaxaya", 3, 2, []),
        ("aaaaaaaaaaaa", 3, 2, []),  # noise is no state
        ("aabbb", 2, 4, []),
    ],
)
def test_groups_are_what_lasts(rng, kinds, n_groups, least, expected):
    found = _groups(looks(rng, "a", *kinds), n_groups, least)
    assert sorted(found) == sorted([i for i, kind in enumerate(kinds) if kind == letter] for letter in expected)


def test_there_are_no_more_groups_than_asked_for(rng):
    features = looks(rng, "a", *"aabcabcc")
    assert [len(_groups(features, n_groups, 2)) for n_groups in (1, 2, 3, 4)] == [0, 1, 2, 2]


def test_what_differs_a_little_is_one_state(rng):
    """As an image that slowly changes its light does."""
    one, other = np.linalg.qr(rng.normal(size=(200, 2)))[0].T
    rows = np.stack([one] * 6 + [one + 0.15 * other] * 6) + rng.normal(0, 1e-3, (12, 200))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    assert _groups(rows, 2, 2) == []
    rows[6:] += 0.2 * other
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    assert _groups(rows, 2, 2) == [[5, 6, 7, 8, 9, 10]]
