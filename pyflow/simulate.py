"""Two-photon recordings and sessions with known truth.

A scene (somata, processes, neuropil, vessels) is rendered once on a canvas larger than the frame. Frames look at it
through motion that goes on while a frame is scanned, with calcium transients, shot noise and read noise. Every
displacement is known exactly: it is the inverse of the coordinates at which the scene was sampled.

Displacements are backward, in pixels: ``rest(y, x) = frame(y + v, x + u)`` with ``u = w[..., 0]``, ``v = w[..., 1]``.
"""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage
from scipy.special import expit

_SPLINE_BORDER = 12  # a cubic spline's coefficients decay below float32 within this many pixels
_INVERSION_STEPS = 30  # fixed-point steps; fields contract by their slope, well under 1/2 a step


@dataclass(frozen=True)
class SimulatedRecording:
    """A recording and its truth.

    Attributes
    ----------
    movie : ndarray, shape (T, H, W), uint16
        What the detector gave.
    displacement_px : ndarray, shape (T, H, W, 2), float32
        True backward displacement of every frame onto the scene at rest, in pixels.
    template : ndarray, shape (H, W), float32
        The scene at rest, without noise and transients, in the movie's grey values.
    masks : ndarray, shape (N, H, W), bool
        Somata, at rest.
    cell_ids : ndarray, shape (N,), int
        Which cell of the field of view each is; the same in every recording of a session.
    traces : ndarray, shape (N, T), float32
        Relative fluorescence change dF/F of each.
    """

    movie: np.ndarray
    displacement_px: np.ndarray
    template: np.ndarray
    masks: np.ndarray
    cell_ids: np.ndarray
    traces: np.ndarray

    def save(self, path: str | Path) -> None:
        """Write the movie as ``<path>.tif`` and the truth as ``<path>.npz``, folders included.

        Raises
        ------
        OSError
            A file cannot be written.
        """
        from pyflow.io import get_video_file_writer

        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with get_video_file_writer(path.with_name(f"{path.name}.tif"), "TIFF") as writer:
            writer.write_frames(self.movie)
        truth = {name: value for name, value in vars(self).items() if name != "movie"}
        np.savez(path.with_name(f"{path.name}.npz"), **truth)

    @classmethod
    def load(cls, path: str | Path) -> "SimulatedRecording":
        """Read what `save` wrote.

        Raises
        ------
        FileNotFoundError
            There is no such recording.
        """
        from pyflow.io import open_video

        path = Path(path)
        with open_video(path.with_name(f"{path.name}.tif")) as reader:
            movie = reader[..., 0]
        with np.load(path.with_name(f"{path.name}.npz"), allow_pickle=False) as truth:
            return cls(movie=movie, **truth)


@dataclass(frozen=True)
class SimulatedSession:
    """Several recordings of one field of view.

    Attributes
    ----------
    recordings : tuple of SimulatedRecording
    names : tuple of str
        ``day1``, ``day2`` ...
    center : int
        The recording whose frame the others are aligned to.
    between_px : ndarray, shape (N, H, W, 2), float32
        True backward displacement of each recording's scene at rest into the centre's, in pixels.
    """

    recordings: tuple[SimulatedRecording, ...]
    names: tuple[str, ...]
    center: int
    between_px: np.ndarray

    def save(self, folder: str | Path) -> None:
        """Write every recording (see `SimulatedRecording.save`) into a folder, the truth below ``truth``.

        Raises
        ------
        OSError
            A file cannot be written.
        """
        folder = Path(folder)
        truth = folder / "truth"
        truth.mkdir(parents=True, exist_ok=True)
        for name, recording in zip(self.names, self.recordings, strict=True):
            recording.save(truth / name)
            (truth / f"{name}.tif").replace(folder / f"{name}.tif")
        np.savez(truth / "session.npz", between_px=self.between_px, center=self.center, names=self.names)

    @classmethod
    def load(cls, folder: str | Path) -> "SimulatedSession":
        """Read what `save` wrote.

        Raises
        ------
        FileNotFoundError
            There is no such session.
        """
        from pyflow.io import open_video

        folder = Path(folder)
        with np.load(folder / "truth" / "session.npz", allow_pickle=False) as session:
            names, center, between = session["names"].tolist(), int(session["center"]), session["between_px"]
        recordings = []
        for name in names:
            with (
                open_video(folder / f"{name}.tif") as reader,
                np.load(folder / "truth" / f"{name}.npz") as truth,
            ):
                recordings.append(SimulatedRecording(movie=reader[..., 0], **truth))
        return cls(tuple(recordings), tuple(names), center, between)


