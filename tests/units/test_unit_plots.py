"""Figures of units show the right cells, and say where there are none."""

import numpy as np
import pandas as pd
import pytest
from units import simulated

from pyflow.units.across.opening import open_sessions
from pyflow.units.store.unit_store import UnitStore
from pyflow.units.unit_table import UnitTable

plots = pytest.importorskip("pyflow.plots")
pytest.importorskip("matplotlib", reason="matplotlib is not installed: FIGURES ARE NOT TESTED")


@pytest.fixture
def days(tmp_path):
    days = simulated.sessions()
    for day in days:
        day.path = simulated.write_nwb2(tmp_path, day)
    return days


@pytest.fixture
def opened(tmp_path, days):
    return open_sessions(tmp_path)


def absent_in(days, number):
    present = set(days[0].cells) | set(days[1].cells)
    return int(next(cell for cell in sorted(present) if cell not in days[number].cells))


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def outline_area(collection):
    """Pixels inside the edges of an outline: each row's edges down come in pairs."""
    edges = np.array([s for s in np.array(collection.get_segments()) if s[0, 0] == s[1, 0]])
    columns = pd.DataFrame({"y": edges[:, :, 1].min(axis=1), "x": edges[:, 0, 0]}).sort_values(["y", "x"])["x"]
    pairs = columns.to_numpy().reshape(-1, 2)
    return int((pairs[:, 1] - pairs[:, 0]).sum())


def test_one_unit_across_sessions(opened, days, tmp_path):
    cell = int(next(c for c in days[0].cells if all(c in day.cells for day in days)))
    figure = plots.plot_unit_across_sessions(opened, cell)
    assert figure.get_suptitle() == f"cell {cell}, in 3 of 3 sessions"
    for row, day in enumerate(days):
        image, mask, trace = figure.axes[3 * row : 3 * row + 3]
        assert image.get_ylabel() == day.name
        place = day.row(cell)
        drawn = mask.images[0].get_array()
        assert drawn.shape[0] == drawn.shape[1]
        assert (drawn == 1).sum() == day.masks[place].sum()
        assert outline_area(image.collections[0]) == day.masks[place].sum()
        # the same pixels are bright in the image and in the mask
        assert np.ma.median(image.images[0].get_array()[drawn == 1]) > 300
        times, values = trace.lines[0].get_data()
        np.testing.assert_array_equal(values, day.traces["dff"][place])
        np.testing.assert_allclose(times, day.timestamps + 0.5)
        assert trace.get_xlim() == figure.axes[2].get_xlim()
        assert trace.get_ylim() == figure.axes[2].get_ylim()
    assert [axes.get_title(loc="left") for axes in figure.axes[:3]] == ["maximum\nprojection", "mask", "dF/F"]
    assert figure.axes[-1].get_xlabel() == "time (s)"
    figure.savefig(tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 10_000


def test_absent_sessions_are_shown_as_absent(opened, days):
    cell = absent_in(days, 1)
    figure = plots.plot_unit_across_sessions(opened, cell, kind="fluorescence")
    assert figure.get_suptitle() == f"cell {cell}, in 2 of 3 sessions"
    assert texts(figure) == ["absent"]
    image, mask, trace = figure.axes[3:6]
    assert image.images  # where it would be
    assert not image.collections[0].get_segments()
    assert mask.images[0].get_array().mask.all()
    assert not trace.lines
    assert [bool(axes.lines) for axes in figure.axes[2::3]] == [True, False, True]


def test_the_whole_image_and_a_choice_of_sessions(opened, days):
    cell = int(next(c for c in days[0].cells if all(c in day.cells for day in days)))
    figure = plots.plot_unit_across_sessions(opened, cell, margin=None, sessions=["day3", "day1"])
    assert [axes.get_ylabel() for axes in figure.axes[::3]] == ["day3", "day1"]
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), days[2].image)
    np.testing.assert_array_equal(figure.axes[4].images[0].get_array(), days[0].masks[days[0].row(cell)])
    with pytest.raises(ValueError, match="no session 'day9'; there are 'day1', 'day2', 'day3'"):
        plots.plot_unit_across_sessions(opened, cell, sessions=["day9"])
    with pytest.raises(ValueError, match="cell specimen 1 is in none of the sessions"):
        plots.plot_unit_across_sessions(opened, 1)


