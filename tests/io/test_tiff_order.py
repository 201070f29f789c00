"""Which page of a TIFF file is which frame, plane and channel: as its header says, held against the pages."""

import json
import logging
import struct

import numpy as np
import pytest
import tifffile
from scipy.ndimage import gaussian_filter

from pyflow.io import open_video

H, W = 10, 12

SI5 = "scanimage.SI5.channelsSave = [1;2]\nscanimage.SI5.fastZEnable = false\nscanimage.SI5.scanFrameRate = 30.5\n"
SI2016 = """SI.LINE_FORMAT_VERSION = 1
SI.VERSION_MAJOR = '2016'
SI.hChannels.channelSave = {channels}
SI.hFastZ.enable = {fast}
SI.hFastZ.discardFlybackFrames = {flyback}
SI.hFastZ.numDiscardFlybackFrames = 1
SI.hFastZ.numVolumes = {volumes}
SI.hRoiManager.scanFrameRate = 30
SI.hScan2D.logAverageFactor = {averaged}
SI.hStackManager.framesPerSlice = {frames}
SI.hStackManager.numSlices = {planes}
"""


def si2016(channels="1", fast="0", flyback="0", volumes="1", averaged="1", frames="Inf", planes="1"):
    values = dict(locals())
    return SI2016.format(**values)


def pages(count, dtype=np.int16):
    return np.random.default_rng(1).integers(0, 250, (count, H, W)).astype(dtype)


def write(path, images, description=None, software=None, **options):
    with tifffile.TiffWriter(path, **options) as file:
        for image in images:
            file.write(image, contiguous=False, metadata=None, description=description, software=software or False)
    return path


def scanimage(path, count, **header):
    images = pages(count)
    return images, write(path, images, "frameNumbers = 1\n", si2016(**header), bigtiff=True)


def test_channels_of_scanimage_5_are_apart(tmp_path):
    images = pages(24)
    with open_video(write(tmp_path / "a.tif", images, SI5)) as reader:
        np.testing.assert_array_equal(reader[:], np.moveaxis(images.reshape(12, 2, H, W), 1, -1))
        assert reader.frame_rate_hz == 30.5


@pytest.mark.parametrize("place", ["artist", "behind the settings", "nowhere"])
def test_several_regions_of_scanimage_are_refused(tmp_path, place):
    images, software = pages(4), f"{si2016()}SI.hRoiManager.mroiEnable = 1\n"

    def regions(*enabled):
        rois = [{"enable": on, "scanfields": {"pixelResolutionXY": [W, 4]}} for on in enabled]
        text = json.dumps({"RoiGroups": {"imagingRoiGroup": {"rois": rois if len(rois) > 1 else rois[0]}}}, indent=1)
        path = tmp_path / f"{sum(enabled)}.tif"
        with tifffile.TiffWriter(path, bigtiff=True) as file:
            extra = [(315, "s", 0, text, True)] if place == "artist" else []
            behind = f"\n{text}\n" if place == "behind the settings" else ""
            for image in images:
                file.write(image, contiguous=False, metadata=None, software=software + behind, extratags=extra)
        return path

    number = "several" if place == "nowhere" else 2
    with pytest.raises(ValueError, match=rf'2\.tif: its pages hold {number} regions .* or say axes="THW"'):
        open_video(regions(1, 0, 1))
    with open_video(regions(1, 1), axes="THW") as reader:
        assert len(reader) == 4
    if place != "nowhere":
        for alone in (regions(1), regions(0, 1)):
            with open_video(alone) as reader:
                assert len(reader) == 4


def test_an_aborted_recording_opens_with_a_warning(tmp_path, caplog):
    images, path = scanimage(tmp_path / "a.tif", 24, frames="1000")
    with open_video(path) as reader:
        np.testing.assert_array_equal(reader[..., 0], images)
    (record,) = caplog.records
    assert "says 1000 frames, the file has 24" in record.message
    assert record.levelno == logging.WARNING


