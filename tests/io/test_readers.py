"""Formats beside TIFF and HDF5, recordings of several files, and what the user says of them."""

import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyflow.io import ArrayReader, ReaderOptions, open_video
from pyflow.io.readers.video import PlaneReader

T, H, W = 7, 10, 12


def movie(*shape, dtype=np.int16):
    return np.random.default_rng(0).integers(0, 250, shape or (T, H, W)).astype(dtype)


def npy(path, frames, order="C"):
    np.save(path, np.asarray(frames, order=order))
    return path


def raw(path, frames, before=0):
    path.write_bytes(bytes(before) + frames.tobytes())
    return path


def suite2p(folder, frames, **ops):
    folder.mkdir(parents=True, exist_ok=True)
    frames.astype("<i2").tofile(folder / "data.bin")
    np.save(folder / "ops.npy", {"Ly": H, "Lx": W, "nframes": len(frames), "fs": 15.0, **ops})
    return folder / "data.bin"


def caiman(folder, order):
    """As CaImAn defines it: frames are columns of pixels in Fortran order."""
    pixels = np.stack([frame.ravel(order="F") for frame in movie()], axis=1).astype(np.float32)
    path = folder / f"memmap__d1_{H}_d2_{W}_d3_1_order_{order}_frames_{T}.mmap"
    path.write_bytes(pixels.tobytes(order=order))
    return path


def mat(path, **options):
    scipy.io.savemat(path, {"ch2": movie().transpose(1, 2, 0) + 1, "ch1": movie().transpose(1, 2, 0)}, **options)
    return path


ONE = movie()[..., np.newaxis]
TWO = np.stack([movie(), movie() + 1], axis=-1)

READERS = {
    "npy": lambda f: (ONE, open_video(npy(f / "a.npy", movie()))),
    "npy, Fortran": lambda f: (ONE, open_video(npy(f / "a.npy", movie(), "F"))),
    "npy, high byte first": lambda f: (ONE, open_video(npy(f / "a.npy", movie(dtype=">i2")))),
    "npy, channels": lambda f: (TWO, open_video(npy(f / "a.npy", TWO))),
    "npy, said": lambda f: (TWO, open_video(npy(f / "a.npy", TWO.transpose(3, 1, 2, 0)), axes="CHWT")),
    "npy, a plane": lambda f: (
        ONE,
        open_video(npy(f / "a.npy", np.stack([movie() + 1, movie()], 1)), axes="TZHW", plane=1),
    ),
    "raw": lambda f: (ONE, open_video(raw(f / "a.raw", movie(), 8), shape=(T, H, W), dtype="int16", offset=8)),
    "raw, as many as there are": lambda f: (
        ONE,
        open_video(raw(f / "a.xyz", movie(dtype=">i2")), shape=(H, W), dtype=">i2"),
    ),
    "suite2p": lambda f: (ONE, open_video(suite2p(f / "plane0", movie()))),
    "suite2p, folder": lambda f: (ONE, open_video(suite2p(f / "plane0", movie()).parent)),
    "CaImAn, pixel by pixel": lambda f: (ONE.astype("f4"), open_video(caiman(f, "C"))),
    "CaImAn, frame by frame": lambda f: (ONE.astype("f4"), open_video(caiman(f, "F"))),
    "MAT 5": lambda f: (TWO, open_video(mat(f / "a.mat"))),
    "MAT 7": lambda f: (TWO, open_video(mat(f / "a.MAT", do_compression=True))),
    "MAT, a variable": lambda f: (ONE, open_video(mat(f / "a.mat"), dataset="ch1")),
    "joined": lambda f: (
        ONE,
        open_video([npy(f / "a.npy", movie()[:3]), npy(f / "b.npy", movie()[3:])], files="time"),
    ),
    "channels": lambda f: (TWO, open_video([npy(f / "a.npy", movie()), npy(f / "b.npy", movie() + 1)])),
    "single frames": lambda f: (ONE, open_video(single_frames(f))),
    "a folder of single frames": lambda f: (ONE, open_video(single_frames(f)[0].parent)),
    "Bruker": lambda f: (TWO, open_video(bruker(f / "rec"))),
    "arrays": lambda f: (ONE, open_video([movie()[:3], movie()[3:]], files="time")),
    "an array with axes": lambda f: (ONE, open_video(movie().transpose(1, 2, 0), axes="HWT")),
    "an open reader": lambda f: (ONE, open_video(ArrayReader(movie()))),
    "a part": lambda f: (
        TWO[..., 1:],
        open_video(np.concatenate([TWO[:2], TWO, TWO]), frames=f"2:{T + 2}", channels=[1]),
    ),
}


