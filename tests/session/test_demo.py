import numpy as np
import pytest

from pyflow.session import cli
from pyflow.session.commands import begin
from pyflow.session.demo import run_demo, true_fields


def test_demo_finds_the_known_motion(tmp_path, monkeypatch, capsys):
    reports = []

    def keep_report(*arguments, **keywords):
        reports.append(run_demo(*arguments, **keywords))
        return reports[0]

    monkeypatch.setattr(begin, "run_demo", keep_report)
    assert cli.main(["demo", str(tmp_path / "demo")]) == 0
    (report,) = reports
    assert report.mask_iou > 0.98
    assert len(report.recordings) == 3
    assert report.picture.stat().st_size > 10_000
    for recording in report.recordings:
        assert recording.error_after_px < 0.5 < 1 < recording.error_before_px
        assert recording.shift_found_px == pytest.approx(recording.shift_true_px, abs=0.5)
    out, told = capsys.readouterr()
    assert "simulated first" in told.splitlines()[0]
    assert "day2: the centre, which the others are aligned to" in told
    assert all(name in out for name in ("day1", "day2", "day3", "session.toml", "final_results"))


def test_demo_refuses_a_folder_of_other_files(tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("")
    assert cli.main(["demo", str(tmp_path)]) == 1
    assert "holds other files" in " ".join(capsys.readouterr().err.split())
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]


def test_true_fields_of_shifts():
    """Shifts add up exactly, whatever the references' places."""
    displacement = np.tile(np.array([[1, 2], [3, -2]], np.float32)[:, None, None], (1, 20, 24, 1))
    center = np.full((5, 20, 24, 2), 0.5, np.float32)
    between = np.tile(np.array([4, -3], np.float32), (20, 24, 1))
    frames, field = true_fields(displacement, between, center)
    np.testing.assert_allclose(frames[:, 10, 10], [[-1, 2], [1, -2]], atol=1e-5)
    np.testing.assert_allclose(field[10, 10], [4 + 2 - 0.5, -3 + 0 - 0.5], atol=1e-5)


def test_true_fields_of_smooth_fields_meet_at_the_same_scene_points():
    """A point of the centre's reference is led to the frame's point that sees the same spot of the scene."""
    rows, columns = np.mgrid[:60, :60].astype(np.float32)

    def wave(amplitude, phase):
        return amplitude * np.stack([np.sin(rows / 15 + phase), np.cos(columns / 12 + phase)], axis=-1)

    displacement, center = wave(1.5, 0.3)[None], wave(1.0, 1.1)[None]
    between = wave(2.0, 2.0)
    frames, field = true_fields(displacement, between, center)
    np.testing.assert_allclose(frames, 0, atol=1e-5)  # the one frame is the reference
    x, y = 30, 28  # of the centre's scene
    at_center = np.array([x, y]) + center[0, y, x]
    scene = np.array([x, y]) + between[y, x]
    at_recording = scene + _at(displacement[0], scene)
    np.testing.assert_allclose(at_center + _at(field, at_center), at_recording, atol=0.02)


def _at(field, point):
    from scipy.ndimage import map_coordinates

    return np.array([map_coordinates(field[..., i], [[point[1]], [point[0]]], order=3)[0] for i in (0, 1)])
