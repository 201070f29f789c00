"""The weight of each channel, or of each pixel of it, in the data term."""

from pathlib import Path

import numpy as np

from pyflow.io import open_video
from pyflow.io.unpickle import load_npy


def channel_weights(weight: tuple[float, ...] | Path | np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Return the weights of a recording's channels; see `OFOptions.channel_weights`, whose `weight` is given here."""
    if isinstance(weight, Path | np.ndarray):
        return _weight_map(weight, shape)
    n_channels = shape[2]
    given = np.array(weight[:n_channels])
    if not given.sum() > 0:
        raise ValueError(f"weight {weight}: none of the recording's {n_channels} channels has a weight above 0")
    scaled = np.append(given / given.sum(), np.full(n_channels - len(given), 1 / n_channels))
    return (scaled / scaled.sum()).astype(np.float32)


def _weight_map(weight: Path | np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Return a map (H, W) or (H, W, C), or the one that a file holds, as float32 (H, W, C)."""
    name = "weight: the map"
    if isinstance(weight, Path):
        name = f"weight: {weight}"
        weight = _read_map(weight)
    image, n_channels = shape[:2], shape[2]
    if weight.shape[:2] != image or weight.shape[2:] not in ((), (1,), (n_channels,)):
        raise ValueError(f"{name} has shape {weight.shape}, expected {image} or {(*image, n_channels)}")
    if weight.dtype.kind not in "buif" or not np.isfinite(weight).all() or weight.min() < 0 or not weight.any():
        raise ValueError(f"{name} holds other values than weights: real numbers from 0 on, not all of them 0")
    weight = weight[..., np.newaxis] if weight.ndim == 2 else weight
    return np.repeat(weight, n_channels // weight.shape[2], axis=2).astype(np.float32)


def _read_map(path: Path) -> np.ndarray:
    """Read an array (H, W) or (H, W, C), or an image, whose largest value stands for 1."""
    if path.suffix == ".npy":
        return load_npy(path)
    with open_video(path) as reader:
        if len(reader) != 1:
            raise ValueError(f"weight: {path} has {len(reader)} frames, expected an image")
        image = reader[0].astype(np.float32)
    return image / max(float(image.max()), np.finfo(np.float32).tiny)
