import json
import os
import shutil

import h5py
import numpy as np
import pytest
import scipy.io
import tifffile
from scipy.ndimage import gaussian_filter

from pyflow.flow.warp import imregister, valid_mask
from pyflow.session import (
    SessionConfig,
    SessionError,
    align_sequence_video,
    compute_and_save_temporal_average,
    compute_between_displacement,
    load_idx_and_compute_mask,
    run_session,
    run_stage1,
    run_stage1_array,
    run_stage2,
    run_stage3,
    session_status,
)
from pyflow.session.final.masks import count_valid_of_recording
from pyflow.session.keys import field_parts


def write_masks(path, masks, dataset="idx"):
    with h5py.File(path, "w") as file:
        file[dataset] = masks.astype(np.uint8) * 255


def modified(config):
    return {
        path: path.stat().st_mtime_ns
        for folder in (config.output_root, config.final_results)
        for path in folder.rglob("*")
        if path.is_file() and path.name != "session.json"  # whose results, not a result
    }


def test_session_end_to_end(config, shifts, contents):
    mask = run_session(config)
    assert mask.dtype == bool
    results = np.load(config.final_results / "final_valid_idx.npz")
    assert list(results["recordings"]) == ["rec1", "rec2", "rec10"]
    assert (results["middle_idx"], results["middle_name"]) == (1, "rec2")
    for i, (dy, dx) in enumerate(shifts.values()):
        inner = (i, slice(10, -10), slice(10, -10))
        assert results["displacement_fields_u"][inner].mean() == pytest.approx(dx, abs=0.3)
        assert results["displacement_fields_v"][inner].mean() == pytest.approx(dy, abs=0.3)
    assert not results["displacement_fields_u"][1].any()
    np.testing.assert_array_equal(results["final_valid"], mask)
    np.testing.assert_array_equal(np.logical_and.reduce(results["aligned_valid_masks"]), mask)
    np.testing.assert_array_equal(results["valid_share"] >= 1, mask)
    for path in (*results["compensated_h5_paths"], *results["aligned_video_paths"]):
        assert (config.final_results / str(path)).is_file()
        assert not os.path.isabs(str(path))

    arrays = contents(config)
    average = results["reference_average"]
    before = arrays["compensated_outputs/rec10/temporal_average.npy"]
    after = arrays["final_results/aligned_rec10.tif"].mean(axis=0)
    assert arrays["final_results/aligned_rec10.tif"].shape == (6, 48, 56)
    assert np.corrcoef(after[mask], average[mask])[0, 1] > 0.99 > np.corrcoef(before[mask], average[mask])[0, 1]


def test_mat_file_is_laid_out_as_matlab_has_it(config):
    run_session(config)
    npz = np.load(config.final_results / "final_valid_idx.npz")
    mat = scipy.io.loadmat(config.final_results / "final_valid_idx.mat")
    types = {name: kind for name, _, kind in scipy.io.whosmat(config.final_results / "final_valid_idx.mat")}
    assert types["final_valid"] == "logical"
    assert mat["middle_idx"].dtype == np.float64
    assert mat["middle_idx"].item() == 2
    assert mat["middle_name"].item() == "rec2"
    for name in ("aligned_valid_masks", "per_seq_valid_masks", "temporal_averages"):
        assert mat[name].shape == (3, 1)
        np.testing.assert_array_equal(np.stack([mat[name][i, 0] for i in range(3)]), npz[name])
    assert mat["displacement_fields"][2, 0].shape == (48, 56, 2)
    np.testing.assert_array_equal(mat["displacement_fields"][2, 0][..., 1], npz["displacement_fields_v"][2])
    np.testing.assert_array_equal(np.moveaxis(mat["displacement_fields_u"], -1, 0), npz["displacement_fields_u"])
    assert [cell[0].item() for cell in mat["recordings"]] == ["rec1", "rec2", "rec10"]


def test_nothing_is_done_twice(config):
    mask = run_session(config)
    before = modified(config)
    np.testing.assert_array_equal(run_session(config), mask)
    assert modified(config) == before
    recordings, session = session_status(config)
    assert all(recording.stage1.done and recording.stage2.done for recording in recordings)
    assert session.done


def changed_files(config, before):
    return {path.name for path, time in modified(config).items() if before.get(path) != time}


