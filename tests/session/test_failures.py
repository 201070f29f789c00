"""Which errors stop a session, which leave the others alone, and what the log says about them."""

import numpy as np
import pytest

from pyflow.session import SessionError, align_sequence_video, run_stage1, stage1_compensate


@pytest.mark.parametrize("kind", [ValueError, OSError, KeyError, KeyboardInterrupt])
def test_what_a_callback_raises_stops_the_run_and_reaches_the_caller(config, kind):
    calls = []

    def callback(name, done, total):
        calls.append(name)
        raise kind("mine")

    with pytest.raises(kind, match="mine"):
        run_stage1(config, progress=callback)
    assert calls == ["rec1"]


def test_a_bug_is_logged_with_its_traceback(config, monkeypatch, caplog):
    real = stage1_compensate.compensate_recording

    def buggy(options, **others):
        if options.input_file.name == "rec1.tif":
            np.stack([np.ones(3), np.ones(4)])  # numpy's ValueError says nothing about where we went wrong
        return real(options, **others)

    monkeypatch.setattr(stage1_compensate, "compensate_recording", buggy)
    with pytest.raises(SessionError, match="1 of 3 recordings failed: rec1"):
        run_stage1(config)
    assert "Traceback" in caplog.text
    assert (config.output_root / "rec10" / "compensated.hdf5").exists()


def test_an_expected_failure_is_logged_in_a_line(config, caplog):
    (config.root / "rec2.tif").write_bytes((config.root / "rec2.tif").read_bytes()[:3000])
    with pytest.raises(SessionError, match="1 of 3 recordings failed: rec2"):
        run_stage1(config)
    assert "rec2" in caplog.text
    assert "Traceback" not in caplog.text


def test_an_aligned_video_that_cannot_be_written_is_named(config, monkeypatch, tmp_path):
    run_stage1(config)
    video = config.output_root / "rec1" / "compensated.hdf5"

    def full(self, data):
        self._error = OSError(28, "No space left on device")
        return len(data)

    monkeypatch.setattr("pyflow.io.output.OutputFile.write", full)
    with pytest.raises(OSError, match=r"^\[Errno 28\] could not write [^:]*aligned_rec1\.tif: No space left") as caught:
        align_sequence_video(video, tmp_path / "aligned_rec1.tif", np.zeros((48, 56, 2)), np.zeros((48, 56)))
    assert caught.value.errno == 28
