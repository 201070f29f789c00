"""Finished sessions with cells, made by hand: what stages 1 to 3 leave, without running them."""

import json
import os

import h5py
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from pyflow.layout import FIELD_FILE, FLOW_FILE, MASK_FILE, RESULT_FILE, STATUS_FILE, VIDEO_FILE

SHAPE = (72, 80)
SHIFTS = {"day1": (0, 0), "day2": (3, -2)}  # of the content, along x and y, in pixels


def ragged_mask(shape=SHAPE, seed=0):
    """Valid but for a ragged border and two holes."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices(shape)
    depth = gaussian_filter(rng.normal(0, 1, shape), 4) * 60 + 4
    edge = np.minimum.reduce([rows, columns, shape[0] - 1 - rows, shape[1] - 1 - columns])
    mask = edge > np.clip(depth, 1, 8)
    mask[8:11, 30:33] = mask[60:63, 50:55] = False
    return mask


def cells(n_frames, shape=SHAPE, seed=0, spacing=12):
    """Activity of cells everywhere, also across the border of the mask, over noise: (T, H, W) float64."""
    rng = np.random.default_rng(seed)
    movie = np.full((n_frames, *shape), 300.0) + rng.normal(0, 12, (n_frames, *shape))
    rows, columns = np.indices(shape)
    decay = np.exp(-np.arange(40) / 8)
    for y in np.arange(3, shape[0], spacing):
        for x in np.arange(3, shape[1], spacing):
            y0, x0 = y + rng.uniform(-2, 2), x + rng.uniform(-2, 2)
            footprint = np.exp(-((((rows - y0) ** 2 + (columns - x0) ** 2) / 12) ** 2))
            trace = np.convolve(rng.random(n_frames) < 0.015, decay)[:n_frames] * 250 + 60
            movie += trace[:, None, None] * footprint
    return movie


@pytest.fixture
def finished(tmp_path):
    """Return a function that writes a session of some frames per recording and returns its `final_results`."""

    def write(n_frames=30, dtype=np.uint16, n_channels=1, mask=None, movie=None, keep_w=False):
        mask = ragged_mask() if mask is None else mask
        shape = mask.shape
        results = tmp_path / "final_results"
        results.mkdir()
        fields, averages, paths = [], [], []
        for seed, (name, (x, y)) in enumerate(SHIFTS.items()):
            folder = tmp_path / "compensated_outputs" / name
            folder.mkdir(parents=True)
            frames = np.roll(cells(n_frames, shape, seed) if movie is None else movie, (y, x), axis=(1, 2))
            with h5py.File(folder / VIDEO_FILE, "w") as file:
                for channel in range(n_channels):
                    file[f"ch{channel + 1}"] = (frames * (1 + channel)).astype(dtype)
            masks = np.full((n_frames, *shape), 255, np.uint8)
            masks[5] = 0
            with h5py.File(folder / MASK_FILE, "w") as file:
                file["idx"] = masks
            if keep_w:
                with h5py.File(folder / FLOW_FILE, "w") as file:
                    file["u"] = np.full((n_frames, *shape), np.arange(n_frames)[:, None, None] % 4, np.float32)
                    file["v"] = np.full((n_frames, *shape), -1, np.float32)
            recorded = tmp_path / f"{name}.tif"
            recorded.touch()
            marker = {"input_file": os.path.relpath(recorded, folder)}
            (folder / STATUS_FILE).write_text(json.dumps({"markers": {"stage1": marker}}))
            fields.append(np.broadcast_to(np.float32([x, y]), (*shape, 2)))
            np.savez(folder / FIELD_FILE, u=fields[-1][..., 0], v=fields[-1][..., 1])
            averages.append(np.stack([frames.mean(0) * (1 + channel) for channel in range(n_channels)], axis=-1))
            paths.append(os.path.relpath(folder / VIDEO_FILE, results))
        u, v = np.moveaxis(np.stack(fields), -1, 0)
        np.savez(
            results / f"{RESULT_FILE}.npz",
            final_valid=mask,
            recordings=list(SHIFTS),
            compensated_h5_paths=paths,
            aligned_video_paths=[],
            displacement_fields_u=u,
            displacement_fields_v=v,
            reference_average=averages[0][..., 0] if n_channels == 1 else averages[0],
        )
        return results

    return write
