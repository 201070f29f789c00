"""From file to file: what is written, and that interruptions and threads change nothing."""

import shutil
import subprocess
import sys
import textwrap
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import scipy.io
import tifffile

from pyflow.io import get_video_file_writer, open_video
from pyflow.motion import frames, outputs
from pyflow.motion.beginning import first_state
from pyflow.motion.compensate import compensate_arr, compensate_recording
from pyflow.motion.options import OFOptions


@pytest.fixture
def movie(scene, shifts):
    return scene.movie(shifts)


@pytest.fixture
def options(tmp_path, movie):
    path = tmp_path / "recording.tif"
    tifffile.imwrite(path, movie[..., 0])
    return OFOptions(input_file=path, output_path=tmp_path / "out", alpha=10, buffer_size=4, save_w=True, n_workers=2)


def contents(folder):
    """All arrays in all files of a folder."""
    found = {}
    for path in folder.iterdir():
        if path.suffix in (".hdf5", ".hdf", ".h5"):
            with h5py.File(path) as file:
                found |= {f"{path.name}/{name}": data[:] for name, data in file.items()}
        elif path.suffix == ".npy":
            found[path.name] = np.load(path)
        elif path.suffix == ".npz":
            with np.load(path) as file:
                found |= {f"{path.name}/{name}": file[name] for name in file.files}
        elif path.suffix == ".mat":
            mat = scipy.io.loadmat(path)
            found |= {f"{path.name}/{name}": mat[name] for name in mat if not name.startswith("_")}
        else:
            found[path.name] = path.read_bytes()
    return found


def assert_same_contents(folder, expected):
    result = contents(folder)
    assert result.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(result[name], value, err_msg=name)


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("compensated.tif", {"output_format": "TIFF"}),
        ("compensated_ch1.tif", {"output_format": "MULTIFILE_TIFF"}),
        ("day1.tif", {"output_format": "TIFF", "output_file_name": "day1.tif"}),
        ("idx.hdf", {}),
        ("temporal_average.npy", {}),
    ],
)
def test_a_recording_is_not_replaced_by_its_results(tmp_path, movie, name, more):
    path = tmp_path / name
    if path.suffix == ".hdf":
        with h5py.File(path, "w") as file:
            file["data"] = movie[..., 0]
    elif path.suffix == ".npy":
        np.save(path, movie[..., 0])
    else:
        tifffile.imwrite(path, movie[..., 0])
    before = path.read_bytes()
    (tmp_path / "link").symlink_to(tmp_path)
    for folder in (tmp_path, tmp_path / "link"):
        options = OFOptions(input_file=path, output_path=folder, alpha=10, **more)
        with pytest.raises(ValueError, match=rf"{name}: the results would replace it; name another output_path"):
            compensate_recording(options)
    assert path.read_bytes() == before
    other = path.rename(tmp_path / f"recording{path.suffix}")
    compensate_recording(options.replace(input_file=other))
    compensate_recording(options.replace(input_file=other))
    assert other.read_bytes() == before


def test_writes_what_compensate_arr_returns(options, movie):
    result = compensate_recording(options)
    registered, displacement = compensate_arr(movie[..., 0], options=options)
    found = contents(options.output_path)
    np.testing.assert_array_equal(found["compensated.hdf5/ch1"], registered)
    np.testing.assert_array_equal(np.stack([found["w.hdf/u"], found["w.hdf/v"]], axis=-1), displacement)
    assert set(np.unique(found["idx.hdf/idx"])) == {0, 255}
    np.testing.assert_allclose(found["temporal_average.npy"], registered.mean(axis=0, dtype=np.float64))
    np.testing.assert_array_equal(found["reference_frame.npy"], found["reference_frame.mat/c_ref_raw"])
    length = np.linalg.norm(displacement, axis=-1)
    np.testing.assert_allclose(found["statistics.npz/mean_disp"], length.mean(axis=(1, 2)), rtol=1e-5)
    np.testing.assert_allclose(found["statistics.npz/max_disp"], length.max(axis=(1, 2)), rtol=1e-5)
    translation = np.linalg.norm(displacement.mean(axis=(1, 2)), axis=-1)
    np.testing.assert_allclose(found["statistics.npz/mean_translation"], translation, rtol=1e-4)
    assert found["statistics.mat/mean_div"].shape == (1, len(movie))
    assert result.video_file == options.output_path / "compensated.hdf5"
    assert result.problems == {}
    np.testing.assert_array_equal(result.temporal_average, found["temporal_average.npy"])
    assert not [name for name in found if name.startswith(".")]


