"""suite2p's registration with its defaults (non-rigid: in blocks of 128 pixels), as `bench.methods` runs the others.

Run by the Python that has suite2p, which need not have pyflow: ``python -m bench.suite2p FOLDER rigid|non-rigid``.
"""

import sys
import time
from pathlib import Path

import numpy as np
import torch
from suite2p.registration.register import register_frames

from bench.outcome import save


def evenly_between_centres(starts_and_stops, size):
    """Bilinear weights (size, blocks): values belong to the blocks' centres, and stay as they are beyond the outer."""
    centres = np.unique(np.mean(starts_and_stops, axis=1).astype(int))
    last = len(centres) - 1
    position = np.interp(np.arange(size), [centres[0], centres[-1] - 1], [0, last])
    return np.maximum(0, 1 - np.abs(position[:, np.newaxis] - np.arange(last + 1))).astype(np.float32)


def main(folder: Path, kind: str) -> None:
    torch.set_num_threads(1)
    movie = np.load(folder / "movie.npy") // 2  # suite2p's 16 bits are signed, its readers halve too
    reference = (np.load(folder / "reference.npy") / 2).astype(np.int16)
    seconds = []
    for n_frames in (1, 1, len(movie)):  # the first warms up
        frames = movie[:n_frames].astype(np.int16)
        started = time.perf_counter()
        *_, offsets, blocks, _, _, _ = register_frames(
            frames, reference, nonrigid=kind == "non-rigid", device=torch.device("cpu")
        )
        seconds.append(time.perf_counter() - started)
    y, x = offsets[:2]
    w = np.zeros((*movie.shape, 2), np.float32)
    w += np.stack([x, y], axis=-1)[:, np.newaxis, np.newaxis]
    if kind == "non-rigid":
        rows, columns = (evenly_between_centres(b, size) for b, size in zip(blocks[:2], movie.shape[1:], strict=True))
        bent = [np.einsum("yi,tij,xj->tyx", rows, b.reshape(-1, *blocks[2]), columns) for b in offsets[3:5][::-1]]
        w += np.stack(bent, axis=-1)
    save(folder, w, (len(movie) - 1) / (seconds[2] - seconds[1]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
