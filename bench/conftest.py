"""Images with known motion, and the peers that a user would pick instead."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from pyflow.threads import available_threads

SIZE = 512


def pytest_generate_tests(metafunc):
    """Sweep threads: 1, 2, 4 ... all."""
    if "n_threads" in metafunc.fixturenames:
        free = available_threads()
        metafunc.parametrize("n_threads", sorted({min(2**k, free) for k in range(free.bit_length() + 1)}))


@pytest.fixture(scope="session")
def cv2():
    """OpenCV on one thread."""
    module = pytest.importorskip("cv2", reason="the second bar needs opencv-python-headless (extra: dev)")
    module.setNumThreads(1)
    return module


@pytest.fixture(scope="session")
def pair():
    """Reference and moving image, float32 of order 1, and the displacement between them: a bent field of 3 px."""
    rng = np.random.default_rng(0)
    canvas = gaussian_filter(rng.standard_normal((SIZE + 32, SIZE + 32)), 1.5)
    canvas = ((canvas - canvas.min()) / np.ptp(canvas)).astype(np.float32)
    moving = np.ascontiguousarray(canvas[16:-16, 16:-16])
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float32) / SIZE * 6
    w = np.stack([2 + np.sin(y), -1.5 + np.cos(x + y)], axis=-1).astype(np.float32)
    from pyflow.flow.warp import imregister

    return imregister(moving, w, fill=moving, n_threads=1), moving, w
