"""HDF5 with chunks of many frames: what is decompressed for one frame serves its neighbours."""

import time

import h5py
import numpy as np
import pytest

from pyflow.io import open_video


@pytest.mark.parametrize("chunks", [(200, 192, 192), (200, 40, 64), (200, 192, 192, 2), (200, 2, 192, 192)], ids=str)
def test_a_chunk_of_many_frames_is_decompressed_once(tmp_path, chunks):
    frames = np.random.default_rng(0).integers(0, 2, (200, 192, 192, 2)).astype(np.uint16)
    # More than the cache that HDF5 has of its own.
    stored = {3: frames[..., 0], 4: frames if chunks[-1] == 2 else np.moveaxis(frames, -1, 1)}[len(chunks)]
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("ch1", data=stored, chunks=chunks, compression="gzip", compression_opts=1)

    def seconds(keys):
        best = np.inf
        for _ in range(3):
            with open_video(tmp_path / "a.h5") as reader:
                start = time.perf_counter()
                for key in keys:
                    reader[key]
                best = min(best, time.perf_counter() - start)
        return best

    assert seconds(range(16)) < 4 * seconds([slice(None)])
