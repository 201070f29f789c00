"""suite2p's registration with its defaults (non-rigid, blocks of 128 pixels), as `bench.methods` runs the others.

Run by the Python that has suite2p, which need not have pyflow: ``python -m bench.suite2p_nonrigid FOLDER``.
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


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    movie = np.load(folder / "movie.npy") // 2  # suite2p's 16 bits are signed, its readers halve too
    reference = (np.load(folder / "reference.npy") / 2).astype(np.int16)
    seconds = []
    for n_frames in (1, len(movie)):
        frames = movie[:n_frames].astype(np.int16)
        started = time.perf_counter()
        *_, offsets, blocks, _, _, _ = register_frames(frames, reference, device=torch.device("cpu"))
        seconds.append(time.perf_counter() - started)
    y, x, _, block_y, block_x = offsets[:5]
    height, width = movie.shape[1:]
    rows, columns = evenly_between_centres(blocks[0], height), evenly_between_centres(blocks[1], width)
    bent = [np.einsum("yi,tij,xj->tyx", rows, b.reshape(-1, *blocks[2]), columns) for b in (block_x, block_y)]
    w = np.stack([bent[0] + x[:, None, None], bent[1] + y[:, None, None]], axis=-1)
    save(folder, w, (len(movie) - 1) / (seconds[1] - seconds[0]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