@dataclass(frozen=True)
class Conditions:
    """How recordings are taken.

    Attributes
    ----------
    shape : (int, int)
        (H, W) of a frame, at least 32 x 32.
    n_frames : int
    photons : float
        Mean photons per pixel and frame; 3 is dark, 40 bright.
    rigid_px, nonrigid_px : float
        Largest displacement of the whole frame, and of its bending beyond that, in pixels.
    jerks : int
        Sudden movements of up to `rigid_px` more, over within a few frames.
    scan_shear : bool
        Rows are scanned one after the other while the brain moves; False: every frame is taken at once.
    read_noise : float
        Standard deviation in photons.
    frame_rate_hz : float

    Raises
    ------
    ValueError
        A size or amount is negative, or the frame smaller than 32 x 32.
    """

    shape: tuple[int, int]
    n_frames: int
    photons: float = 12.0
    rigid_px: float = 4.0
    nonrigid_px: float = 1.5
    jerks: int = 3
    scan_shear: bool = True
    read_noise: float = 0.5
    frame_rate_hz: float = 15.0

    def __post_init__(self) -> None:
        if min(self.shape) < 32:
            raise ValueError(f"shape is {self.shape}, expected at least (32, 32)")
        if self.n_frames < 1 or self.photons <= 0 or self.rigid_px < 0 or self.nonrigid_px < 0:
            raise ValueError(
                f"n_frames {self.n_frames}, photons {self.photons}, rigid_px {self.rigid_px}, "
                f"nonrigid_px {self.nonrigid_px}: expected at least 1, positive, and two that are not negative"
            )


def simulate_recording(
    shape: tuple[int, int] = (256, 256), n_frames: int = 100, *, seed: int = 0, **conditions: Any
) -> SimulatedRecording:
    """Simulate one recording.

    Parameters
    ----------
    shape, n_frames, **conditions
        See `Conditions`.
    seed : int
        Same seed, same recording.

    Returns
    -------
    SimulatedRecording

    Raises
    ------
    ValueError
        A size or amount is negative, or the frame smaller than 32 x 32.
    TypeError
        There is no such condition.
    """
    taken = Conditions(shape, n_frames, **conditions)
    rng = np.random.default_rng(seed)
    scene = _Scene(shape, _margin(taken), rng)
    motion = _motion(taken, rng)
    still = np.zeros((*shape, 2), np.float32)
    return _record(scene, still, np.arange(len(scene.patches)), motion, taken, 1.0, rng)


