"""The scene that is recorded: somata, processes, neuropil and vessels, at one depth or several, with transients."""

import copy

import numpy as np
from scipy import ndimage
from scipy.special import expit

SPLINE_BORDER = 12  # a cubic spline's coefficients decay below float32 within this many pixels


class Scene:
    """The field of view on its canvas, as cubic spline coefficients.

    Attributes
    ----------
    still : ndarray, shape (H + 2 margin, W + 2 margin)
        Coefficients of everything that is not a soma, per unit of brightness.
    patches : list of (slice, slice), ndarray
        Each soma's place on the canvas and its coefficients.
    """

    def __init__(self, shape: tuple[int, int], margin: int, rng: np.random.Generator) -> None:
        self.shape, self.margin = shape, margin
        canvas = (shape[0] + 2 * margin, shape[1] + 2 * margin)
        light = 1 + 0.35 * _noise(canvas, min(shape) / 3, rng)
        vessels = _vessels(canvas, rng)
        self._light, self._vessels = light, vessels
        self._fill(rng)

    def _fill(self, rng: np.random.Generator) -> None:
        """Put new neuropil and somata between the vessels."""
        self._neuropil = _neuropil(self._light.shape, rng)
        self.still = _coefficients(self._neuropil * self._light * self._vessels)
        shade = self._light * self._vessels
        self.patches = []
        for (rows, columns), soma in _somata(shade.shape, rng):
            shaded = soma * shade[rows, columns]
            self.patches.append(((rows, columns), _coefficients(shaded), soma > 0.5 * soma.max()))

    def on_another_day(self, renewed: float, rng: np.random.Generator) -> "Scene":
        """The same tissue, `renewed` of whose neuropil (0 to 1) looks otherwise."""
        other = copy.copy(self)
        neuropil = (1 - renewed) * self._neuropil + renewed * _neuropil(self._light.shape, rng)
        other.still = _coefficients(neuropil * self._light * self._vessels)
        return other

    def at_another_depth(self, rng: np.random.Generator) -> "Scene":
        """Another plane below the same vessels: all else in it is other tissue."""
        other = copy.copy(self)
        other._fill(rng)
        return other

    def at_rest(self, present: np.ndarray, gains: np.ndarray) -> np.ndarray:
        """Canvas coefficients with the somata `present`, each times its gain."""
        canvas = self.still.copy()
        for number, gain in zip(present, gains, strict=True):
            place, coefficients, _ = self.patches[number]
            canvas[place] += gain * coefficients
        return canvas

    def sample(self, canvas: np.ndarray, shift: np.ndarray, order: int = 3) -> np.ndarray:
        """Return the scene at every pixel of the frame plus a shift (H, W, 2)."""
        rows, columns = np.mgrid[: self.shape[0], : self.shape[1]].astype(np.float32)
        at = (rows + shift[..., 1] + self.margin, columns + shift[..., 0] + self.margin)
        return ndimage.map_coordinates(canvas, at, order=order, prefilter=False, mode="nearest")


class Tissue:
    """A scene at several depths: its somata lie at depths of their own, the rest changes with depth."""

    _SOMA_PLANES, _REST_PLANES = 1.0, 0.8  # standard deviations of how far a soma, and anything else, is seen

    def __init__(self, scene: Scene, n_planes: int, rng: np.random.Generator) -> None:
        self._scene = scene
        self._knots = np.arange(-1, n_planes + 1)
        shape = scene.still.shape
        shade = (1 + 0.35 * _noise(shape, min(shape) / 3, rng)) * _vessels(shape, rng)
        self._rest = [_coefficients(shade * _neuropil(shape, rng)) for _ in self._knots]
        self._soma_depth = rng.uniform(-1, n_planes, len(scene.patches))

    def at(self, z: float, gains: np.ndarray | None = None) -> np.ndarray:
        """Return the canvas coefficients at a depth, each soma times its gain."""
        weights = np.exp(-0.5 * ((z - self._knots) / self._REST_PLANES) ** 2)
        canvas = sum(weight * rest for weight, rest in zip(weights / weights.sum(), self._rest, strict=True))
        seen = np.exp(-0.5 * ((z - self._soma_depth) / self._SOMA_PLANES) ** 2)
        gains = np.ones(len(seen)) if gains is None else gains
        for (place, coefficients, _), gain in zip(self._scene.patches, seen * gains, strict=True):
            canvas[place] += gain * coefficients
        return canvas


def _coefficients(image: np.ndarray) -> np.ndarray:
    return ndimage.spline_filter(image.astype(np.float32), order=3, output=np.float32, mode="mirror")