def test_only_what_is_affected_runs_again(config, contents):
    run_session(config)

    before = modified(config)
    other = config.replace(alpha_between=4)
    recordings, _ = session_status(other)
    assert recordings[0].stage1.done
    assert "alpha_between: auto -> 4.0" in recordings[0].stage2.reason
    run_session(other)
    assert "w_to_reference.npz" in changed_files(config, before)
    assert "compensated.hdf5" not in changed_files(config, before)

    before = modified(config)
    other = other.replace(valid_fraction=0.5)
    run_session(other)
    assert "final_valid_idx.npz" in changed_files(config, before)
    assert not {"w_to_reference.npz", "aligned_rec1.tif"} & changed_files(config, before)

    other = other.replace(flow_options={**other.flow_options, "alpha": 4})
    recordings, session = session_status(other)
    assert "options.alpha: auto -> 4" in recordings[0].stage1.reason
    assert session.reason == "waits for stage 1 of all recordings"
    with pytest.raises(ValueError, match=r"rec1: stage 1 has to run first .*alpha"):
        run_stage2(other)


def test_a_replaced_recording_and_what_depends_on_it_run_again(config, write_recordings, contents):
    run_session(config)
    before = modified(config)
    path = config.root / "rec1.tif"
    tifffile.imwrite(path, tifffile.imread(path)[::-1])
    run_session(config)
    changed = {
        path.relative_to(config.root).as_posix() for path in modified(config) if before[path] != path.stat().st_mtime_ns
    }
    assert "compensated_outputs/rec1/compensated.hdf5" in changed
    assert "compensated_outputs/rec1/w_to_reference.npz" in changed
    assert "final_results/aligned_rec1.tif" in changed
    assert not any("rec10/" in name or "rec2/" in name or name.endswith("aligned_rec2.tif") for name in changed)
    resumed = contents(config)
    assert_same(resumed, contents_of_a_clean_run(config, contents))


def contents_of_a_clean_run(config, contents):
    shutil.rmtree(config.output_root)
    shutil.rmtree(config.final_results)
    run_session(config)
    return contents(config)


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_a_new_center_moves_every_field(config, contents):
    run_session(config)
    other = config.replace(center="rec10.tif")
    run_session(other)
    results = np.load(config.final_results / "final_valid_idx.npz")
    assert results["middle_name"] == "rec10"
    assert not results["displacement_fields_u"][2].any()
    assert results["displacement_fields_u"][1].any()
    resumed = contents(other)
    assert_same(resumed, contents_of_a_clean_run(other, contents))


@pytest.mark.parametrize(
    "name",
    [
        "compensated_outputs/rec1/compensated.hdf5",
        "compensated_outputs/rec1/idx.hdf",
        "compensated_outputs/rec1/temporal_average.npy",
        "compensated_outputs/rec1/w_to_reference.npz",
        "compensated_outputs/rec1/status.json",
        "final_results/aligned_rec1.tif",
        "final_results/final_valid_idx.mat",
        "final_results/status.json",
    ],
)
def test_truncated_results_are_made_again(config, contents, name):
    run_session(config)
    whole = contents(config)
    path = config.root / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    run_session(config)
    assert_same(contents(config), whole)
    assert session_status(config)[1].done


def test_resume_false_recomputes_everything(config):
    run_session(config)
    before = modified(config)
    run_session(config.replace(resume=False))
    assert all(before[path] != time for path, time in modified(config).items())


def test_the_folder_can_be_moved(config, tmp_path):
    mask = run_session(config)
    shutil.move(config.root, tmp_path / "moved")
    moved = config.replace(root=tmp_path / "moved", output_root="compensated_outputs", final_results="final_results")
    assert session_status(moved)[1].done
    np.testing.assert_array_equal(run_session(moved), mask)


def test_results_without_inputs(config):
    mask = run_session(config)
    for file in config.root.glob("*.tif"):
        file.unlink()
    with pytest.raises(FileNotFoundError, match="matches pattern"):
        run_session(config)
    changed = config.replace(sigma_smooth=2.0)
    _, _, fields = run_stage2(changed)
    assert len(fields) == 3
    assert run_stage3(changed).shape == mask.shape


def test_different_sizes_stop_before_any_work(config):
    tifffile.imwrite(config.root / "rec3.tif", np.ones((5, 48, 60), np.uint16), photometric="minisblack")
    tifffile.imwrite(config.root / "rec4.tif", np.ones((5, 40, 60), np.uint16), photometric="minisblack")
    with pytest.raises(
        ValueError,
        match=r"\(48, 56, 1\) of .*rec1\.tif, .*rec2\.tif, .*rec10\.tif; "
        r"\(48, 60, 1\) of .*rec3\.tif; \(40, 60, 1\) of .*rec4\.tif$",
    ):
        run_stage1(config)
    assert not config.output_root.exists()
    assert not config.final_results.exists()