def simulate_session(
    n_recordings: int = 3,
    shape: tuple[int, int] = (256, 256),
    n_frames: int = 60,
    *,
    offset_px: float = 8.0,
    deformation_px: float = 1.5,
    turnover: float = 0.15,
    seed: int = 0,
    **conditions: Any,
) -> SimulatedSession:
    """Simulate several recordings of one field of view.

    Parameters
    ----------
    n_recordings : int
        How many there are.
    shape, n_frames, **conditions
        Of each recording, see `Conditions`.
    offset_px, deformation_px : float
        Largest shift of the field of view against the centre's, and of its smooth change beyond that, in pixels.
    turnover : float
        Share of the cells that is missing from each recording.
    seed : int
        Same seed, same session.

    Returns
    -------
    SimulatedSession
        The middle recording is the centre.

    Raises
    ------
    ValueError
        A size or amount is negative, or the frame smaller than 32 x 32.
    TypeError
        There is no such condition.
    """
    taken = Conditions(shape, n_frames, **conditions)
    if n_recordings < 1 or offset_px < 0 or deformation_px < 0 or not 0 <= turnover < 1:
        raise ValueError(
            f"n_recordings {n_recordings}, offset_px {offset_px}, deformation_px {deformation_px}, "
            f"turnover {turnover}: "
            "expected at least 1, not negative, not negative, and within [0, 1)"
        )
    rng = np.random.default_rng(seed)
    scene = _Scene(shape, _margin(taken, offset_px + deformation_px), rng)
    center = n_recordings // 2
    recordings, between = [], []
    for number in range(n_recordings):
        shift = np.zeros((*shape, 2), np.float32)
        if number != center:
            shift += rng.uniform(-offset_px, offset_px, 2)
            shift += _bending(shape, 1, deformation_px, rng)[0]
        present = np.flatnonzero(rng.random(len(scene.patches)) >= turnover)
        motion = _motion(taken, rng)
        recordings.append(_record(scene, shift, present, motion, taken, rng.uniform(0.8, 1.25), rng))
        between.append(invert(shift))
    names = tuple(f"day{number + 1}" for number in range(n_recordings))
    return SimulatedSession(tuple(recordings), names, center, np.stack(between))


@dataclass(frozen=True)
class SimulatedDepth:
    """A recording whose focus moves along z, and a stack of the same tissue.

    Attributes
    ----------
    recording : SimulatedRecording
        Its `template` is the scene at the mean depth.
    stack : ndarray, shape (Z, H, W), uint16
        Planes at depths 0, 1 ... Z - 1, each shifted a little against the others, with little noise.
    depth : ndarray, shape (T,), float64
        True depth of each frame, in planes.
    """

    recording: SimulatedRecording
    stack: np.ndarray
    depth: np.ndarray


def simulate_depth(
    shape: tuple[int, int] = (128, 128),
    n_frames: int = 100,
    n_planes: int = 5,
    *,
    drift_planes: float = 1.5,
    seed: int = 0,
    **conditions: Any,
) -> SimulatedDepth:
    """Simulate a recording whose focus drifts through tissue, and a stack of that tissue.

    Vessels and light are the same at all depths; somata, processes and texture change from plane to plane.

    Parameters
    ----------
    shape, n_frames, **conditions
        Of the recording, see `Conditions`.
    n_planes : int
        Planes of the stack, one unit of depth apart.
    drift_planes : float
        Difference between the largest and the smallest depth, around the middle of the stack.
    seed : int
        Same seed, same recording and stack.

    Returns
    -------
    SimulatedDepth

    Raises
    ------
    ValueError
        A size or amount is negative, or the frame smaller than 32 x 32.
    TypeError
        There is no such condition.
    """
    taken = Conditions(shape, n_frames, **conditions)
    if n_planes < 1 or drift_planes < 0:
        raise ValueError(f"n_planes {n_planes}, drift_planes {drift_planes}: expected at least 1, and not negative")
    rng = np.random.default_rng(seed)
    scene = _Scene(shape, _margin(taken, 3.0), rng)
    tissue = _Tissue(scene, n_planes, rng)
    still = np.zeros((*shape, 2), np.float32)
    stack = np.empty((n_planes, *shape), np.uint16)
    for z in range(n_planes):
        light = scene.sample(tissue.at(z), still + rng.uniform(-2, 2, 2).astype(np.float32))
        counts = rng.poisson(np.maximum(400 / light.mean() * light, 0))  # as the mean of many frames
        stack[z] = np.clip(np.rint(counts + 200), 0, 65535)
    walk = ndimage.gaussian_filter1d(rng.standard_normal(n_frames).cumsum(), max(1.0, n_frames / 20))
    depth = (n_planes - 1) / 2 + _scaled(walk - (walk.max() + walk.min()) / 2, drift_planes / 2)
    motion = _motion(taken, rng)
    present = np.arange(len(scene.patches))
    return SimulatedDepth(_record(scene, still, present, motion, taken, 1.0, rng, tissue, depth), stack, depth)