def single_frames(folder):
    (folder / "frames").mkdir()
    files = [folder / "frames" / f"f{t + 8}.tif" for t in range(T)]  # f10 comes after f9
    for file, frame in zip(files, movie(), strict=True):
        tifffile.imwrite(file, frame)
    return files


def bruker(folder, n_channels=2, kind="TSeries Timed Element", per_cycle=4, frames=None, bidirectional=False):
    folder.mkdir()
    frames = movie() if frames is None else frames
    lines = ['<?xml version="1.0" encoding="utf-8"?>', '<PVScan version="5.5.64.100">']
    for t in range(len(frames)):
        cycle, number = t // per_cycle + 1, t % per_cycle + 1
        if number == 1:
            lines.append(f'<Sequence type="{kind}" cycle="{cycle}" bidirectionalZ="{bidirectional}">')
        lines.append(f'<Frame relativeTime="{t}" index="{number}">')
        for channel in range(n_channels):
            name = f"rec_Cycle{cycle:05}_Ch{channel + 1}_{number:06}.ome.tif"
            tifffile.imwrite(folder / name, frames[t] + channel, metadata=None, description="<OME><BinaryOnly/></OME>")
            lines.append(f'<File channel="{channel + 1}" page="1" filename="{name}" />')
        lines += ["</Frame>", *["</Sequence>"] * (number == per_cycle or t + 1 == len(frames))]
    (folder / "rec.xml").write_text("\n".join([*lines, "</PVScan>"]))
    return folder


def thor(folder, n_planes=1):
    folder.mkdir()
    for channel, letter in enumerate("AB"):
        for t in range(T):
            for plane in range(n_planes):
                name = f"Chan{letter}_0001_0001_{plane + 1:04}_{t + 1:04}.tif"
                tifffile.imwrite(folder / name, movie()[t] + channel + 10 * plane)
    return folder


VOLUMES = "TSeries ZSeries Element"


@pytest.mark.parametrize("n_channels", [1, 2])
def test_volumes_of_bruker_are_planes(tmp_path, n_channels):
    volumes = np.random.default_rng(2).integers(0, 900, (5, 3, H, W), np.uint16)
    folder = bruker(tmp_path / "rec", n_channels, VOLUMES, 3, volumes.reshape(-1, H, W))
    with pytest.raises(ValueError, match=r"rec: 3 planes, .* plane=0 to plane=2"):
        open_video(folder)
    with pytest.raises(ValueError, match="plane=3, but there are 3 planes"):
        open_video(folder, plane=3)
    for plane in range(3):
        with open_video(folder, plane=plane) as reader:
            assert (len(reader), reader.n_planes, reader.plane) == (5, 3, plane)
            np.testing.assert_array_equal(reader[..., 0], volumes[:, plane])
            np.testing.assert_array_equal(reader[3:0:-2, ..., -1], volumes[3:0:-2, plane] + n_channels - 1)
    with open_video(folder, n_planes=1) as reader:
        assert len(reader) == 15
    with pytest.raises(ValueError, match=r"rec\.xml: n_planes is 5, but a volume has 3 planes"):
        open_video(folder, n_planes=5, plane=0)


def test_volumes_of_bruker_up_and_down(tmp_path):
    volumes = np.arange(12 * H * W, dtype=np.uint16).reshape(4, 3, H, W)
    as_scanned = volumes.copy()
    as_scanned[1::2] = as_scanned[1::2, ::-1]
    folder = bruker(tmp_path / "rec", 1, VOLUMES, 3, as_scanned.reshape(-1, H, W), bidirectional=True)
    with open_video(folder, plane=0) as reader:
        np.testing.assert_array_equal(reader[..., 0], volumes[:, 0])


