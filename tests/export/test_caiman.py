"""CaImAn's memory map, read as CaImAn reads it."""

import numpy as np
import pytest

import pyflow.export.caiman
from pyflow.export import to_caiman
from pyflow.export.source import AlignedSession


def load_memmap(path):
    """What CaImAn's `load_memmap` and the reshaping in its notebooks do with a name."""
    parts = path.stem.split("_")[1:-1]
    sizes = {key: int(parts[parts.index(key) + 1]) for key in ("d1", "d2", "d3", "frames")}
    assert sizes["d3"] == 1
    pixels = np.memmap(
        path,
        mode="r",
        shape=(sizes["d1"] * sizes["d2"], sizes["frames"]),
        dtype=np.float32,
        order=parts[parts.index("order") + 1],
    )
    return pixels.T.reshape(sizes["frames"], sizes["d1"], sizes["d2"], order="F")


@pytest.mark.parametrize("block_bytes", [1 << 28, 7 * 4 * 72 * 80, 1])
def test_caiman_reads_the_aligned_movies(finished, tmp_path, monkeypatch, block_bytes):
    monkeypatch.setattr(pyflow.export.caiman, "_BLOCK_BYTES", block_bytes)
    results = finished()
    path = to_caiman(results, tmp_path / "caiman")
    assert path.name == "aligned_d1_72_d2_80_d3_1_order_C_frames_60_.mmap"
    movie = load_memmap(path)
    session = AlignedSession.open(results)
    expected = np.concatenate([frames for r in session.recordings for frames in session.frames(r, 1)])
    np.testing.assert_array_equal(movie, expected)
    assert np.ptp(movie[:30, ~session.valid], axis=0).max() == 0
    assert np.ptp(movie[:30, session.valid], axis=0).min() > 0
    with np.load(tmp_path / "caiman" / "aligned_session.npz") as beside:
        np.testing.assert_array_equal(beside["final_valid"], session.valid)
        assert beside["frames_per_recording"].tolist() == [30, 30]
        assert np.flatnonzero(beside["bad_frames"]).tolist() == [5, 35]


def test_a_name_is_no_path(finished, tmp_path):
    with pytest.raises(ValueError, match="first part of a file's name, found 'a/b'"):
        to_caiman(finished(), tmp_path, name="a/b")
