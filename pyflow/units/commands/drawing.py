"""Figures of a store's cells."""

import argparse
from pathlib import Path

from pyflow.io.atomic import replacing
from pyflow.units.commands.printing import DONE, print_json, print_line, terminal
from pyflow.units.commands.typed import named_cell, open_store


def plot(options: argparse.Namespace) -> int:
    """Draw a cell, a gallery, or which cell is where."""
    from pyflow import plots
    from pyflow.units.across.opening import open_sessions

    with open_store(options) as store:
        sessions = open_sessions(store, link_set=options.link_set)
        if options.what == "presence":
            figure = plots.plot_presence(sessions)
        elif options.spikes:
            cell = named_cell(store, options.what, options.link_set)
            trains = store.spikes(cell, missing="none", link_set=options.link_set)
            there = sum(train is not None for train in trains.values())
            title = f"cell {cell.number}, in {there} of {len(trains)} sessions"
            figure = plots.plot_unit_spikes(trains, title=title)
            options.what = f"cell_{cell.number}_spikes"
        elif options.what == "gallery":
            figure = plots.plot_unit_gallery(sessions, page=options.page)
        else:
            unit = named_cell(store, options.what, options.link_set)
            options.what = f"cell_{unit.number}"
            if options.movie:
                found = sessions.movie_responses(unit.number, options.movie, kind=options.kind, missing="nan")
                title = f"cell {unit.number}, {options.movie}"
                figure = plots.plot_movie_responses(found, title=title, kind=options.kind)
                options.what += f"_{options.movie}"
            else:
                margin = {"margin": None} if options.whole else {}
                figure = plots.plot_unit_across_sessions(sessions, unit.number, kind=options.kind, **margin)
    path = options.out or Path(f"{options.what}.png")
    known = [f".{kind}" for kind in figure.canvas.get_supported_filetypes()]
    if path.suffix.lower() not in known:
        raise ValueError(f"{path}: no figure is written as {path.suffix!r}; choose one of {', '.join(known)}")
    with replacing(path) as temporary:
        figure.savefig(temporary)
    if options.json:
        return print_json({"path": str(path)})
    print_line(terminal(), f"Wrote {path}")
    return DONE
