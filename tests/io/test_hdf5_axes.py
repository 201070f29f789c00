"""HDF5: which data set, which axis, and whether all of it is there."""

import sys

import h5py
import numpy as np
import pytest

from pyflow.flow.filters import gaussian_filter
from pyflow.io import open_video

T, H, W = 7, 48, 64


def movie(*shape):
    return np.random.default_rng(0).integers(0, 250, shape or (T, H, W)).astype(np.uint16)


def store(path, data, name="data", labels=None, **options):
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset(name, data=data, **options)
        for place, label in enumerate(labels or ()):
            dataset.dims[place].label = label
    return path


def test_frames_in_the_last_axis_are_refused_until_said(tmp_path):
    path = store(tmp_path / "a.h5", np.moveaxis(movie(), 0, -1))
    with pytest.raises(
        ValueError, match=r'a\.h5: data: .* 48 frames of 64 x 7 pixels, improbable; say axes="HWT" for 7'
    ):
        open_video(path)
    with open_video(path, axes="HWT") as reader:
        np.testing.assert_array_equal(reader[[4, 0], ..., 0], movie()[[4, 0]])
    with open_video(path, axes="THW") as reader:
        assert reader.shape == (H, W, T, 1)


def test_square_frames_in_the_last_axis(tmp_path):
    path = store(tmp_path / "a.h5", np.zeros((64, 64, 100), np.uint8))
    with pytest.raises(ValueError, match=r'axes="HWT" for 100 frames of 64 x 64'):
        open_video(path)


@pytest.mark.parametrize(
    "shape", [(100, 64, 64), (64, 64, 64), (9, 6, 8), (3000, 16, 512), (20, 512, 796), (2, 8, 8), (300, 512, 512)]
)
def test_usual_shapes_open(tmp_path, shape):
    with open_video(store(tmp_path / "a.h5", np.zeros(shape, np.uint8))) as reader:
        assert reader.shape == (*shape, 1)
        assert "THW" in reader.origin["axes"]


@pytest.mark.parametrize("axes", ["TZHW", "CTHW", "TCHW"])
def test_a_fourth_axis_that_nobody_named(tmp_path, axes):
    data = movie(*(3 if axis in "ZC" else {"T": T, "H": H, "W": W}[axis] for axis in axes))
    path = store(tmp_path / "a.h5", data)
    with pytest.raises(ValueError, match=r'says not which axis .*axes="TCHW".*axes="TZHW".*axes="CTHW"'):
        open_video(path)
    if "Z" in axes:
        with pytest.raises(ValueError, match="3 planes"):
            open_video(path, axes=axes)
        with open_video(path, axes=axes, plane=2) as reader:
            np.testing.assert_array_equal(reader[1:, ..., 0], data[1:, 2])
    else:
        with open_video(path, axes=axes) as reader:
            np.testing.assert_array_equal(
                reader[[3, 1]],
                np.moveaxis(data, axes.index("C"), (axes.index("T") and -1) or -1).reshape(T, H, W, 3)[[3, 1]],
            )


@pytest.mark.parametrize(
    ("labels", "axes"),
    [(["time", "z", "y", "x"], "TZHW"), (["c", "frames", "rows", "cols"], "CTHW"), (["Y", "X", "T", "C"], "HWTC")],
)
def test_labels_of_dimensions_say_the_axes(tmp_path, labels, axes):
    sizes = {"T": T, "H": H, "W": W, "Z": 3, "C": 2}
    data = movie(*(sizes[axis] for axis in axes))
    path = store(tmp_path / "a.h5", data, labels=labels)
    with open_video(path, plane=1 if "Z" in axes else None) as reader:
        expected = data[:, 1][:, None] if "Z" in axes else data
        letters = axes.replace("Z", "C")
        np.testing.assert_array_equal(reader[:], expected.transpose([letters.index(axis) for axis in "THWC"]))
        assert reader.origin["axes"] == "DIMENSION_LABELS"