def test_volumes_of_bruker_that_are_not_whole(tmp_path, caplog):
    frames = np.arange(8 * H * W, dtype=np.uint16).reshape(8, H, W)
    folder = bruker(tmp_path / "rec", 1, VOLUMES, 3, frames)
    with open_video(folder, plane=1) as reader:
        np.testing.assert_array_equal(reader[..., 0], frames[1:6:3])
    assert "the last volume has 2 of 3 planes and is left out" in caplog.text
    files = sorted(folder.glob("*.tif"))
    with pytest.raises(ValueError, match="volume 1 has 2 images, expected one of each of 3 planes"):
        open_video([file for file in files if "Cycle00001_Ch1_000002" not in file.name], plane=0)
    (folder / "rec.xml").write_text((folder / "rec.xml").read_text()[:-30])
    with pytest.raises(ValueError, match=r"rec\.xml: damaged, .* say n_planes=1 where every image is a frame"):
        open_video(folder, plane=0)


def test_cycles_of_bruker_without_their_xml(tmp_path):
    frames = np.arange(8 * H * W, dtype=np.uint16).reshape(8, H, W)
    folder = bruker(tmp_path / "rec", 1, VOLUMES, 3, frames)
    (folder / "rec.xml").unlink()
    with pytest.raises(ValueError, match=r"3 cycles of 3 images, and no rec\.xml beside them.* n_planes=3 and plane=0"):
        open_video(folder)
    with open_video(folder, n_planes=3, plane=2) as reader:
        np.testing.assert_array_equal(reader[..., 0], frames[2:6:3])
    with open_video(folder, n_planes=1) as reader:
        np.testing.assert_array_equal(reader[..., 0], frames)


def test_whole_cycles_of_bruker_without_their_xml(tmp_path):
    folder = bruker(tmp_path / "rec", 1, VOLUMES, 3, np.zeros((9, H, W), np.uint16))
    (folder / "rec.xml").unlink()
    with pytest.raises(ValueError, match=r"3 cycles of 3 images, and no rec\.xml"):
        open_video(folder)


def test_the_frame_rate_of_a_plane_is_that_of_its_volumes():
    reader = ArrayReader(movie())
    reader.frame_rate_hz = 30.0
    with PlaneReader(reader, np.arange(1, T, 3), 1, 3, "somebody") as plane:
        assert plane.frame_rate_hz == 10


def test_a_file_of_bruker_for_each_volume(tmp_path):
    volumes = np.arange(12 * H * W, dtype=np.uint16).reshape(4, 3, H, W)
    lines = []
    for cycle, volume in enumerate(volumes, 1):
        name = f"rec_Cycle{cycle:05}_Ch2_000001.ome.tif"
        tifffile.imwrite(tmp_path / name, volume, photometric="minisblack", metadata=None)
        frames = [f'<Frame index="{p}"><File page="{p}" filename="{name}"/></Frame>' for p in (1, 2, 3)]
        lines.append(f'<Sequence type="{VOLUMES}" cycle="{cycle}">{"".join(frames)}</Sequence>')
    (tmp_path / "rec.xml").write_text(f"<PVScan>{''.join(lines)}</PVScan>")
    with open_video(tmp_path, plane=1) as reader:
        np.testing.assert_array_equal(reader[..., 0], volumes[:, 1])


@pytest.fixture(params=READERS)
def video(request, tmp_path):
    expected, reader = READERS[request.param](tmp_path)
    with reader:
        yield expected, reader


def test_reads_what_was_written(video):
    expected, reader = video
    assert (reader.shape, reader.dtype) == (expected.shape, expected.dtype)
    assert reader[:].dtype.isnative
    for key in (slice(None), 3, slice(4, 1, -1), slice(20, 30), [5, 0, 0, 6], (-1, slice(2, 5), 3, 0)):
        np.testing.assert_array_equal(reader[key], expected[key])
    np.testing.assert_array_equal(np.concatenate([frames for _, frames in reader.batches(2)]), expected)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(["npy", "raw", "mat", "tif", "h5"]),
    shape=st.tuples(st.integers(1, 6), st.integers(2, 9), st.integers(2, 9)),
    dtype=st.sampled_from(["u1", "<i2", ">u2", "i4", "<f4", ">f8"]),
    chunk=st.integers(1, 4),
    data=st.data(),
)
def test_any_shape_type_and_chunks(tmp_path_factory, kind, shape, dtype, chunk, data):
    frames, path = movie(*shape, dtype=dtype), tmp_path_factory.mktemp("any") / f"a.{kind}"
    options = {}
    if kind == "npy":
        np.save(path, frames)
    elif kind == "raw":
        path.write_bytes(frames.tobytes())
        options = {"shape": shape, "dtype": dtype}
    elif kind == "mat":
        scipy.io.savemat(path, {"ch1": np.moveaxis(frames, 0, -1)}, do_compression=bool(chunk % 2))
        options = {"axes": "HWT"}
        if shape[0] == 1:  # MATLAB has no last axis of one
            options, frames = {"axes": "HWT"}, np.concatenate([frames, frames])
            scipy.io.savemat(path, {"ch1": np.moveaxis(frames, 0, -1)})
    elif kind == "tif":
        with tifffile.TiffWriter(path, byteorder=dtype[0] if dtype[0] in "<>" else "<") as file:
            for frame in frames:
                file.write(frame, contiguous=False, rowsperstrip=chunk, metadata=None, photometric="minisblack")
    else:
        with h5py.File(path, "w") as file:
            file.create_dataset(
                "ch1", data=frames, chunks=tuple(min(chunk, size) for size in shape), compression="gzip"
            )
    indices = data.draw(st.lists(st.integers(-len(frames), len(frames) - 1), max_size=8))
    with open_video(path, **options) as reader:
        np.testing.assert_array_equal(reader[..., 0], frames)
        np.testing.assert_array_equal(reader[indices][..., 0], frames[indices] if indices else frames[:0])


