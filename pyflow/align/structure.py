"""What two averages of one tissue have in common: its structure, without light, contrast and noise.

Days differ in brightness, in how light is spread, and in which cells are bright. In the structure every place has the
same local mean and contrast, so that no cell weighs more than its surroundings.
"""

import math

import numpy as np

from pyflow.flow.filters import gaussian_filter, resize

COARSE = 8.0
"""Standard deviation, in pixels, of what counts as local: about the size of a cell."""

SMOOTHINGS = (0.7, 1.0, 1.5, 2.0, 3.0)
"""What `auto_smoothing` chooses from, in pixels."""

_NOISE_SHARE = 0.2  # of the structure's deviation: more noise is worth more blur
_FLOOR = 0.3  # part of the usual local contrast below which contrast is not raised: there is little but noise
_CLIP = 3.0  # local deviations: a single bright cell
_DEAD = 0.02  # of the usual deviation along a row or column: less is a black frame
_BLURRED = 4  # pixels by which a recording's own motion blurs the edge of such a frame
_LEAST_SIDE = 16  # pixels of what is inside of it


def structure(image: np.ndarray, fine: float, coarse: float = COARSE) -> np.ndarray:
    """Bring an image to a local mean of 0 and a local standard deviation of about 1.

    Parameters
    ----------
    image
        (H, W) or (H, W, C), float32; each channel for itself.
    fine
        Standard deviation, in pixels, of the Gaussian against noise; 0 for none.
    coarse
        Standard deviation, in pixels, of the Gaussian that says what is local.

    Returns
    -------
    ndarray
        float32, shape as `image`, -3 to 3; 0 where a channel is constant.
    """
    band = _band(image, fine, coarse)
    power = np.maximum(gaussian_filter(band * band, coarse, n_threads=1), 0)
    usual = np.median(power, axis=(0, 1))
    scale = np.sqrt(power + _FLOOR**2 * usual)
    # what rounding leaves of a constant image is no structure
    seen = np.ptp(band, axis=(0, 1)) > 1e-5 * np.abs(image).max(axis=(0, 1))
    return np.clip(np.where(seen & (scale > 0), band / np.where(scale > 0, scale, 1), 0), -_CLIP, _CLIP)


def _band(image: np.ndarray, fine: float, coarse: float) -> np.ndarray:
    image = np.asarray(image, np.float32)
    image = image - image.mean(axis=(0, 1), dtype=np.float64).astype(np.float32)
    smooth = gaussian_filter(image, fine, n_threads=1) if fine else image
    return smooth - gaussian_filter(image, coarse, n_threads=1)


def live_box(*images: np.ndarray) -> tuple[slice, slice]:
    """Return the rows and columns in which all images show something.

    Scanners blank what is around an image, and programs fill it. The edge of such a frame is stronger than any tissue,
    and stays where it is when the tissue moves.

    Parameters
    ----------
    *images
        (H, W) or (H, W, C) of one size.

    Returns
    -------
    tuple of slice
        All rows and columns where there is no frame, or next to nothing inside of it.
    """
    sides = []
    for axis, size in enumerate(images[0].shape[:2]):
        low, high = 0, size
        for image in images:
            spread = np.asarray(image, np.float32).std(axis=1 - axis).reshape(size, -1)
            alive = np.flatnonzero((spread > _DEAD * np.median(spread, axis=0)).any(axis=1))
            first, last = (alive[0], alive[-1] + 1) if alive.size else (0, 0)
            low = max(low, first + _BLURRED * (first > 0))
            high = min(high, last - _BLURRED * (last < size))
        sides.append(slice(int(low), int(high)))
    return tuple(sides) if min(side.stop - side.start for side in sides) >= _LEAST_SIDE else (slice(None), slice(None))


def one_channel(image: np.ndarray) -> np.ndarray:
    """Add an image's channels (H, W, C), each at the same contrast; an image (H, W) stays as it is."""
    image = np.asarray(image, np.float32)
    if image.ndim == 2:
        return image
    deviation = image.std(axis=(0, 1))
    return (image / np.where(deviation > 0, deviation, 1)).sum(axis=2, dtype=np.float32)


def shrink(image: np.ndarray, size: int) -> np.ndarray:
    """Reduce an image (H, W) so that its longer side has at most `size` pixels."""
    factor = min(1.0, size / max(image.shape))
    shape = tuple(max(2, round(side * factor)) for side in image.shape)
    return image if shape == image.shape else resize(image, shape, n_threads=1)


def auto_smoothing(*images: np.ndarray) -> float:
    """Return the least of `SMOOTHINGS` that leaves little noise in the structure of all images.

    The noise is the part of the second differences along both axes that no smooth image has (Immerkaer, Computer Vision
    and Image Understanding 64, 300, 1996). A Gaussian of standard deviation s divides it by ``2 sqrt(pi) s``.

    Parameters
    ----------
    *images
        (H, W) or (H, W, C).
    """
    for fine in SMOOTHINGS:
        if all(_noise(image) / (2 * math.sqrt(math.pi) * fine) <= _NOISE_SHARE * _contrast(image) for image in images):
            return fine
    return SMOOTHINGS[-1]


def _noise(image: np.ndarray) -> float:
    image = one_channel(image)
    if min(image.shape) < 3:
        return 0.0
    along = image[2:] - 2 * image[1:-1] + image[:-2]
    both = along[:, 2:] - 2 * along[:, 1:-1] + along[:, :-2]
    return math.sqrt(math.pi / 2) / 6 * float(np.abs(both).mean())


def _contrast(image: np.ndarray) -> float:
    return float(_band(one_channel(image), SMOOTHINGS[1], COARSE).std())
