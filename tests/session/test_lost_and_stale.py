"""Results that were left by other inputs, other options, other programs or killed processes."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile

from pyflow.session import SessionConfig, SessionError, run_session, run_stage1, run_stage2, session_status
from pyflow.session.artifacts import known_stages


def status_of(config: SessionConfig, name: str) -> Path:
    return config.output_root / name / "status.json"


def as_by_the_toolbox(folder: Path) -> None:
    """Make a folder look as if another program had made what is in it."""
    for path in [*folder.glob("*.hdf*"), *folder.glob("*.h5")]:
        with h5py.File(path, "r+") as file:
            for name in list(file.attrs):
                del file.attrs[name]
    (folder / "status.json").write_text('{"stage1": "done"}')


@pytest.mark.parametrize("text", [None, '{"stage1": "done"}'])
def test_ours_without_a_marker_is_unfinished(config, contents, text):
    run_session(config)
    for name in ("rec1", "rec2", "rec10"):
        status_of(config, name).unlink()
        if text is not None:
            status_of(config, name).write_text(text)
    other = config.replace(flow_options={**config.flow_options, "alpha": 9}, output_root="o2", final_results="f2")
    run_session(config.replace(flow_options=other.flow_options))
    run_session(other)
    found, clean = (
        np.load(config.final_results / "final_valid_idx.npz"),
        np.load(other.final_results / "final_valid_idx.npz"),
    )
    for key in ("temporal_averages", "displacement_fields_u", "valid_share"):
        np.testing.assert_array_equal(found[key], clean[key])


def test_the_toolboxs_results_are_kept_and_shown(config, caplog):
    run_stage1(config)
    as_by_the_toolbox(config.output_root / "rec1")
    video = config.output_root / "rec1" / "compensated.hdf5"
    before = video.stat().st_mtime_ns
    run_session(config.replace(flow_options={"alpha": 9}))
    assert "made elsewhere" in caplog.text
    assert video.stat().st_mtime_ns == before
    state = session_status(config)[0][0].stage1
    assert state.done
    assert "made elsewhere" in state.reason
    assert "compensated.hdf5" in state.reason


def test_results_of_an_earlier_version_are_computed_anew(config):
    """Its markers hold no hash of all content, and its files do not say whose they are."""
    run_stage1(config)
    folder = config.output_root / "rec1"
    status = json.loads((folder / "status.json").read_text())
    as_by_the_toolbox(folder)
    for output in status["markers"]["stage1"]["outputs"].values():
        del output["content"]
    (folder / "status.json").write_text(json.dumps(status))
    before = (folder / "compensated.hdf5").stat().st_mtime_ns
    assert not session_status(config)[0][0].stage1.done
    run_stage1(config)
    assert (folder / "compensated.hdf5").stat().st_mtime_ns != before


def test_a_change_of_the_toolboxs_results_is_noticed(config):
    run_stage1(config)
    as_by_the_toolbox(config.output_root / "rec1")
    run_session(config)
    assert session_status(config)[1].done
    with h5py.File(config.output_root / "rec1" / "compensated.hdf5", "r+") as file:
        file["ch1"][0] = 3
    assert not session_status(config)[1].done
    run_session(config)
    assert session_status(config)[1].done


@pytest.mark.parametrize("change", [lambda masks: masks.transpose(0, 2, 1), lambda masks: masks[:-1]])
def test_masks_of_another_size_made_elsewhere_fail_their_recording_at_once(config, change):
    run_stage1(config)
    folder = config.output_root / "rec1"
    as_by_the_toolbox(folder)
    (folder / "temporal_average.npy").unlink()
    with h5py.File(folder / "idx.hdf", "r+") as file:
        masks = change(file["idx"][:])
        del file["idx"]
        file["idx"] = masks
    with pytest.raises(SessionError, match=r"idx.hdf: masks of shape .*, but .* has \(6, 48, 56\)") as failed:
        run_stage1(config)
    assert list(failed.value.failures) == ["rec1"]


def test_the_toolboxs_results_of_another_input_are_refused(config):
    run_stage1(config)
    as_by_the_toolbox(config.output_root / "rec1")
    run_session(config)
    path = config.root / "rec1.tif"
    tifffile.imwrite(path, tifffile.imread(path)[::-1])
    with pytest.raises(SessionError, match=r"1 of 3 .*rec1\.tif is not the file that was there"):
        run_stage1(config)
    with pytest.raises(ValueError, match=r"rec1\.tif is not the file that was there"):
        run_stage2(config)


@pytest.mark.parametrize("output_format", ["HDF5", "none"])
def test_aligned_videos_of_another_format_are_removed(config, caplog, output_format):
    caplog.set_level("INFO", "pyflow")
    run_session(config)
    stranger = config.final_results / "aligned_by_hand.tif"
    stranger.write_bytes(b"mine")
    run_session(config.replace(center="rec1.tif", align_output_format=output_format))
    found = {path.name for path in config.final_results.glob("aligned_*")}
    names = [f"aligned_{name}.hdf5" for name in ("rec1", "rec2", "rec10")] if output_format == "HDF5" else []
    assert found == {stranger.name, *names}
    assert "removing aligned_rec10.tif" in caplog.text


def test_results_of_a_removed_recording_are_removed(config, caplog):
    caplog.set_level("INFO", "pyflow")
    run_session(config)
    (config.root / "rec10.tif").unlink()
    run_session(config)
    assert not list(config.final_results.glob("*rec10*"))
    assert "removing rec10_valid_idx.png" in caplog.text
    assert known_stages(config.final_results) == {"stage3", "aligned_rec1", "aligned_rec2"}


def test_remains_of_killed_processes_are_swept(config):
    run_session(config)
    for folder in (config.output_root / "rec1", config.final_results):
        (folder / ".temporary-here-1-status.json").write_text("half")
    (config.final_results / ".partial-aligned_rec7.tif").write_text("half")
    run_session(config.replace(sigma_smooth=2.0))
    assert not list(config.root.rglob(".*"))


@pytest.mark.parametrize("damage", ["removed", "truncated"])
@pytest.mark.parametrize("run", [run_session, run_stage1, run_stage2])
def test_an_average_that_we_added_is_made_again(config, damage, run):
    run_stage1(config)
    folder = config.output_root / "rec1"
    (folder / "temporal_average.npy").unlink()
    as_by_the_toolbox(folder)
    run_session(config)
    average = folder / "temporal_average.npy"
    before = average.read_bytes()
    average.unlink() if damage == "removed" else average.write_bytes(before[:-8])
    assert not session_status(config)[0][0].stage1.done
    run(config)
    assert average.read_bytes() == before


def test_videos_of_unknown_runs_are_moved_away(config, caplog):
    """Without the status nothing tells a video of a recording that is gone, or of another centre, from one of today."""
    run_session(config)
    for status in config.final_results.glob("status*.json"):
        status.unlink()
    (config.final_results / "aligned_of_mine.png").write_bytes(b"mine")
    gone = (config.final_results / "aligned_rec10.tif").read_bytes()
    (config.root / "rec10.tif").unlink()
    run_session(config)
    assert sorted(path.name for path in config.final_results.glob("aligned_*")) == [
        *("aligned_of_mine.png", "aligned_rec1.tif", "aligned_rec2.tif")
    ]
    assert (config.final_results / "earlier" / "aligned_rec10.tif").read_bytes() == gone
    assert "aligned_rec10.tif: moved into earlier" in caplog.text


def test_videos_that_their_own_status_tells_of_are_not_moved(config):
    run_session(config)
    (config.final_results / "status.json").unlink()
    (config.root / "rec10.tif").unlink()
    run_session(config)
    assert sorted(path.name for path in config.final_results.glob("aligned_*")) == [
        "aligned_rec1.tif",
        "aligned_rec2.tif",
    ]
    assert not (config.final_results / "earlier").exists()


class Stopped(BaseException):
    """As if the process were killed: nothing catches it."""


def stop(*arguments, **named):
    raise Stopped


@pytest.mark.parametrize("average", [True, False])
def test_results_made_elsewhere_outlive_an_interrupted_look_at_them(config, monkeypatch, average):
    """Hashing large videos takes minutes; who is interrupted there must not take them for unfinished afterwards."""
    run_stage1(config)
    folder = config.output_root / "rec1"
    as_by_the_toolbox(folder)
    (folder / "status.json").unlink()
    if not average:
        (folder / "temporal_average.npy").unlink()
    before = (folder / "compensated.hdf5").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("pyflow.session.stage.mark_done", stop)
        with pytest.raises(Stopped):
            run_stage1(config)
    run_stage1(config.replace(flow_options={**config.flow_options, "alpha": 9}))
    assert (folder / "compensated.hdf5").read_bytes() == before


@pytest.mark.parametrize("of", ["another program", "an earlier version"])
def test_unfinished_results_are_not_adopted_after_an_interruption(config, monkeypatch, contents, of):
    """pyflowreg says of its own that they are not finished; an older version's are known by their marker alone."""
    run_stage1(config)
    expected = contents(config)
    folder = config.output_root / "rec1"
    status = json.loads((folder / "status.json").read_text())
    as_by_the_toolbox(folder)
    with h5py.File(folder / "compensated.hdf5", "r+") as file:
        file["ch1"][3:] = 0
    if of == "another program":
        status = {"stage1": "incomplete"}
    else:
        del status["markers"]["stage1"]["outputs"]["compensated.hdf5"]["content"]
    (folder / "status.json").write_text(json.dumps(status))
    with monkeypatch.context() as patch:
        patch.setattr("pyflow.session.stage1_compensate.compensate_recording", stop)
        with pytest.raises(Stopped):
            run_stage1(config)
    run_stage1(config)
    found = contents(config)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def test_results_made_elsewhere_after_an_interrupted_run_are_kept(config, monkeypatch):
    """What the interrupted run was about to write has the names of what somebody else put there since."""
    run_stage1(config)
    names = ("compensated.hdf5", "idx.hdf", "statistics.mat")
    folder = config.output_root / "rec1"
    with monkeypatch.context() as patch:
        patch.setattr("pyflow.session.stage1_compensate.compensate_recording", stop)
        with pytest.raises(Stopped):
            run_stage1(config.replace(resume=False))
    status = (folder / "status.json").read_text()
    as_by_the_toolbox(folder)
    (folder / "status.json").write_text(status)
    before = {name: (folder / name).read_bytes() for name in names}
    run_session(config)
    assert {name: (folder / name).read_bytes() for name in names} == before
    assert "made elsewhere" in session_status(config)[0][0].stage1.reason
