"""pyflow-session info: what a recording is when it is opened, and where that was read from."""

import imagecodecs
import numpy as np
import tifffile

from pyflow.session.cli import main
from pyflow.session.commands.terminal import DONE, FAILED, USAGE


def scene(seed):
    image = np.random.default_rng(seed).normal(size=(48, 64)).cumsum(0).cumsum(1)
    return (1000 * (image - image.min()) / np.ptp(image)).astype(np.uint16)


def lines(capsys):
    return {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.startswith("  ")}


def test_facts_and_where_they_are_from(shared, capsys):
    assert main(["info", str(shared / "data/formats/TIFFStack_BigTIFF.tif")]) == DONE
    found = lines(capsys)
    assert "3  (pages in the file)" in found["frames"]
    assert "512 rows x 512 columns" in found["size"]
    assert "1  (header of ScanImage 2016)" in found["channels"]
    assert "30.01 Hz  (header of ScanImage 2016)" in found["frame"]
    assert "int16" in found["type"]


def test_planes_are_counted_and_one_is_shown(shared, capsys):
    path = str(shared / "data/formats/sima_volume.h5")
    assert main(["info", path]) == DONE
    found = lines(capsys)
    assert "3; the first is shown, choose one with plane=0 to plane=2" in found["planes"]
    assert "DIMENSION_LABELS" in found["axes"]
    assert main(["info", path, "--reader", "plane=2"]) == DONE
    assert "3, of which number 2 is shown" in lines(capsys)["planes"]


def test_a_picture_shows_the_mean_and_a_frame_of_each_channel(tmp_path, capsys):
    tifffile.imwrite(tmp_path / "a.tif", np.stack([scene(t % 2) for t in range(24)]))
    assert (
        main(["info", str(tmp_path / "a.tif"), "--reader", "n_channels=2", "--picture", str(tmp_path / "a.png")])
        == DONE
    )
    image = imagecodecs.png_decode((tmp_path / "a.png").read_bytes())
    assert image.shape == (2 * 48 + 4, 2 * 64 + 4)
    for channel in range(2):
        mean = image[52 * channel : 52 * channel + 48, :64]
        assert np.corrcoef(mean.ravel(), scene(channel).ravel())[0, 1] > 0.95
    assert "attention" not in capsys.readouterr().out


def test_interleaved_channels_are_seen_before_hours_of_work(tmp_path, capsys):
    tifffile.imwrite(tmp_path / "a.tif", np.stack([scene(t % 2) for t in range(24)]))
    assert main(["info", str(tmp_path / "a.tif")]) == DONE
    assert "only every 2 frames show the same: are they 2 channels or planes?" in capsys.readouterr().out


def test_a_session_is_described_with_its_reader(tmp_path, capsys):
    for name in ("a", "b"):
        tifffile.imwrite(tmp_path / f"{name}.tif", np.stack([scene(t % 2) for t in range(24)]))
    (tmp_path / "session.toml").write_text('root = "."\n[reader]\nn_channels = 2\n')
    assert main(["info", str(tmp_path / "session.toml"), "--picture", str(tmp_path / "look")]) == DONE
    assert capsys.readouterr().out.count("n_channels, as given") == 2
    assert sorted(path.name for path in (tmp_path / "look").iterdir()) == ["a.png", "b.png"]


def test_what_cannot_be_opened_is_named_and_the_others_are_described(tmp_path, capsys):
    tifffile.imwrite(tmp_path / "a.tif", np.stack([scene(0)] * 4), photometric="minisblack")
    (tmp_path / "b.sbx").write_bytes(b"1234")
    assert main(["info", str(tmp_path / "b.sbx"), str(tmp_path / "a.tif")]) == FAILED
    captured = capsys.readouterr()
    assert "b.sbx: of Scanbox" in captured.err
    assert "48 rows x 64 columns" in captured.out
    assert main(["info", str(tmp_path / "a.tif"), "--reader", "planes=2"]) == USAGE
    assert "unknown reader option 'planes'" in capsys.readouterr().err


def test_a_folder_of_recordings_is_not_taken_for_channels_in_silence(tmp_path, write_recordings, capsys):
    write_recordings(tmp_path / "days")
    assert main(["info", str(tmp_path / "days")]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "its 3 files are taken for channels: are they recordings?" in out
    assert f"pyflow-session init {tmp_path / 'days'}" in out