def test_a_wrong_center_stops_before_any_work(config):
    with pytest.raises(ValueError, match=r"center 'rec4.tif' is not among the recordings"):
        run_session(config.replace(center="rec4.tif"))
    assert not config.output_root.exists()


def test_a_bad_recording_is_named_and_the_others_go_on(config):
    (config.root / "rec2.tif").write_bytes(b"II*\0 no image")
    with pytest.raises(SessionError, match=r"1 of 3 recordings failed: rec2") as caught:
        run_session(config)
    assert list(caught.value.failures) == ["rec2"]
    assert (config.output_root / "rec1" / "status.json").exists()
    assert (config.output_root / "rec10" / "status.json").exists()
    with pytest.raises(ValueError, match="rec2: stage 1 has to run first"):
        run_stage2(config)


def test_a_frame_of_nan_is_left_out(config):
    path = config.root / "rec1.tif"
    movie = tifffile.imread(path).astype(np.float32)
    for file in ("rec2.tif", "rec10.tif"):
        tifffile.imwrite(config.root / file, tifffile.imread(config.root / file).astype(np.float32))
    movie[4] = np.nan
    tifffile.imwrite(path, movie)
    mask = run_session(config)
    assert mask.mean() > 0.4
    assert np.isfinite(np.load(config.output_root / "rec1" / "temporal_average.npy")).all()
    marker = json.loads((config.output_root / "rec1" / "status.json").read_text())["markers"]["stage1"]
    assert list(marker["problems"]) == ["4"]


def test_an_empty_marker_is_not_taken_for_results_made_elsewhere(config):
    run_stage1(config)
    (config.output_root / "rec1" / "status.json").write_text("")
    assert session_status(config)[0][0].stage1.reason == "status.json cannot be read"


def test_stage_3_refuses_other_fields(config):
    run_stage1(config)
    middle_idx, center, fields = run_stage2(config)
    assert center == config.root / "rec2.tif"
    with pytest.raises(ValueError, match="middle_idx 0"):
        run_stage3(config, 0, fields)
    with pytest.raises(ValueError, match="rec1: displacement_fields is not what stage 2 saved"):
        run_stage3(config, middle_idx, [fields[0] + 1, *fields[1:]])
    assert run_stage3(config, middle_idx, fields).any()


def test_hdf5_videos_and_none(config):
    run_session(config.replace(align_output_format="HDF5"))
    with h5py.File(config.final_results / "aligned_rec1.hdf5") as file:
        assert file["ch1"].shape == (6, 48, 56)
    other = config.replace(align_output_format="none", final_results="others")
    run_session(other)
    assert not list(other.final_results.glob("aligned_*"))


@pytest.mark.parametrize("dataset", ["idx", "ch1", "idx/value"])
def test_masks_are_reduced_over_time(tmp_path, dataset, monkeypatch):
    monkeypatch.setattr("pyflow.session.final.masks.MASK_BYTES", 3 * 7 * 9)  # of each frame a byte per pixel
    masks = np.random.default_rng(0).random((25, 7, 9)) > np.linspace(0, 0.9, 63).reshape(7, 9)
    write_masks(tmp_path / "idx.hdf", masks, dataset)
    np.testing.assert_array_equal(load_idx_and_compute_mask(tmp_path / "idx.hdf"), masks.all(axis=0))
    counts = masks.sum(axis=0)
    assert 0.56 * 25 > 14 in counts, "the limit itself is tried, and the fraction is not held exactly"
    np.testing.assert_array_equal(load_idx_and_compute_mask(tmp_path / "idx.hdf", 0.56), counts >= 14)


def test_frames_without_valid_pixels_do_not_empty_the_mask(tmp_path):
    masks = np.ones((4, 5, 6), bool)
    masks[2] = False
    masks[0, 0] = False
    write_masks(tmp_path / "idx.hdf", masks)
    np.testing.assert_array_equal(load_idx_and_compute_mask(tmp_path / "idx.hdf"), masks[0])
    write_masks(tmp_path / "none.hdf", masks[2:3])
    with pytest.raises(ValueError, match="no frame has a valid pixel"):
        load_idx_and_compute_mask(tmp_path / "none.hdf")
    (tmp_path / "bad.hdf").write_bytes(b"no")
    with pytest.raises(ValueError, match=r"bad\.hdf: not a readable HDF5 file"):
        load_idx_and_compute_mask(tmp_path / "bad.hdf")