@dataclass(frozen=True)
class SimulatedPair:
    """Temporal averages of two recordings and how the second is displaced against the first.

    Attributes
    ----------
    reference, moving : ndarray, shape (H, W), float32
        The averages, in grey values.
    displacement_px : ndarray, shape (H, W, 2), float32
        Backward, in pixels: ``reference(y, x)`` shows what ``moving(y + v, x + u)`` shows.
    """

    reference: np.ndarray
    moving: np.ndarray
    displacement_px: np.ndarray


def simulate_pair(
    shape: tuple[int, int] = (256, 256),
    *,
    shift_px: tuple[float, float] = (0.0, 0.0),
    rotation_deg: float = 0.0,
    stretch: tuple[float, float] = (1.0, 1.0),
    deformation_px: float = 1.5,
    turnover: float = 0.15,
    activity: float = 0.3,
    neuropil: float = 0.2,
    photons: float = 500.0,
    blur_px: float = 0.5,
    other_depth: bool = False,
    seed: int = 0,
) -> SimulatedPair:
    """Simulate the averages of two recordings of one field of view, days apart.

    Parameters
    ----------
    shape : (int, int)
        (H, W).
    shift_px : (float, float)
        Of the second recording's content, along x and y.
    rotation_deg : float
        Of the second recording against the first, in degrees.
    stretch : (float, float)
        How much larger the second recording shows the tissue, along x and y.
    deformation_px : float
        Largest component of the smooth change beyond that.
    turnover : float
        Share of the cells that is missing from each recording.
    activity : float
        How differently the others shine: standard deviation of the logarithm of their brightness.
    neuropil : float
        Share of the neuropil, 0 to 1, that looks otherwise.
    photons : float
        Mean photons per pixel of a whole average.
    blur_px : float
        Standard deviation of the Gaussian by which what is left of a recording's motion blurs its average.
    other_depth : bool
        The second recording shows another plane: vessels and illumination are the same, all else is not.
    seed : int
        Same seed, same pair.

    Returns
    -------
    SimulatedPair

    Raises
    ------
    ValueError
        A size or amount is negative, or the images smaller than 32 x 32.
    """
    if min(shape) < 32 or min(stretch) <= 0 or photons <= 0 or not 0 <= turnover < 1 or not 0 <= neuropil <= 1:
        raise ValueError(
            f"shape {shape}, stretch {stretch}, photons {photons}, turnover {turnover}, neuropil {neuropil}: "
            "expected at least 32 x 32, positive, positive, within [0, 1), and within [0, 1]"
        )
    rng = np.random.default_rng(seed)
    angle = np.deg2rad(rotation_deg)
    forward = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ np.diag(stretch)
    backward = np.linalg.inv(forward)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    x, y = columns - (shape[1] - 1) / 2 - shift_px[0], rows - (shape[0] - 1) / 2 - shift_px[1]
    where = np.stack([x, y], axis=-1) @ backward.T
    sampling = (where - np.stack([columns - (shape[1] - 1) / 2, rows - (shape[0] - 1) / 2], axis=-1)).astype(np.float32)
    sampling += _bending(shape, 1, deformation_px, rng)[0]

    scene = _Scene(shape, int(np.ceil(np.abs(sampling).max())) + _SPLINE_BORDER, rng)
    later = scene.at_another_depth(rng) if other_depth else scene.on_another_day(neuropil, rng)
    averages = []
    for plane, moved in ((scene, np.zeros_like(sampling)), (later, sampling)):
        present = np.flatnonzero(rng.random(len(plane.patches)) >= turnover)
        light = plane.sample(plane.at_rest(present, rng.lognormal(0, activity, len(present))), moved)
        light = ndimage.gaussian_filter(np.maximum(light, 0), blur_px)
        counts = rng.poisson(light * (photons / light.mean())) / photons
        averages.append((1000 * rng.uniform(0.6, 1.6) * counts + 200).astype(np.float32))
    return SimulatedPair(*averages, invert(sampling))