def test_sima(shared):
    with pytest.raises(ValueError, match=r'sima_example.h5: .*axes="HWT" for 20 frames of 128 x 256'):
        open_video(shared / "data/formats/sima_example.h5")
    with (
        open_video(shared / "data/formats/sima_example.h5", axes="HWT") as one,
        open_video(shared / "data/formats/sima_example.tif") as other,
    ):
        np.testing.assert_array_equal(one[:], other[:])
    with h5py.File(shared / "data/formats/sima_volume.h5") as file:
        expected = file["imaging"][()]
    with pytest.raises(ValueError, match="3 planes"):
        open_video(shared / "data/formats/sima_volume.h5")
    with open_video(shared / "data/formats/sima_volume.h5", plane=2) as reader:
        np.testing.assert_array_equal(reader[:], expected[:, 2])


@pytest.mark.parametrize("axes", ["TH", "TTHW", "QHW", "THWC"])
def test_axes_that_make_no_sense(tmp_path, axes):
    with pytest.raises(ValueError, match=r"a\.h5: data: axes="):
        open_video(store(tmp_path / "a.h5", movie()), axes=axes)


# ---- other programs' files under a familiar extension -----------------------------------------------------


def matlab_v73(path, variables):
    """As MATLAB's ``save -v7.3`` does: a user block with its name, and column-major arrays."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, data in variables.items():
            file[name] = data.transpose()
    with open(path, "r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")
    return path


@pytest.mark.parametrize("suffix", [".h5", ".mat"])
def test_matlab_has_its_axes_the_other_way_round(tmp_path, suffix):
    path = matlab_v73(tmp_path / f"a{suffix}", {"mov": np.moveaxis(movie(), 0, -1)})
    with open_video(path) as reader:
        np.testing.assert_array_equal(reader[..., 0], movie())
    path = matlab_v73(tmp_path / f"b{suffix}", {"mov": movie()})
    with pytest.raises(ValueError, match=r'shape .7, 48, 64. as HWT .* improbable; say axes="THW" for 7 frames'):
        open_video(path)
    with open_video(path, axes="THW") as reader:
        np.testing.assert_array_equal(reader[..., 0], movie())


def test_a_class_of_matlab_says_so_without_the_first_line(tmp_path):
    """As libraries of Python write MAT files of version 7.3."""
    with h5py.File(tmp_path / "a.mat", "w") as file:
        file["mov"] = np.moveaxis(movie(), 0, -1).transpose()
        file["mov"].attrs["MATLAB_class"] = np.bytes_("uint16")
    with open_video(tmp_path / "a.mat") as reader:
        np.testing.assert_array_equal(reader[..., 0], movie())


@pytest.mark.parametrize("suffix", [".h5", ".nwb"])
def test_nwb_has_frame_x_y(tmp_path, suffix):
    with h5py.File(tmp_path / f"a{suffix}", "w") as file:
        file.attrs["nwb_version"] = "2.7.0"
        series = file.create_group("acquisition/TwoPhotonSeries")
        series.attrs["neurodata_type"] = "TwoPhotonSeries"
        series["data"] = movie().transpose(0, 2, 1)
        series["starting_time"] = 0.0
        series["starting_time"].attrs["rate"] = 30.0
        file["processing/ophys/masks/image_mask"] = np.zeros((5, W, H))
    with open_video(tmp_path / f"a{suffix}") as reader:
        np.testing.assert_array_equal(reader[..., 0], movie())
        assert reader.frame_rate_hz == 30


def test_nwb_that_names_its_sides_has_them_as_named(tmp_path):
    with h5py.File(tmp_path / "a.nwb", "w") as file:
        file.attrs["nwb_version"] = "2.7.0"
        series = file.create_group("acquisition/TwoPhotonSeries")
        series.attrs["neurodata_type"] = "TwoPhotonSeries"
        series["data"] = movie()
        series["dimension"] = [W, H]
    with open_video(tmp_path / "a.nwb") as reader:
        np.testing.assert_array_equal(reader[..., 0], movie())
        assert reader.origin["axes"] == "dimension of the series, (x, y)"


def test_nwb_1_has_frame_y_x(tmp_path):
    with h5py.File(tmp_path / "a.nwb", "w") as file:
        file["nwb_version"] = "NWB-1.0.5"
        series = file.create_group("acquisition/timeseries/2p_image_series")
        series.attrs["ancestry"] = [b"TimeSeries", b"ImageSeries", b"TwoPhotonSeries"]
        series["data"] = movie()
        series["timestamps"] = np.arange(T) / 31.0
    with open_video(tmp_path / "a.nwb") as reader:
        np.testing.assert_array_equal(reader[..., 0], movie())
        assert round(reader.frame_rate_hz, 6) == 31


@pytest.mark.parametrize("behaviour", [False, True])
def test_nwb_whose_images_are_elsewhere(tmp_path, behaviour):
    with h5py.File(tmp_path / "a.nwb", "w") as file:
        file.attrs["nwb_version"] = "2.7.0"
        series = file.create_group("acquisition/TPS")
        series.attrs["neurodata_type"] = "TwoPhotonSeries"
        series["data"] = np.empty((0, 0, 0), np.uint8)  # as pynwb leaves it
        series["external_file"] = ["rec_00001.tif"]
        if behaviour:
            other = file.create_group("acquisition/eye")
            other.attrs["neurodata_type"] = "ImageSeries"
            other["data"] = movie()
    with pytest.raises(ValueError, match=r"a\.nwb: its images are in other files, rec_00001\.tif; open those"):
        open_video(tmp_path / "a.nwb")


# ---- what is not there ------------------------------------------------------------------------------------


def virtual(folder):
    layout = h5py.VirtualLayout((2 * T, H, W), np.uint16)
    for part in range(2):
        store(folder / f"part{part}.h5", movie())
        layout[part * T : (part + 1) * T] = h5py.VirtualSource(f"part{part}.h5", "data", shape=(T, H, W))
    with h5py.File(folder / "all.h5", "w") as file:
        file.create_virtual_dataset("data", layout, fillvalue=0)
    return folder / "all.h5"


def test_a_virtual_data_set_without_its_source(tmp_path):
    path = virtual(tmp_path)
    with open_video(path) as reader:
        np.testing.assert_array_equal(reader[T:, ..., 0], movie())
    (tmp_path / "part1.h5").rename(tmp_path / "gone.h5")
    with pytest.raises(ValueError, match=r"all\.h5: /data lies in .*part1\.h5 in part, which is missing"):
        open_video(path)
    store(tmp_path / "part1.h5", movie(), name="other")
    with pytest.raises(ValueError, match=r"part1\.h5 in part, which has no data set 'data'"):
        open_video(path)


def test_a_virtual_data_set_holds_only_what_lies_in_its_sources(tmp_path):
    path = virtual(tmp_path)
    # HDF5 itself dies of a whole source that has shrunk since
    store(tmp_path / "part1.h5", movie()[: T // 2])
    with pytest.raises(ValueError, match=r"all\.h5: /data takes \d+ pixels from .*part1\.h5, whose 'data' has shape"):
        open_video(path)
    with h5py.File(tmp_path / "part1.h5", "w") as file:
        file.create_dataset("data", (T, H, W), np.uint16, chunks=(1, H, W))[: T // 2] = movie()[: T // 2]
    with pytest.raises(ValueError, match=r"part1\.h5, of whose 'data', shape .*, not all was written"):
        open_video(path)


@pytest.mark.parametrize("part", [slice(0, T), slice(T, 2 * T), slice(0, 2 * T, 2)])
def test_gaps_of_a_virtual_data_set_are_not_made_up(tmp_path, part):
    store(tmp_path / "part.h5", movie())
    layout = h5py.VirtualLayout((2 * T, H, W), np.uint16)
    layout[part] = h5py.VirtualSource("part.h5", "data", shape=(T, H, W))
    with h5py.File(tmp_path / "all.h5", "w") as file:
        file.create_virtual_dataset("data", layout, fillvalue=0)
    with pytest.raises(ValueError, match=f"has {2 * T * H * W} pixels, but its sources fill {T * H * W}"):
        open_video(tmp_path / "all.h5")


def test_a_virtual_data_set_may_take_a_part_of_its_source(tmp_path):
    store(tmp_path / "part.h5", movie())
    layout = h5py.VirtualLayout((T - 2, H, W), np.uint16)
    layout[...] = h5py.VirtualSource("part.h5", "data", shape=(T, H, W))[2:]
    with h5py.File(tmp_path / "all.h5", "w") as file:
        file.create_virtual_dataset("data", layout, fillvalue=0)
    with open_video(tmp_path / "all.h5") as reader:
        np.testing.assert_array_equal(reader[..., 0], movie()[2:])
    store(tmp_path / "part.h5", movie()[: T - 1])
    with pytest.raises(ValueError, match=r"part\.h5, whose 'data' has shape"):
        open_video(tmp_path / "all.h5")


def test_a_link_to_another_file_is_named(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["recordings/day1"] = h5py.ExternalLink("movie.h5", "data")
    expected = r"a\.h5: no 3-D or 4-D data set; found: none; recordings/day1 is a link to data in movie\.h5; open that"
    with pytest.raises(ValueError, match=expected):
        open_video(tmp_path / "a.h5")


def test_frames_that_were_never_written_are_not_made_up(tmp_path, caplog):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("data", (100, H, W), np.uint16, chunks=(2, H, W))[:24] = 1
        file.create_dataset("holes", (100, H, W), np.uint16, chunks=(2, H, W))[50:] = 1
        file.create_dataset("empty", (100, H, W), np.uint16)
    with open_video(tmp_path / "a.h5", dataset="data") as reader:
        assert reader.shape == (24, H, W, 1)
    assert "has room for 100 frames, 24 whole ones were written" in caplog.text
    with pytest.raises(ValueError, match="frames in the middle were never written, from 0 on"):
        open_video(tmp_path / "a.h5", dataset="holes")
    with pytest.raises(ValueError, match=r"empty has shape .* nothing was ever written"):
        open_video(tmp_path / "a.h5", dataset="empty")


def test_half_a_frame_was_not_written(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("data", (20, H, W), np.uint16, chunks=(2, H // 2, W))
        dataset[:6] = 1
        dataset[6:8, : H // 2] = 1
    with open_video(tmp_path / "a.h5") as reader:
        assert reader.shape == (6, H, W, 1)


def test_a_part_in_another_file_is_all_there(tmp_path):
    n_bytes = movie().nbytes
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("data", (T, H, W), np.uint16, external=[("a.raw", 100, n_bytes)])
    (tmp_path / "a.raw").write_bytes(bytes(100) + movie().tobytes())
    with open_video(tmp_path / "a.h5") as reader:  # whatever the working directory is
        np.testing.assert_array_equal(reader[..., 0], movie())
    (tmp_path / "a.raw").write_bytes(bytes(100) + movie().tobytes()[:-1])
    with pytest.raises(ValueError, match=rf"a\.raw: expected {100 + n_bytes} bytes, found {99 + n_bytes}"):
        open_video(tmp_path / "a.h5")


def test_two_in_second_place_are_detectors(tmp_path):
    data = movie(T, 2, H, W)
    with open_video(store(tmp_path / "a.h5", data)) as reader:
        np.testing.assert_array_equal(reader[:], np.moveaxis(data, 1, -1))


def test_one_image_is_a_movie_of_one_frame(tmp_path):
    image = movie(1, H, W)
    with open_video(store(tmp_path / "a.h5", image[0][None, ..., None]), axes="ZHWC") as reader:
        assert reader.shape == (1, H, W, 1)
        np.testing.assert_array_equal(reader[[0, 0], ..., 0], image[[0, 0]])


def test_a_missing_filter_is_named_with_its_package(tmp_path, monkeypatch):
    monkeypatch.setattr(h5py.h5z, "filter_avail", lambda number: number < 32000)
    monkeypatch.setitem(sys.modules, "hdf5plugin", None)
    path = store(tmp_path / "a.h5", movie(), chunks=(1, H, W), compression="gzip")
    # The number of the filter in the data set's header, deflate with one parameter, becomes that of Blosc.
    data = path.read_bytes()
    there = data.index(b"deflate") - 8
    path.write_bytes(data[:there] + (32001).to_bytes(2, "little") + data[there + 2 :])
    with pytest.raises(ValueError, match=r"a\.h5: /data is compressed with blosc .*pip install hdf5plugin"):
        open_video(path)


# ---- shapes that tell nothing, and images that do ---------------------------------------------------------


def scene(shape=(64, 80)):
    image = gaussian_filter(np.random.default_rng(0).random((*shape, 1)), 2)[..., 0]
    return 1000 * (image - image.min()) / np.ptp(image)


def recording(noise, n_frames=40):
    rng = np.random.default_rng(1)
    moved = [np.roll(scene(), (t % 3, t // 9), (0, 1)) * (1 - t / 80) for t in range(n_frames)]
    return np.stack([np.maximum(frame + noise * rng.normal(size=frame.shape), 0) for frame in moved]).astype(np.uint16)


@pytest.mark.parametrize("noise", [1, 100, 300])
def test_frames_that_look_like_rows_are_refused(tmp_path, noise):
    frames = recording(noise)
    path = store(tmp_path / "a.h5", np.moveaxis(frames, 0, -1))
    with pytest.raises(ValueError, match=r'\(64, 80, 40\) as THW: .* rows of an image, improbable; say axes="HWT"'):
        open_video(path)
    with open_video(path, axes="HWT") as reader:
        np.testing.assert_array_equal(reader[..., 0], frames)
    with open_video(store(tmp_path / "b.h5", frames)) as reader:
        np.testing.assert_array_equal(reader[..., 0], frames)
    with pytest.raises(ValueError, match=r'\(40, 64, 80\) as HWT: .* say axes="THW", or axes="HWT" if'):
        open_video(matlab_v73(tmp_path / "a.mat", {"mov": frames}))
    with open_video(matlab_v73(tmp_path / "b.mat", {"mov": np.moveaxis(frames, 0, -1)})) as reader:
        np.testing.assert_array_equal(reader[..., 0], frames)


@pytest.mark.parametrize("name", ["two_photon_256x256_200f.tif", "two_photon_fly_241x372_40f.tif"])
def test_real_recordings_are_told_from_their_transposed(shared, tmp_path, name):
    with open_video(shared / "data" / name) as reader:
        frames = reader[..., 0]
    frames = frames[:, :200, :220] if frames.shape[1] != frames.shape[2] else frames[:, :, :180]
    with open_video(store(tmp_path / "a.h5", frames)) as reader:
        assert reader.shape == (*frames.shape, 1)
    with pytest.raises(ValueError, match='say axes="HWT"'):
        open_video(store(tmp_path / "b.h5", np.moveaxis(frames, 0, -1)))


@pytest.mark.parametrize("make", [np.zeros, np.ones, lambda shape: np.random.default_rng(0).random(shape)])
def test_images_without_anything_in_them_open(tmp_path, make):
    with open_video(store(tmp_path / "a.h5", make((40, 48, 64)))) as reader:
        assert reader.shape == (40, 48, 64, 1)


def test_images_settle_a_shape_that_is_improbable(tmp_path):
    """As many frames as rows; nothing in the shape says so."""
    frames = np.stack([recording(100, 1)[0, :, :24] for _ in range(64)])
    with open_video(store(tmp_path / "a.h5", frames)) as reader:
        np.testing.assert_array_equal(reader[..., 0], frames)
    with pytest.raises(ValueError, match="64 frames of 64 x 24 pixels, improbable"):
        open_video(store(tmp_path / "b.h5", np.random.default_rng(0).random((64, 64, 24))))


def test_channels_from_octave(tmp_path):
    """As matlab_compat/pyflow_write_recording.m has it save them; other variables are as Octave has them."""
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        for channel in (2, 1):
            group = file.create_group(f"ch{channel}")
            group.attrs["OCTAVE_NEW_FORMAT"] = np.uint8(1)
            group["value"] = movie() + channel
        group = file.create_group("mov")
        group.attrs["OCTAVE_NEW_FORMAT"] = np.uint8(1)
        group["value"] = movie().transpose(0, 2, 1)
    with open_video(tmp_path / "a.hdf5") as reader:
        np.testing.assert_array_equal(reader[:], np.stack([movie() + 1, movie() + 2], axis=-1))
    with open_video(tmp_path / "a.hdf5", dataset="mov/value") as reader:
        np.testing.assert_array_equal(reader[..., 0], movie())


def test_displacements_are_channels_u_and_v(tmp_path):
    u, v = np.random.default_rng(0).normal(size=(2, T, H, W)).astype(np.float32)
    store(tmp_path / "w.hdf", v, "v")
    with h5py.File(tmp_path / "w.hdf", "a") as file:
        file["u"] = u
    with open_video(tmp_path / "w.hdf") as reader:
        np.testing.assert_array_equal(reader[:], np.stack([u, v], axis=-1))