def test_masks_take_hardly_any_room(options):
    compensate_recording(options)
    with h5py.File(options.output_path / "idx.hdf") as file:
        masks = file["idx"]
        assert masks.compression == "gzip"
        assert masks.id.get_storage_size() < 0.1 * masks.nbytes


@pytest.mark.parametrize(("first", "then"), [("gzip", None), (None, "gzip"), ("lzf", None), ("gzip", "lzf")])
def test_compression_may_change_before_a_run_goes_on(options, first, then):
    compensate_recording(options)
    expected = contents(options.output_path)
    shutil.rmtree(options.output_path)
    with pytest.raises(Killed):
        compensate_recording(options.replace(compression=first), progress=stop_at(7))
    compensate_recording(options.replace(compression=then))
    found = contents(options.output_path)
    for name in ("compensated.hdf5/ch1", "idx.hdf/idx", "w.hdf/u"):
        np.testing.assert_array_equal(found[name], expected[name])


def test_writes_only_what_is_asked_for(options):
    compensate_recording(options.replace(save_w=False, save_valid_idx=False, save_meta_info=False))
    assert {p.name for p in options.output_path.iterdir()} == {"compensated.hdf5", "temporal_average.npy"}


def test_channels(tmp_path, two_channels, shifts):
    movie = two_channels.movie(shifts[:3])
    planes = np.moveaxis(movie, -1, 1)
    tifffile.imwrite(tmp_path / "movie.tif", planes, imagej=True, metadata={"axes": "TCYX"})
    options = OFOptions(input_file=tmp_path / "movie.tif", output_path=tmp_path / "out")
    result = compensate_recording(options)
    found = contents(tmp_path / "out")
    assert result.reference.shape == movie.shape[1:]
    assert found["compensated.hdf5/ch2"].shape == found["idx.hdf/idx"].shape == movie.shape[:3]


def test_bad_frames_are_marked_and_the_run_goes_on(options, movie, caplog):
    movie = movie.astype(np.float32)
    movie[2], movie[7, 3, 3], movie[9] = 0, np.nan, np.inf
    tifffile.imwrite(options.input_file, movie[..., 0])
    result = compensate_recording(options)
    assert set(result.problems) == {2, 7, 9}
    assert "NaN" in result.problems[7]
    assert "equal" in result.problems[2]
    assert "3 frames could not be registered" in caplog.text
    found = contents(options.output_path)
    good = np.delete(np.arange(len(movie)), [2, 7, 9])
    assert not found["idx.hdf/idx"][[2, 7, 9]].any()
    assert found["idx.hdf/idx"][good].any(axis=(1, 2)).all()
    assert np.isnan(result.statistics["mean_disp"][[2, 7, 9]]).all()
    average = found["compensated.hdf5/ch1"][good].mean(axis=0, dtype=np.float64)
    np.testing.assert_allclose(result.temporal_average, average, rtol=1e-6)


class Killed(BaseException):
    """Stands for a signal or an exhausted walltime."""


def stop_at(frame):
    def progress(done, total):
        if done == frame:
            raise Killed

    return progress