def test_rates_and_where_they_are_from(tmp_path):
    with open_video(suite2p(tmp_path / "a", movie())) as reader:
        assert (reader.frame_rate_hz, reader.origin["frame rate"]) == (15, "ops.npy")
    with open_video(movie(), frame_rate=30) as reader:
        assert (reader.frame_rate_hz, reader.origin["frame rate"]) == (30, "as given")


def test_an_open_reader_stays_open(tmp_path):
    reader = open_video(npy(tmp_path / "a.npy", movie()))
    with open_video(reader, frames="2:4") as part:
        np.testing.assert_array_equal(part[..., 0], movie()[2:4])
    np.testing.assert_array_equal(reader[..., 0], movie())
    reader.close()


def test_many_files_do_not_stay_open(tmp_path):
    files = []
    for t in range(60):
        tifffile.imwrite(tmp_path / f"{t}.tif", movie()[t % T])
        files.append(tmp_path / f"{t}.tif")
    held = Path("/proc/self/fd")
    if not held.exists():
        pytest.skip("open files are counted on Linux")
    before = len(list(held.iterdir()))
    with open_video(files) as reader:
        reader[:]
        assert len(list(held.iterdir())) - before < 20
        assert len(reader) == 60


# ---- what does not fit ------------------------------------------------------------------------------------


def test_options_are_checked(tmp_path):
    path = npy(tmp_path / "a.npy", movie())
    for options, message in [
        ({"n_chanels": 2}, "unknown reader option 'n_chanels'; did you mean 'n_channels'"),
        ({"n_channels": 2}, r"a\.npy: the option n_channels is not about npy files, which take axes, plane"),
        ({"frames": "5"}, "frames: expected 'first:stop'"),
        ({"frames": "5:90"}, r"a\.npy: frames='5:90', but there are 7 frames"),
        ({"channels": [1]}, r"a\.npy: channels=\[1\], but there are 1"),
        ({"plane": 1}, r"a\.npy: plane=1, but there are 1 planes"),
        ({"dtype": "text"}, "dtype: expected an integer or floating type"),
    ]:
        with pytest.raises(ValueError, match=message):
            open_video(path, **options)
    assert ReaderOptions(frames=(2, 5)).range_of(7, "") == range(2, 5)


