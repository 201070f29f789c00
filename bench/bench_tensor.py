"""Motion tensor of one channel."""

import numpy as np
import pytest

from pyflow._ext import _tensor


@pytest.mark.parametrize("constancy", _tensor.CONSTANCIES)
def test_tensor(benchmark, pair, constancy, n_threads):
    benchmark.group = f"motion tensor, {constancy}"
    height, width = pair[0].shape
    out = np.zeros(_tensor.layout_shape(height, width), np.float32)
    code = _tensor.CONSTANCIES[constancy]
    benchmark(_tensor.motion_tensor, pair[0], pair[1], *pair[0].shape, 1.0, 1.0, code, 1e-6, out, n_threads)
