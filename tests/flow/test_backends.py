"""A back end that someone registers is used by all that computes flows."""

import numpy as np
import pytest
import tifffile
from scipy.ndimage import gaussian_filter

from pyflow.flow import backends
from pyflow.flow.backends import get_backend, list_backends, register_backend
from pyflow.flow.displacement import get_displacement
from pyflow.flow.warp import imregister
from pyflow.motion.compensate import compensate_arr, compensate_recording
from pyflow.motion.options import OFOptions
from pyflow.session import SessionConfig, run_stage1, run_stage2, session_status


class Constant:
    """Finds the same displacement everywhere and always; the penalties must be quadratic for that."""

    name = "constant"
    device = "cpu"

    def __init__(self, u=0.5):
        if not isinstance(u, float):
            raise ValueError(f"u is {u!r}, expected a float")
        self.displacement = np.float32((u, -0.25))
        self.calls = []

    def unsupported(self, parameters):
        return "a_smooth must be 1" if parameters.a_smooth != 1 else None

    def prepare(self, reference, parameters, *, weight=None):
        self.calls.append((reference, parameters, weight))
        return self

    def start(self, field):
        return field

    def estimate(self, frames, start=None, n_threads=1):
        assert frames.ndim == 4
        assert frames.dtype == np.float32
        out = np.empty((len(frames), *frames.shape[2:], 2), np.float32)
        out[:] = self.displacement
        return out


@pytest.fixture(autouse=True)
def _constant(monkeypatch):
    monkeypatch.setattr(backends, "_FACTORIES", dict(backends._FACTORIES))
    register_backend("constant", Constant)


def image(seed=0, shape=(48, 56)):
    return 100 + 4000 * gaussian_filter(np.random.default_rng(seed).random(shape), 2)


def test_names():
    assert list_backends() == ["constant", "flowreg"]
    assert get_backend("flowreg").name == "flowreg"
    assert get_backend("flowreg").device == "cpu"
    with pytest.raises(ValueError, match="backend is 'abacus', expected one of constant, flowreg"):
        get_backend("abacus")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"flow_backend": "abacus"}, "backend is 'abacus', expected one of constant, flowreg"),
        ({"backend_params": {"device": "cuda"}}, "backend_params of 'flowreg'.*'device'"),
        ({"flow_backend": "constant", "backend_params": {"speed": 1}}, "backend_params of 'constant'.*'speed'"),
        ({"flow_backend": "constant", "backend_params": {"u": "x"}}, "u is 'x', expected a float"),
        ({"flow_backend": "constant", "a_smooth": 0.5}, "flow_backend 'constant': a_smooth must be 1"),
    ],
    ids=str,
)
def test_options_refuse_what_a_back_end_cannot_do(changes, message):
    with pytest.raises(ValueError, match=message):
        OFOptions(**changes)


def test_one_pair():
    w = get_displacement(image(), image(1), backend="constant", backend_params={"u": 2.0})
    np.testing.assert_array_equal(w, np.broadcast_to(np.float32((2, -0.25)), (48, 56, 2)))
    with pytest.raises(ValueError, match="back end 'constant': a_smooth must be 1"):
        get_displacement(image(), image(1), backend="constant", a_smooth=0.5)


@pytest.mark.parametrize("cc_initialization", [False, True])
def test_frames_and_reference_of_an_array(cc_initialization):
    movie = np.stack([image()] * 6)
    options = OFOptions(
        flow_backend="constant",
        backend_params={"u": 1.5},
        alpha=3,
        reference_frames="0:4",
        cc_initialization=cc_initialization,
    )
    _, w = compensate_arr(movie, movie[0], options=options)
    np.testing.assert_array_equal(w, np.broadcast_to(np.float32((1.5, -0.25)), w.shape))
    # the reference that it makes itself is shifted by what the back end finds, which a rigid shift finds too
    _, w = compensate_arr(movie, options=options.replace(cc_initialization=False))
    np.testing.assert_array_equal(w, np.broadcast_to(np.float32((1.5, -0.25)), w.shape))


