"""Stage 3 takes the same memory for long recordings and short ones, for many and few."""

import logging
import pickle
import tracemalloc

import h5py
import numpy as np
import pytest
import scipy.io

from pyflow.align.trust import ALIGNED
from pyflow.layout import AVERAGE_FILE, FIELD_FILE, MASK_FILE, SIGNATURE, VIDEO_FILE, content_hash
from pyflow.session import SessionConfig, align_sequence_video, run_stage2, run_stage3
from pyflow.session.artifacts import mark_done, save_npz
from pyflow.session.final.memory import frames_at_once, resident_bytes
from pyflow.session.keys import stage1_parts
from pyflow.session.recordings import find_recordings
from pyflow.session.results import open_session


def session_after_stage2(root, n_recordings, n_frames, shape, **options):
    """Make up what stages 1 and 2 leave."""
    root.mkdir()
    for number in range(n_recordings):
        (root / f"rec{number}.tif").touch()
    options = {"align_output_format": "none", "n_workers": 1, **options}
    config = SessionConfig(root=root, **options)
    rng = np.random.default_rng(0)
    for recording in find_recordings(config):
        folder = recording.folder
        folder.mkdir(parents=True)
        for file, name in ((VIDEO_FILE, "ch1"), (MASK_FILE, "idx")):
            with h5py.File(folder / file, "w") as content:
                content.attrs.update(SIGNATURE)
                frames = content.create_dataset(name, (n_frames, *shape), np.uint8, fillvalue=255, chunks=(1, *shape))
                frames[0] = 255
        np.save(folder / AVERAGE_FILE, rng.random(shape))
        files = [folder / name for name in (VIDEO_FILE, MASK_FILE, AVERAGE_FILE)]
        mark_done(folder, "stage1", stage1_parts(config, recording), files, 0.0, input_file="")
    session = open_session(config)
    for result in session.results:
        path = result.recording.folder / FIELD_FILE
        save_npz(path, u=rng.normal(size=shape).astype(np.float32), v=np.zeros(shape, np.float32))
        facts = {"verdict": ALIGNED, "why": ""}
        mark_done(path.parent, "stage2", session.field_parts(result), [path], 0.0, alignment=facts)
    return config


def peak_of(config):
    tracemalloc.start()
    run_stage3(config)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_memory_does_not_grow_with_the_frames(tmp_path):
    """Masks beyond those that are held at a time, 2 MiB twice or thrice, add nothing."""
    short, long = (peak_of(session_after_stage2(tmp_path / str(n), 1, n, (64, 64))) for n in (3000, 6000))
    assert long < 1.1 * short


def test_memory_does_not_grow_with_the_recordings(tmp_path):
    few, many = (peak_of(session_after_stage2(tmp_path / str(n), n, 2, (128, 128))) for n in (4, 24))
    assert many < few + 20 * 128 * 128 * 2  # two bytes for each pixel of the others, of 67 once


def test_stage_2_returns_fields_that_are_on_disk(tmp_path):
    config = session_after_stage2(tmp_path / "data", 3, 2, (64, 64))
    _, _, fields = run_stage2(config)
    assert (len(fields), fields[-1].shape) == (3, (64, 64, 2))
    assert len(pickle.dumps(fields)) < fields[0].nbytes
    run_stage3(config, 1, fields)


def test_a_limit_is_kept_or_refused(tmp_path):
    config = session_after_stage2(tmp_path / "data", 1, 12000, (64, 64))
    free = peak_of(config)
    limit = config.replace(resume=False, memory_limit_gb=_resident_gb() + 0.004)
    assert peak_of(limit) < 0.004 * 2**30 < free
    with pytest.raises(ValueError, match=r"memory_limit_gb: expected at least 0\.\d+ for averages of shape \(64, 64\)"):
        run_stage3(config.replace(resume=False, memory_limit_gb=0.01))


def test_a_limit_holds_for_videos_too(tmp_path):
    video, shape = tmp_path / VIDEO_FILE, (64, 64)
    with h5py.File(video, "w") as file:
        file["ch1"] = np.random.default_rng(0).integers(0, 1000, (2000, *shape), np.uint16)
    free = SessionConfig(root=tmp_path, align_chunk_size=2000, n_workers=1)
    assert frames_at_once(free, shape, video) == 2000
    limited = free.replace(memory_limit_gb=_resident_gb() + 0.008)
    average, field = np.ones(shape), np.zeros((*shape, 2), np.float32)
    tracemalloc.start()
    chunk_size = frames_at_once(limited, shape, video)
    align_sequence_video(video, tmp_path / "a.hdf5", field, average, chunk_size=chunk_size, output_format="HDF5")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.008 * 2**30
    assert chunk_size > 200, "less than half of what may be had is used"


def _resident_gb():
    return resident_bytes() / 2**30


def test_files_are_hashed_in_little_memory(tmp_path):
    (tmp_path / "small").write_bytes(bytes(100))
    tracemalloc.start()
    content_hash(tmp_path / "small")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 << 20


def test_what_does_not_fit_a_mat_file_is_said(tmp_path, monkeypatch, caplog):
    config = session_after_stage2(tmp_path / "data", 3, 2, (16, 16))
    monkeypatch.setattr("pyflow.session.final.stacks.MAT_VARIABLE_BYTES", 3 * 16 * 16 * 4 + 200)
    with caplog.at_level(logging.WARNING):
        run_stage3(config)
    assert "final_valid_idx.mat: temporal_averages, displacement_fields would be larger than the 2 GiB" in caplog.text
    names = {name for name, _, _ in scipy.io.whosmat(config.final_results / "final_valid_idx.mat")}
    assert {"displacement_fields_u", "aligned_valid_masks", "final_valid"} <= names
    assert not {"temporal_averages", "displacement_fields"} & names
    with np.load(config.final_results / "final_valid_idx.npz") as data:
        assert data["temporal_averages"].shape == (3, 16, 16)