def test_average_over_the_frames_that_count(tmp_path):
    video = np.arange(4 * 5 * 6, dtype=np.uint16).reshape(4, 5, 6)
    with h5py.File(tmp_path / "compensated.hdf5", "w") as file:
        file["ch1"] = video
    masks = np.ones((4, 5, 6), bool)
    masks[3] = False
    write_masks(tmp_path / "idx.hdf", masks)
    average = compute_and_save_temporal_average(tmp_path / "compensated.hdf5", tmp_path)
    np.testing.assert_array_equal(average, video[:3].mean(axis=0))
    np.testing.assert_array_equal(np.load(tmp_path / "temporal_average.npy"), average)


def test_aligned_video_is_each_frame_warped(tmp_path):
    rng = np.random.default_rng(0)
    video = rng.integers(0, 1000, (9, 20, 24), dtype=np.uint16)
    with h5py.File(tmp_path / "v.hdf5", "w") as file:
        file["ch1"] = video
    w = rng.uniform(-2, 2, (20, 24, 2)).astype(np.float32)
    average = rng.uniform(0, 1000, (20, 24))
    align_sequence_video(tmp_path / "v.hdf5", tmp_path / "a.tif", w, average, chunk_size=4, n_threads=2)
    fill = np.rint(average).astype(np.uint16)
    expected = np.stack([imregister(frame, w, fill=fill) for frame in video])
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), expected)
    with pytest.raises(ValueError, match=r"frames of shape \(20, 24, 1\), but displacement \(20, 25, 2\)"):
        align_sequence_video(tmp_path / "v.hdf5", tmp_path / "b.tif", np.zeros((20, 25, 2)), average)
    assert not (tmp_path / "b.tif").exists()


def test_aligned_masks_are_valid_where_the_recording_saw_the_scene(config, shifts):
    """Against the known shifts; frames tremble by a pixel, and alignment is off by a fraction of one."""
    run_session(config)
    data = np.load(config.final_results / "final_valid_idx.npz")
    height, width = data["final_valid"].shape
    y, x = np.mgrid[:height, :width]
    for name, mask in zip(data["recordings"], data["aligned_valid_masks"], strict=True):
        rows, cols = shifts[name]
        beyond = np.max([-(y + rows), y + rows - (height - 1), -(x + cols), x + cols - (width - 1)], axis=0)
        assert not mask[beyond > 0.75].any()
        assert mask[beyond < -4].all()
        assert not data["valid_share"][beyond > 0.75].any()


def test_between_displacement_bad_input(config):
    image = np.random.default_rng(0).random((48, 56))
    with pytest.raises(ValueError, match=r"\(48, 55\) does not match the centre's \(48, 56\)"):
        compute_between_displacement(image, image[:, :-1], config)
    broken = image.copy()
    broken[3, 4] = np.nan
    with pytest.raises(ValueError, match="1 values that are not finite"):
        compute_between_displacement(image, broken, config)
    assert not compute_between_displacement(image, image, config).any()
    assert not compute_between_displacement(np.ones((48, 56)), image, config).any()


def test_between_displacement_ignores_brightness_and_contrast(config):
    rng = np.random.default_rng(1)
    image = rng.random((60, 70))
    a, b = image[5:53, 6:62], image[3:51, 7:63]
    w = compute_between_displacement(a, b, config)
    np.testing.assert_allclose(compute_between_displacement(a, 7 * b + 300, config), w, atol=0.05)
    np.testing.assert_allclose(w[15:-15, 15:-15].mean(axis=(0, 1)), [-1, 2], atol=0.2)


@pytest.mark.parametrize(("changes", "ratio"), [({}, 1), ({"alpha_between": 25.0}, 0.5)])
def test_what_is_constant_between_recordings(config, changes, ratio):
    """Census survives that one half became brighter, which matters where light is not taken out before."""
    image = np.random.default_rng(1).random((60, 70))
    image = gaussian_filter(image, 1.5)
    a, b = image[5:53, 6:62], image[3:51, 7:63] * np.where(np.arange(56) < 28, 1, 3)
    config = config.replace(**changes)
    error = {}
    for constant in ("gray", "census"):
        w = compute_between_displacement(a, b, config.replace(stage2_constancy_assumption=constant))
        error[constant] = np.abs(w - [-1, 2])[12:-12, 12:-12].mean()
    assert error["census"] < ratio * error["gray"]
    keys = [
        field_parts(config.replace(stage2_constancy_assumption=constant), "", "", "", {})["options"]
        for constant in ("gc", "gradient", "gray")
    ]
    assert keys[0] == keys[1] != keys[2]
    assert "stage2_constancy_assumption" not in keys[0]