def test_damaged_files_are_named_with_what_was_expected(tmp_path):
    whole = npy(tmp_path / "a.npy", movie()).read_bytes()
    (tmp_path / "a.npy").write_bytes(whole[:-10])
    with pytest.raises(ValueError, match=r"a\.npy: truncated: \(7, 10, 12\) int16 .* are 1808 bytes, .* 1798"):
        open_video(tmp_path / "a.npy")
    np.save(tmp_path / "o.npy", {"a": 1})
    with pytest.raises(ValueError, match=r"o\.npy: holds Python objects"):
        open_video(tmp_path / "o.npy")
    path = suite2p(tmp_path / "s", movie(), nframes=9)
    with pytest.raises(ValueError, match=r"data\.bin: ops.npy says 9 frames, the file has 7"):
        open_video(path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"data\.bin: truncated: 1679 bytes are no whole number of frames of 10 x 12"):
        open_video(path)
    (tmp_path / "s/ops.npy").unlink()
    with pytest.raises(ValueError, match=r"data\.bin: there is no ops\.npy beside it"):
        open_video(path)
    path = caiman(tmp_path, "C").rename(tmp_path / "a_d1_9_d2_12_d3_1_order_C_frames_7_.mmap")
    with pytest.raises(ValueError, match=r"its name says 7 frames of 9 x 12 pixels, 3024 bytes, the file has 3360"):
        open_video(path)
    path = raw(tmp_path / "a.raw", movie())
    with pytest.raises(ValueError, match=r"a\.raw: a raw file says nothing .* shape=\(512, 512\)"):
        open_video(path)
    with pytest.raises(ValueError, match=r"a\.raw: shape \(9, 10, 12\) says 9 frames, the file has 7"):
        open_video(path, shape=(9, H, W), dtype="int16")
    with pytest.raises(ValueError, match=r"a\.raw: 1677 bytes after the first 3 are no whole number of frames"):
        open_video(path, shape=(H, W), dtype="int16", offset=3)
    whole = mat(tmp_path / "a.mat").read_bytes()
    (tmp_path / "a.mat").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"a\.mat: "):
        open_video(tmp_path / "a.mat")
    scipy.io.savemat(tmp_path / "b.mat", {"a": movie(), "b": movie(), "c": 1.0})
    with pytest.raises(ValueError, match=r"b\.mat: which variable is the video.*a \(7, 10, 12\), b"):
        open_video(tmp_path / "b.mat")


def test_joined_files_must_fit_each_other(tmp_path):
    files = [npy(tmp_path / "a.npy", movie()), npy(tmp_path / "b.npy", movie()[:, :5])]
    with pytest.raises(ValueError, match=r"of .*a\.npy are \(10, 12, 1\) int16, of .*b\.npy \(5, 12, 1\) int16"):
        open_video(files, files="time")
    files[1] = npy(tmp_path / "b.npy", movie()[:5])
    with pytest.raises(ValueError, match=r'channels differ: .*follow each other in time, say files="time"'):
        open_video(files)


def test_two_channels_of_thor_are_not_one_after_the_other(tmp_path):
    with open_video(thor(tmp_path / "rec")) as reader:
        np.testing.assert_array_equal(reader[:], np.stack([movie(), movie() + 1], axis=-1))


def test_planes_of_thor_are_not_frames(tmp_path):
    folder = thor(tmp_path / "rec", n_planes=3)
    with pytest.raises(ValueError, match=r"rec: 3 planes, .* choose with plane=0 to plane=2"):
        open_video(folder)
    with open_video(folder, plane=2) as reader:
        np.testing.assert_array_equal(reader[:], np.stack([movie() + 20, movie() + 21], axis=-1))
        assert (reader.n_planes, reader.plane, len(reader)) == (3, 2, T)
        assert reader.origin["planes"]


def test_two_series_in_one_folder_are_not_guessed_about(tmp_path):
    (tmp_path / "rec").mkdir()
    for colour in ("green", "red"):
        for t in range(T):
            tifffile.imwrite(tmp_path / "rec" / f"{colour}_{t}.tif", movie()[t])
    with pytest.raises(ValueError, match=r'rec: .*green_\*\.tif and red_\*\.tif, .*files="time"'):
        open_video(tmp_path / "rec")
    with open_video(tmp_path / "rec", files="time") as reader:
        assert len(reader) == 2 * T
    channels = [[tmp_path / "rec" / f"{colour}_{t}.tif" for t in range(T)] for colour in ("green", "red")]
    with open_video(channels) as reader:
        assert reader.shape == (T, H, W, 2)


def test_missing_members_of_a_sequence_are_named(tmp_path):
    files = single_frames(tmp_path)
    files[2].unlink()
    with pytest.raises(ValueError, match=r"f9\.tif: .*number 8 to 14, 7 expected, 6 found; number 10 is missing"):
        open_video(files[0].parent)
    with open_video([file for file in files if file.exists()]) as reader:
        assert len(reader) == T - 1
    folder = bruker(tmp_path / "rec")
    (folder / "rec_Cycle00001_Ch2_000003.ome.tif").unlink()
    with pytest.raises(ValueError, match="number 3 is missing"):
        open_video(folder)


def test_numbers_that_are_no_count_may_have_gaps(tmp_path):
    for frame, date in zip(movie(), (901, 914, 1002, 1003, 1030, 1101, 1102), strict=True):
        tifffile.imwrite(tmp_path / f"{date}.tif", frame)
    with open_video(tmp_path) as reader:
        np.testing.assert_array_equal(reader[..., 0], movie())