@pytest.mark.parametrize("alpha", [3, "auto"])
def test_recording(tmp_path, monkeypatch, alpha):
    made = []
    monkeypatch.setitem(backends._FACTORIES, "constant", lambda: made.append(Constant()) or made[-1])
    tifffile.imwrite(tmp_path / "recording.tif", np.stack([image()] * 8).astype(np.uint16))
    options = OFOptions(
        input_file=tmp_path / "recording.tif",
        output_path=tmp_path / "out",
        alpha=alpha,
        flow_backend="constant",
        reference_frames="0:4",
        save_w=True,
    )
    compensate_recording(options)
    with np.load(tmp_path / "out" / "statistics.npz") as statistics:
        np.testing.assert_allclose(statistics["mean_disp"], np.hypot(0.5, 0.25), rtol=1e-5)
    asked = [parameters for backend in made for _, parameters, _ in backend.calls]
    # the reference is made with an alpha of its own; with "auto" there is also a search
    assert len({parameters.alpha for parameters in asked}) >= (2 if alpha == 3 else 3)
    if alpha != "auto":
        assert options.flow() in asked


def test_session(tmp_path):
    (tmp_path / "data").mkdir()
    for name, moved in (("rec1", 2), ("rec2", 0)):
        frames = np.stack([np.roll(image(), moved, axis=0)] * 6).astype(np.uint16)
        tifffile.imwrite(tmp_path / "data" / f"{name}.tif", frames)
    smooth = {"sigma_smooth": 1, "alpha_between": 25}  # numbers, with which stage 2 is one flow from one shift
    native = SessionConfig(root=tmp_path / "data", **smooth, flow_options={"reference_frames": "0:4"})
    config = native.replace(flow_backend="constant", backend_params={"u": 0.1})
    run_stage1(config)
    _, _, fields = run_stage2(config)
    moving = [field for field in fields if field.any()]
    assert len(moving) == 1
    assert (moving[0] == moving[0][0, 0]).all()
    # what the back end found beside a rigid shift in quarters of a pixel
    np.testing.assert_allclose(np.abs(moving[0][0, 0] - np.float32((0.1, -0.25))) * 4 % 1, 0, atol=1e-5)
    recordings, session = session_status(config)
    assert session is not None
    assert all(recording.stage1.done for recording in recordings)
    for other in (native, config.replace(backend_params={"u": 0.2})):
        recordings, _ = session_status(other)
        assert not any(recording.stage1.done for recording in recordings)
        with pytest.raises(ValueError, match="stage 1 has to run first"):
            run_stage2(other)


def test_a_coarser_field_is_enlarged(monkeypatch):
    """A back end may return a smooth field on a grid of its own, and is handed starts on that."""
    starts = []

    class Coarse(Constant):
        def start(self, field):
            starts.append(field.shape)
            return field

        def estimate(self, frames, start=None, n_threads=1):
            rows, cols = np.mgrid[:6, :7].astype(np.float32)
            return np.broadcast_to(np.stack([cols, rows], axis=-1) / 8, (len(frames), 6, 7, 2))

    monkeypatch.setitem(backends._FACTORIES, "coarse", Coarse)
    movie = np.stack([image()] * 6)
    options = OFOptions(flow_backend="coarse", alpha=3, buffer_size=3, temporal_coherence=True)
    registered, w = compensate_arr(movie, movie[0], options=options)
    y, x = np.mgrid[:48, :56]
    inside = np.s_[12:-12, 12:-12]
    np.testing.assert_allclose(w[4][inside], np.stack([x / 8 - 0.4375, y / 8 - 0.4375], axis=-1)[inside] / 8, atol=1e-5)
    np.testing.assert_array_equal(registered[4], imregister(movie[4], w[4], fill=movie[0]))
    assert (6, 7, 2) in starts
    np.testing.assert_array_equal(get_displacement(image(), image(1), backend="coarse", a_smooth=1), w[4])