def test_movie_responses(tmp_path):
    days = simulated.sessions()
    for day in days:
        simulated.write_allen(tmp_path, day)
    sessions = open_sessions(tmp_path)
    absent = next(cell for cell in days[0].cells.tolist() if cell not in days[1].cells)
    responses = sessions.movie_responses(absent, "natural_movie_one", missing="nan")
    figure = plots.plot_movie_responses(responses)
    means, *rows = figure.axes[:4]
    names = [f"50170422{number}" for number in range(3)]
    assert [axes.get_ylabel() for axes in rows] == names
    assert [axes.images[0].get_array().shape if axes.images else None for axes in rows] == [(4, 12), None, (4, 12)]
    assert texts(figure) == ["absent"]
    assert figure.get_suptitle() == "2 of 3 sessions"
    for line, name in zip(means.lines, (names[0], names[2]), strict=True):
        np.testing.assert_allclose(line.get_ydata(), responses[name].mean(axis=0))
        assert line.get_label() == f"{name}, 4 repeats"
    figure.savefig(tmp_path / "movie.png")
    with pytest.raises(ValueError, match="no responses to draw"):
        plots.plot_movie_responses({names[1]: responses[names[1]]})


def test_gallery(opened, days, tmp_path):
    cells = sorted({int(cell) for day in days for cell in day.cells})
    figure = plots.plot_unit_gallery(opened, per_page=5)
    axes = figure.axes[0]
    assert figure.get_suptitle() == f"5 of {len(cells)} cells, page 1"
    assert [label.get_text() for label in axes.get_yticklabels()] == [f"cell {cell}" for cell in cells[:5]]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["day1", "day2", "day3"]
    mosaic = axes.images[0].get_array()
    pitch = mosaic.shape[0] // 5
    shown = [(cell, number) for cell in cells[:5] for number in range(3) if cell in days[number].cells]
    outlines = iter(axes.collections)
    for row, cell in enumerate(cells[:5]):
        for column, day in enumerate(days):
            tile = mosaic[row * pitch : (row + 1) * pitch - 1, column * pitch : (column + 1) * pitch - 1]
            if cell not in day.cells:
                assert (tile == tile[0, 0]).all()
                continue
            segments = np.array(next(outlines).get_segments())
            middle = segments.reshape(-1, 2).mean(axis=0) / pitch
            assert tuple(np.floor(middle).astype(int)) == (column, row)
            assert tile[pitch // 2 - 1, pitch // 2 - 1] > 0.7  # the cell is bright, in the middle
    assert len(axes.collections) == len(shown)
    last = plots.plot_unit_gallery(opened, per_page=5, page=2)
    assert last.get_suptitle() == f"{len(cells) - 5} of {len(cells)} cells, page 2"
    assert plots.plot_unit_gallery(opened).get_suptitle() == f"{len(cells)} cells"
    with pytest.raises(ValueError, match="page 3 of 2"):
        plots.plot_unit_gallery(opened, per_page=5, page=3)
    figure = plots.plot_unit_gallery(opened, [cells[3], cells[0]], sessions=["day2"])
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [f"cell {cells[3]}", f"cell {cells[0]}"]
    figure.savefig(tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 3000


def test_gallery_shows_each_unit_in_its_own_plane(tmp_path):
    day = simulated.sessions()[0]
    day.path = simulated.write_suite2p(tmp_path, day, planes=2)
    path = day.path / "suite2p" / "plane1" / "ops.npy"
    ops = np.load(path, allow_pickle=True).item()
    np.save(path, ops | {"max_proj": np.zeros_like(ops["max_proj"])}, allow_pickle=True)
    units = pd.DataFrame(
        {
            "session": day.name,
            "group": [f"plane{n % 2}" for n in range(4)],
            "unit": [str(n // 2) for n in range(4)],
            "original_index": [n // 2 for n in range(4)],
            "identity": [str(n) for n in range(4)],
        }
    )
    sessions = pd.DataFrame({"name": [day.name], "source": [str(day.path)], "kind": "suite2p"})
    with UnitStore.open(tmp_path / "units.sqlite") as store:
        store.import_table(UnitTable(units, name="n", origin="test", sessions=sessions))
        figure = plots.plot_unit_gallery(open_sessions(store))
        planes = store.members()["group"].tolist()
    mosaic = figure.axes[0].images[0].get_array()
    pitch = mosaic.shape[0] // 4
    bright = mosaic[np.arange(4) * pitch + pitch // 2 - 1, pitch // 2 - 1] > 0.7
    assert bright.tolist() == [plane == "plane0" for plane in planes]


def test_presence(opened, days, tmp_path):
    figure = plots.plot_presence(opened)
    matrix, per_session, per_unit = figure.axes
    table = matrix.images[0].get_array()
    assert table.sum(axis=1).tolist() == [len(day.cells) for day in days]
    assert (np.diff(table.sum(axis=0)) <= 0).all()
    assert [bar.get_width() for bar in per_session.patches] == [len(day.cells) for day in days]
    cells = pd.Series(np.concatenate([day.cells for day in days])).value_counts()
    assert [bar.get_height() for bar in per_unit.patches] == [int((cells == n).sum()) for n in (1, 2, 3)]
    assert figure.get_suptitle() == f"{len(cells)} cells in 3 sessions, {(cells == 3).sum()} in all of them"
    assert [label.get_text() for label in matrix.get_yticklabels()] == ["day1", "day2", "day3"]
    figure.savefig(tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 5000


def test_presence_of_one_cell(tmp_path):
    rows = pd.DataFrame({"session": ["a"], "unit": ["1"], "identity": ["x"]})
    with UnitStore.open(tmp_path / "units.sqlite") as store:
        store.import_table(UnitTable(rows, name="n", origin="test"))
        figure = plots.plot_presence(open_sessions(store))
    assert figure.get_suptitle() == "1 cell in 1 session, 1 in all of them"
    figure.draw_without_rendering()
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        numbers = [label.get_text() for label in axis.get_ticklabels()]
        assert not any("." in number for number in numbers)


def test_a_store_without_data(tmp_path):
    """Units of a spreadsheet have no images, but they are present or not."""
    rows = pd.DataFrame({"session": ["a", "a", "b"], "unit": ["1", "2", "1"], "identity": ["x", "y", "x"]})
    with UnitStore.open(tmp_path / "units.sqlite") as store:
        with pytest.raises(ValueError):
            plots.plot_presence(open_sessions(store))
        store.import_table(UnitTable(rows.assign(group=""), name="n", origin="test"))
        number = int(store.members()["number"].value_counts().idxmax())
        figure = plots.plot_presence(open_sessions(store))
        assert figure.axes[0].images[0].get_array().tolist() == [[True, True], [True, False]]
        for draw in (lambda s: plots.plot_unit_across_sessions(s, number), plots.plot_unit_gallery):
            with pytest.raises(ValueError, match=r"no data to draw: .* where their results are"):
                draw(open_sessions(store))


def test_a_session_without_data_among_others(tmp_path):
    days = simulated.sessions()[:2]
    cell = next(cell for cell in days[0].cells if cell in days[1].cells)
    units = pd.DataFrame(
        {
            "session": [day.name for day in days],
            "unit": ["a", "b"],
            "original_index": [day.row(cell) for day in days],
            "identity": "x",
        }
    )
    sources = [str(simulated.write_nwb2(tmp_path, days[0])), ""]
    sessions = pd.DataFrame({"name": [day.name for day in days], "source": sources, "kind": "nwb"})
    with UnitStore.open(tmp_path / "units.sqlite") as store:
        store.import_table(UnitTable(units, name="n", origin="test", sessions=sessions))
        number = int(store.members()["number"].iloc[0])
        figure = plots.plot_unit_across_sessions(open_sessions(store), number)
        assert texts(figure) == ["no data"]
        assert len(plots.plot_unit_gallery(open_sessions(store)).axes[0].collections) == 1


def test_a_large_gallery_wraps(opened, days):
    cells = sorted({int(cell) for day in days for cell in day.cells})
    shown = (cells * 24)[:24]
    figure = plots.plot_unit_gallery(opened, shown)
    width, height = figure.get_size_inches()
    assert height <= width
    labels = [label.get_text() for axes in figure.axes for label in axes.get_yticklabels()]
    assert labels == [f"cell {cell}" for cell in shown]
    present = sum(cell in day.cells for cell in shown for day in days)
    assert sum(len(axes.collections) for axes in figure.axes) == present
    odd = plots.plot_unit_gallery(opened, (cells * 24)[:23])
    assert np.ptp([axes.images[0].get_array().shape[0] for axes in odd.axes]) == 0
    assert (odd.axes[-1].images[0].get_array()[-1] == 1).all()


def test_too_many_sessions(tmp_path):
    names = [f"s{n:02d}" for n in range(31)]
    rows = pd.DataFrame({"session": names, "group": "", "unit": "1", "identity": "x"})
    with UnitStore.open(tmp_path / "units.sqlite") as store:
        store.import_table(UnitTable(rows, name="n", origin="test"))
        number = int(store.members()["number"].iloc[0])
        for draw in (plots.plot_unit_gallery, lambda s: plots.plot_unit_across_sessions(s, number)):
            with pytest.raises(ValueError, match="31 sessions, expected at most 30: choose some with sessions="):
                draw(open_sessions(store))
