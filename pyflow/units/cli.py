"""The command ``pyflow-units``.

Exit codes: 0 done; 1 refused, failed, or `check` found something; 2 the command is wrong.
"""

import argparse
import json
import logging
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.logging import RichHandler
from rich.table import Table
from rich.text import Text

import pyflow
from pyflow.io.atomic import replacing
from pyflow.units.incoming.recognise import LAYOUTS, UnrecognisedError, read_any
from pyflow.units.store.database import UnitStoreError
from pyflow.units.store.lookup import MultiSessUnit, UnitKey
from pyflow.units.store.unit_store import UnitStore

DONE, FAILED, USAGE = 0, 1, 2

_REFUSALS = (ImportError, OSError, ValueError)
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_ROWS = 20  # of a long table on the terminal; --json has all


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    errors = Console(stderr=True)
    logger = logging.getLogger("pyflow")
    logger.handlers = [RichHandler(console=errors, show_path=False, show_time=False)]
    try:
        return options.run(options)
    except KeyboardInterrupt:
        errors.print("interrupted; nothing was changed")
        return FAILED
    except UnrecognisedError as error:
        _print_error(errors, error)
        return USAGE
    except _REFUSALS as error:
        _print_error(errors, error)
        return FAILED


def _print_error(console: Console, error: BaseException) -> None:
    console.print("[bold red]error[/] ", end="")
    console.print(printable(str(error)), markup=False, highlight=False, soft_wrap=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pyflow-units",
        description="Which unit of one session is which of another: one store for all that is known about it.",
        epilog="A unit of one session is written session/unit, or session/group/unit where it has a group (tetrode, "
        "probe, plane). CELL is what such units are together: its number, global id, label, or one of its members.",
    )
    parser.add_argument("--version", action="version", version=f"pyflow {pyflow.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, run: Any, help: str, *, link_set: bool = False) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=help, description=help[0].upper() + help[1:] + ".")
        command.set_defaults(run=run)
        command.add_argument("--store", type=Path, default=Path("units.sqlite"), help="default: units.sqlite")
        command.add_argument("--json", action="store_true", help="print JSON instead of tables")
        if link_set:
            command.add_argument("--link-set", metavar="NAME", help="default: the current one")
        return command

    command = add("import", _import, "bring in a spreadsheet, a clustering, ids kept by hand, or a matcher's result")
    command.add_argument(
        "paths", nargs="+", type=Path, metavar="PATH", help="a file, a folder, or a folder per session"
    )
    command.add_argument("--name", help="of the link set; one of that name is replaced and its ids are kept")
    command.add_argument("--author", help="default: your login")
    command.add_argument("--current", action="store_true", help="make it the current link set")
    command.add_argument("--session", action="append", metavar="NAME", help="in order; give it once per session")
    command.add_argument(
        "--source",
        action="append",
        type=Path,
        metavar="PATH",
        help="a session's data (matchers); in order",
    )
    command.add_argument(
        "--span",
        action="append",
        type=_span,
        metavar="NAME=START:END",
        help="a session's samples in a folder where several were sorted as one; give it once per session",
    )
    command.add_argument(
        *("--group", "--probe", "--plane"),
        dest="group",
        metavar="NAME",
        help="tetrode, probe or plane of all units, where the files do not name it",
    )
    how = command.add_mutually_exclusive_group()
    how.add_argument("--append", action="store_true", help="keep the other groups of a link set of that name")
    how.add_argument("--replace", action="store_true", help="replace it even where it holds other groups")
    command.add_argument("--sheet", metavar="NAME", help="of a workbook")
    command.add_argument(
        "--layout",
        default=LAYOUTS[0],
        choices=LAYOUTS,
        help="of a table: a column says which cell a unit is (the default); the same id is the same cell; or a row per "
        "cell and a column per session",
    )
    command.add_argument(
        "--column", action="append", type=_pair, metavar="MEANING=HEADING", help="session=Sitzung, unit=Zelle ..."
    )

    command.add_argument(
        "--oversplit",
        default="raise",
        choices=["raise", "best"],
        help="UnitMatch may take two units of a session for one neuron: refuse (the default), or follow the better one",
    )

    command = add("export", _export, "write a link set as .xlsx, .csv, .tsv, .npz or .mat", link_set=True)
    command.add_argument("path", type=Path)

    command = add("show", _show, "show one cell in all its sessions", link_set=True)
    command.add_argument("unit", metavar="CELL")

    command = add("list", _list, "list cells, units, sessions or link sets", link_set=True)
    command.add_argument("what", nargs="?", default="cells", choices=["cells", "units", "sessions", "link-sets"])
    command.add_argument("--session", action="append", metavar="NAME", help="only what is in it; may be repeated")
    command.add_argument("--group", action="append", metavar="NAME", help="only what is in it; may be repeated")

    command = add("present-in", _present_in, "list the cells that are in at least N sessions", link_set=True)
    command.add_argument("at_least", type=int, metavar="N")
    command.add_argument("--session", action="append", metavar="NAME", help="count only these; default: all")

    def decide(name: str, run: Any, help: str) -> argparse.ArgumentParser:
        command = add(name, run, help, link_set=True)
        command.add_argument("--author", help="default: your login")
        return command

    unit = "session/unit or session/group/unit"
    command = decide("link", _link, "say that two units are one cell; every later import keeps to it")
    command.add_argument("a", metavar="A", help=unit)
    command.add_argument("b", metavar="B", help=unit)
    command = decide("unlink", _unlink, "say that a unit is another cell; every later import keeps to it")
    command.add_argument("a", metavar="A", help=unit)
    command.add_argument("b", metavar="B", nargs="?", help="default: every unit that A is linked with")
    command = decide("lock", _lock, "say that a cell is right as it is; every later import keeps to it")
    command.add_argument("cell", metavar="CELL")
    command = decide("unlock", _lock, "take the lock off a cell")
    command.add_argument("cell", metavar="CELL")
    add("pins", _pins, "list what was decided by hand")

    command = add("compare", _compare, "compare the links of two link sets")
    command.add_argument("a")
    command.add_argument("b")

    add("check", _check, "look for damage and contradictions")
    add("stats", _stats, "say what the store holds", link_set=True)

    command = add("plot", _plot, "draw a cell across sessions, a gallery, or which cell is where", link_set=True)
    command.add_argument("what", metavar="CELL|gallery|presence")
    command.add_argument("--out", type=Path, metavar="FILE", help="default: a .png of that name")
    command.add_argument("--kind", default="dff", help="of the traces; default: dff")
    command.add_argument("--spikes", action="store_true", help="draw CELL's spikes, waveforms, correlograms and depth")
    command.add_argument(
        "--movie", metavar="STIMULUS", help="draw CELL's responses to a movie, such as natural_movie_one"
    )
    command.add_argument(
        "--whole", action="store_true", help="show the whole field with CELL's mask, not what is around"
    )
    command.add_argument("--page", type=int, default=1, help="of the gallery")

    add("history", _history, "say who changed what, when")
    command = add("undo", _undo, "take back the last change")
    command.add_argument("--author", help="default: your login")
    command = add("use", _use, "make a link set the current one")
    command.add_argument("link_set", metavar="NAME")
    command = add("remove", _remove, "delete a link set; sessions, units and decisions stay")
    command.add_argument("link_set", metavar="NAME")
    command.add_argument("--author", help="default: your login")
    command = add("id-map", _id_map, "say which cell of one link set is which of another")
    command.add_argument("old")
    command.add_argument("new")
    command = add("merge", _merge, "take over everything that another store knows")
    command.add_argument("other", type=Path, metavar="STORE")
    command.add_argument("--author", help="default: your login")
    command = add("set-source", _set_source, "say where a session's results are")
    command.add_argument("session")
    command.add_argument("path", type=Path)
    command.add_argument("--kind", help="suite2p, nwb, phy ...")
    command.add_argument("--author", help="default: your login")
    return parser


def _pair(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not (key and separator and value):
        raise argparse.ArgumentTypeError(f"expected MEANING=HEADING, found {text!r}")
    return key, value


def _span(text: str) -> tuple[str, tuple[int, int]]:
    name, _, span = text.rpartition("=")
    start, _, end = span.partition(":")
    if not (name and start.isdecimal() and end.isdecimal()):
        raise argparse.ArgumentTypeError(f"expected NAME=START:END in samples, found {text!r}")
    return name, (int(start), int(end))


def _open(options: argparse.Namespace, **how: Any) -> UnitStore:
    return UnitStore.open(options.store, create=False, **how)


# Commands


def _import(options: argparse.Namespace) -> int:
    table = read_any(
        options.paths,
        name=options.name,
        sessions=options.session,
        sources=options.source,
        group=options.group,
        spans=dict(options.span) if options.span else None,
        sheet=options.sheet,
        columns=dict(options.column) if options.column else None,
        layout=options.layout,
        oversplit=options.oversplit,
    )
    with UnitStore.open(options.store, author=options.author) as store:
        before = set(store.link_sets()["name"])
        groups = "append" if options.append else "replace" if options.replace else "refuse"
        name = store.import_table(table, make_current=options.current, other_groups=groups)
        sets = store.link_sets().set_index("name")
        replaced = [old for old in sets.index[sets["replaced_by"] == name] if old not in before]
        stats = store.stats(link_set=name) | {"current": store.current() == name, "replaced": replaced}
    if options.json:
        return _print_json(stats | {"store": str(options.store)})
    console = _console()
    _print_line(console, f"Imported {table.origin} into {options.store} as link set {name!r}")
    _print_stats(console, stats)
    for old in replaced:
        _print_line(console, f"The earlier one is kept; what changed: pyflow-units compare {old!r} {name!r}")
    if not stats["current"]:
        _print_line(console, f"It is not the current link set; to make it so: pyflow-units use {name!r}")
    return DONE


def _export(options: argparse.Namespace) -> int:
    with _open(options) as store:
        path = store.export(options.path, link_set=options.link_set)
    if options.json:
        return _print_json({"path": str(path)})
    _print_line(_console(), f"Wrote {path}")
    return DONE


def _show(options: argparse.Namespace) -> int:
    with _open(options) as store:
        unit = _named_cell(store, options.unit, options.link_set)
        members = store.members(unit, link_set=options.link_set)
        scores = store.scores(unit, link_set=options.link_set)
        pins = _pins_of(store.pins(), members)
    if options.json:
        identity = {"link_set": unit.link_set, "number": unit.number, "global_id": unit.global_id, "label": unit.label}
        tables = {"members": members, "scores": scores, "pins": pins}
        return _print_json(identity | {name: _records(table) for name, table in tables.items()})
    console = _console()
    _print_cell(console, unit, members)
    if len(scores):
        _print_pairs(console, scores, ("name", "value"), title="Scores of pairs")
    if len(pins):
        _print_pairs(console, pins, ("kind", "author", "time"), title="Decided by hand")
    return DONE


def _list(options: argparse.Namespace) -> int:
    with _open(options) as store:
        if options.what == "link-sets":
            frame = store.link_sets()[["name", "algorithm", "author", "created", "n_units", "n_members", "is_current"]]
            frame = frame.rename(columns={"n_units": "cells", "n_members": "units"})
            frame["is_current"] = frame["is_current"].map({0: "", 1: "*"})
        elif options.what == "sessions":
            frame = store.sessions({"name": options.session} if options.session else None)
        elif options.what == "units":
            wanted = {"session": options.session, "group": options.group}
            frame = store.units({k: v for k, v in wanted.items() if v}, link_set=options.link_set)
            frame = frame.rename(columns={"number": "cell"})
        else:
            frame = _cells(store.members(sessions=options.session, groups=options.group, link_set=options.link_set))
    return _answer(options, frame, options.what.replace("-", " ").capitalize())


def _cells(members: pd.DataFrame) -> pd.DataFrame:
    """One row per cell: its number, label, and where it is."""
    by_cell = members.groupby("number", sort=True)
    sessions = by_cell["session"].agg(["size", ", ".join])
    sessions.columns = ["in sessions", "which"]
    return sessions.reset_index().rename(columns={"number": "cell"}).assign(label=by_cell["label"].first().to_numpy())


def _present_in(options: argparse.Namespace) -> int:
    with _open(options) as store:
        numbers = store.present_in(options.at_least, sessions=options.session, link_set=options.link_set)
        cells = _cells(store.members(link_set=options.link_set))
    among = f" of {', '.join(options.session)}" if options.session else ""
    frame = cells[cells["cell"].isin(numbers)].reset_index(drop=True)
    return _answer(options, frame, f"{len(numbers)} cells in at least {options.at_least} sessions{among}")


def _answer(options: argparse.Namespace, frame: pd.DataFrame, title: str) -> int:
    if options.json:
        return _print_json(_records(frame))
    _print_frame(_console(), frame, title)
    return DONE


def _link(options: argparse.Namespace) -> int:
    with _open(options, author=options.author) as store:
        a, b = (_unit_key(store, text) for text in (options.a, options.b))
        cell = store.link(a, b, link_set=options.link_set)
        members = store.members(cell, link_set=options.link_set)
    return _decided(options, f"{a} and {b} are one cell: cell {cell.number}", cell, members)


def _unlink(options: argparse.Namespace) -> int:
    with _open(options, author=options.author) as store:
        keys = [_unit_key(store, text) for text in (options.a, options.b) if text is not None]
        store.unlink(*keys, link_set=options.link_set)
    apart = f"not the same cell as {keys[1]}" if len(keys) > 1 else "none of the cells it was linked with"
    return _decided(options, f"{keys[0]} is {apart}")


def _lock(options: argparse.Namespace) -> int:
    with _open(options, author=options.author) as store:
        cell = _named_cell(store, options.cell, options.link_set)
        (store.lock if options.command == "lock" else store.unlock)(cell, link_set=options.link_set)
        members = store.members(cell, link_set=options.link_set)
    how = "locked: it stays as it is" if options.command == "lock" else "no longer locked"
    return _decided(options, f"Cell {cell.number} is {how}", cell, members)


def _decided(
    options: argparse.Namespace, done: str, cell: MultiSessUnit | None = None, members: pd.DataFrame | None = None
) -> int:
    if options.json:
        return _print_json({"done": done, "members": [] if members is None else _records(members)})
    console = _console()
    _print_line(console, done)
    if cell is not None and members is not None:
        _print_cell(console, cell, members)
    return DONE


def _pins(options: argparse.Namespace) -> int:
    with _open(options) as store:
        pins = store.pins()
    if options.json:
        return _print_json(_records(pins))
    _print_pairs(_console(), pins, ("kind", "author", "time"), title="Decided by hand")
    return DONE


def _compare(options: argparse.Namespace) -> int:
    with _open(options) as store:
        comparison = store.compare(options.a, options.b)
        tables = {name: getattr(comparison, name) for name in ("added", "lost", "conflicting")}
    if options.json:
        return _print_json({"counts": comparison.counts} | {name: _records(t) for name, t in tables.items()})
    console = _console()
    meaning = {
        "shared": "in both",
        "added": f"only in {options.b}",
        "lost": f"only in {options.a}",
        "conflicting": "units with another partner in the same session",
    }
    counts = comparison.counts
    summary = {"": list(counts), "links": list(counts.values()), "that are": [meaning[kind] for kind in counts]}
    _print_frame(console, pd.DataFrame(summary), title=f"{options.b} against {options.a}")
    for name in ("added", "lost"):
        if len(tables[name]):
            _print_links(console, tables[name], title=f"{name.capitalize()} links")
    if len(tables["conflicting"]):
        _print_conflicts(console, tables["conflicting"], options.a, options.b)
    return DONE


def _check(options: argparse.Namespace) -> int:
    with _open(options) as store:
        findings = store.check()
    if options.json:
        _print_json({"findings": findings})
    elif not findings:
        _print_line(_console(), f"{options.store}: all is well")
    for finding in () if options.json else findings:
        _console().print(Text.assemble(("! ", "bold red"), printable(finding)), soft_wrap=True)
    return FAILED if findings else DONE


def _stats(options: argparse.Namespace) -> int:
    with _open(options) as store:
        stats, sessions, sets = store.stats(link_set=options.link_set), store.sessions(), store.link_sets()
    if options.json:
        return _print_json(stats | {"session": _records(sessions), "link_sets": _records(sets)})
    console = _console()
    _print_stats(console, stats)
    shown = sessions[["name", "start_time", "kind", "n_units"]]
    shown.columns = ["session", "start", "kind", "units"]
    _print_frame(console, shown, title="Sessions")
    if len(sets):
        sets["current"] = sets["is_current"].map({0: "", 1: "*"})
        shown = sets[["current", "name", "algorithm", "author", "created", "n_units", "n_members"]]
        shown.columns = ["", "link set", "how", "author", "created", "cells", "units"]
        _print_frame(console, shown, title="Link sets (* the current one)")
    return DONE


def _plot(options: argparse.Namespace) -> int:
    from pyflow import plots
    from pyflow.units.across.opening import open_sessions

    with _open(options) as store:
        sessions = open_sessions(store, link_set=options.link_set)
        if options.what == "presence":
            figure = plots.plot_presence(sessions)
        elif options.spikes:
            cell = _named_cell(store, options.what, options.link_set)
            trains = store.spikes(cell, missing="none", link_set=options.link_set)
            there = sum(train is not None for train in trains.values())
            title = f"cell {cell.number}, in {there} of {len(trains)} sessions"
            figure = plots.plot_unit_spikes(trains, title=title)
            options.what = f"cell_{cell.number}_spikes"
        elif options.what == "gallery":
            figure = plots.plot_unit_gallery(sessions, page=options.page)
        else:
            unit = _named_cell(store, options.what, options.link_set)
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
    with replacing(path) as temporary:
        figure.savefig(temporary)
    if options.json:
        return _print_json({"path": str(path)})
    _print_line(_console(), f"Wrote {path}")
    return DONE


def _history(options: argparse.Namespace) -> int:
    with _open(options) as store:
        history = store.history()
    if options.json:
        return _print_json(_records(history))
    history["undone_by"] = history["undone_by"].astype("Int64")
    history.columns = ["change", "time", "author", "action", "what", "undone by"]
    _print_frame(_console(), history.iloc[::-1], title="Changes, the newest first")
    return DONE


def _undo(options: argparse.Namespace) -> int:
    with _open(options, author=options.author) as store:
        what = store.undo()
    if options.json:
        return _print_json({"undone": what})
    _print_line(_console(), f"Undone: {what}")
    return DONE


def _use(options: argparse.Namespace) -> int:
    with _open(options) as store:
        store.use(options.link_set)
    if options.json:
        return _print_json({"current": options.link_set})
    _print_line(_console(), f"The current link set is {options.link_set!r}")
    return DONE


def _remove(options: argparse.Namespace) -> int:
    with _open(options, author=options.author) as store:
        store.remove(options.link_set)
        current = store.current()
    if options.json:
        return _print_json({"removed": options.link_set, "current": current})
    now = "none is left" if current is None else f"the current one is {current!r}"
    _print_line(_console(), f"Removed link set {options.link_set!r}; {now}; pyflow-units undo brings it back")
    return DONE


def _id_map(options: argparse.Namespace) -> int:
    with _open(options) as store:
        frame = store.id_map(options.old, options.new)
    return _answer(options, frame, f"Cells of {options.old!r} and of {options.new!r}, and the units they share")


def _merge(options: argparse.Namespace) -> int:
    with _open(options, author=options.author) as store:
        names = store.merge(options.other)
        stats = store.stats()
    if options.json:
        return _print_json(stats | {"link_sets": names})
    console = _console()
    _print_line(console, f"Merged {options.other} into {options.store}; link sets: {', '.join(names) or 'none'}")
    _print_stats(console, stats)
    return DONE


def _set_source(options: argparse.Namespace) -> int:
    with _open(options, author=options.author) as store:
        store.set_source(options.session, options.path, kind=options.kind)
        source = store.sessions({"name": options.session})["source"].iloc[0]
    if options.json:
        return _print_json({"session": options.session, "source": source})
    _print_line(_console(), f"The results of {options.session} are in {source}")
    return DONE


# Units as people type them


def _keys_in(text: str) -> Iterable[UnitKey]:
    """What session/group/unit or session/unit may mean: names of sessions and groups may hold slashes."""
    parts = text.split("/")
    for cut in range(len(parts) - 1, 0, -1):
        yield UnitKey("/".join(parts[:cut]), "/".join(parts[cut:-1]), parts[-1])


def _unit_key(store: UnitStore, text: str) -> UnitKey:
    errors = []
    for key in _keys_in(text):
        try:
            store.find(key.session, key.unit, key.group)
        except UnitStoreError as error:
            errors.append(error)
        else:
            return key
    if not errors:
        raise UnrecognisedError(f"{text!r}: expected session/unit or session/group/unit")
    raise errors[-1]


def _pins_of(pins: pd.DataFrame, members: pd.DataFrame) -> pd.DataFrame:
    """Pins that concern one of the members."""
    keys = set(_keys(members["session"], members["group"], members["unit"]))
    sides = [_keys(*(pins[f"{part}_{side}"] for part in UnitKey._fields)) for side in ("a", "b")]
    return pins[[a in keys or b in keys for a, b in zip(*sides, strict=True)]]


def _named_cell(store: UnitStore, text: str, link_set: str | None) -> MultiSessUnit:
    """The cell of that number, global id or label, or with a member of that name."""
    try:
        return store.multi_sess_unit(text, link_set=link_set)
    except UnitStoreError:
        if "/" not in text:
            raise
    return store.multi_sess_unit(_unit_key(store, text), link_set=link_set)


# Output


def _console() -> Console:
    return Console(highlight=False)


def _print_line(console: Console, text: str) -> None:
    console.print(printable(text), markup=False, soft_wrap=True)


def printable(text: str) -> str:
    """Text whose control characters, which could move the cursor or hide what follows, are shown as escapes."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def _print_json(value: Any) -> int:
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    return DONE


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return json.loads(frame.to_json(orient="records", double_precision=15))


def _print_frame(console: Console, frame: pd.DataFrame, title: str) -> None:
    """Print a table: blank columns left out, numbers to the right, the first rows of many."""
    frame = frame.loc[:, [not (frame[column].isna() | frame[column].eq("")).all() for column in frame]]
    table = Table(title=printable(title), title_justify="left", title_style="bold")
    for heading in frame:
        right = pd.api.types.is_numeric_dtype(frame[heading])
        table.add_column(Text(printable(heading)), justify="right" if right else "left", overflow="fold")
    for row in frame.head(_ROWS).itertuples(index=False):
        table.add_row(*(Text(_cell(value)) for value in row))
    console.print(table)
    if len(frame) > _ROWS:
        _print_line(console, f"... and {len(frame) - _ROWS:,} more; --json lists all")


def _cell(value: Any) -> str:
    if pd.isna(value):
        return ""
    return (
        f"{value:.3g}"
        if isinstance(value, float)
        else f"{value:,}"
        if isinstance(value, int)
        else printable(str(value))
    )


def _keys(session: pd.Series, group: pd.Series, unit: pd.Series) -> list[str]:
    return [str(UnitKey(*key)) for key in zip(session, group, unit, strict=True)]


def _print_stats(console: Console, stats: dict[str, Any]) -> None:
    _print_line(console, f"{stats['units']:,} units in {stats['sessions']:,} sessions")
    if "link_set" not in stats:
        return
    followed, identities = stats["followed"], stats["multi_sess_units"]
    _print_line(console, f"{stats['link_set']}: {followed:,} of them are followed; they are {identities:,} cells")
    most = max(stats["by_sessions"].values(), default=0)
    for n, count in sorted(stats["by_sessions"].items()):
        bar = "\u2588" * max(1, round(30 * count / most))
        _print_line(console, f"  in {n:>3} {'session ' if n == 1 else 'sessions'} {count:>8,}  {bar}")


def _print_cell(console: Console, unit: MultiSessUnit, members: pd.DataFrame) -> None:
    shown = members[["session", "start_time", "group", "unit", "original_index", "probability", "kind", "source"]]
    shown = shown.rename(columns={"start_time": "start", "original_index": "index"})
    label = "" if unit.label == str(unit.number) else f", {unit.label!r} in its source"
    _print_frame(console, shown, title=f"Cell {unit.number}{label}; {unit.link_set}")
    _print_line(console, f"global id {unit.global_id}")


def _print_pairs(console: Console, frame: pd.DataFrame, further: tuple[str, ...], title: str) -> None:
    """Print pairs of units: both, and further columns."""
    sides = {side: _keys(*(frame[f"{part}_{side}"] for part in UnitKey._fields)) for side in ("a", "b")}
    _print_frame(console, pd.DataFrame(sides | {column: frame[column].array for column in further}), title)


def _print_links(console: Console, frame: pd.DataFrame, title: str) -> None:
    sides = [_keys(*(frame[f"{side}{part}"] for part in UnitKey._fields)) for side in ("", "partner_")]
    _print_frame(console, pd.DataFrame(dict(zip(("unit", "and"), sides, strict=True))), title)


def _print_conflicts(console: Console, frame: pd.DataFrame, a: str, b: str) -> None:
    columns = {"unit": _keys(*(frame[part] for part in UnitKey._fields))}
    for name, side in ((a, "a"), (b, "b")):
        partner = (frame["partner_session"], frame[f"group_in_{side}"], frame[f"unit_in_{side}"])
        columns[f"is in {name}"] = _keys(*partner)
    _print_frame(console, pd.DataFrame(columns), title="Conflicting links")


if __name__ == "__main__":
    sys.exit(main())
