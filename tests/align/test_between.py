"""Averages of days apart come onto each other, whatever changed between the days, as far as the tissue is the same."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from pyflow.align.between import Flow, align, composed
from pyflow.align.start import Map, find_start
from pyflow.align.structure import auto_smoothing, live_box, structure
from pyflow.flow.warp import imregister, valid_mask
from pyflow.simulate import endpoint_error, simulate_pair

# Not the seeds on which the constants were found.
DAYS = {
    "plain": {"shift_px": (6.0, -4.0)},
    "other cells fire": {"shift_px": (-5.0, 7.0), "turnover": 0.4, "activity": 0.8},
    "other neuropil": {"shift_px": (3.0, 3.0), "neuropil": 0.5},
    "few photons": {"shift_px": (-7.0, -2.0), "photons": 60},
    "turned": {"shift_px": (10.0, 5.0), "rotation_deg": 8.0},
    "stretched": {"shift_px": (-6.0, 9.0), "stretch": (1.0, 1.25)},
}


def inner(w):
    """Pixels that come from inside the image, without the edge."""
    valid = valid_mask(w)
    edge = np.zeros_like(valid)
    edge[8:-8, 8:-8] = True
    return valid & edge


def error(w, truth):
    """Mean error in pixels."""
    return float(np.linalg.norm(w - truth, axis=-1)[inner(truth)].mean())


def framed(pair):
    """Blacken what lies around both images of a pair, as scanners do every day alike."""
    for image in (pair.reference, pair.moving):
        image[:24] = image[148:] = image[:, :30] = 7
    return pair


def test_a_black_frame_does_not_pull():
    pair = framed(simulate_pair((160, 180), seed=3301, shift_px=(9.0, -7.0), rotation_deg=4.0))
    found = align(pair.reference, pair.moving, Flow()).displacement_px
    off = np.linalg.norm(found - pair.displacement_px, axis=-1)
    assert off[24:148, 30:].mean() < 0.4


def test_in_a_black_frame_the_displacement_is_that_of_the_nearest_pixel_that_shows_something():
    pair = framed(simulate_pair((160, 180), seed=3301, shift_px=(9.0, -7.0)))
    rows, columns = live_box(pair.reference, pair.moving)
    assert (rows, columns) == (slice(28, 144), slice(34, 180))  # without the 4 pixels that motion blurs
    found = align(pair.reference, pair.moving, Flow())
    assert found.start.kind == "shift"
    w = found.displacement_px
    around = np.pad(w[rows, columns], ((28, 16), (34, 0), (0, 0)), mode="edge")
    np.testing.assert_allclose(w, around, atol=1e-5)


def test_a_map_of_an_image_is_that_of_the_part_in_a_box():
    whole = Map(np.array([[1.1, -0.2], [0.15, 0.9]]), np.array([3.0, -2.0]))
    box = (slice(10, 71), slice(None, 40))
    part = whole.seen_from((80, 90), box, inside=False)
    np.testing.assert_allclose(part.field((61, 40)), whole.field((80, 90))[box], atol=1e-5)
    np.testing.assert_allclose(part.seen_from((80, 90), box, inside=True).offset, whole.offset)


@pytest.mark.parametrize("kind", DAYS)
def test_the_displacement_between_two_days_is_found(kind):
    pair = simulate_pair((160, 176), seed=2100 + list(DAYS).index(kind), **DAYS[kind])
    found = align(pair.reference, pair.moving, Flow())
    assert error(found.displacement_px, pair.displacement_px) < 0.3


def test_brightness_and_contrast_of_a_day_do_not_matter():
    pair = simulate_pair((96, 112), seed=2200, shift_px=(3, -2))
    found = align(pair.reference, pair.moving, Flow()).displacement_px
    other = align(pair.reference, 0.3 * pair.moving + 900, Flow()).displacement_px
    assert np.abs(found - other).max() < 0.02


def test_a_field_of_light_that_moved_does_not_pull():
    pair = simulate_pair((128, 128), seed=2201, deformation_px=0)
    light = 1 + 0.8 * np.linspace(-1, 1, 128, dtype=np.float32)
    found = align(pair.reference * light, pair.moving * light[::-1], Flow()).displacement_px
    assert error(found, pair.displacement_px) < 0.15


def test_an_image_aligned_to_itself_does_not_move():
    image = simulate_pair((64, 80), seed=2202).reference
    assert not align(image, image, Flow()).displacement_px.any()


@pytest.mark.parametrize("empty", [np.zeros((48, 56)), np.full((48, 56), 1e6), np.ones((48, 56, 2))])
def test_an_average_without_structure_is_left_where_it_is(empty):
    image = simulate_pair((48, 56), seed=2203).reference
    image = np.stack([image] * 2, axis=-1) if empty.ndim == 3 else image
    assert not align(empty, image, Flow()).displacement_px.any()
    assert not align(image, empty, Flow()).displacement_px.any()


def test_a_channel_without_structure_does_not_disturb():
    pair = simulate_pair((96, 96), seed=2204, shift_px=(4, 5))
    two = [np.stack([image, np.full_like(image, 7)], axis=-1) for image in (pair.reference, pair.moving)]
    assert error(align(*two, Flow()).displacement_px, pair.displacement_px) < 0.3


def test_threads_do_not_change_a_bit():
    pair = simulate_pair((64, 72), seed=2205, shift_px=(2, 1))
    one, many = (align(pair.reference, pair.moving, Flow(n_threads=n)).displacement_px for n in (1, 3))
    np.testing.assert_array_equal(one, many)


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"shift_px": (40.0, -38.0)}, "shift"),
        ({"rotation_deg": -9.0}, "similarity"),
        ({"stretch": (1.3, 1.3)}, "similarity"),
        ({"stretch": (0.8, 1.25), "rotation_deg": 5.0, "shift_px": (20.0, 10.0)}, "affine"),
    ],
)
def test_the_start_is_as_free_as_the_change_asks_and_no_freer(change, kind):
    pair = simulate_pair((128, 128), seed=2300, **change)
    start = find_start(pair.reference, pair.moving)
    assert start.kind == kind
    assert error(start.field((128, 128)), pair.displacement_px) < 1.5


def test_the_inverse_of_a_start_undoes_it():
    pair = simulate_pair((96, 128), seed=2301, stretch=(1.2, 0.9), shift_px=(8, -5))
    start = find_start(pair.reference, pair.moving)
    there, back = start.field((96, 128)), start.inverse().field((96, 128))
    assert np.abs(composed(back, there)[inner(there)]).max() < 1e-3


def test_fields_are_composed_in_the_order_in_which_images_are_warped():
    rng = np.random.default_rng(0)
    image = structure(rng.random((64, 64), np.float32), 3)
    y, x = np.mgrid[:64, :64].astype(np.float32)
    first = np.stack([1.5 + 0.05 * y, 0.02 * x - 1], axis=-1)
    then = np.stack([-2 + 0.03 * x, 0.04 * x + 1], axis=-1)
    twice = imregister(imregister(image, first), then)
    once = imregister(image, composed(first, then))
    assert np.abs(twice - once)[16:-16, 16:-16].max() < 0.05


@pytest.mark.parametrize(("photons", "least", "most"), [(2000, 0.7, 0.7), (10, 1.0, 2.0)])
def test_noisy_averages_are_smoothed_more(photons, least, most):
    pair = simulate_pair((128, 128), seed=2302, photons=photons)
    assert least <= auto_smoothing(pair.reference, pair.moving) <= most


def test_real_days_come_onto_each_other(six_days):
    center = six_days[2]
    likeness = {}
    for number, day in ((5, six_days[4]), (6, six_days[5])):  # stretched along y; at another depth
        w = align(center, day, Flow()).displacement_px
        likeness[number] = fine_correlation(center, imregister(day, w, fill=center))
        assert valid_mask(w).mean() > 0.7
    assert likeness[5] > 0.8
    assert likeness[6] > 0.68


def fine_correlation(a, b):
    """Correlation of the structure between 1 and 8 pixels, 40 pixels from the edge."""
    a, b = ((gaussian_filter(i, 1) - gaussian_filter(i, 8))[40:-40, 40:-40].ravel() for i in (a, b))
    return np.corrcoef(a, b)[0, 1]


def test_the_simulated_truth_is_the_truth():
    pair = simulate_pair((96, 96), seed=2303, turnover=0, activity=0, neuropil=0, photons=1e6, shift_px=(5, 3))
    w = pair.displacement_px
    warped = imregister(pair.moving, w)[inner(w)]
    assert np.corrcoef(warped, pair.reference[inner(w)])[0, 1] > 0.995
    assert endpoint_error(w, np.broadcast_to(np.float32([5, 3]), w.shape), 20) < 2.5
