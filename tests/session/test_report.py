"""The report holds what the stages found, whatever recordings are called and whatever is missing."""

import base64
import json
import logging
import os
import re
import shutil
from html.parser import HTMLParser

import h5py
import imagecodecs
import numpy as np
import pytest
import tifffile
from session.chromium import Chromium

from pyflow.layout import REPORT_FILE, open_compensated, read_field
from pyflow.motion.compensate import compensate_recording
from pyflow.motion.depth import DepthEstimate
from pyflow.motion.options import OFOptions
from pyflow.plots import correlation_with_mean
from pyflow.session import SessionConfig, SessionError, run_session, run_stage1
from pyflow.session.artifacts import read_marker, save_json, save_mask
from pyflow.session.claims import claim
from pyflow.session.cli import main
from pyflow.session.pipeline import report_session, session_standings
from pyflow.session.report import page as pages
from pyflow.session.report.comparison import Comparison, compare
from pyflow.session.report.content import FINE, LOOK, WORDS, Given, RecordingReport, _judge_stage1
from pyflow.session.report.figures import curves, field_picture, overlay, photograph
from pyflow.session.stage2_between_avgs import run_stage2
from pyflow.session.stage3_valid_mask import run_stage3

STRANGE = '<b>&"x`'
OPTIONS = {"quality_setting": "fast", "iterations": 5, "buffer_size": 4, "reference_frames": "0:4", "alpha": 20}


