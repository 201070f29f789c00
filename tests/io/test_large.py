"""Long recordings: opened at once, read at the disk's rate, with little memory."""

import os
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
import tifffile

from pyflow.io import open_video


def test_twenty_thousand_pages_open_at_once(tmp_path):
    page = np.zeros((16, 16), np.uint16)
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for _ in range(20000):
            file.write(page, contiguous=False, metadata=None)
    seconds = []
    for _ in range(3):
        start = time.process_time()
        with open_video(tmp_path / "a.tif") as reader:
            assert len(reader) == 20000
        seconds.append(time.process_time() - start)
    assert min(seconds) < 0.5


@pytest.fixture(scope="module")
def gigabyte(tmp_path_factory):
    """A gigabyte: a big stack of ImageJ, one directory for all, most of it a hole in the disk."""
    path, count = tmp_path_factory.mktemp("large") / "a.tif", 2048
    frame = np.zeros((512, 512), np.uint16)
    tifffile.imwrite(path, frame, description=f"ImageJ=1.53\nimages={count}\nframes={count}\n", metadata=None)
    try:
        os.truncate(path, path.stat().st_size + (count - 1) * frame.nbytes)
    except OSError:
        pytest.skip("no files of 1 GB here")
    return path


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak of memory is measured on Linux")
def test_reading_takes_little_memory(gigabyte):
    code = """
        import resource, sys
        import numpy, tifffile
        from pyflow.io import open_video
        if sys.argv[1:]:
            with open_video(sys.argv[1]) as reader:
                assert len(reader) == 2048
                for frames in reader:
                    assert not frames[0].any()
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    """
    command = [sys.executable, "-P", "-c", textwrap.dedent(code)]
    empty, reading = (
        int(subprocess.run([*command, *more], check=True, capture_output=True, text=True).stdout)
        for more in ([], [gigabyte])
    )
    assert (reading - empty) / 1024 < 200


def test_reading_is_as_fast_as_the_file_is(gigabyte):
    """Of what is in memory already, so that a disk's own rate is all the more reached."""
    n_frames = 1024

    def plain():
        buffer = bytearray(1 << 24)
        with open(gigabyte, "rb", buffering=0) as file:
            for _ in range(n_frames * 512 * 1024 // len(buffer)):
                file.readinto(buffer)

    def ours():
        with open_video(gigabyte, frames=f"0:{n_frames}") as reader:
            for frames in reader:
                assert len(frames) == 32

    def seconds(work):
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    pairs = [(seconds(plain), seconds(ours)) for _ in range(7)]
    fastest_plain, fastest_ours = (min(times) for times in zip(*pairs, strict=True))
    assert fastest_ours < fastest_plain / 0.5
