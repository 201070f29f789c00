"""The kernels' power against a double's."""

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

CSRC = Path(__file__).resolve().parents[2] / "csrc"
SOURCE = """
#include "power.h"
void powers(const float *x, float p, int n, float *out) { for (int i = 0; i < n; i++) out[i] = pf_power(x[i], p); }
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_power_is_as_exact_as_it_says(tmp_path):
    """Alone, since in a flow an error of 1e-4 in a weight is lost among the solver's own."""
    library = tmp_path / "power.so"
    command = ["cc", "-O2", "-shared", "-fPIC", "-I", str(CSRC), "-x", "c", "-", "-o", str(library)]
    subprocess.run(command, input=SOURCE, text=True, check=True)
    power = ctypes.CDLL(str(library)).powers
    x = np.geomspace(1e-30, 1e30, 200_001).astype(np.float32)
    found = np.empty_like(x)
    pointer = ctypes.POINTER(ctypes.c_float)
    for p in (-0.99, -0.55, -0.5, -0.1, 0.3, 1.0):
        power(x.ctypes.data_as(pointer), ctypes.c_float(p), x.size, found.ctypes.data_as(pointer))
        expected = x.astype(float) ** float(np.float32(p))
        # 1e-5 of the polynomials, and what float32 loses of an exponent of up to 100
        np.testing.assert_allclose(found, expected, rtol=2e-5)
