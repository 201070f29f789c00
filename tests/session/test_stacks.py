"""Files written a recording at a time hold what numpy and scipy would have written at once."""

import tracemalloc

import numpy as np
import pytest
import scipy.io

from pyflow.session.final import stacks
from pyflow.session.final.stacks import Stack, save_mat_stacks, save_npz_stacks


def stack(array, **options):
    return Stack(array.shape[1:], array.dtype, len(array), lambda: iter(array), **options)


@pytest.fixture(params=[(3, 5, 7), (1, 4, 4), (2, 3, 5, 2)])
def arrays(request):
    rng = np.random.default_rng(0)
    return {
        "a_mask": rng.random(request.param) > 0.5,
        "field": rng.normal(size=request.param).astype(np.float32),
        "average_of_all": rng.normal(size=request.param),
    }


def test_npz(tmp_path, arrays):
    path = tmp_path / "a.npz"
    small = {"number": 3, "names": ["ä", "b"], "image": np.eye(3)}
    save_npz_stacks(path, {**{name: stack(array) for name, array in arrays.items()}, **small})
    with np.load(path, allow_pickle=False) as data:
        assert sorted(data) == sorted({**arrays, **small})
        for name, array in {**arrays, **small}.items():
            found = data[name]
            assert found.dtype == np.asarray(array).dtype
            np.testing.assert_array_equal(found, array)
    assert [file.name for file in tmp_path.iterdir()] == ["a.npz"]


def test_mat(tmp_path, arrays):
    """As scipy writes the same to version 5: cells of N x 1, stacks along the last axis, masks as logical."""
    ours, theirs = tmp_path / "ours.mat", tmp_path / "theirs.mat"
    cells = {name: np.empty((len(array), 1), object) for name, array in arrays.items()}
    for name, array in arrays.items():
        for i, item in enumerate(array):
            cells[name][i, 0] = item
    stacked = {f"{name}_stacked": np.moveaxis(array, 0, -1) for name, array in arrays.items()}
    scipy.io.savemat(theirs, {**cells, **stacked, "n": 2.0}, do_compression=True)
    asked = {name: stack(array) for name, array in arrays.items()}
    asked |= {f"{name}_stacked": stack(array, cells=False) for name, array in arrays.items()}
    assert save_mat_stacks(ours, {**asked, "n": 2.0}) == []
    listed = [sorted(scipy.io.whosmat(path)) for path in (ours, theirs)]
    assert listed[0] == listed[1]
    found, expected = (scipy.io.loadmat(path, mat_dtype=False) for path in (ours, theirs))
    for name in asked:
        assert found[name].dtype == expected[name].dtype
        pairs = [(found[name], expected[name])]
        if found[name].dtype == object:
            pairs = list(zip(found[name].ravel(), expected[name].ravel(), strict=True))
        for a, b in pairs:
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)


def test_what_is_too_large_for_a_variable_is_left_out(tmp_path, monkeypatch):
    array = np.ones((4, 8, 8), np.float32)
    monkeypatch.setattr(stacks, "MAT_VARIABLE_BYTES", array.nbytes + 200)
    asked = {"a": stack(array, cells=False), "b": stack(np.ones((4, 9, 8), np.float32)), "c": 1.0}
    assert save_mat_stacks(tmp_path / "a.mat", asked) == ["b"]
    assert {"a", "c"} == {name for name, _, _ in scipy.io.whosmat(tmp_path / "a.mat")}


def test_an_array_of_another_shape_is_refused(tmp_path):
    wrong = Stack((4, 4), np.dtype(np.float32), 2, lambda: iter([np.zeros((4, 4)), np.zeros((4, 5))]))
    for save, name in ((save_npz_stacks, "a.npz"), (save_mat_stacks, "a.mat")):
        with pytest.raises(ValueError, match=r"shape \(4, 5\) among those of shape \(4, 4\)"):
            save(tmp_path / name, {"a": wrong})
    assert list(tmp_path.iterdir()) == []


def test_one_array_is_in_memory_at_a_time(tmp_path):
    def pieces():
        return (np.full((256, 256), i, np.float64) for i in range(40))

    one = 256 * 256 * 8
    for save, name in ((save_npz_stacks, "a.npz"), (save_mat_stacks, "a.mat")):
        tracemalloc.start()
        save(tmp_path / name, {"a": Stack((256, 256), np.dtype(np.float64), 40, pieces)})
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 5 * one