def invert(sampling: np.ndarray) -> np.ndarray:
    """Backward displacement that undoes a sampling.

    Parameters
    ----------
    sampling : ndarray, shape (H, W, 2), float
        The image shows the scene at ``(y + s_y, x + s_x)``, in pixels, smooth.

    Returns
    -------
    ndarray, shape (H, W, 2), float32
        w with ``w(q) = -s(q + w(q))``: looked up there, the image shows the scene at q.
    """
    rows, columns = np.mgrid[: sampling.shape[0], : sampling.shape[1]]
    u, v = -sampling[..., 0], -sampling[..., 1]
    for _ in range(_INVERSION_STEPS):
        at = (rows + v, columns + u)
        new = [-ndimage.map_coordinates(sampling[..., axis], at, order=1, mode="nearest") for axis in (0, 1)]
        change = max(np.abs(new[0] - u).max(), np.abs(new[1] - v).max())
        u, v = new
        if change < 1e-4:
            break
    return np.stack([u, v], axis=-1).astype(np.float32)


def endpoint_error(w: np.ndarray, truth: np.ndarray, border: int = 0) -> float:
    """Mean distance between displacements, in pixels.

    Parameters
    ----------
    w, truth : ndarray, shape (..., H, W, 2)
        Found and true displacements, in pixels.
    border : int
        Pixels left out on every side.

    Returns
    -------
    float
    """
    return float(np.hypot(*np.moveaxis(_inside(w - truth, border), -1, 0)).mean())


def jitter(w: np.ndarray, truth: np.ndarray, border: int = 0) -> float:
    """Endpoint error without what is common to all frames, in pixels.

    Each pixel's median difference over time only says where the template sits; what is left is motion that was not
    removed, or that was put in.

    Parameters
    ----------
    w, truth : ndarray, shape (T, H, W, 2)
        Found and true displacements, in pixels.
    border : int
        Pixels left out on every side.

    Returns
    -------
    float
    """
    difference = _inside(w - truth, border)
    return float(np.hypot(*np.moveaxis(difference - np.median(difference, axis=0), -1, 0)).mean())


def _inside(field: np.ndarray, border: int) -> np.ndarray:
    height, width = field.shape[-3:-1]
    return field[..., border : height - border, border : width - border, :]


def _margin(conditions: Conditions, shift_px: float = 0.0) -> int:
    """Canvas beyond the frame on every side: all that motion and a shift can bring in, and the spline's border."""
    return int(np.ceil(2 * conditions.rigid_px + conditions.nonrigid_px + shift_px)) + _SPLINE_BORDER


class _Scene:
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

    def on_another_day(self, renewed: float, rng: np.random.Generator) -> "_Scene":
        """The same tissue, `renewed` of whose neuropil (0 to 1) looks otherwise."""
        other = copy.copy(self)
        neuropil = (1 - renewed) * self._neuropil + renewed * _neuropil(self._light.shape, rng)
        other.still = _coefficients(neuropil * self._light * self._vessels)
        return other

    def at_another_depth(self, rng: np.random.Generator) -> "_Scene":
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
        """The scene at every pixel of the frame plus a shift (H, W, 2)."""
        rows, columns = np.mgrid[: self.shape[0], : self.shape[1]].astype(np.float32)
        at = (rows + shift[..., 1] + self.margin, columns + shift[..., 0] + self.margin)
        return ndimage.map_coordinates(canvas, at, order=order, prefilter=False, mode="nearest")


