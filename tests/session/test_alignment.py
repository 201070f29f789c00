"""Stage 2 says which recordings can be believed, and nothing is made of those that cannot."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy.ndimage import gaussian_filter, map_coordinates, shift
from session.test_lost_and_stale import as_by_the_toolbox

from pyflow.align.trust import judge
from pyflow.session import SessionConfig, compute_between_displacement, run_session, run_stage1, run_stage2
from pyflow.session.artifacts import read_marker
from pyflow.session.cli import main
from pyflow.session.pipeline import session_status
from pyflow.session.recordings import Recording
from pyflow.session.results import Session, Stage1Result, open_session
from pyflow.simulate import invert

SHAPE = (64, 80)
FAST = {"quality_setting": "fast", "iterations": 5, "buffer_size": 4, "reference_frames": "0:4", "alpha": 20}


# Every 21st row and 24th column of what pyflow 0.1 found with sigma_smooth = 6, alpha_between = 25, its defaults then.
GUIDE = [
    [[-2.9270, 2.0067], [-2.6793, 2.0801], [-2.3075, 1.2630]],
    [[-3.0195, 1.8013], [-2.3860, 1.5551], [-2.3133, 1.5155]],
    [[-2.4858, 1.9451], [-2.3230, 1.5723], [-2.3044, 1.6374]],
    [[-2.1954, 1.9988], [-2.3625, 1.6614], [-2.2138, 1.7785]],
]


def tissue(seed):
    """An image with structure of the size of cells, of mean 0 and standard deviation 1."""
    image = gaussian_filter(np.random.default_rng(seed).standard_normal(SHAPE), 1.5)
    return (image - image.mean()) / image.std()


def write(root, images):
    """Recordings of still images with a little noise, by name."""
    root.mkdir(exist_ok=True)
    for seed, (name, image) in enumerate(images.items()):
        noise = np.random.default_rng(seed).normal(0, 20, (5, *SHAPE))
        tifffile.imwrite(root / f"{name}.tif", np.clip(2000 + 300 * image + noise, 0, 65535).astype(np.uint16))


@pytest.fixture
def config(tmp_path):
    """Days 1 and 2 show one tissue, day 3 shows another."""
    write(tmp_path / "data", {"day1": shift(tissue(1), (2, -3), mode="nearest"), "day2": tissue(1), "day3": tissue(2)})
    return SessionConfig(root=tmp_path / "data", flow_options=FAST, n_workers=1)


def verdicts(config):
    session = open_session(config)
    return {result.recording.name: session.alignment(result)["verdict"] for result in session.results}


def test_what_shows_another_tissue_is_left_out(config):
    mask = run_session(config)
    assert verdicts(config) == {"day1": "aligned", "day2": "aligned", "day3": "not alignable"}
    with np.load(config.final_results / "final_valid_idx.npz") as data:
        assert data["verdicts"].tolist() == ["aligned", "aligned", "not alignable"]
        masks = data["aligned_valid_masks"]
    np.testing.assert_array_equal(mask, masks[0] & masks[1])
    assert not masks[2].any()
    assert mask.mean() > 0.8
    assert sorted(path.name for path in config.final_results.glob("aligned_*")) == [
        "aligned_day1.tif",
        "aligned_day2.tif",
    ]
    states, third = session_status(config)
    assert third.done
    assert [state.alignment for state in states] == ["aligned", "aligned", "not alignable"]
    assert "Stage 3 leaves it out" in states[2].doubt


def test_what_is_not_alignable_is_used_when_asked_for(config):
    before = run_session(config)
    config = config.replace(use_not_alignable=True)
    assert not session_status(config)[1].done
    mask = run_session(config)
    with np.load(config.final_results / "final_valid_idx.npz") as data:
        assert data["aligned_valid_masks"][2].any()
        np.testing.assert_array_equal(mask, data["aligned_valid_masks"].all(axis=0))
    assert mask.sum() < before.sum()
    assert (config.final_results / "aligned_day3.tif").exists()
    assert session_status(config)[1].done


def test_the_command_says_what_could_not_be_aligned(config, tmp_path, capsys):
    file = tmp_path / "session.toml"
    options = "\n".join(
        f"{key} = {str(value) if not isinstance(value, str) else repr(value)}" for key, value in FAST.items()
    )
    file.write_text(f'root = "data"\nn_workers = 1\n[flow_options]\n{options}\n')
    assert main([str(file)]) == 3
    out = " ".join(capsys.readouterr().out.split())
    assert "day3: not alignable. It does not show what the centre shows" in out
    assert "Stage 3 leaves it out." in out
    assert main([str(file), "--stage", "2"]) == 3
    capsys.readouterr()
    assert main(["status", str(file)]) == 0
    assert "day3: not alignable" in " ".join(capsys.readouterr().out.split())
    (tmp_path / "data" / "day3.tif").unlink()
    assert main([str(file)]) == 0


def test_facts_are_kept_with_the_field(config):
    run_stage1(config)
    run_stage2(config)
    folder = config.output_root / "day1"
    facts = read_marker(folder, "stage2")["alignment"]
    assert facts["correlation_after"] > 0.9 > facts["correlation_before"]
    assert facts["start"] == "shift"
    assert facts["overlap"] > 0.9
    assert 3 < facts["largest_displacement_px"] < 6
    with np.load(folder / "w_to_reference.npz") as data:
        assert np.nanmedian(data["residual_px"]) < 1


@pytest.fixture
def morphing(tmp_path):
    """Day 2 is the centre; day 4 has nothing in common with it, but much with day 3."""
    a, b = tissue(1), tissue(2)
    between = (a + b) / np.sqrt(2)
    write(
        tmp_path / "data",
        {
            "day1": a,
            "day2": a,
            "day3": shift(between, (0, 2), mode="nearest"),
            "day4": shift(b, (3, 2), mode="nearest"),
        },
    )
    return SessionConfig(root=tmp_path / "data", flow_options=FAST, n_workers=1)


def test_a_chain_goes_where_the_direct_way_does_not(morphing):
    run_stage1(morphing)
    _, center, fields = run_stage2(morphing)
    assert center.name == "day2.tif"
    session = open_session(morphing)
    found = session.alignment(session.results[3])
    assert (found["verdict"], found["through"]) == ("aligned", "day3")
    np.testing.assert_allclose(np.median(fields[3], axis=(0, 1)), (2, 3), atol=0.6)
    states, _ = session_status(morphing)
    assert "aligned through day3" in states[3].doubt
    assert all(state.stage2.done for state in states)

    # day 3 had a part in day 4's field, and none in day 1's
    write(morphing.root, {"day3": tissue(3)})
    run_stage1(morphing)
    states, _ = session_status(morphing)
    assert [state.stage2.done for state in states] == [True, True, False, False]
    run_stage2(morphing)
    assert verdicts(morphing)["day4"] == "not alignable"
    assert all(state.stage2.done for state in session_status(morphing)[0])


def test_a_chain_is_judged_by_the_tiles_that_are_covered(tmp_path, monkeypatch):
    a, b = tissue(1), tissue(2)
    days = {"day1": a, "day2": a, "day3": shift((a + b) / np.sqrt(2), (0, 7)), "day4": shift(b, (3, 14))}
    write(tmp_path / "data", days)
    config = SessionConfig(root=tmp_path / "data", flow_options=FAST, n_workers=1)
    seen = []

    def watched(facts, n_tiles):
        seen.append(n_tiles)
        return judge(facts, n_tiles)

    monkeypatch.setattr("pyflow.session.stage2_between_avgs.judge", watched)
    run_stage1(config)
    run_stage2(config)
    with np.load(config.output_root / "day4" / "w_to_reference.npz") as data:
        residual = data["residual_px"]
    assert np.isnan(residual).any()
    assert seen == [np.count_nonzero(~np.isnan(residual))]


def test_chains_are_tried_through_two_recordings_on_each_side_nearest_first():
    results = [Stage1Result(Recording(str(i), None, Path()), "", Path()) for i in range(6)]
    session = Session(SessionConfig(root="/tmp"), results, 2)
    tried = {i: "".join(other.recording.name for other in session.neighbours(results[i])) for i in (0, 3, 5)}
    assert tried == {0: "1", 3: "415", 5: "43"}


def test_the_centre_that_the_others_resemble_is_found(morphing):
    config = morphing.replace(center="auto")
    run_stage1(config)
    middle_idx, center, _ = run_stage2(config)
    assert (middle_idx, center.name) == (2, "day3.tif")
    assert set(verdicts(config).values()) == {"aligned"}
    assert (config.final_results / "center.json").exists()
    assert open_session(config).middle_idx == 2
    # found anew when what it was found from is another
    write(config.root, {"day3": tissue(7)})
    run_stage1(config)
    assert open_session(config).middle_idx != 2


def test_the_numbers_of_the_guide_give_what_they_gave():
    image = gaussian_filter(np.random.default_rng(5).random((64, 72)), 2) * 4000
    other = shift(image, (1.5, -2.25), mode="nearest")
    w = compute_between_displacement(image, other, SessionConfig(root="/tmp", sigma_smooth=6, alpha_between=25))
    np.testing.assert_allclose(w[::21, ::24], GUIDE, atol=2e-3)


def test_the_defaults_find_what_the_guide_misses():
    image = gaussian_filter(np.random.default_rng(6).random((96, 96)), 1.5) * 4000
    y, x = np.mgrid[:96, :96]
    truth = np.stack([1.5 * np.sin(y / 12), 1.5 * np.cos(x / 12)], axis=-1)
    moved = shift_by(image, truth)
    config = SessionConfig(root="/tmp")
    errors = [
        np.linalg.norm(compute_between_displacement(image, moved, c) - truth, axis=-1)[12:-12, 12:-12].mean()
        for c in (config, config.replace(sigma_smooth=6, alpha_between=25))
    ]
    assert errors[0] < 0.22
    assert errors[1] > 2 * errors[0]


def shift_by(image, truth):
    """An image that shows at p + truth(p) what the given one shows at p."""
    back = invert(truth.astype(np.float32))
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    return map_coordinates(image, (y + back[..., 1], x + back[..., 0]), order=3, mode="nearest")


@pytest.fixture
def elsewhere(config):
    """Days of which day 1 was registered by another program; returns what writes its average."""
    write(config.root, {"day3": shift(tissue(1), (1, 1), mode="nearest")})
    run_stage1(config)

    def save(average, name="day1"):
        folder = config.output_root / name
        as_by_the_toolbox(folder)
        path = folder / "temporal_average.npy"
        path.write_bytes(average) if isinstance(average, bytes) else np.save(path, average)
        return path

    return save


@pytest.mark.parametrize(
    ("average", "message"),
    [
        (b"no array", "cannot be read"),
        (b"", "cannot be read"),
        (np.ones(7), r"expected an average \(H, W\) or \(H, W, C\) of numbers, found float64 of shape \(7,\)"),
        (np.full(SHAPE, 1j), "found complex128"),
        (np.ones((9, 11)), "the average has shape"),
    ],
)
def test_what_is_no_average_is_named_before_anything_is_aligned(config, elsewhere, average, message):
    path = elsewhere(average)
    with pytest.raises(ValueError, match=message) as raised:
        run_stage2(config)
    assert str(path.parent) in str(raised.value)
    assert not (config.output_root / "day3" / "w_to_reference.npz").exists()


@pytest.mark.parametrize(
    ("row", "why"), [(np.nan, "its average holds 80 values"), (None, "its average has no structure")]
)
@pytest.mark.parametrize("options", [{}, {"sigma_smooth": 2, "alpha_between": 25}])
def test_an_average_with_nothing_in_it_costs_its_own_recording(config, elsewhere, row, why, options):
    config = config.replace(**options)
    average = np.load(config.output_root / "day1" / "temporal_average.npy")
    average[3 if row is not None else slice(None)] = 5 if row is None else row
    elsewhere(average)
    run_stage2(config)
    assert verdicts(config) == {"day1": "not alignable", "day2": "aligned", "day3": "aligned"}
    assert why in session_status(config)[0][0].doubt.lower()
    elsewhere(average, "day2")
    with pytest.raises(ValueError, match=f"day2: nothing can be aligned to it: {why}"):
        run_stage2(config)
