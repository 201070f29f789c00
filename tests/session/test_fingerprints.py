"""How much of a file is looked at."""

import os

import numpy as np
import pytest
import tifffile

from pyflow.layout import content_hash, fingerprint
from pyflow.session import run_session, session_status
from pyflow.session.pipeline import verify_session


def flip_in_the_middle(path):
    stat = path.stat()
    with open(path, "r+b") as file:
        file.seek(stat.st_size // 2)
        byte = file.read(1)[0]
        file.seek(stat.st_size // 2)
        file.write(bytes([byte ^ 1]))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


@pytest.fixture
def long(config, write_recordings):
    write_recordings(config.root, n_frames=120)  # outputs of 640 kB: their middle is in no hash of the ends
    return config.replace(flow_options={**config.flow_options, "buffer_size": 60, "iterations": 1})


@pytest.mark.parametrize("mode", ["quick", "deep"])
def test_a_flip_in_a_large_output_is_found(long, contents, mode):
    config = long.replace(fingerprint=mode)
    run_session(config)
    assert verify_session(config) == []
    whole = contents(config)
    for path in (config.output_root / "rec2" / "compensated.hdf5", config.final_results / "aligned_rec1.tif"):
        flip_in_the_middle(path)
        assert verify_session(config) == [f"{path.parent}: {path.name} is not as it was written"]
        assert session_status(config)[1].done == (mode == "quick")
        run_session(config.replace(resume=mode == "deep"))
        assert verify_session(config) == []
        for name, array in contents(config).items():
            np.testing.assert_array_equal(array, whole[name], err_msg=name)


def test_what_is_missing_is_a_problem(long):
    run_session(long)
    (long.output_root / "rec2" / "status.json").unlink()
    (long.final_results / "final_valid_idx.png").unlink()
    problems = "\n".join(verify_session(long))
    assert "rec2: stage 1 and stage 2 not done" in problems
    assert "final_valid_idx.png is missing" in problems


def test_an_edited_input_is_noticed_as_the_mode_says(long):
    path = long.root / "rec1.tif"
    modes = {mode: long.replace(fingerprint=mode) for mode in ("quick", "lenient", "deep")}
    parts = {mode: fingerprint(path, mode) for mode in modes}
    run_session(modes["deep"])
    assert session_status(modes["deep"])[0][0].stage1.done
    flip_in_the_middle(path)
    assert session_status(modes["deep"])[0][0].stage1.reason == "changed: content of the input file"
    assert fingerprint(path, "quick") == parts["quick"]
    os.utime(path)
    assert fingerprint(path, "quick") != parts["quick"]
    assert fingerprint(path, "lenient") == parts["lenient"]


def test_lenient_does_not_look_at_the_time(config):
    lenient = config.replace(fingerprint="lenient")
    run_session(lenient)
    os.utime(config.root / "rec1.tif")
    assert session_status(lenient)[1].done
    tifffile.imwrite(config.root / "rec1.tif", tifffile.imread(config.root / "rec1.tif")[::-1])
    assert not session_status(lenient)[1].done


def test_the_hash_depends_on_every_block(tmp_path, monkeypatch):
    monkeypatch.setattr("pyflow.layout._BLOCK", 10)
    path = tmp_path / "x"
    path.write_bytes(bytes(35))
    seen = {content_hash(path)}
    for size, place in ((35, 0), (35, 9), (35, 10), (35, 34), (36, 35), (30, 29)):
        data = bytearray(size)
        data[place] = 1
        path.write_bytes(data)
        seen.add(content_hash(path))
    path.write_bytes(bytes(30))
    seen.add(content_hash(path))
    assert len(seen) == 8


def test_lenient_keeps_what_was_made_before_it_was_asked_for(config):
    """It is asked for when a file system has lost the times, that is after the results were made."""
    run_session(config)
    lenient = config.replace(fingerprint="lenient")
    path = config.output_root / "rec1" / "compensated.hdf5"
    before = path.stat().st_mtime_ns
    os.utime(config.root / "rec1.tif")
    assert not session_status(config)[1].done
    assert session_status(lenient)[1].done
    run_session(lenient)
    assert path.stat().st_mtime_ns == before
    tifffile.imwrite(config.root / "rec1.tif", tifffile.imread(config.root / "rec1.tif")[::-1])
    assert session_status(lenient)[0][0].stage1.reason.startswith("changed: content of the input file")
