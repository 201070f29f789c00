"""Names that lead out of a folder: nothing there is removed or written."""

import json
from pathlib import Path

import numpy as np
import pytest

from pyflow.export import load_session
from pyflow.io import get_video_file_writer
from pyflow.io.atomic import temporary_beside
from pyflow.session import artifacts, run_session
from pyflow.session.stage import Stage, execute


@pytest.fixture
def outside(tmp_path):
    """A file of somebody else's beside the folder ``folder``, which has a link to the folder above."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "up").symlink_to(tmp_path, target_is_directory=True)
    path = tmp_path / "precious"
    path.write_bytes(b"precious")
    return path


@pytest.mark.parametrize("remove", ["retire", "mark_done", "unmark"])
def test_nothing_outside_the_folder_is_removed(outside, remove):
    folder = outside.parent / "folder"
    (folder / "old.npy").write_bytes(b"")
    names = [
        "../precious",
        str(outside),
        "up/precious",
        "a/../../precious",
        "old.npy",
        3,
        None,
        ["x"],
        "a\0b",
        "",
        "..",
    ]
    (folder / "status.json").write_text(json.dumps({"stage1": "done", "written": {"stage1": names}}))
    if remove == "retire":
        artifacts.retire(folder, keep=lambda name: False)
    else:
        if remove == "unmark":
            artifacts.unmark(folder, "stage1", [])
        artifacts.mark_done(folder, "stage1", {}, [], 1.0)
    assert outside.read_bytes() == b"precious"
    assert not (folder / "old.npy").exists()


@pytest.mark.parametrize("names", [3, None, "old.npy", {"old.npy": 1}])
def test_a_list_of_written_files_that_is_none_says_nothing(tmp_path, names):
    (tmp_path / "status.json").write_text(json.dumps({"stage1": "done", "written": {"stage1": names}}))
    assert artifacts.files_written(tmp_path, "stage1") == []


@pytest.mark.parametrize("output_format", ["TIFF", "HDF5"])
@pytest.mark.parametrize("link", ["symlink_to", "hardlink_to"])
def test_a_video_is_not_written_through_a_link(outside, output_format, link):
    target = outside.parent / "folder" / "video"
    getattr(target.with_name(".partial-video"), link)(outside)
    with get_video_file_writer(target, output_format) as writer:
        writer.write_frames(np.zeros((2, 16, 16, 1), np.uint16))
    assert outside.read_bytes() == b"precious"
    assert not target.is_symlink()


def test_an_interrupted_video_is_not_gone_on_with_through_a_link(outside):
    folder = outside.parent / "folder"
    frames = np.ones((3, 16, 16, 1), np.uint16)
    with pytest.raises(KeyboardInterrupt), get_video_file_writer(folder / "video", "HDF5", resume_at=0) as writer:
        writer.write_frames(frames)
        raise KeyboardInterrupt
    (folder / ".partial-video").replace(outside)
    before = outside.read_bytes()
    (folder / ".partial-video").symlink_to(outside)
    with pytest.raises(OSError, match=r"could not write .*video"):
        get_video_file_writer(folder / "video", "HDF5", resume_at=2)
    assert outside.read_bytes() == before


@pytest.mark.parametrize("create", [artifacts.save_json, artifacts.create_json, artifacts.save_npy])
@pytest.mark.parametrize("link", ["symlink_to", "hardlink_to"])
def test_small_files_are_not_written_through_a_link(outside, create, link):
    path = outside.parent / "folder" / "small"
    getattr(temporary_beside(path), link)(outside)
    create(path, [1])
    assert outside.read_bytes() == b"precious"
    assert path.is_file()
    assert not path.is_symlink()


def test_a_stage_whose_folder_was_taken_over_is_not_marked(tmp_path):
    def run():
        (tmp_path / "x.npy").write_bytes(b"x")
        (tmp_path / ".claim").write_text(json.dumps({"host": "elsewhere", "pid": 1, "token": "another"}))
        return {}

    stage = Stage("stage1", "stage 1", tmp_path, "rec1", dict, run, (tmp_path / "x.npy",))
    with pytest.raises(RuntimeError, match="taken over by process 1 on elsewhere"):
        execute(stage)
    assert artifacts.read_marker(tmp_path, "stage1") is None


def test_a_file_is_hashed_once_for_a_step(tmp_path):
    """What is compared with the marker is what the marker will say: an input may change in between."""
    asked = []

    def parts():
        asked.append(len(asked))
        return {"input": len(asked)}

    def run():
        (tmp_path / "x.npy").write_bytes(b"x")
        return {}

    stage = Stage("stage1", "stage 1", tmp_path, "rec1", parts, run, (tmp_path / "x.npy",))
    execute(stage)
    assert asked == [0]
    assert artifacts.read_marker(tmp_path, "stage1")["parts"] == {"input": 1}


def test_results_below_a_link_know_their_recording(config, tmp_path):
    """The way from a folder to a recording is that from where the folder really is."""
    (tmp_path / "far" / "away" / "outputs").mkdir(parents=True)
    (tmp_path / "far" / "away" / "results").mkdir()
    config.output_root.symlink_to(tmp_path / "far" / "away" / "outputs")
    config.final_results.symlink_to(tmp_path / "far" / "away" / "results")
    run_session(config)
    marker = artifacts.read_marker(config.output_root / "rec1", "stage1")
    made_from = (config.output_root / "rec1").resolve() / marker["input_file"]
    assert made_from.samefile(config.root / "rec1.tif")
    with pytest.raises(ValueError, match="is of the session with pattern"):
        run_session(config.replace(pattern="rec1*.tif"))
    with np.load(config.final_results / "final_valid_idx.npz") as data:
        for path in data["compensated_h5_paths"]:
            assert (config.final_results.resolve() / str(path)).is_file()


def test_paths_in_the_final_results_are_absolute_where_that_is_asked_for(config, tmp_path, monkeypatch):
    """Other programs open them as they stand, whatever folder they were started in."""
    run_session(config)
    video = config.final_results / "aligned_rec1.tif"
    before = video.stat().st_mtime_ns
    run_session(config.replace(absolute_paths=True))
    monkeypatch.chdir(tmp_path)
    with np.load(config.final_results / "final_valid_idx.npz") as data:
        paths = [Path(str(path)) for name in ("compensated_h5_paths", "aligned_video_paths") for path in data[name]]
    assert len(paths) == 6
    for path in paths:
        assert path.is_absolute()
        assert path.is_file()
    assert paths[3].samefile(video)
    assert load_session(config.final_results)["aligned_video_paths"][0].samefile(video)
    assert video.stat().st_mtime_ns == before
