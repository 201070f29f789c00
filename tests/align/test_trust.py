"""An alignment of one tissue is believed, one of two tissues is not, however alike the flow has made them."""

import numpy as np
import pytest
from align.test_between import framed

from pyflow.align.between import Alignment, Flow, align
from pyflow.align.start import Map
from pyflow.align.trust import ALIGNED, DOUBTFUL, NOT_ALIGNABLE, _least_jacobian, examine, judge
from pyflow.simulate import simulate_pair

SIZE = (160, 160)
GOOD = {
    "tiles_found": 0.9,
    "correlation_held_out": 0.8,
    "overlap": 0.9,
    "least_jacobian": 0.8,
    "disagreement_px": 0.1,
}


FRAMED = {"shape": (160, 180), "seed": 3300, "shift_px": (9.0, -7.0), "stretch": (1.0, 1.1)}


def trust(reference, moving):
    alignment = align(reference, moving, Flow())
    return examine(reference, moving, alignment, Flow())[0]


@pytest.mark.parametrize(
    "change",
    [
        {"turnover": 0.4, "activity": 0.8},
        {"neuropil": 0.5, "shift_px": (12.0, -9.0)},
        {"photons": 40.0, "stretch": (1.0, 1.2)},
        {"deformation_px": 6.0},
    ],
)
def test_one_tissue_is_believed(change):
    pair = simulate_pair(SIZE, seed=3100, **change)
    found = trust(pair.reference, pair.moving)
    assert found.verdict == ALIGNED, found
    assert found.why == ""
    assert found.correlation_after > found.correlation_before
    assert found.disagreement_px < 0.5


def test_there_and_back_counts_where_the_image_is():
    """Beyond it the two ways know nothing of each other."""
    pair = simulate_pair(SIZE, seed=3401, shift_px=(53.0, 40.0))
    found = trust(pair.reference, pair.moving)
    assert found.verdict == ALIGNED
    assert found.overlap < 0.5
    assert found.disagreement_px < 0.2


def test_another_tissue_is_not_believed():
    a, b = (simulate_pair(SIZE, seed=seed) for seed in (3200, 3201))
    found = trust(a.reference, b.moving)
    assert found.verdict == NOT_ALIGNABLE, found
    assert "does not show what the centre shows" in found.why


def test_a_mirror_image_is_not_believed():
    pair = simulate_pair(SIZE, seed=3202)
    assert trust(pair.reference, np.ascontiguousarray(pair.moving[:, ::-1])).verdict == NOT_ALIGNABLE


def test_another_depth_below_the_same_vessels_is_not_believed():
    pair = simulate_pair(SIZE, seed=3203, other_depth=True)
    assert trust(pair.reference, pair.moving).verdict != ALIGNED


def test_real_days_and_a_mirrored_one(six_days):
    assert trust(six_days[2], six_days[3]).verdict == ALIGNED
    assert trust(six_days[2], np.ascontiguousarray(six_days[3][:, ::-1])).verdict == NOT_ALIGNABLE


def test_a_wrong_field_of_one_tissue_is_not_believed():
    pair = simulate_pair(SIZE, seed=3204)
    wrong = Map(np.eye(2), np.array([25.0, -20.0]))
    found, residual = examine(pair.reference, pair.moving, Alignment(wrong.field(SIZE), wrong, 1.0, 25.0, 1), Flow())
    assert found.verdict != ALIGNED
    assert np.nanmedian(residual) > 2


def test_the_residual_shows_the_tile_that_is_off():
    pair = simulate_pair(SIZE, seed=3205, deformation_px=0, turnover=0, neuropil=0)
    w = pair.displacement_px.copy()
    w[40:80, 60:100, 0] += 3
    identity = Map(np.eye(2), np.zeros(2))
    _, residual = examine(pair.reference, pair.moving, Alignment(w, identity, 1.0, 25.0, 1), Flow())
    assert residual.shape == (8, 8)
    assert np.abs(residual[2:4, 3:5] - 3).max() <= 1
    assert np.median(residual) < 1