def test_no_frame_is_lost_that_the_header_did_not_plan(tmp_path, caplog):
    images, path = scanimage(tmp_path / "a.tif", 24, frames="10")
    with open_video(path) as reader:
        np.testing.assert_array_equal(reader[..., 0], images)
    assert "says 10 frames, the file has 24" in caplog.text


def test_half_a_frame_is_left_out_with_a_warning(tmp_path, caplog):
    images, path = scanimage(tmp_path / "a.tif", 23, channels="[1 2]")
    with open_video(path) as reader:
        np.testing.assert_array_equal(reader[:], np.moveaxis(images[:22].reshape(11, 2, H, W), 1, -1))
    assert "the file has 23: 11 whole frames are read and the last 1 pages left out" in caplog.text


def test_less_than_a_frame_is_an_error_with_both_numbers(tmp_path):
    _, path = scanimage(tmp_path / "a.tif", 3, channels="[1;2;3;4]")
    with pytest.raises(ValueError, match=r"a\.tif: .*2016 says 4 pages per frame or volume, the file has 3"):
        open_video(path)


def test_planes_of_a_volume_are_asked_for(tmp_path, caplog):
    images, path = scanimage(tmp_path / "a.tif", 4 * 8 + 3, channels="[1;2]", fast="1", flyback="1", planes="3")
    with pytest.raises(ValueError, match=r"a\.tif: 3 planes, of which one .*; choose with plane=0 to plane=2"):
        open_video(path)
    whole = images[:32].reshape(4, 4, 2, H, W)
    for plane in range(3):  # the fourth is the flyback
        with open_video(path, plane=plane) as reader:
            np.testing.assert_array_equal(reader[:], np.moveaxis(whole[:, plane], 1, -1))
            assert (reader.plane, reader.n_planes, reader.frame_rate_hz) == (plane, 3, 30 / 4)
    assert "4 whole volumes are read and the last 3 pages left out" in caplog.text
    with pytest.raises(ValueError, match="plane=3, but there are 3 planes"):
        open_video(path, plane=3)


def test_planes_recorded_one_after_the_other(tmp_path):
    images, path = scanimage(tmp_path / "a.tif", 25, frames="20", averaged="2", planes="3")
    for plane, expected in enumerate((images[:10], images[10:20], images[20:])):
        with open_video(path, plane=plane) as reader:
            np.testing.assert_array_equal(reader[..., 0], expected)
            assert reader.frame_rate_hz == 15


def test_the_rate_of_volumes_counts_frames_that_were_averaged(tmp_path):
    _, path = scanimage(tmp_path / "a.tif", 12, fast="1", averaged="2", planes="3")
    with open_video(path, plane=0) as reader:
        assert reader.frame_rate_hz == 30 / 2 / 3


@pytest.mark.parametrize("discarded", ["true", "false"])
def test_the_flyback_of_scanimage_5_is_no_plane(tmp_path, discarded):
    images = pages(16)
    header = (
        SI5.replace("[1;2]", "1").replace("fastZEnable = false", "fastZEnable = true")
        + f"scanimage.SI5.stackNumSlices = 3\nscanimage.SI5.fastZDiscardFlybackFrames = {discarded}\n"
        "scanimage.SI5.fastZNumDiscardFrames = 1\n"
    )
    step = 4 if discarded == "true" else 3
    with open_video(write(tmp_path / "a.tif", images, header), plane=2) as reader:
        np.testing.assert_array_equal(reader[..., 0], images[2::step])
        assert (reader.n_planes, reader.frame_rate_hz) == (3, 30.5 / step)


SI3 = "state.configName='a'\rstate.acq.numberOfChannelsSave=1\rstate.acq.frameRate=4\rstate.acq.numberOfZSlices=1\r"