def _neuropil(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Brightness of everything that is not a soma: texture of several sizes, and processes."""
    texture = 0.22 * _noise(shape, 1.6, rng) + 0.22 * _noise(shape, 4, rng) + 0.25 * _noise(shape, 12, rng)
    return np.exp(texture) + 1.3 * _processes(shape, rng)


def _processes(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Dendrites and axons: thin bright lines, some out of focus."""
    image = np.zeros(shape, np.float32)
    per_pixel = 1 / 900
    for sigma, share in ((0.8, 0.35), (1.4, 0.65)):
        lines = np.zeros(shape, np.float32)
        for _ in range(int(share * per_pixel * shape[0] * shape[1])):
            points = _curve(shape, 0.05, int(rng.integers(30, 160)), rng)
            lines = np.maximum(lines, _draw(shape, points, rng.gamma(2.0, 0.5)))
        image += ndimage.gaussian_filter(lines, sigma) * sigma * 1.5
    return image


def _vessels(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Factor on the light: dark tubes that branch, softer where they lie above the plane."""
    shade = np.ones(shape, np.float32)
    for _ in range(max(2, shape[0] * shape[1] // 25000)):
        radius = rng.uniform(1.5, 6.0)
        trunk = _curve(shape, 0.02, 4 * max(shape), rng)
        branch = _curve(shape, 0.05, max(shape), rng)
        branch += trunk[len(trunk) // 3] - branch[0]
        for points, r in ((trunk, radius), (branch, 0.6 * radius)):
            distance = ndimage.distance_transform_edt(_draw(shape, points) == 0)
            edge = rng.uniform(0.8, 2.5)
            shade *= 1 - 0.75 * expit((r - distance) / edge)
    return shade


def _somata(shape: tuple[int, int], rng: np.random.Generator) -> list[tuple[tuple[slice, slice], np.ndarray]]:
    """Cell bodies with dark nuclei: place on the canvas and brightness at rest."""
    reach = 10 + SPLINE_BORDER
    found: list[tuple[tuple[slice, slice], np.ndarray]] = []
    centres: list[np.ndarray] = []
    for _ in range(shape[0] * shape[1] // 700):
        centre = rng.uniform(reach, np.array(shape) - reach)
        radius = rng.uniform(4.0, 6.5)
        if centres and np.hypot(*(np.array(centres) - centre).T).min() < 11:
            continue
        centres.append(centre)
        first = np.floor(centre).astype(int) - reach
        y, x = np.mgrid[: 2 * reach, : 2 * reach] - (centre - first)[:, np.newaxis, np.newaxis]
        angle, stretch = rng.uniform(0, np.pi), rng.uniform(1.0, 1.3)
        a, b = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
        wobble = 1 + 0.08 * np.sin(3 * np.arctan2(b, a) + rng.uniform(0, 6))
        distance = np.hypot(a / stretch, b * stretch) / wobble
        body = expit((radius - distance) / 0.6)
        nucleus = rng.uniform(0.3, 0.8) * expit((0.55 * radius - distance) / 0.6)
        texture = 1 + 0.1 * _noise(distance.shape, 1.2, rng)
        brightness = rng.lognormal(0.2, 0.6)
        place = (slice(first[0], first[0] + 2 * reach), slice(first[1], first[1] + 2 * reach))
        found.append((place, (brightness * body * (1 - nucleus) * texture).astype(np.float32)))
    return found


def _noise(shape: tuple[int, int], sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Smooth noise of mean 0 and standard deviation 1."""
    smooth = ndimage.gaussian_filter(rng.standard_normal(shape).astype(np.float32), sigma, mode="wrap")
    return (smooth - smooth.mean()) / smooth.std()


def _curve(shape: tuple[int, int], bend: float, length: int, rng: np.random.Generator) -> np.ndarray:
    """Points (n, 2) of a wandering line, half a pixel apart."""
    heading = rng.uniform(0, 2 * np.pi) + np.cumsum(bend * rng.standard_normal(length))
    start = rng.uniform(0, 1, 2) * shape
    return start + np.cumsum(0.5 * np.stack([np.sin(heading), np.cos(heading)], axis=1), axis=0)


def _draw(shape: tuple[int, int], points: np.ndarray, values: np.ndarray | float = 1.0) -> np.ndarray:
    image = np.zeros(shape, np.float32)
    where = np.rint(points).astype(int)
    inside = ((where >= 0) & (where < shape)).all(axis=1)
    np.maximum.at(image, tuple(where[inside].T), np.broadcast_to(values, len(points))[inside])
    return image


def transients(n_cells: int, n_frames: int, frame_rate_hz: float, rng: np.random.Generator) -> np.ndarray:
    """dF/F (N, T) of cells that fire in bursts: fast rise, decay over about half a second."""
    lead = int(3 * frame_rate_hz)
    rate = rng.lognormal(np.log(0.15), 0.8, (n_cells, 1)) / frame_rate_hz
    spikes = rng.poisson(rate, (n_cells, n_frames + lead)) * rng.uniform(0.5, 1.5, (n_cells, n_frames + lead))
    time = np.arange(lead) / frame_rate_hz
    kernel = np.exp(-time / 0.6) - np.exp(-time / 0.07)
    traces = np.apply_along_axis(np.convolve, 1, spikes, kernel / kernel.max())[:, lead : lead + n_frames]
    return traces.astype(np.float32)