class Read(HTMLParser):
    """A page as its reader has it: its tags, the text of the elements, the cells of its table, its images."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.links, self.images, self.rows, self.terms, self.open = [], [], {}, [], {}, []
        self.text, self.term = "", None
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append(tag)
        self.links += [attributes[name] for name in ("src", "href", "srcset", "data", "action") if name in attributes]
        if tag == "img":
            self.images[attributes["alt"]] = attributes["src"]
        if tag == "tr":
            self.rows.append([])
        if tag in ("dt", "dd", "th", "td"):
            self.open.append("")

    def handle_endtag(self, tag):
        if tag in ("th", "td"):
            self.rows[-1].append(self.open.pop())
        elif tag == "dt":
            self.term = self.open.pop()
        elif tag == "dd":
            self.terms.setdefault(self.term, []).append(self.open.pop())

    def handle_data(self, data):
        self.text += data
        if self.open:
            self.open[-1] += data.strip()

    def picture(self, alt):
        content = base64.b64decode(self.images[alt].partition(",")[2])
        return imagecodecs.imread(content)


def squeeze(text):
    return " ".join(text.split())


@pytest.fixture(scope="module")
def movies(tmp_path_factory):
    from scipy.ndimage import gaussian_filter, shift

    image = gaussian_filter(np.random.default_rng(0).random((64, 80)), 2)
    image = (image - image.min()) / np.ptp(image) * 4000 + 100
    root = tmp_path_factory.mktemp("report") / "data"
    root.mkdir()
    for seed, (name, place) in enumerate({"one": (2, -3), STRANGE: (0, 0), "three": (-1.5, 1.25)}.items()):
        rng = np.random.default_rng(seed)
        moves = rng.uniform(-2, 2, (14, 2)) + place
        frames = [shift(image, move, mode="nearest") + rng.normal(0, 20, image.shape) for move in moves]
        movie = np.clip(frames, 0, 65535).astype(np.uint16)
        if name == "three":
            movie[9] = 7
        tifffile.imwrite(root / f"{name}.tif", movie)
    return root


@pytest.fixture(scope="module")
def finished(movies):
    """A session with a frame that cannot be registered and a recording with a strange name; and its mask."""
    config = SessionConfig(
        root=movies, center=f"{STRANGE}.tif", flow_options=OPTIONS, n_workers=1, fingerprint="lenient"
    )
    return config, run_session(config)


@pytest.fixture
def copy(finished, tmp_path):
    """The same in a folder that a test may change."""
    shutil.copytree(finished[0].root, tmp_path / "data")
    return finished[0].replace(
        root=tmp_path / "data",
        output_root=tmp_path / "data" / "compensated_outputs",
        final_results=tmp_path / "data" / "final_results",
    )


def test_the_report_says_what_the_stages_hold(finished):
    config, valid = finished
    read = Read(config.final_results / REPORT_FILE)
    rows = {row[0]: row[1:] for row in read.rows[1:]}
    assert rows.keys() == {"one", STRANGE, "three"}
    assert [rows[name][0] for name in ("one", STRANGE, "three")] == ["fine", "fine", "to look at"]
    assert f"{np.count_nonzero(valid)} of {valid.size} pixels" in read.text
    for name in rows:
        folder = config.output_root / name
        with np.load(folder / "statistics.npz") as statistics:
            mean, most = np.nanmean(statistics["mean_disp"]), np.nanmax(statistics["max_disp"])
        assert rows[name][1] == f"{mean:.2f} px (to {most:.1f})"
        movie = tifffile.imread(config.root / f"{name}.tif").astype(float)
        marked = [9] if name == "three" else []
        assert rows[name][2] == f"{len(marked)} of 14"
        # pixels that come from outside do not count for the report, so that the two agree roughly
        movie = np.delete(movie, marked, axis=0)[:, 6:-6, 6:-6]
        before, after = map(float, rows[name][3].split(" → "))
        assert before == pytest.approx(correlation_with_mean(movie).mean(), abs=0.05)
        assert after > before + 0.02
        alignment = read_marker(folder, "stage2")["alignment"]
        assert rows[name][5] == ("the centre" if name == STRANGE else alignment["verdict"])
        if name != STRANGE:
            assert rows[name][6] == f"{alignment['correlation_before']:.3f} → {alignment['correlation_after']:.3f}"
            length = np.linalg.norm(read_field(folder), axis=-1)
            assert any(
                text.startswith(f"{alignment['largest_displacement_px']:.3g}")
                for text in read.terms["largest displacement"]
            )
            assert length.max() > 1
    assert read.terms["all pixels are equal"] == ["9"]
    assert "1 frame was not registered (7.1% of 14): all pixels are equal." in squeeze(read.text)
    assert read.terms["alpha found or given (x, y)"] == ["20, 20"] * 3
    assert read.terms["noise of a frame's deformation"] == ["not known"] * 3
    seconds = read_marker(config.output_root / "one", "stage1")["seconds"]
    assert any(f"took {seconds:.1f} s" in text for text in read.terms["stage 1"])
    assert read.terms["flow_backend"][0] == "flowreg"


@pytest.mark.parametrize(("after", "verdict"), [(0.95, FINE), (0.895, FINE), (0.88, LOOK)])
def test_frames_that_resemble_their_mean_clearly_less_are_to_look_at(tmp_path, after, verdict):
    image, report = np.ones((4, 4)), RecordingReport("one")
    seen = Comparison(np.arange(2), image, image, np.full(2, 0.9), np.full(2, after), 1.0, 1.0)
    _judge_stage1(report, Given("one", tmp_path), seen, {}, set())
    assert report.verdict == verdict


def test_where_next_to_no_pixel_is_valid_all_are_compared(finished, tmp_path):
    with h5py.File(tmp_path / "idx.hdf", "w") as file:
        file["idx"] = np.zeros((14, 64, 80), np.uint8)
    with open_compensated(finished[0].output_root / "one" / "compensated.hdf5") as registered:
        nowhere = compare(None, registered, tmp_path / "idx.hdf", ())
        everywhere = compare(None, registered, None, ())
    assert nowhere.crispness_after == everywhere.crispness_after > 0


def test_the_pictures_are_of_the_data(finished):
    config, valid = finished
    read = Read(config.final_results / REPORT_FILE)
    np.testing.assert_array_equal(read.picture("pixels valid in every recording") > 0, valid)
    movie = tifffile.imread(config.root / "one.tif").mean(axis=0)
    average = np.load(config.output_root / "one" / "temporal_average.npy")
    for what, image in (("as recorded", movie), ("registered", average)):
        drawn = read.picture(f"mean image of one, {what}")[..., 0]
        assert np.corrcoef(drawn.ravel(), image.ravel())[0, 1] > 0.98
    centre = np.load(config.output_root / STRANGE / "temporal_average.npy")
    before = read.picture(f"{STRANGE} in green, one in red, before the alignment").astype(float)
    assert np.corrcoef(before[..., 1].ravel(), centre.ravel())[0, 1] > 0.9
    assert np.corrcoef(before[..., 0].ravel(), average.ravel())[0, 1] > 0.9
    after = read.picture(f"{STRANGE} in green, one in red, aligned").astype(float)
    alike = [np.corrcoef(image[8:-8, 8:-8, 0].ravel(), image[8:-8, 8:-8, 1].ravel())[0, 1] for image in (before, after)]
    assert alike[1] > alike[0] + 0.2


def test_names_are_escaped_and_nothing_comes_from_elsewhere(finished):
    read = Read(finished[0].final_results / REPORT_FILE)
    assert "b" not in read.tags
    assert "<b>" not in read.source
    assert all(link.startswith(("data:image/", "#r")) for link in read.links)
    assert not re.search(r"https?:|@import|url\(|<link|srcset", read.source)
    assert "@media print" in read.source


def test_a_finished_session_keeps_its_report_and_a_lost_one_changes_no_result(finished, copy):
    run_stage3(copy)
    report, status = copy.final_results / REPORT_FILE, copy.final_results / "status.json"
    made, known = report.stat().st_mtime_ns, status.read_bytes()
    run_stage3(copy)
    assert (report.stat().st_mtime_ns, status.read_bytes()) == (made, known)
    report.unlink()
    run_stage3(copy)
    assert report.is_file()
    assert status.read_bytes() == known
    assert main(["verify", str(write_toml(copy))]) == 0


def write_toml(config):
    path = config.root / "session.toml"
    lines = [f"root = '{config.root}'", f"center = '{config.center}'", "n_workers = 1", 'fingerprint = "lenient"']
    lines += ["[flow_options]", *(f"{key} = {json.dumps(value)}" for key, value in OPTIONS.items())]
    path.write_text("\n".join(lines))
    return path


def test_what_is_missing_is_said_in_its_place(copy):
    (copy.root / "one.tif").unlink()
    (copy.output_root / "one" / "idx.hdf").unlink()
    np.save(copy.output_root / "three" / "temporal_average.npy", np.zeros((9, 9)))
    (copy.output_root / STRANGE / "temporal_average.npy").unlink()
    (copy.output_root / "three" / "w_to_reference.npz").write_bytes(b"damaged")
    (copy.output_root / "three" / "statistics.npz").unlink()
    (copy.root / "one.tif").symlink_to(copy.root / "gone.tif")
    assert report_session(copy) == [copy.final_results / REPORT_FILE]
    text = squeeze(Read(copy.final_results / REPORT_FILE).text)
    assert "The recording as it was before is not shown:" in text
    assert "gone.tif" in text or "one.tif" in text
    assert "temporal_average.npy holds no image: all pixels are equal." in text
    assert "temporal_average.npy is missing" in text
    assert "Its displacement against the centre cannot be shown:" in text
    assert "Displacement and misfit over time are not shown: there is no statistics.npz." in text
    np.save(copy.output_root / "one" / "temporal_average.npy", np.random.default_rng(0).random((9, 11)))
    np.save(copy.output_root / STRANGE / "temporal_average.npy", np.random.default_rng(0).random((64, 80)))
    report_session(copy)
    text = squeeze(Read(copy.final_results / REPORT_FILE).text)
    assert "Its average has shape (9, 11) and its displacement (64, 80), the centre's average (64, 80)" in text


def test_what_is_cut_off_is_said_in_its_place(copy):
    """An npz is a zip, whose faults are errors of their own."""
    for path in (
        copy.output_root / "one" / "statistics.npz",
        copy.output_root / "three" / "w_to_reference.npz",
        copy.final_results / "final_valid_idx.npz",
    ):
        os.truncate(path, path.stat().st_size // 2)
    report_session(copy)
    text = squeeze(Read(copy.final_results / REPORT_FILE).text)
    assert f"Displacement and misfit over time are not shown: {copy.output_root}/one/statistics.npz cannot be" in text
    assert f"Its displacement against the centre cannot be shown: {copy.output_root}/three/w_to_reference.npz" in text
    assert f"The final mask is not shown: {copy.final_results}/final_valid_idx.npz cannot be read: " in text


def test_a_recording_that_was_made_anew_is_not_shown_beside_results_of_the_old_one(copy):
    path = copy.root / "one.tif"
    tifffile.imwrite(path, tifffile.imread(path)[::-1, ::-1])
    status = json.loads((copy.output_root / "three" / "status.json").read_text())
    status["markers"]["stage1"]["parts"]["input"]["mtime_ns"] = 1  # a file's time alone says nothing
    save_json(copy.output_root / "three" / "status.json", status)
    report_session(copy)
    page = Read(copy.final_results / REPORT_FILE)
    assert "mean image of one, as recorded" not in page.images
    assert "mean image of three, as recorded" in page.images
    text = squeeze(page.text)
    assert f"The recording as it was before is not shown: {path} changed since stage 1 read it." in text
    assert "mean image of one, registered" in page.images
    assert ["one", "not finished"] in [row[:2] for row in page.rows]


def test_names_that_are_not_utf_8_do_not_keep_the_report_away(copy):
    root = copy.root.rename(copy.root.with_name(os.fsdecode(b"caf\xe9")))
    moved = copy.replace(root=root, output_root=root / "compensated_outputs", final_results=root / "final_results")
    report_session(moved)
    assert r"caf\udce9" in Read(moved.final_results / REPORT_FILE).text


def test_failed_doubtful_and_unrelated_recordings_come_first_in_that_order(copy):
    """Verdicts as stage 2 stores them."""
    for name, verdict, why in (("one", "doubtful", "the field folds"), ("three", "not alignable", "it shows else")):
        path = copy.output_root / name / "status.json"
        status = json.loads(path.read_text())
        status["markers"]["stage2"]["alignment"] |= {"verdict": verdict, "why": why, "through": STRANGE}
        save_json(path, status)
    save_mask(copy.final_results / "three_valid_idx_aligned.png", np.zeros((64, 80), bool))
    (copy.root / "broken.tif").write_bytes(b"no image")
    with pytest.raises(SessionError) as failed:
        run_stage1(copy)
    report_session(copy)
    read = Read(copy.final_results / REPORT_FILE)
    assert read.rows[1][2:] == ["\N{EN DASH}"] * 6
    assert [row[:2] for row in read.rows[1:]] == [
        ["broken", "failed"],
        ["three", "not alignable"],
        ["one", "doubtful"],
        [STRANGE, "fine"],
    ]
    assert read.rows[3][6] == f"doubtful, through {STRANGE}"
    text = squeeze(read.text)
    assert "4 recordings: 1 failed, 1 is not alignable, 1 is doubtful, 1 is fine." in text
    assert "What is said of its alignment is of the last run." in text
    assert f"Stage 1 failed: {failed.value.failures['broken']}." in text
    assert "It cannot be aligned to the centre. It shows else." in text
    assert "It is left out of the session's mask." in text
    assert "pixels of three valid in the centre's frame" not in read.images
    assert "pixels of one valid in the centre's frame" in read.images
    assert "Its alignment to the centre is doubtful. The field folds. Look at it before you use it." in text


def test_what_nobody_expected_of_one_recording_costs_the_others_nothing(copy):
    path = copy.output_root / "one" / "status.json"
    status = json.loads(path.read_text())
    status["markers"]["stage1"]["problems"] = {"nine": "no frame has such a number"}
    save_json(path, status)
    report_session(copy)
    read = Read(copy.final_results / REPORT_FILE)
    assert "Its part of the report could not be made: ValueError: invalid literal for int()" in squeeze(read.text)
    assert "mean image of three, as recorded" in read.images


def test_results_made_elsewhere_say_so(copy):
    for file in ("status.json", "statistics.npz", "statistics.mat", "w_to_reference.npz", "idx.hdf"):
        (copy.output_root / "one" / file).unlink()
    with h5py.File(copy.output_root / "one" / "compensated.hdf5", "r+") as file:
        del file.attrs["pyflow"]
    run_session(copy)
    text = squeeze(Read(copy.final_results / REPORT_FILE).text)
    assert "made elsewhere: compensated.hdf5, temporal_average.npy" in text
    assert "Displacement and misfit over time are not shown: there is no statistics.npz." in text


def test_a_report_that_fails_fails_no_session(copy, monkeypatch, caplog):
    (copy.final_results / REPORT_FILE).unlink()

    def broken(*arguments):
        raise ZeroDivisionError("no such luck")

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(pages, "recording_report", broken)
        assert run_stage3(copy).any()
    assert "there is no report: ZeroDivisionError: no such luck" in caplog.text
    assert not (copy.final_results / REPORT_FILE).exists()
    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setitem(__import__("sys").modules, "jinja2", None)
        assert run_stage3(copy).any()
        assert main(["report", str(write_toml(copy))]) == 1
    assert 'pip install "pyflow-2p[report]"' in caplog.text
    run_stage3(copy.replace(report=False))
    assert not (copy.final_results / REPORT_FILE).exists()
    run_stage3(copy)
    assert (copy.final_results / REPORT_FILE).exists()


def test_a_report_that_cannot_be_written_is_no_mistake_in_the_command(copy, capsys):
    session = write_toml(copy)
    for path, words in ((copy.final_results, []), (copy.output_root / "one", ["one"])):
        (path / REPORT_FILE).unlink(missing_ok=True)
        (path / REPORT_FILE).mkdir()
        assert main(["report", str(session), *words]) == 1
        assert REPORT_FILE in capsys.readouterr().err
    assert main(["report", str(copy.output_root / "one")]) == 1
    assert main(["report", str(session), "none"]) == 2


def test_reports_of_single_recordings(finished, movies, tmp_path, capsys):
    """Of a session's recording, and of a folder of `compensate_recording`, which tells frames and causes as well."""
    folder = tmp_path / "alone"
    compensate_recording(OFOptions(input_file=movies / "three.tif", output_path=folder, n_workers=1, **OPTIONS))
    assert main(["report", str(folder)]) == 0
    assert capsys.readouterr().out.strip() == str(folder / REPORT_FILE)
    read = Read(folder / REPORT_FILE)
    assert read.terms["all pixels are equal"] == ["9"]
    assert read.terms["alpha found or given (x, y)"] == ["20, 20"]
    assert "The recording as it was before is not shown: its file is not known." in read.text
    assert main(["report", str(folder), "--input", str(movies / "three.tif")]) == 0
    assert "mean image of alone, as recorded" in Read(folder / REPORT_FILE).images
    config = finished[0]
    written = report_session(config, ["three"])
    assert written == [config.output_root / "three" / REPORT_FILE]
    assert "mean image of three, as recorded" in Read(written[0]).images
    with pytest.raises(ValueError, match="no recording 'four'; there are"):
        report_session(config, ["four"])
    assert main(["report", str(tmp_path)]) == 2
    assert "there is no registered recording" in capsys.readouterr().err