def test_a_file_of_scanimage_3_written_again_keeps_its_last_frame(tmp_path):
    """Its pages lie otherwise than ScanImage leaves them, which libraries count on."""
    images = pages(20)
    with open_video(write(tmp_path / "a.tif", images, SI3)) as reader:
        np.testing.assert_array_equal(reader[..., 0], images)
        assert reader.frame_rate_hz == 4


def test_channels_of_scanimage_3(tmp_path):
    images = pages(20)
    header = SI3.replace("ChannelsSave=1", "ChannelsSave=2")
    with open_video(write(tmp_path / "a.tif", images, header)) as reader:
        np.testing.assert_array_equal(reader[:], np.moveaxis(images.reshape(10, 2, H, W), 1, -1))


def test_the_user_knows_better_than_a_header_of_another_file(tmp_path, caplog):
    images = pages(12)
    path = write(tmp_path / "a.tif", images, SI5)
    with open_video(path, n_channels=1) as reader:
        np.testing.assert_array_equal(reader[..., 0], images)
    assert "n_channels is 1, though the header says 2" in caplog.text
    with open_video(path, axes="THW") as reader:
        assert reader.shape == (12, H, W, 1)
    with open_video(path, axes="CTHW") as reader:
        np.testing.assert_array_equal(reader[..., 1], images[6:])


def test_a_real_header_of_scanimage(shared, caplog):
    with open_video(shared / "data/formats/TIFFStack_BigTIFF.tif") as reader:
        assert (reader.shape, reader.dtype, reader.frame_rate_hz) == ((3, 512, 512, 1), np.int16, 30.012)
        assert "ScanImage 2016" in reader.origin["channels"]
    assert not caplog.records


# ---- ImageJ, OME, tifffile --------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".tif", ".ome.tif"])
@pytest.mark.parametrize("axes", ["TZYX", "TZCYX"])
def test_planes_of_imagej_and_ome_are_asked_for(tmp_path, suffix, axes):
    movie = np.random.default_rng(0).integers(0, 250, (5, 3, 2, H, W)).astype(np.uint16)
    movie = movie if "C" in axes else movie[:, :, 0]
    metadata = {"axes": axes, **({"finterval": 0.1} if suffix == ".tif" else {"TimeIncrement": 0.1})}
    tifffile.imwrite(tmp_path / f"a{suffix}", movie, imagej=suffix == ".tif", metadata=metadata)
    with pytest.raises(ValueError, match="3 planes, of which one"):
        open_video(tmp_path / f"a{suffix}")
    with open_video(tmp_path / f"a{suffix}", plane=1) as reader:
        expected = movie[:, 1][:, None] if "C" not in axes else movie[:, 1]
        np.testing.assert_array_equal(reader[:], np.moveaxis(expected, 1, -1))
        assert reader.frame_rate_hz == 10


def test_a_big_stack_of_imagej_has_one_directory(shared):
    path = shared / "data/formats/TIFFStack_IJBigStack8.tif"
    expected = tifffile.imread(path)
    with open_video(path, plane=1) as reader:
        np.testing.assert_array_equal(reader[:], np.moveaxis(expected[:, 1], 1, -1))


def test_a_plain_stack_of_imagej_is_a_movie(tmp_path):
    images = pages(6, np.uint8)
    with open_video(write(tmp_path / "a.tif", images, "ImageJ=1.53\nimages=6\nslices=6\nloop=false\n")) as reader:
        np.testing.assert_array_equal(reader[..., 0], images)


@pytest.mark.parametrize("more", ["spacing=5.0\nunit=micron\n", "spacing=2\n", "spacing=5.0\nfinterval=0.1\n"])
def test_a_plain_stack_of_imagej_with_a_spacing_may_be_planes(tmp_path, more):
    images = pages(6, np.uint8)
    path = write(tmp_path / "a.tif", images, f"ImageJ=1.53\nimages=6\nslices=6\n{more}loop=false\n")
    if "finterval" not in more:
        with pytest.raises(ValueError, match=r'6 slices with a spacing of \d[^ ]*( micron)? and no .*say axes="THW"'):
            open_video(path)
    with open_video(path, axes=None if "finterval" in more else "THW") as reader:
        np.testing.assert_array_equal(reader[..., 0], images)


