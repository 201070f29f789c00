"""Figures of a store's cells."""

import argparse
from pathlib import Path
from typing import Any

from pyflow.io.atomic import replacing
from pyflow.units.commands.printing import DONE, print_json, print_line, terminal
from pyflow.units.commands.typed import named_cell, open_store


def _of(sessions: list[str] | None, found: dict[str, Any]) -> dict[str, Any]:
    """What was found in the sessions that are asked for; in all by default."""
    if unknown := [name for name in sessions or () if name not in found]:
        raise ValueError(f"no session {unknown[0]!r}; there are {', '.join(map(repr, found))}")
    return found if sessions is None else {name: found[name] for name in sessions}


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
            trains = _of(options.session, store.spikes(cell, missing="none", link_set=options.link_set))
            there = sum(train is not None for train in trains.values())
            title = f"cell {cell.number}, in {there} of {len(trains)} sessions"
            figure = plots.plot_unit_spikes(trains, title=title)
            options.what = f"cell_{cell.number}_spikes"
        elif options.what == "gallery":
            figure = plots.plot_unit_gallery(sessions, page=options.page, sessions=options.session)
        else:
            unit = named_cell(store, options.what, options.link_set)
            options.what = f"cell_{unit.number}"
            if options.movie:
                found = sessions.movie_responses(unit.number, options.movie, kind=options.kind, missing="nan")
                found = _of(options.session, found)
                title = f"cell {unit.number}, {options.movie}"
                figure = plots.plot_movie_responses(found, title=title, kind=options.kind)
                options.what += f"_{options.movie}"
            else:
                margin = {"margin": None} if options.whole else {}
                figure = plots.plot_unit_across_sessions(
                    sessions, unit.number, kind=options.kind, sessions=options.session, **margin
                )
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
