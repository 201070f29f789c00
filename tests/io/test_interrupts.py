"""Ctrl-C at any moment: an exception inside HDF5 would end the process by SIGSEGV."""

import subprocess
import sys

import pytest

_INTERRUPTED = """
import os, signal, sys
import numpy as np
from pyflow.io import get_video_file_writer, open_video
from pyflow.io.output import OutputFile

signal.signal(signal.SIGINT, signal.default_int_handler)
path, method, calls, stop = sys.argv[1], sys.argv[2], 0, 0
original = getattr(OutputFile, method)

def interrupted(self, *arguments):
    global calls
    calls += 1
    if calls == stop:
        os.kill(os.getpid(), signal.SIGINT)
    return original(self, *arguments)

setattr(OutputFile, method, interrupted)
frames = np.arange(6 * 40 * 44, dtype=np.uint16).reshape(6, 40, 44)
while True:  # until a run ends before the call that would be interrupted
    calls, stop = 0, stop + 1
    try:
        with get_video_file_writer(path) as writer:
            for frame in frames:
                writer.write_frames(frame)
                writer.flush()
    except KeyboardInterrupt:
        continue
    break
with open_video(path) as video:
    assert np.array_equal(video[..., 0], frames)
print(stop - 1, "interrupts")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("method", ["write", "seek", "truncate"])
def test_an_interrupt_while_hdf5_writes(tmp_path, method):
    command = [sys.executable, "-P", "-X", "faulthandler", "-c", _INTERRUPTED, str(tmp_path / "a.h5"), method]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout.split()[0]) > 0