class _Tissue:
    """What a scene looks like at other depths: its somata lie at depths of their own, the rest changes with depth."""

    _SOMA_PLANES, _REST_PLANES = 1.0, 0.8  # standard deviations of how far a soma, and anything else, is seen

    def __init__(self, scene: _Scene, n_planes: int, rng: np.random.Generator) -> None:
        self._scene = scene
        self._knots = np.arange(-1, n_planes + 1)
        shape = scene.still.shape
        shade = (1 + 0.35 * _noise(shape, min(shape) / 3, rng)) * _vessels(shape, rng)
        self._rest = [
            _coefficients(
                shade
                * (
                    np.exp(
                        0.22 * _noise(shape, 1.6, rng) + 0.22 * _noise(shape, 4, rng) + 0.25 * _noise(shape, 12, rng)
                    )
                    + 1.3 * _processes(shape, rng)
                )
            )
            for _ in self._knots
        ]
        self._soma_depth = rng.uniform(-1, n_planes, len(scene.patches))

    def at(self, z: float, gains: np.ndarray | None = None) -> np.ndarray:
        """Canvas coefficients at a depth, each soma times its gain."""
        weights = np.exp(-0.5 * ((z - self._knots) / self._REST_PLANES) ** 2)
        canvas = sum(weight * rest for weight, rest in zip(weights / weights.sum(), self._rest, strict=True))
        seen = np.exp(-0.5 * ((z - self._soma_depth) / self._SOMA_PLANES) ** 2)
        gains = np.ones(len(seen)) if gains is None else gains
        for (place, coefficients, _), gain in zip(self._scene.patches, seen * gains, strict=True):
            canvas[place] += gain * coefficients
        return canvas


def _coefficients(image: np.ndarray) -> np.ndarray:
    return ndimage.spline_filter(image.astype(np.float32), order=3, output=np.float32, mode="mirror")


def _record(
    scene: _Scene,
    shift: np.ndarray,
    present: np.ndarray,
    motion: np.ndarray,
    conditions: Conditions,
    brightness: float,
    rng: np.random.Generator,
    tissue: "_Tissue | None" = None,
    depth: np.ndarray | None = None,
) -> SimulatedRecording:
    """Record a scene that a day's `shift` has moved, through the frames' `motion` (T, H, W, 2) and `depth` (T,)."""
    gain, offset = 30.0, 200.0  # detector counts per photon, and without light
    resting = np.full(len(present), 1.0)

    def canvas(gains: np.ndarray, z: float | None) -> np.ndarray:
        return scene.at_rest(present, gains) if z is None else tissue.at(z, gains)

    rest = scene.sample(canvas(resting, None if depth is None else float(depth.mean())), shift)
    scale = brightness * conditions.photons / rest.mean()
    traces = _transients(len(present), len(motion), conditions.frame_rate_hz, rng)
    movie = np.empty((len(motion), *scene.shape), np.uint16)
    truth = np.empty((*movie.shape, 2), np.float32)
    for t, moved in enumerate(motion):
        total = moved + _at(shift, moved)
        light = scale * scene.sample(canvas(resting + traces[:, t], None if depth is None else depth[t]), total)
        counts = rng.poisson(np.maximum(light, 0)) + rng.normal(0, conditions.read_noise, light.shape)
        movie[t] = np.clip(np.rint(gain * counts + offset), 0, 65535)
        truth[t] = invert(moved)
    masks = []
    for number in present:
        soma = np.zeros(scene.still.shape, np.float32)
        place, _, inside = scene.patches[number]
        soma[place] = inside
        masks.append(scene.sample(soma, shift, order=1) > 0.5)
    masks = np.stack(masks) if masks else np.zeros((0, *scene.shape), bool)
    seen = masks.any(axis=(1, 2))
    template = (gain * scale * rest + offset).astype(np.float32)
    return SimulatedRecording(movie, truth, template, masks[seen], present[seen], traces[seen])