def test_status_in_words_and_for_programs(copy, capsys):
    toml = str(write_toml(copy))

    def told():
        capsys.readouterr()
        assert main(["status", toml, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        return {recording.pop("name"): recording for recording in found["recordings"]}, found

    recordings, session = told()
    assert {found["stage 1"]["word"] for found in recordings.values()} == {"done"}
    assert {found["stage 2"]["word"] for found in recordings.values()} == {"done"}
    assert (
        recordings["one"]["alignment"]["word"]
        == read_marker(copy.output_root / "one", "stage2")["alignment"]["verdict"]
    )
    assert session["stage 3"] == {"word": "done", "why": ""}
    assert session["report"] == str(copy.final_results / REPORT_FILE)

    (copy.root / "late.tif").write_bytes((copy.root / "one.tif").read_bytes())
    (copy.root / "broken.tif").write_bytes(b"no image")
    (copy.root / "three.tif").write_bytes((copy.root / "one.tif").read_bytes())

    class Stop(Exception):
        pass

    def stop(name, done, total):
        if name == "late" and done >= 9:
            raise Stop

    with pytest.raises(Stop):
        run_stage1(SessionConfig.from_file(toml), progress=stop)
    recordings, session = told()
    assert recordings["broken"]["stage 1"]["word"] == "failed"
    assert "broken.tif" in recordings["broken"]["stage 1"]["why"]
    assert recordings["late"]["stage 1"] == {
        "word": "partial",
        "why": "begun, but not finished: 8 frames are done, and a run goes on from there",
    }
    assert recordings["three"]["stage 1"]["word"] == "stale"
    assert "content of the input file" in recordings["three"]["stage 1"]["why"]
    assert session["stage 3"]["word"] == "waits"
    with claim(copy.output_root / "three"):
        assert "works on it" in told()[0]["three"]["stage 1"]["why"]
        capsys.readouterr()
        assert main(["status", toml]) == 0
        assert "running" in capsys.readouterr().out
    (copy.root / "broken.tif").unlink()
    assert main([toml, "--stage", "1"]) == 0
    assert {standings["stage 1"].word for standings in session_standings(copy)[0].values()} == {"done"}


def test_what_stage_2_fails_with_is_kept_until_it_runs_again(copy, monkeypatch):
    def fails(config, session, result):
        raise ValueError(f"no way for {result.recording.name}")

    changed = copy.replace(alpha_between=77.0)
    with monkeypatch.context() as patch:
        patch.setattr("pyflow.session.stage2_between_avgs._find", fails)
        with pytest.raises(ValueError, match="no way"):
            run_stage2(changed)
    standings, _ = session_standings(changed)
    failed = [name for name, found in standings.items() if found["stage 2"].word == "failed"]
    assert failed
    for name in failed:
        assert standings[name]["stage 2"].why == f"{name} against the centre {STRANGE}: no way for {name}"
    report_session(changed)
    assert f"Stage 2 failed: {standings[failed[0]]['stage 2'].why}." in squeeze(
        Read(copy.final_results / REPORT_FILE).text
    )
    run_stage2(changed)
    assert {found["stage 2"].word for found in session_standings(changed)[0].values()} == {"done"}
    assert "failures" not in json.loads((copy.output_root / failed[0] / "status.json").read_text())


def of_size(detail, n_frames=5000):
    """The pictures of a recording of two-photon noise, as large as they get."""
    rng = np.random.default_rng(0)
    image = rng.poisson(20, (512, 512)).astype(float)
    statistics = {name: rng.random(n_frames) for name in ("mean_disp", "max_disp", "misfit")}
    frames, known = np.arange(64) * 70, {"before": rng.random(64), "after": rng.random(64)}
    w = np.cumsum(rng.normal(0, 0.1, (512, 512, 2)), axis=0).astype(np.float32)
    report = RecordingReport("recording", sentences=["Nothing speaks against it."])
    report.before = report.after = photograph(image, detail, "mean")
    report.overlay_before = report.overlay_after = overlay(image, image[::-1], detail, "overlay")
    report.curves = curves(statistics, frames, known, range(100, 4900, 7), "curves")
    report.displacement = field_picture(w, np.ones(w.shape[:2], bool), rng.random((16, 16)), detail, "field")
    report.numbers = [("number", "1.0")] * 30
    return report


def test_a_hundred_recordings_stay_below_20_mb_and_open_in_2_s(tmp_path):
    reports = [of_size(pages.detail_of(100))] * 100
    path = tmp_path / "many.html"
    pages._save(path, pages.Page("many", "100 recordings.", reports, True), "key")
    assert path.stat().st_size < 20e6
    assert pages.detail_of(3).side == 512
    with Chromium() as browser:
        browser.open(path)
        # as the browser's own clock has it, which counts no other process's time
        opened = browser.run("performance.getEntriesByType('navigation')[0].loadEventEnd")
        assert 0 < opened < 2000 * (1 + load())


def load():
    import os

    return os.getloadavg()[0] / os.cpu_count()


def focus(smoothed, likeness=0.9, change=0.8):
    """Depths as somebody found them before."""
    smoothed = np.asarray(smoothed, float)
    planes, valid = np.zeros((5, 64, 80), np.float32), np.ones((64, 80), bool)
    return DepthEstimate(
        smoothed, smoothed, np.zeros((len(smoothed), 5), np.float32), 2, likeness, change, planes, valid
    )


def test_depths_are_shown_where_there_are_some(copy, tmp_path):
    folders = {name: copy.output_root / name for name in ("one", "three", STRANGE)}
    report = copy.final_results / REPORT_FILE
    focus(np.linspace(1, 2.5, 14)).save(folders["one"] / "depth.npz")
    focus([0, np.nan, 1.5], likeness=0.1).save(folders["three"] / "depth.npz")
    (folders[STRANGE] / "depth.npz").write_bytes((folders["one"] / "depth.npz").read_bytes()[:700])
    run_session(copy)  # which has nothing else to do
    read = Read(report)
    text = squeeze(read.text)
    assert "Its focus drifted by 1.50 planes of the stack: between 1.00 and 2.50." in text
    assert "Its depth is doubtful: the recording's average correlates to 0.10 only" in text
    assert "Its depth is doubtful: 1 of 3 frames are most like the stack's end, and may lie beyond it." in text
    assert re.search(r"Its depth is not shown: \S+depth.npz cannot be read", text)
    assert {row[0]: row[1] for row in read.rows[1:]}["three"] == "to look at"
    pictures = {alt: uri for alt, uri in read.images.items() if alt.startswith("depth of the focus")}
    assert pictures.keys() == {"depth of the focus of one over time", "depth of the focus of three over time"}
    focus(np.full(14, np.nan)).save(folders["one"] / "depth.npz")
    run_session(copy)
    assert "Its depth is not known: no frame shows anything." in squeeze(Read(report).text)


def test_slider_blink_links_print_and_phones_in_chromium(finished, tmp_path):
    with Chromium() as browser:
        browser.open((finished[0].final_results / REPORT_FILE).resolve())
        place = browser.run(
            "(() => { const r = document.querySelector('.slider'); r.scrollIntoView({block: 'center'});"
            " const b = r.getBoundingClientRect(); return [b.left, b.top, b.width, b.height] })()"
        )
        clip = "getComputedStyle(document.querySelector('.second')).clipPath"
        assert browser.run(clip) == "inset(0px 0px 0px 50%)"
        browser.click(place[0] + 0.9 * place[2], place[1] + place[3] / 2)
        value = float(browser.run("document.querySelector('.slider').value"))
        assert 80 <= value <= 100
        assert browser.run(clip) == f"inset(0px 0px 0px {value:g}%)"
        seen = f"new Promise(done => setTimeout(() => done({clip}), 700))"
        browser.run("document.querySelector('.blink').click()")
        clips = {browser.run(clip), browser.run(seen)}
        assert clips == {"inset(0px 0px 0px 0%)", "inset(0px 0px 0px 100%)"}
        browser.run("document.querySelector('.blink').click()")
        assert browser.run(clip) == f"inset(0px 0px 0px {value:g}%)"

        browser.run("document.querySelectorAll('details').forEach(d => { d.open = false })")
        browser.run("document.querySelector('tbody a').click()")
        assert browser.run("new Promise(done => setTimeout(() => done(document.querySelector('#r1').open), 50))")
        assert browser.run("[...document.images].every(i => i.naturalWidth > 0 || !i.checkVisibility())")

        browser.resize(390, 800)
        assert browser.run("document.documentElement.scrollWidth") <= 390
        assert browser.run("getComputedStyle(document.querySelector('thead')).display") == "none"
        drawn = "[...document.querySelectorAll('.drawn')].map(d => [d.clientWidth, d.scrollWidth])"
        assert all(seen < 390 and whole > 500 for seen, whole in browser.run(drawn))  # else nobody can read the axes
        hint = "getComputedStyle(document.querySelector('.drawn + figcaption'), '::before').content"
        assert "moves sideways" in browser.run(hint)
        browser.screenshot(tmp_path / "phone.png")
        assert imagecodecs.imread(tmp_path / "phone.png").shape[1] == 390

        browser("Emulation.setEmulatedMedia", media="print")
        assert browser.run("getComputedStyle(document.querySelector('.controls')).display") == "none"
        assert browser.run(clip) == "none"
        browser.resize(650, 800)  # about the width of a printed page; nothing of the table is cut off
        assert browser.run("document.querySelector('table').getBoundingClientRect().right") <= 650
        browser.run("document.querySelectorAll('details').forEach(d => { d.open = false })")
        assert browser.run("document.querySelector('figure.wide img').checkVisibility()")
        printed = base64.b64decode(browser("Page.printToPDF")["data"])
        assert printed.count(b"/Type /Page\n") >= 2


def test_without_scripts_before_and_after_stand_side_by_side(finished):
    with Chromium() as browser:
        browser("Emulation.setScriptExecutionDisabled", value=True)
        browser.open((finished[0].final_results / REPORT_FILE).resolve())
        left, right = browser.run(
            "[...document.querySelector('.pair').children].map(side => side.getBoundingClientRect().x)"
        )
        assert right > left + 50
        assert browser.run("getComputedStyle(document.querySelector('.second')).clipPath") == "none"
        assert browser.run("getComputedStyle(document.querySelector('.controls')).display") == "none"


def test_words_of_verdicts_are_those_of_stage_2():
    from pyflow.align.trust import DOUBTFUL, NOT_ALIGNABLE

    assert WORDS[1:3] == (NOT_ALIGNABLE, DOUBTFUL)


def test_a_folder_with_nothing_in_it_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no registered recording"):
        pages.save_recording_report(Given("empty", tmp_path))


def test_of_very_many_recordings_those_that_something_speaks_against_are_shown(copy, monkeypatch):
    monkeypatch.setattr(pages, "MOST_SHOWN", 1)
    report_session(copy)
    read = Read(copy.final_results / REPORT_FILE)
    assert len(read.rows) == 4
    assert "mean image of three, registered" in read.images  # of a frame of which the stages say something
    assert not any("of one" in alt for alt in read.images)
    assert "Those of the other 2 are in reports of their own" in squeeze(read.text)