@pytest.mark.parametrize("announced", [5, 8])
def test_imagej_and_its_pages_disagree(tmp_path, announced):
    path = write(tmp_path / "a.tif", pages(6), f"ImageJ=1.53\nimages={announced}\nframes={announced}\n")
    with pytest.raises(ValueError, match=rf"a\.tif: .*says {announced} pages, the file has 6"):
        open_video(path)
    with open_video(path, axes="THW") as reader:
        assert len(reader) == 6


def test_a_thousand_channels_are_frames(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", pages(30, np.uint16), imagej=True)
    with pytest.raises(ValueError, match=r'one frame of 30 channels .*improbable; say axes="THW" for 30 frames'):
        open_video(tmp_path / "a.tif")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_three_frames_are_no_colours(tmp_path, dtype):
    movie = pages(3, dtype)
    # As imwrite does by default with three frames, though it now warns of it.
    tifffile.imwrite(tmp_path / "a.tif", movie, photometric="rgb", planarconfig="separate")
    with open_video(tmp_path / "a.tif") as reader:
        np.testing.assert_array_equal(reader[..., 0], movie)
        np.testing.assert_array_equal(reader[[2, 0], ..., 0], movie[[2, 0]])


def test_axes_that_nobody_named(tmp_path):
    movie = pages(24).reshape(8, 3, H, W)
    tifffile.imwrite(tmp_path / "a.tif", movie, photometric="minisblack")
    with pytest.raises(ValueError, match=r'not which axis is time; say so, for example axes="TCHW" and n_channels=3'):
        open_video(tmp_path / "a.tif")
    with open_video(tmp_path / "a.tif", axes="TZHW", n_planes=3, plane=2) as reader:
        np.testing.assert_array_equal(reader[..., 0], movie[:, 2])
    tifffile.imwrite(tmp_path / "a.tif", movie[:, :2])
    with open_video(tmp_path / "a.tif") as reader:
        np.testing.assert_array_equal(reader[:], np.moveaxis(movie[:, :2], 1, -1))


def ome_set(folder, lost=None):
    """Three files of two frames each, of which each names all, as microscopes write them."""
    images = pages(6, np.uint16)
    data = "".join(
        f'<TiffData FirstT="{t}" IFD="{t % 2}" PlaneCount="1"><UUID FileName="{t // 2}.ome.tif">'
        f"urn:uuid:{t // 2}</UUID></TiffData>"
        for t in range(6)
    )
    xml = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:{}">'
        f'<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint16" SizeX="{W}" SizeY="{H}" '
        f'SizeC="1" SizeZ="1" SizeT="6">{data}</Pixels></Image></OME>'
    )
    for number in range(3):
        write(folder / f"{number}.ome.tif", images[2 * number : 2 * number + 2], xml.format(number))
    if lost is not None:
        (folder / f"{lost}.ome.tif").unlink()
    return images


def test_an_ome_set_is_read_from_all_its_files(tmp_path):
    images = ome_set(tmp_path)
    with open_video(tmp_path / "1.ome.tif") as reader:
        np.testing.assert_array_equal(reader[[5, 0, 1, 2, 3], ..., 0], images[[5, 0, 1, 2, 3]])


def test_a_missing_file_of_an_ome_set_is_named(tmp_path):
    ome_set(tmp_path, lost=1)
    with pytest.raises(ValueError, match=r"0\.ome\.tif: of the 3 files of this OME set 1 are missing: 1\.ome\.tif"):
        open_video(tmp_path / "0.ome.tif")


