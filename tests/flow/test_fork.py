"""Kernels in forked processes."""

import os
import subprocess
import sys

import pytest

# sys.argv[1]: threads of the parent, and of the child
SCRIPT = """
import os, sys
import numpy as np
from pyflow.flow.displacement import get_displacement
from pyflow.flow.filters import gaussian_filter
from pyflow.flow.warp import imregister, valid_mask
from pyflow.threads import kernel_threads
image = np.random.default_rng(0).random((300, 300), dtype=np.float32)
def run(n_threads):
    w = get_displacement(image, np.roll(image, 1, 0), iterations=5, n_threads=n_threads)
    valid_mask(w, n_threads=n_threads)
    return gaussian_filter(imregister(image, w, n_threads=n_threads), 1.0, n_threads=n_threads)
parent_threads, child_threads = map(int, sys.argv[1:])
expected = run(parent_threads)
child = os.fork()
if child == 0:
    same = np.array_equal(run(child_threads), expected)
    print(same, kernel_threads(2), flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize(("parent", "child", "left"), [(2, 2, 1), (2, 1, 1), (1, 2, 2)])
def test_a_forked_child_of_a_parallel_process_does_not_hang(parent, child, left):
    command = [sys.executable, "-P", "-W", "ignore", "-c", SCRIPT, str(parent), str(child)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            output, _ = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            raise
    assert output.split() == ["True", str(left)]