def test_an_average_without_structure_is_not_believed():
    image = simulate_pair(SIZE, seed=3206).reference
    assert trust(image, np.ones(SIZE)).verdict == NOT_ALIGNABLE
    assert trust(np.ones(SIZE), image).verdict == NOT_ALIGNABLE


@pytest.mark.parametrize(
    ("measure", "verdict", "word"),
    [
        ({"tiles_found": 0.4}, DOUBTFUL, "40%"),
        ({"tiles_found": 0.1}, NOT_ALIGNABLE, "10%"),
        ({"correlation_held_out": 0.3}, DOUBTFUL, "0.30"),
        ({"correlation_held_out": 0.1}, NOT_ALIGNABLE, "0.10"),
        ({"overlap": 0.3}, DOUBTFUL, "30% of the image"),
        ({"overlap": 0.1}, NOT_ALIGNABLE, "10% of the image"),
        ({"least_jacobian": -0.1}, DOUBTFUL, "folds"),
        ({"disagreement_px": 3.0}, DOUBTFUL, "3.0 px"),
    ],
)
def test_every_measure_can_cast_doubt_and_says_so(measure, verdict, word):
    assert judge(GOOD, 30) == (ALIGNED, "")
    found, why = judge({**GOOD, **measure}, 30)
    assert found == verdict
    assert word in why


def test_few_tiles_are_no_proof():
    verdict, why = judge(GOOD, 3)
    assert verdict == DOUBTFUL
    assert "3 tiles" in why
    assert judge(GOOD, 19) == (DOUBTFUL, "only 19 tiles can be compared, which proves little")
    assert judge(GOOD, 20) == (ALIGNED, "")
    assert judge({**GOOD, "tiles_found": 0.1}, 19)[0] == NOT_ALIGNABLE


def test_how_little_a_field_stretches():
    def least(w):
        return _least_jacobian(w, np.ones(w.shape[:2], bool))

    y, x = np.mgrid[:20, :30].astype(np.float32)
    assert least(np.full((20, 30, 2), 7.5)) == 1
    assert least(np.stack([0.5 * x, -0.25 * y], axis=-1)) == pytest.approx(1.5 * 0.75)
    # a rotation by 30 degrees neither stretches nor folds
    c, s = np.cos(np.pi / 6), np.sin(np.pi / 6)
    assert least(np.stack([(c - 1) * x - s * y, s * x + (c - 1) * y], axis=-1)) == pytest.approx(1, abs=1e-4)
    fold = np.zeros((20, 30, 2))
    fold[4, 7, 0] = -2
    assert least(fold) < 0
    valid = np.ones((20, 30), bool)
    valid[4, 7] = False
    assert _least_jacobian(fold, valid) == 1, "what lies outside the image folds nothing"
    assert least(np.zeros((1, 30, 2))) == 1


def test_what_chance_finds_in_tiny_images_is_not_believed():
    pair = simulate_pair((32, 32), seed=30006)
    assert trust(pair.reference, np.ascontiguousarray(pair.moving[:, ::-1])).verdict != ALIGNED
    other = simulate_pair((32, 32), seed=39021).moving
    assert trust(simulate_pair((32, 32), seed=30021).reference, other).verdict != ALIGNED


def test_a_black_frame_is_no_tissue():
    pair = framed(simulate_pair(**FRAMED))
    alignment = align(pair.reference, pair.moving, Flow())
    found, residual = examine(pair.reference, pair.moving, alignment, Flow())
    assert found.verdict == ALIGNED
    assert found.residual_px < 1
    assert residual.shape == (8, 9)
    assert np.isnan(residual[:, 0]).all()  # black
    assert np.nanmax(residual[2:6, 2:6]) <= 1.5
    image = pair.reference
    _, residual = examine(image, image, align(image, image, Flow()), Flow())
    assert not residual[1:7, 2:].any()  # tiles whose centres are not black
    assert np.isnan(residual[[0, 7]]).all()
    assert np.isnan(residual[:, :2]).all()
