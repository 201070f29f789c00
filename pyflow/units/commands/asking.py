"""What a store says."""

import argparse

import pandas as pd
from rich.text import Text

from pyflow.units.commands.printing import (
    DONE,
    FAILED,
    answer,
    counted,
    print_cell,
    print_conflicts,
    print_frame,
    print_json,
    print_line,
    print_links,
    print_pairs,
    print_stats,
    printable,
    records,
    terminal,
    unit_names,
)
from pyflow.units.commands.typed import named_cell, open_store
from pyflow.units.store.lookup import UnitKey


def show(options: argparse.Namespace) -> int:
    """Show one cell."""
    with open_store(options) as store:
        unit = named_cell(store, options.unit, options.link_set)
        members = store.members(unit, link_set=options.link_set)
        scores = store.scores(unit, link_set=options.link_set)
        pins = _pins_of(store.pins(), members)
    if options.json:
        identity = {"link_set": unit.link_set, "number": unit.number, "global_id": unit.global_id, "label": unit.label}
        tables = {"members": members, "scores": scores, "pins": pins}
        return print_json(identity | {name: records(table) for name, table in tables.items()})
    console = terminal()
    print_cell(console, unit, members)
    if len(scores):
        print_pairs(console, scores, ("name", "value"), title="Scores of pairs")
    if len(pins):
        print_pairs(console, pins, ("kind", "author", "time"), title="Decided by hand")
    return DONE


def _pins_of(pins: pd.DataFrame, members: pd.DataFrame) -> pd.DataFrame:
    """Pins that concern one of the members."""
    keys = set(unit_names(members["session"], members["group"], members["unit"]))
    sides = [unit_names(*(pins[f"{part}_{side}"] for part in UnitKey._fields)) for side in ("a", "b")]
    return pins[[a in keys or b in keys for a, b in zip(*sides, strict=True)]]


def list_(options: argparse.Namespace) -> int:
    """List cells, units, sessions or link sets."""
    with open_store(options) as store:
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
    return answer(options, frame, options.what.replace("-", " ").capitalize())


def _cells(members: pd.DataFrame) -> pd.DataFrame:
    """One row per cell: its number, label, and where it is."""
    by_cell = members.groupby("number", sort=True)
    sessions = by_cell["session"].agg(["size", ", ".join])
    sessions.columns = ["in sessions", "which"]
    return sessions.reset_index().rename(columns={"number": "cell"}).assign(label=by_cell["label"].first().to_numpy())


def present_in(options: argparse.Namespace) -> int:
    """List cells that are in many sessions."""
    with open_store(options) as store:
        numbers = store.present_in(options.at_least, sessions=options.session, link_set=options.link_set)
        cells = _cells(store.members(link_set=options.link_set))
    among = f" of {', '.join(options.session)}" if options.session else ""
    frame = cells[cells["cell"].isin(numbers)].reset_index(drop=True)
    least = counted(options.at_least, "session")
    return answer(options, frame, f"{counted(len(numbers), 'cell')} in at least {least}{among}")


def pins(options: argparse.Namespace) -> int:
    """List what was decided by hand."""
    with open_store(options) as store:
        pins = store.pins()
    if options.json:
        return print_json(records(pins))
    print_pairs(terminal(), pins, ("kind", "author", "time"), title="Decided by hand")
    return DONE


def compare(options: argparse.Namespace) -> int:
    """Compare two link sets."""
    with open_store(options) as store:
        comparison = store.compare(options.a, options.b)
        tables = {name: getattr(comparison, name) for name in ("added", "lost", "conflicting")}
    if options.json:
        return print_json({"counts": comparison.counts} | {name: records(t) for name, t in tables.items()})
    console = terminal()
    meaning = {
        "shared": "in both",
        "added": f"only in {options.b}",
        "lost": f"only in {options.a}",
        "conflicting": "units with another partner in the same session",
    }
    counts = comparison.counts
    summary = {"": list(counts), "links": list(counts.values()), "that are": [meaning[kind] for kind in counts]}
    print_frame(console, pd.DataFrame(summary), title=f"{options.b} against {options.a}")
    for name in ("added", "lost"):
        if len(tables[name]):
            print_links(console, tables[name], title=f"{name.capitalize()} links")
    if len(tables["conflicting"]):
        print_conflicts(console, tables["conflicting"], options.a, options.b)
    return DONE


def id_map(options: argparse.Namespace) -> int:
    """Say which cell of one link set is which of another."""
    with open_store(options) as store:
        frame = store.id_map(options.old, options.new)
    return answer(options, frame, f"Cells of {options.old!r} and of {options.new!r}, and the units they share")


def check(options: argparse.Namespace) -> int:
    """Look for damage and contradictions."""
    with open_store(options) as store:
        findings = store.check()
    if options.json:
        print_json({"findings": findings})
    elif not findings:
        print_line(terminal(), f"{options.store}: all is well")
    for finding in () if options.json else findings:
        terminal().print(Text.assemble(("! ", "bold red"), printable(finding)), soft_wrap=True)
    return FAILED if findings else DONE


def stats(options: argparse.Namespace) -> int:
    """Say what the store holds."""
    with open_store(options) as store:
        stats, sessions, sets = store.stats(link_set=options.link_set), store.sessions(), store.link_sets()
    if options.json:
        return print_json(stats | {"session": records(sessions), "link_sets": records(sets)})
    console = terminal()
    print_stats(console, stats)
    shown = sessions[["name", "start_time", "kind", "n_units"]]
    shown.columns = ["session", "start", "kind", "units"]
    print_frame(console, shown, title="Sessions")
    if len(sets):
        sets["current"] = sets["is_current"].map({0: "", 1: "*"})
        shown = sets[["current", "name", "algorithm", "author", "created", "n_units", "n_members"]]
        shown.columns = ["", "link set", "how", "author", "created", "cells", "units"]
        print_frame(console, shown, title="Link sets (* the current one)")
    return DONE


def history(options: argparse.Namespace) -> int:
    """Say who changed what."""
    with open_store(options) as store:
        history = store.history()
    if options.json:
        return print_json(records(history))
    history["undone_by"] = history["undone_by"].astype("Int64")
    history.columns = ["change", "time", "author", "action", "what", "undone by"]
    print_frame(terminal(), history.iloc[::-1], title="Changes, the newest first")
    return DONE