@pytest.mark.parametrize("changes", [{}, {"update_reference": True, "sigma": (1, 1, 0.5)}])
def test_interrupted_and_resumed_equals_uninterrupted(monkeypatch, tmp_path, options, changes):
    options = options.replace(**changes)
    whole = options.replace(output_path=tmp_path / "whole")
    compensate_recording(whole)
    expected = contents(whole.output_path)
    begun = []
    monkeypatch.setattr("pyflow.motion.compensate.first_state", lambda *args: begun.append(1) or first_state(*args))
    for frame in (2, 6, 6, 9, 12):
        with pytest.raises(Killed):
            compensate_recording(options, progress=stop_at(frame))
        assert not (options.output_path / "compensated.hdf5").exists()
    done = []
    compensate_recording(options, progress=lambda n, total: done.append(n))
    assert len(begun) == 1
    assert done in ([], [9, 10, 11, 12])
    assert_same_contents(options.output_path, expected)


def test_another_input_starts_over(options, movie):
    with pytest.raises(Killed):
        compensate_recording(options, progress=stop_at(9))
    tifffile.imwrite(options.input_file, np.flip(movie[..., 0], axis=1))
    done = []
    compensate_recording(options, progress=lambda n, total: done.append(n))
    assert done[0] == 1


def test_suite2p_s_binary_is_what_hdf5_is(options):
    compensate_recording(options)
    with open_video(options.output_path / "compensated.hdf5") as reader:
        expected = reader[:]
    compensate_recording(options.replace(output_format="SUITE2P", output_path=options.output_path / "plane0"))
    with open_video(options.output_path / "plane0" / "data.bin") as reader:
        np.testing.assert_array_equal(reader[:], expected // 2)


@pytest.mark.parametrize("output_format", ["ZARR", "TIFF"])
def test_what_cannot_be_gone_on_with_starts_over(options, movie, caplog, output_format):
    options = options.replace(output_format=output_format)
    with pytest.raises(Killed):
        compensate_recording(options, progress=stop_at(9))
    done = []
    compensate_recording(options, progress=lambda n, total: done.append(n))
    assert done[0] == 1
    assert f"starting over: a movie as {output_format} cannot be gone on with" in caplog.text
    with open_video(options.output_path / f"compensated.{output_format.lower()[:4]}".replace("tiff", "tif")) as reader:
        np.testing.assert_array_equal(reader[:], compensate_arr(movie[..., 0], options=options)[0][..., None])
    assert not list(options.output_path.glob(".*"))


def test_an_interrupted_run_of_another_zarr_store_is_not_gone_on_with(options, movie, tmp_path):
    options = options.replace(input_file=tmp_path / "a.zarr")
    for content in (movie, np.flip(movie, axis=1)):
        with get_video_file_writer(tmp_path / "a.zarr") as writer:
            writer.write_frames(content)
        done = []
        with pytest.raises(Killed):
            compensate_recording(options, progress=lambda n, total, done=done: done.append(n) or stop_at(9)(n, total))
        assert done[0] == 1


def test_a_run_with_other_options_ends_the_one_before(options):
    for changed in (options, options.replace(alpha=20), options):
        done = []
        with pytest.raises(Killed):
            compensate_recording(changed, progress=lambda n, total, done=done: done.append(n) or stop_at(6)(n, total))
        assert done[0] == 1


def test_resume_can_be_refused(options):
    with pytest.raises(Killed):
        compensate_recording(options, progress=stop_at(9))
    done = []
    compensate_recording(options, resume=False, progress=lambda n, total: done.append(n))
    assert done[0] == 1


@pytest.mark.parametrize("name", [".checkpoint.npz", "compensated.hdf5", "idx.hdf"])
def test_damaged_leftovers_start_over(options, name):
    compensate_recording(options)
    expected = contents(options.output_path)
    with pytest.raises(Killed):
        compensate_recording(options, progress=stop_at(9))
    for path in options.output_path.glob(f".*{name.removeprefix('.')}*"):
        path.write_bytes(path.read_bytes()[:100])
    compensate_recording(options)
    assert_same_contents(options.output_path, expected)


def test_writing_fails_cleanly(monkeypatch, options):
    def full(self, results):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(outputs.FileSink, "_write", full)
        with pytest.raises(OSError, match="No space"):
            compensate_recording(options)
    assert not (options.output_path / "compensated.hdf5").exists()
    compensate_recording(options)


def test_earlier_results_stay_until_new_ones_are_whole(options):
    compensate_recording(options)
    before = contents(options.output_path)["compensated.hdf5/ch1"]
    with pytest.raises(Killed):
        compensate_recording(options.replace(alpha=50), progress=stop_at(9))
    with h5py.File(options.output_path / "compensated.hdf5") as file:
        np.testing.assert_array_equal(file["ch1"][:], before)


def test_recording_without_image_is_named(options, movie):
    tifffile.imwrite(options.input_file, np.zeros_like(movie[..., 0]))
    with pytest.raises(ValueError, match=r"recording\.tif: none of the 12 reference frames"):
        compensate_recording(options)
    with pytest.raises(ValueError, match=r"recording\.tif: none of the 12 frames"):
        compensate_recording(options, reference=movie[0])


def test_missing_input_is_named(tmp_path):
    with pytest.raises(ValueError, match="input_file"):
        compensate_recording(OFOptions(output_path=tmp_path))
    with pytest.raises(FileNotFoundError, match=r"absent\.tif"):
        compensate_recording(OFOptions(input_file=tmp_path / "absent.tif", output_path=tmp_path / "out"))


def test_killed_between_any_two_moments(tmp_path, options):
    """Kill -9 leaves what a later run completes to the same result."""
    compensate_recording(options)
    expected = contents(options.output_path)
    killed = options.replace(output_path=tmp_path / "killed")
    killed.to_json(tmp_path / "options.json")
    script = """
        import os, sys
        from pyflow.motion.compensate import compensate_recording
        from pyflow.motion.options import OFOptions
        def kill(done, total):
            if done == int(sys.argv[2]):
                os.kill(os.getpid(), 9)
        compensate_recording(OFOptions.from_json(sys.argv[1]), progress=kill)
    """
    for frame in (5, 11):
        command = [sys.executable, "-P", "-c", textwrap.dedent(script), tmp_path / "options.json", str(frame)]
        assert subprocess.run(command, check=False).returncode == -9
    compensate_recording(killed)
    assert_same_contents(killed.output_path, expected)


def test_memory_does_not_grow_with_the_recording(tmp_path, monkeypatch):
    import tracemalloc

    monkeypatch.setattr(frames, "PIECE_BYTES", 1 << 17)
    image = np.random.default_rng(0).integers(0, 1000, (64, 64)).astype(np.uint16)
    peaks = []
    for n_frames in (400, 1200):
        path = tmp_path / f"{n_frames}.tif"
        tifffile.imwrite(path, np.broadcast_to(image, (n_frames, 64, 64)))
        options = OFOptions(input_file=path, output_path=tmp_path / path.stem, quality_setting="fast", n_workers=2)
        compensate_recording(options)  # imports, caches
        tracemalloc.start()
        compensate_recording(options.replace(output_path=tmp_path / "again"))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 1e6  # the movies differ by 6.6e6 bytes


def interrupted_at_every_piece(options, monkeypatch):
    """Each run saves its state after every piece, and is stopped by the second frame that it returns."""
    monkeypatch.setattr(outputs, "_SAVE_EVERY_S", 0.0)
    monkeypatch.setattr(frames, "PIECE_BYTES", 1)
    first = []
    while True:
        done = []

        def progress(n, total, done=done):
            done.append(n)
            if len(done) == 2:
                raise Killed

        try:
            compensate_recording(options, progress=progress)
        except Killed:
            first.append(done[0])
            continue
        return first


@pytest.mark.parametrize(
    "changes",
    [{"buffer_size": 400}, {"update_reference": True, "sigma": (1, 1, 0.5), "temporal_coherence": True}],
)
def test_interrupted_inside_batches(monkeypatch, tmp_path, options, changes):
    options = options.replace(**changes)
    compensate_recording(options.replace(output_path=tmp_path / "whole"))
    expected = contents(tmp_path / "whole")
    assert interrupted_at_every_piece(options, monkeypatch) == [1, 3, 5, 7, 9, 11]
    assert_same_contents(options.output_path, expected)


@pytest.mark.parametrize("name", ["on_registered", "on_displacement"])
def test_a_callback_that_fails_stops_a_run_that_can_be_gone_on_with(monkeypatch, tmp_path, options, name):
    """Also where the state would be saved after every frame: a batch is handed over whole, or again."""
    monkeypatch.setattr(outputs, "_SAVE_EVERY_S", 0.0)
    monkeypatch.setattr(frames, "PIECE_BYTES", 1)
    handed = []
    whole = options.replace(output_path=tmp_path / "whole")
    compensate_recording(whole, **{name: lambda batch, *span: handed.append((batch, span))})
    expected = contents(whole.output_path)
    compensate_recording(options.replace(output_path=tmp_path / "without"))
    assert_same_contents(tmp_path / "without", expected)
    again, failures = [], []

    def fails_once(batch, *span):
        if span == (4, 8) and not failures:
            failures.append(span)
            raise RuntimeError("the disk of the callback is full")
        again.append((batch, span))

    with pytest.raises(RuntimeError, match="of the callback"):
        compensate_recording(options, **{name: fails_once})
    with pytest.raises(Killed):
        compensate_recording(options, progress=stop_at(7), **{name: fails_once})
    compensate_recording(options, **{name: fails_once})
    assert_same_contents(options.output_path, expected)
    assert [span for _, span in again] == [span for _, span in handed] == [(0, 4), (4, 8), (8, 12)]
    for (batch, _), (value, _) in zip(again, handed, strict=True):
        np.testing.assert_array_equal(batch, value)
    key = {"on_registered": "compensated.hdf5/ch1", "on_displacement": "w.hdf/u"}[name]
    np.testing.assert_array_equal(np.concatenate([batch for batch, _ in handed])[..., 0], expected[key])


def test_a_movie_in_memory(options, movie):
    """The rest is in files, as always, and there is nothing to go on with after an interruption."""
    expected = compensate_recording(options.replace(output_path=options.output_path.with_name("file")))
    options = options.replace(output_format="ARRAY")
    with pytest.raises(Killed):
        compensate_recording(options, progress=stop_at(7))
    result = compensate_recording(options)
    assert expected.registered is None
    with h5py.File(expected.video_file) as file:
        np.testing.assert_array_equal(result.registered[..., 0], file["ch1"][:])
    left = {path.name for path in expected.output_path.iterdir()} - {"compensated.hdf5"}
    assert {path.name for path in options.output_path.iterdir()} == left


def test_the_mask_of_pixels_valid_in_all_frames(tmp_path, options, movie):
    movie[3] = 0  # cannot be registered, and says nothing about pixels
    tifffile.imwrite(options.input_file, movie[..., 0])
    options = options.replace(save_valid_mask=True)
    with pytest.raises(Killed):
        compensate_recording(options, progress=stop_at(7))
    result = compensate_recording(options)
    with h5py.File(options.output_path / "idx.hdf") as file:
        idx = file["idx"][:]
    expected = (np.delete(idx, 3, axis=0) == 255).all(axis=0)
    assert 0 < np.count_nonzero(expected) < expected.size
    for found in (
        result.valid,
        np.load(options.output_path / "valid_mask.npy"),
        scipy.io.loadmat(options.output_path / "valid_mask.mat")["valid_mask"] != 0,
    ):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("output_format", ["HDF5", "MULTIFILE_TIFF"])
def test_movies_of_several_recordings_share_a_folder(options, output_format):
    options = options.replace(naming_convention="batch", output_format=output_format)
    file = compensate_recording(options).video_file
    suffix = {"HDF5": ".hdf5", "MULTIFILE_TIFF": ".tif"}[output_format]
    assert file == options.output_path / f"recording_compensated{suffix}"
    found = list(options.output_path.glob(f"*{suffix}"))
    assert [path.name for path in found] == [file.name if output_format == "HDF5" else "recording_compensated_ch1.tif"]
    with pytest.raises(ValueError, match="would replace it"):
        compensate_recording(options.replace(input_file=found[0], output_file_name=found[0].name.replace("_ch1", "")))
    assert compensate_recording(options.replace(output_file_name=f"mine{suffix}")).video_file.name == f"mine{suffix}"


def test_nothing_is_resumed_with_a_function(tmp_path, options):
    """Two functions of one name are not told apart; and a run without any does not go on with one that had some."""

    def once(bonus):
        return options.replace(preprocess=lambda image: image**2 + bonus * np.arange(72)[:, np.newaxis] ** 3)

    compensate_recording(once(5).replace(output_path=tmp_path / "expected"))
    with pytest.raises(Killed):
        compensate_recording(once(0), progress=stop_at(7))
    done = []
    compensate_recording(once(5), progress=lambda n, total: done.append(n))
    assert done[0] == 1
    assert_same_contents(options.output_path, contents(tmp_path / "expected"))
    with pytest.raises(Killed):
        compensate_recording(once(0), progress=stop_at(7))
    compensate_recording(options, progress=lambda n, total: done.append(n))
    assert done[12] == 1


def mutated(path, rng):
    """Flip a bit, cut the end off, or zero a stretch."""
    data = bytearray(path.read_bytes())
    at = int(rng.integers(len(data)))
    kind = rng.choice(["flip", "truncate", "zero"])
    if kind == "flip":
        data[at] ^= 1 << int(rng.integers(8))
    elif kind == "truncate":
        del data[at:]
    else:
        data[at : at + 200] = bytes(len(data[at : at + 200]))
    path.write_bytes(data)


def test_damage_is_found_and_thrown_away(tmp_path, options, caplog):
    """Whatever happens to the hidden files of an interrupted run, the next ends as if there had been none."""
    options = options.replace(quality_setting="fast")
    compensate_recording(options.replace(output_path=tmp_path / "whole"))
    expected = contents(tmp_path / "whole")
    with pytest.raises(Killed):
        compensate_recording(options, progress=stop_at(9))
    left = {path: path.read_bytes() for path in options.output_path.iterdir()}
    rng = np.random.default_rng(0)
    for path in list(left) * 8:
        for leftover in options.output_path.iterdir():
            leftover.unlink()
        for name, data in left.items():
            name.write_bytes(data)
        mutated(path, rng)
        caplog.clear()
        done = []
        compensate_recording(options, progress=lambda n, total, done=done: done.append(n))
        assert done[0] == 9 or "starting over" in caplog.text
        assert_same_contents(options.output_path, expected)


def test_a_frame_that_changed_on_disk_is_not_resumed_over(options, caplog):
    compensate_recording(options)
    expected = contents(options.output_path)
    with pytest.raises(Killed):
        compensate_recording(options, progress=stop_at(9))
    with h5py.File(options.output_path / ".partial-compensated.hdf5", "r+") as file:
        file["ch1"][3, 5, 5] += 1
    compensate_recording(options)
    assert "starting over" in caplog.text
    assert_same_contents(options.output_path, expected)


def test_leftovers_of_abandoned_options_are_swept(options):
    with pytest.raises(Killed):
        compensate_recording(options, progress=stop_at(9))
    (options.output_path / ".temporary-elsewhere-1-statistics.npz").touch()
    compensate_recording(options.replace(save_w=False, output_file_name="other.hdf5"))
    assert not list(options.output_path.glob(".*"))


def test_another_reference_starts_over(options, movie):
    with pytest.raises(Killed):
        compensate_recording(options, reference=movie[0], progress=stop_at(9))
    done = []
    compensate_recording(options, reference=movie[1], progress=lambda n, total: done.append(n))
    assert done[0] == 1


def test_interleaved_channels_raise_an_alarm(tmp_path, caplog):
    scenes = [np.random.default_rng(seed).normal(size=(48, 64)).cumsum(0).cumsum(1) for seed in (0, 1)]
    scenes = [(1000 * (scene - scene.min()) / np.ptp(scene)).astype(np.uint16) for scene in scenes]
    tifffile.imwrite(tmp_path / "a.tif", np.stack([scenes[t % 2] for t in range(24)]))
    options = OFOptions(input_file=tmp_path / "a.tif", output_path=tmp_path / "out", alpha=4, quality_setting="fast")
    assert compensate_recording(options).period == 2
    assert "every frame resembles the second after it more" in caplog.text
    caplog.clear()
    assert compensate_recording(options.replace(reader={"n_channels": 2})).period == 1
    assert "every frame resembles" not in caplog.text


@pytest.mark.parametrize(
    ("output_format", "name"),
    [
        ("TIFF", "compensated.tif"),
        ("MAT", "compensated.mat"),
        ("MAT7", "compensated.mat"),
        ("CAIMAN_HDF5", "compensated.hdf5"),
        ("MULTIFILE_TIFF", "compensated_ch1.tif"),
        ("MULTIFILE_HDF5", "compensated_ch1.hdf5"),
        ("NULL", None),
    ],
)
def test_every_format_holds_the_same_frames(options, movie, output_format, name):
    registered, _ = compensate_arr(movie[..., 0], options=options)
    compensate_recording(options.replace(output_format=output_format))
    found = sorted(path.name for path in options.output_path.iterdir() if path.name.startswith("compensated"))
    assert found == ([] if name is None else [name])
    assert not list(options.output_path.glob(".*"))
    if name is None:
        return
    path = options.output_path / name
    if output_format == "MAT7":
        values = scipy.io.loadmat(path)["ch1"].transpose(2, 0, 1)
    elif name.endswith("tif"):
        values = tifffile.imread(path)
    else:
        with h5py.File(path) as file:
            values = next(iter(file.values()))[:]
        values = values.transpose(0, 2, 1) if output_format == "MAT" else values
    np.testing.assert_array_equal(values, registered)


@pytest.mark.parametrize(("output_format", "bin_size"), [("HDF5", 1), ("HDF5", 2), ("TIFF", 1), ("TIFF", 2)])
def test_the_frame_rate_goes_along(options, output_format, bin_size):
    options = options.replace(output_format=output_format, bin_size=bin_size, reader={"frame_rate": 30.0})
    with open_video(compensate_recording(options).video_file) as reader:
        assert reader.frame_rate_hz == pytest.approx(30 / bin_size)


def test_the_state_is_saved_once_a_minute_within_a_batch(tmp_path, monkeypatch):
    clock, saved = [0.0], []
    monkeypatch.setattr(outputs, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(outputs.FileSink, "_save", lambda self, state: saved.append(state["at"]))
    with pytest.raises(Killed), outputs.FileSink(OFOptions(output_path=tmp_path), "key", None) as sink:
        for clock[0] in (59.0, 61.0, 100.0, 120.0, 122.0):
            sink.save(SimpleNamespace(arrays=lambda: {"at": clock[0]}), now=clock[0] == 100.0)
        clock[0] = 161.0
        sink.save(SimpleNamespace(arrays=lambda: {"at": clock[0]}), now=False)
        raise Killed
    assert saved == [61.0, 100.0, 161.0]


def test_results_are_shown_by_the_shapes_of_their_arrays(scene, tmp_path):
    options = OFOptions(input_file=scene.movie(np.zeros((12, 2))), output_path=tmp_path, alpha=10, n_workers=1)
    shown = repr(compensate_recording(options))
    assert len(shown) < 1000
    assert "alpha=(10.0, 10.0)" in shown
    assert "'mean_disp': <float64 (12,)>" in shown
    with pytest.raises(TypeError, match=r"expected pyflow\.OFOptions, found str"):
        compensate_recording("day1.tif")