def test_stage_1_takes_other_flow_options(config):
    more = {"save_w": True, "save_valid_mask": True, "n_references": 2}
    run_stage1(config, of_options_override=more)
    folder = config.output_root / "rec1"
    assert (folder / "w.hdf").exists()
    shapes = {"valid_mask.npy": (48, 56), "reference_frames.npy": (1, 48, 56)}
    for name, shape in shapes.items():
        assert np.load(folder / name).shape == shape
        (folder / name).unlink()
        run_stage1(config, of_options_override=more)
        assert (folder / name).exists()
    run_stage1(config, of_options_override={"save_w": True})
    assert not [name for name in shapes if (folder / name).exists()]
    assert run_stage2(config.with_flow_options({"save_w": True}))[0] == 1
    run_stage1_array(config, 0, of_options_override={"alpha": 7})
    options = json.loads((config.output_root / "rec1/status.json").read_text())["markers"]["stage1"]["parts"]["options"]
    assert options["alpha"] in (7, [7, 7])
    with pytest.raises(ValueError, match="did you mean 'alpha'"):
        run_stage1(config, of_options_override={"alhpa": 7})


def test_scheduler_array_is_honoured(config, monkeypatch):
    monkeypatch.setenv("SGE_TASK_ID", "3")
    assert run_session(config.replace(scheduler="array")) is None
    assert [folder.name for folder in config.output_root.iterdir()] == ["rec10"]


@pytest.mark.parametrize("change", ["as found", "without idx", "with neither idx nor w"])
def test_a_matlab_folder_is_accepted(tmp_path, shared, change, caplog):
    source = shared / "reference" / "toolbox" / "stage1_matlab_like" / "rec1"
    for name in ("rec1", "rec2"):
        folder = tmp_path / "compensated_outputs" / name
        shutil.copytree(source, folder, copy_function=shutil.copyfile)
        if change != "as found":
            (folder / "idx.hdf").unlink()
        if change == "with neither idx nor w":
            (folder / "w.hdf").unlink()
    config = SessionConfig(root=tmp_path, sigma_smooth=1, align_output_format="none")
    middle_idx, center, fields = run_stage2(config)
    assert (middle_idx, center.name) == (0, "rec1")
    assert not np.any(fields)
    mask = run_stage3(config)
    assert mask.shape == (6, 8)
    with h5py.File(source / "compensated.HDF5") as file:
        expected = np.stack([file["ch1"][:].mean(axis=0), file["ch2"][:].mean(axis=0)], axis=-1)
    average = np.load(tmp_path / "compensated_outputs" / "rec1" / "temporal_average.npy")
    if change == "with neither idx nor w":
        assert mask.all()
        assert "taking every pixel for valid" in caplog.text
        np.testing.assert_allclose(average, expected)
    before = modified(config)
    run_stage2(config)
    run_stage3(config)
    assert modified(config) == before


class Killed(BaseException):
    """Ends a run as a signal does: no handler of the session's catches it."""


@pytest.mark.parametrize("when", ["before", "after"])
def test_stopped_at_any_file_and_run_again_equals_one_run(config, contents, monkeypatch, when):
    clean = config.replace(output_root="clean", final_results="clean_results")
    real, count = os.replace, 0

    def counting(source, target):
        nonlocal count
        count += 1
        if count == stop_at and when == "before":
            raise Killed
        real(source, target)
        if count == stop_at and when == "after":
            raise Killed

    monkeypatch.setattr(os, "replace", counting)
    stop_at = 0
    run_session(clean)
    expected = {name.split("/", 1)[1]: array for name, array in contents(clean).items() if "paths" not in name}
    for place in np.linspace(1, count, 7).astype(int):
        count, stop_at = 0, place
        shutil.rmtree(config.output_root, ignore_errors=True)
        shutil.rmtree(config.final_results, ignore_errors=True)
        with pytest.raises(Killed):
            run_session(config)
        run_session(config)
        found = {name.split("/", 1)[1]: array for name, array in contents(config).items() if "paths" not in name}
        assert_same(found, expected)


def test_masks_and_fields_count_frames_alike(tmp_path):
    """A frame moved out of sight says nothing about single pixels, whichever file tells of it."""
    u = np.zeros((3, 6, 8), np.float32)
    u[0, :, 0], u[1] = -1, 100
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file["u"], file["v"] = u, np.zeros_like(u)
    from_fields = count_valid_of_recording(tmp_path, (6, 8))
    write_masks(tmp_path / "idx.hdf", np.stack([valid_mask(w) for w in np.stack([u, np.zeros_like(u)], axis=-1)]))
    from_masks = count_valid_of_recording(tmp_path, (6, 8))
    assert from_fields[1] == from_masks[1] == 2
    np.testing.assert_array_equal(from_fields[0], from_masks[0])