def _at(field: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """A field (H, W, 2) looked up at every pixel plus `moved`."""
    if not field.any():
        return field
    rows, columns = np.mgrid[: field.shape[0], : field.shape[1]]
    at = (rows + moved[..., 1], columns + moved[..., 0])
    parts = [ndimage.map_coordinates(field[..., axis], at, order=1, mode="nearest") for axis in (0, 1)]
    return np.stack(parts, axis=-1)


# ---- motion -----------------------------------------------------------------------------------------------


def _motion(conditions: Conditions, rng: np.random.Generator) -> np.ndarray:
    """Where each pixel of each frame looks, relative to rest: (T, H, W, 2), float32."""
    shape, n_frames, rigid_px = conditions.shape, conditions.n_frames, conditions.rigid_px
    per_frame = 16
    time = np.arange(n_frames * per_frame + 1) / per_frame
    walk = ndimage.gaussian_filter1d(rng.standard_normal((2, len(time))).cumsum(axis=1), 2.0 * per_frame, axis=1)
    breathing = np.sin(2 * np.pi * rng.uniform(1.5, 2.5) / conditions.frame_rate_hz * time + rng.uniform(0, 6))
    path = _scaled(walk - walk.mean(axis=1, keepdims=True), 0.8 * rigid_px)
    path += 0.2 * rigid_px * breathing * rng.uniform(-1, 1, (2, 1))
    for start in rng.uniform(0, n_frames, conditions.jerks):
        direction = rng.uniform(-1, 1, (2, 1)) * rigid_px
        since = np.maximum(time - start, 0)  # long before, the exponentials overflow
        path += direction * np.exp(-since / 1.2) * (1 - np.exp(-since / 0.15))
    row_time = np.arange(shape[0]) / shape[0] if conditions.scan_shear else np.zeros(shape[0])
    motion = _bending(shape, n_frames, conditions.nonrigid_px, rng)
    for t in range(n_frames):
        for axis in (0, 1):
            motion[t, ..., axis] += np.interp(t + row_time, time, path[axis])[:, np.newaxis]
    return motion


def _bending(shape: tuple[int, int], n_frames: int, amplitude: float, rng: np.random.Generator) -> np.ndarray:
    """Displacement (T, H, W, 2), smooth in space and time, largest component `amplitude`."""
    knots = rng.standard_normal((n_frames, 5, 5, 2))
    if n_frames > 1:
        knots = ndimage.gaussian_filter1d(knots, min(4.0, n_frames / 4), axis=0, mode="nearest")
    knots = _scaled(knots - knots.mean(axis=(0, 1, 2)), amplitude)
    at = np.meshgrid(np.linspace(0, 4, shape[0]), np.linspace(0, 4, shape[1]), indexing="ij")
    field = np.empty((n_frames, *shape, 2), np.float32)
    for t in range(n_frames):
        for axis in (0, 1):
            field[t, ..., axis] = ndimage.map_coordinates(knots[t, ..., axis], at, order=3, mode="mirror")
    return field


def _scaled(values: np.ndarray, largest: float) -> np.ndarray:
    top = np.abs(values).max()
    return values * (largest / top) if top > 0 else values


# ---- the scene --------------------------------------------------------------------------------------------


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
    reach = 10 + _SPLINE_BORDER
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


def _transients(n_cells: int, n_frames: int, frame_rate_hz: float, rng: np.random.Generator) -> np.ndarray:
    """dF/F (N, T) of cells that fire in bursts: fast rise, decay over about half a second."""
    lead = int(3 * frame_rate_hz)
    rate = rng.lognormal(np.log(0.15), 0.8, (n_cells, 1)) / frame_rate_hz
    spikes = rng.poisson(rate, (n_cells, n_frames + lead)) * rng.uniform(0.5, 1.5, (n_cells, n_frames + lead))
    time = np.arange(lead) / frame_rate_hz
    kernel = np.exp(-time / 0.6) - np.exp(-time / 0.07)
    traces = np.apply_along_axis(np.convolve, 1, spikes, kernel / kernel.max())[:, lead : lead + n_frames]
    return traces.astype(np.float32)