@pytest.mark.parametrize(
    ("stored", "message"), [(4, "truncated: the header says 5 pages, the file has 4"), (7, "says 5")]
)
def test_an_ome_header_and_its_pages_disagree(tmp_path, stored, message):
    tifffile.imwrite(tmp_path / "a.ome.tif", pages(5, np.uint16))
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as file:
        xml = file.pages[0].description
    write(tmp_path / "b.ome.tif", pages(stored, np.uint16), xml)
    with pytest.raises(ValueError, match=rf"b\.ome\.tif: .*{message}"):
        open_video(tmp_path / "b.ome.tif")


# ---- the chain of page directories ------------------------------------------------------------------------


def test_a_file_that_lacks_its_last_byte_is_truncated(tmp_path):
    path = write(tmp_path / "a.tif", pages(3))
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    with pytest.raises(ValueError, match=rf"a\.tif: truncated: .* {len(data)} bytes, the file has {len(data) - 1}"):
        open_video(path)


def test_strips_with_something_between_them(tmp_path):
    images = pages(3, np.uint16)
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as file:
        for image in images:
            file.write(image, contiguous=False, metadata=None, rowsperstrip=H // 2)
    with tifffile.TiffFile(path) as file:
        strips = [(page.tags[273].valueoffset, page.dataoffsets[1], page.databytecounts[1]) for page in file.pages]
        assert file.pages[0].tags[273].dtype == tifffile.DATATYPE.LONG
    data = bytearray(path.read_bytes())
    for place, at, count in strips:  # the second strip of every page goes to the end of the file
        struct.pack_into("<I", data, place + 4, len(data))
        data += data[at : at + count]
        data[at : at + count] = bytes(count)
    path.write_bytes(data)
    with open_video(path) as reader:
        np.testing.assert_array_equal(reader[..., 0], images)


def test_pages_of_as_many_but_other_tags(tmp_path):
    images = pages(4)
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for number, image in enumerate(images):
            tag = (65000, "H", 1, 7, True) if number % 2 else (269, "H", 1, 7, True)  # behind the others, among them
            file.write(image, contiguous=False, metadata=None, software=False, extratags=[tag])
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert len({len(page.tags) for page in file.pages}) == 1
    with open_video(tmp_path / "a.tif") as reader:
        np.testing.assert_array_equal(reader[..., 0], images)


@pytest.mark.parametrize("n_tags", [24, 25, 26])  # of 25 a first read of 512 bytes lacks only the end
def test_directories_of_any_length(tmp_path, n_tags):
    images = pages(3)
    with tifffile.TiffWriter(tmp_path / "a.tif", bigtiff=True) as file:
        for image in images:
            extra = [(65000 + number, "H", 1, number, True) for number in range(n_tags - 13)]
            file.write(image, contiguous=False, metadata=None, software=False, extratags=extra)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert len(file.pages[0].tags) == n_tags
    with open_video(tmp_path / "a.tif") as reader:
        np.testing.assert_array_equal(reader[..., 0], images)


def test_parts_of_other_sizes_are_refused(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for shape in ((3, 2), (2, 3)):
            file.write(pages(6).reshape(*shape, H, W), metadata={"axes": "TCYX"}, photometric="minisblack")
    with pytest.raises(ValueError, match=r"a\.tif: parts of other axes, TC \(3, 2\) and TC \(2, 3\), in one file"):
        open_video(tmp_path / "a.tif")


def test_previews_are_no_frames(tmp_path):
    images = pages(3)
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for image in images:
            file.write(image, metadata=None)
            file.write(image[::2, ::2], metadata=None, subfiletype=1)
    with open_video(tmp_path / "a.tif") as reader:
        np.testing.assert_array_equal(reader[..., 0], images)


def test_a_chain_that_bites_its_tail_is_damaged(tmp_path):
    path = write(tmp_path / "a.tif", pages(3))
    with tifffile.TiffFile(path) as file:
        first, last = file.pages[0].offset, file.pages[2].offset
    data = bytearray(path.read_bytes())
    (n_tags,) = struct.unpack_from("<H", data, last)
    struct.pack_into("<I", data, last + 2 + 12 * n_tags, first)
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.tif: damaged after 3 pages"):
        open_video(path)


@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("rowsperstrip", [3, H])
def test_strips(tmp_path, bigtiff, byteorder, rowsperstrip):
    images = pages(5, np.uint16)
    with tifffile.TiffWriter(tmp_path / "a.tif", bigtiff=bigtiff, byteorder=byteorder) as file:
        for image in images:
            file.write(image, contiguous=False, metadata=None, rowsperstrip=rowsperstrip)
    with open_video(tmp_path / "a.tif") as reader:
        np.testing.assert_array_equal(reader[1:, ..., 0], images[1:])


@pytest.mark.parametrize(
    "options",
    [
        {"tile": (16, 16)},
        {"compression": "lzw", "predictor": True},
        {"compression": "zstd"},
        {"photometric": "rgb", "planarconfig": "separate", "compression": "deflate"},
    ],
    ids=str,
)
def test_what_has_to_be_decoded(tmp_path, options):
    movie = pages(12, np.uint16).reshape(4, 3, H, W) if "photometric" in options else pages(5, np.uint16)
    metadata = {"axes": "TSYX" if "photometric" in options else "TYX"}
    tifffile.imwrite(tmp_path / "a.tif", movie, metadata=metadata, **options)
    expected = np.moveaxis(movie, 1, -1) if movie.ndim == 4 else movie[..., None]
    with open_video(tmp_path / "a.tif") as reader:
        np.testing.assert_array_equal(reader[:], expected)
        np.testing.assert_array_equal(reader[[3, 1]], expected[[3, 1]])


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_a_frame_of_bruker_opens_without_a_word(shared, number, caplog, capfd):
    (path,) = (shared / "data/formats").glob(f"*{number}.ome.tif")
    with open_video(path) as reader:
        assert (reader.shape, reader.dtype) == ((1, 256, 256, 1), np.uint16)
        assert reader[0].any()
    assert not caplog.records
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("n_frames", [30, 200])
def test_an_array_with_time_last_is_not_taken_for_rows(tmp_path, n_frames):
    rng = np.random.default_rng(0)
    scene = gaussian_filter(rng.normal(0, 1000, (64, 72)), 2) + 500
    movie = (scene + rng.normal(0, 50, (n_frames, 64, 72))).clip(0).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", np.moveaxis(movie, 0, -1))
    with pytest.raises(ValueError, match=rf"a\.tif: 64 frames of 72 x {n_frames} pixels, .*rows of an image.*THW"):
        open_video(tmp_path / "a.tif")
    with open_video(tmp_path / "a.tif", axes="THW") as reader:
        assert reader.shape == (64, 72, n_frames, 1)
    tifffile.imwrite(tmp_path / "b.tif", movie)
    with open_video(tmp_path / "b.tif") as reader:
        assert reader.shape == (n_frames, 64, 72, 1)


def test_channels_that_became_columns_are_not_called_rows(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((6, 32, 40, 2), np.uint16))
    with pytest.raises(ValueError, match=r"a\.tif: shape \(6, 32, 40, 2\) .*images of 40 x 2 pixels.*\(T, C, H, W\)"):
        open_video(tmp_path / "a.tif")


@pytest.mark.parametrize("options", [{"imagej": True}, {"ome": True}])
@pytest.mark.parametrize("n_channels", [1, 2])
def test_planes_of_one_frame_each_may_be_frames(tmp_path, options, n_channels):
    expected = pages(24).reshape(-1, n_channels, H, W)
    tifffile.imwrite(tmp_path / "a.tif", expected, metadata={"axes": "ZCYX"}, **options)
    axes = "THW" if n_channels == 1 else "TCHW"
    with pytest.raises(ValueError, match=rf'planes of one frame each.*plane=\d+; say axes="{axes}" if they are frames'):
        open_video(tmp_path / "a.tif")
    with open_video(tmp_path / "a.tif", axes=axes) as reader:
        np.testing.assert_array_equal(reader[:], np.moveaxis(expected, 1, -1))