def test_single_frames_of_two_names_that_go_on_counting_follow_each_other(tmp_path):
    for number, frame in enumerate(movie()[:4]):
        tifffile.imwrite(tmp_path / f"{'ab'[number // 2]}{number}.tif", frame)
    with open_video(tmp_path) as reader:
        np.testing.assert_array_equal(reader[..., 0], movie()[:4])


@pytest.mark.parametrize("kind", ["npy", "tif"])
def test_a_file_that_grows_while_it_is_read(tmp_path, kind):
    path = npy(tmp_path / "a.npy", movie()) if kind == "npy" else tmp_path / "a.tif"
    if kind == "tif":
        tifffile.imwrite(path, movie())
    with open_video(path) as reader:
        reader[0]
        with open(path, "ab") as file:
            file.write(bytes(1000))
        with pytest.raises(ValueError, match=rf"{path.name}: grew while it was read: expected \d+ bytes, found \d+"):
            reader[0]


def test_a_folder_of_nothing_and_of_everything(tmp_path):
    with pytest.raises(IsADirectoryError, match="is a folder without images"):
        open_video(tmp_path)
    npy(tmp_path / "a.npy", movie())
    tifffile.imwrite(tmp_path / "a.tif", movie())
    with pytest.raises(ValueError, match="a folder of images of several formats, TIFF, npy"):
        open_video(tmp_path)


def test_a_folder_without_images_says_what_is_in_it_instead(tmp_path):
    def refusal(error, path):
        with pytest.raises(error) as caught:
            open_video(path)
        return str(caught.value)

    (tmp_path / "s2p" / "plane0").mkdir(parents=True)
    (tmp_path / "s2p" / "plane0" / "data.bin").write_bytes(bytes(100))
    assert f"that of suite2p is {tmp_path / 's2p' / 'plane0'}" in refusal(IsADirectoryError, tmp_path / "s2p")
    assert "open the file itself" in refusal(IsADirectoryError, tmp_path / "s2p" / "plane0")

    (tmp_path / "scanbox").mkdir()
    (tmp_path / "scanbox" / "x_000_000.sbx").write_bytes(bytes(100))
    scipy.io.savemat(tmp_path / "scanbox" / "x_000_000.mat", {"info": {"channels": 2}})
    assert "x_000_000.sbx: of Scanbox" in refusal(ValueError, tmp_path / "scanbox")

    thor = tmp_path / "thor"
    thor.mkdir()
    (thor / "Image_0001_0001.raw").write_bytes(bytes(100))
    (thor / "Experiment.xml").write_text('<LSM pixelX="160" pixelY="128" frameRate="30"/>')
    assert f"open the file itself, {thor / 'Image_0001_0001.raw'}" in refusal(IsADirectoryError, thor)
    assert "shape=(128, 160)" in refusal(ValueError, thor / "Image_0001_0001.raw")


def test_a_missing_file_names_the_one_that_was_meant(tmp_path, monkeypatch):
    npy(tmp_path / "day1.npy", movie())
    with pytest.raises(FileNotFoundError, match=r"dya1\.npy: no such file, did you mean 'day1\.npy'\?$"):
        open_video(tmp_path / "dya1.npy")
    with pytest.raises(FileNotFoundError, match=r"no such file; there is no folder .*tuesday$"):
        open_video(tmp_path / "tuesday" / "day1.npy")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=rf"other\.tif: no such file in {tmp_path}$"):
        open_video("other.tif")


def test_a_file_is_named_once(tmp_path):
    with pytest.raises(ValueError, match=r"a\.npy: shape") as caught:
        open_video(npy(tmp_path / "a.npy", np.zeros((3, 30, 40, 50))))
    assert str(caught.value).count("a.npy") == 1


@pytest.mark.parametrize("suffix", ["h5", "mat", "zarr"])
def test_what_is_there_instead_of_a_movie_is_named(tmp_path, suffix):
    path, trace = tmp_path / f"a.{suffix}", movie().reshape(T, -1)
    if suffix == "h5":
        with h5py.File(path, "w") as file:
            file["pixels"] = trace
    elif suffix == "mat":
        scipy.io.savemat(path, {"pixels": trace})
    else:
        pytest.importorskip("zarr").save(path, trace)
    with pytest.raises(ValueError, match=r"found: none, only (array|pixels) \(7, 120\)"):
        open_video(path)


