"""NWB files that pynwb finds nothing wrong with, and in which nothing is invented."""

import json
import os
import subprocess
from datetime import UTC, datetime

import h5py
import numpy as np
import pynwb
import pytest

from pyflow.export import load_session, to_nwb
from pyflow.export.source import AlignedSession

PYTHON = os.environ.get("PYFLOW_HANDOVER_PYTHON")

METADATA = {
    "session_description": "A mouse looks at gratings.",
    "frame_rate": 30,
    "device": "microscope",
    "imaging_plane": {
        "description": "layer 2/3",
        "excitation_lambda": 920,
        "indicator": "GCaMP6f",
        "location": "V1",
    },
    "optical_channel": {"name": "green", "description": "GCaMP", "emission_lambda": 510.0},
    "recordings": {
        "day1": {"session_start_time": datetime(2026, 1, 5, 10, tzinfo=UTC)},
        "day2": {"session_start_time": datetime(2026, 1, 6, 10, tzinfo=UTC), "imaging_plane": {"location": "V2"}},
    },
}


@pytest.mark.parametrize("keep_w", [True, False])
def test_a_session_is_valid_nwb_and_holds_the_aligned_movies(finished, tmp_path, keep_w):
    results = finished(keep_w=keep_w)
    paths = to_nwb(results, tmp_path / "nwb", METADATA)
    session = AlignedSession.open(results)
    assert [path.name for path in paths] == ["day1.nwb", "day2.nwb"]
    for path, recording in zip(paths, session.recordings, strict=True):
        assert pynwb.validate(path=path) == []
        with pynwb.NWBHDF5IO(path, "r") as io:
            file = io.read()
            module = file.processing["ophys"]
            stack = module["CorrectedImageStack"]
            expected = np.concatenate(list(session.frames(recording, 1, masked=False)))
            np.testing.assert_array_equal(stack.corrected.data[:].transpose(0, 2, 1), expected)
            assert stack.corrected.data.dtype == expected.dtype
            assert stack.corrected.rate == 30
            assert stack.original.external_file[0] == str(recording.input_file())
            moved = stack.xy_translation.data[:]
            if keep_w:
                np.testing.assert_allclose(moved, np.stack([np.arange(30) % 4, np.full(30, -1)], axis=-1))
            else:
                assert np.isnan(moved).all()
            mask = module["summary_images"]["valid_mask"].data[:].T
            np.testing.assert_array_equal(mask, load_session(results)["final_valid"])
            assert file.session_start_time == METADATA["recordings"][recording.name]["session_start_time"]
            assert file.imaging_planes["ImagingPlane"].location == {"day1": "V1", "day2": "V2"}[recording.name]


def test_frames_that_were_binned_were_recorded_faster(finished, tmp_path):
    results = finished(n_frames=6)
    for status in tmp_path.glob("compensated_outputs/*/status.json"):
        content = json.loads(status.read_text())
        content["markers"]["stage1"]["parts"] = {"options": {"bin_size": 2}}
        status.write_text(json.dumps(content))
    for path in to_nwb(results, tmp_path / "nwb", METADATA):
        with pynwb.NWBHDF5IO(path, "r") as io:
            stack = io.read().processing["ophys"]["CorrectedImageStack"]
            assert (stack.corrected.rate, stack.original.rate) == (30, 60)


def test_a_file_that_is_no_export_stays(finished, tmp_path):
    results = finished()
    (first, second) = to_nwb(results, tmp_path, METADATA)
    with h5py.File(second, "w") as file:  # such as the recording, if it is NWB
        file["processing/behavior/position"] = np.arange(5)
    before = first.read_bytes(), second.read_bytes()
    with pytest.raises(ValueError, match=r"day2\.nwb: is no export of pyflow and would be replaced"):
        to_nwb(results, tmp_path, METADATA)
    assert (first.read_bytes(), second.read_bytes()) == before
    second.unlink()
    assert to_nwb(results, tmp_path, METADATA) == [first, second]


def test_what_is_missing_is_asked_for_all_at_once(finished, tmp_path):
    results = finished()
    with pytest.raises(ValueError) as error:
        to_nwb(
            results,
            tmp_path / "nwb",
            {
                "frame_rate": "fast",
                "session_start_time": datetime(2026, 1, 5),
                "colour": "red",
                "imaging_plane": {"location": "V1"},
                "recordings": {"day3": {}},
            },
        )
    text = str(error.value)
    for part in (
        "recordings.day3: expected one of day1, day2",
        "day1: session_description is missing",
        "day2: frame_rate: expected a number, found 'fast'",
        "session_start_time: expected a time with its zone",
        "imaging_plane.indicator is missing",
        "optical_channel.emission_lambda is missing",
        "colour is unknown",
    ):
        assert part in text
    assert not (tmp_path / "nwb").exists()


@pytest.mark.skipif(
    PYTHON is None, reason="PYFLOW_HANDOVER_PYTHON does not name a Python with suite2p and roiextractors"
)
def test_roiextractors_opens_the_corrected_movie(finished, tmp_path):
    results = finished()
    path = to_nwb(results, tmp_path / "nwb", METADATA)[1]
    script = """
import sys, numpy as np
from roiextractors import NwbImagingExtractor
movie = NwbImagingExtractor(sys.argv[1], optical_series_name="corrected")
assert movie.get_sampling_frequency() == 30
np.save(sys.argv[2], movie.get_series())
"""
    done = subprocess.run(
        [PYTHON, "-c", script, path, tmp_path / "movie.npy"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    session = AlignedSession.open(results)
    expected = np.concatenate(list(session.frames(session.recordings[1], 1, masked=False)))
    np.testing.assert_array_equal(np.load(tmp_path / "movie.npy"), expected)