def test_content_goes_before_the_name(tmp_path):
    npy(tmp_path / "a.npy", movie()).rename(tmp_path / "a.tif")
    with open_video(tmp_path / "a.tif") as reader:
        np.testing.assert_array_equal(reader[..., 0], movie())


def test_zarr_is_asked_for_by_name(tmp_path, monkeypatch):
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr/.zgroup").write_text('{"zarr_format": 2}')
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(ImportError, match=r"a\.zarr: .*pip install pyflow-2p\[zarr\]"):
        open_video(tmp_path / "a.zarr")


# ---- Zarr -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [2, 3])
def test_zarr(tmp_path, version):
    zarr = pytest.importorskip("zarr", minversion="3")
    array = zarr.create_array(
        tmp_path / "a.zarr", shape=(T, H, W), chunks=(2, 5, 5), dtype="int16", zarr_format=version
    )
    array[:] = movie()
    with open_video(tmp_path / "a.zarr") as reader:
        for key in (slice(None), 3, [5, 0, 0, 6]):
            np.testing.assert_array_equal(reader[key][..., 0], movie()[key])
        assert reader.origin["format"] == f"Zarr {version}"


@pytest.mark.parametrize("version", [2, 3])
def test_chunks_that_are_not_in_a_zarr_store_are_told(tmp_path, version, caplog):
    zarr = pytest.importorskip("zarr", minversion="3")
    array = zarr.create_array(
        tmp_path / "a.zarr", shape=(20, H, W), chunks=(2, 5, 6), dtype="int16", zarr_format=version, fill_value=3
    )
    with pytest.raises(
        ValueError, match=r"a\.zarr: array has shape \(20, 10, 12\), but nothing was ever written to it"
    ):
        open_video(tmp_path / "a.zarr")
    array[:14] = np.resize(movie(), (14, H, W))
    with open_video(tmp_path / "a.zarr") as reader:
        assert len(reader) == 20
    assert "a.zarr: 12 of 40 chunks of array are not in the store; their pixels are read as 3" in caplog.text
    caplog.clear()
    array[14:] = 1
    open_video(tmp_path / "a.zarr").close()
    assert not caplog.text


@pytest.mark.parametrize("version", [2, 3])
def test_ome_zarr(tmp_path, version):
    zarr = pytest.importorskip("zarr", minversion="3")
    group = zarr.open_group(tmp_path / "a.ome.zarr", mode="w", zarr_format=version)
    data = movie(T, 2, 3, H, W)
    group.create_array("0", shape=data.shape, dtype=data.dtype, chunks=(1, 1, 1, H, W))[:] = data
    group.create_array("1", shape=(T, 2, 3, 5, 6), dtype=data.dtype, chunks=(1, 1, 1, 5, 6))
    axes = [{"name": name} for name in "tczyx"]
    scales = [{"axes": axes, "datasets": [{"path": "0"}, {"path": "1"}]}]
    group.attrs["multiscales" if version == 2 else "ome"] = scales if version == 2 else {"multiscales": scales}
    with pytest.raises(ValueError, match="3 planes"):
        open_video(tmp_path / "a.ome.zarr")
    with open_video(tmp_path / "a.ome.zarr", plane=1) as reader:
        np.testing.assert_array_equal(reader[:], np.moveaxis(data[:, :, 1], 1, -1))
        np.testing.assert_array_equal(reader[[4, 2]], np.moveaxis(data[[4, 2], :, 1], 1, -1))


def test_nwb_as_pynwb_writes_it(tmp_path):
    from datetime import UTC, datetime

    pynwb = pytest.importorskip("pynwb")
    from pynwb.ophys import TwoPhotonSeries
    from pynwb.testing.mock.ophys import mock_ImagingPlane

    file = pynwb.NWBFile("a movie", "id", datetime(2026, 1, 1, tzinfo=UTC))
    plane = mock_ImagingPlane(nwbfile=file)
    data = movie().transpose(0, 2, 1)  # (frame, x, y)
    file.add_acquisition(TwoPhotonSeries(name="movie", data=data, imaging_plane=plane, rate=30.0, unit="n.a."))
    with pynwb.NWBHDF5IO(tmp_path / "a.nwb", "w") as io:
        io.write(file)
    with open_video(tmp_path / "a.nwb") as reader:
        np.testing.assert_array_equal(reader[..., 0], movie())
        assert reader.frame_rate_hz == 30
