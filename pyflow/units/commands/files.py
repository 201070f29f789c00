"""What comes into a store and goes out of it."""

import argparse

from pyflow.units.commands.printing import DONE, print_json, print_line, print_stats, terminal
from pyflow.units.commands.typed import once, open_store
from pyflow.units.incoming.recognise import read_any
from pyflow.units.store.unit_store import UnitStore


def import_(options: argparse.Namespace) -> int:
    """Bring in what other programs and people say."""
    table = read_any(
        options.paths,
        name=options.name,
        sessions=options.session,
        sources=options.source,
        group=options.group,
        spans=once("--span", options.span),
        sheet=options.sheet,
        columns=once("--column", options.column),
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
        return print_json(stats | {"store": str(options.store)})
    console = terminal()
    print_line(console, f"Imported {table.origin} into {options.store} as link set {name!r}")
    print_stats(console, stats)
    if len(table.sessions) == 1 and options.paths[0].is_dir():
        print_line(console, "All in one session; of several that were sorted as one recording, give each its --span")
    for old in replaced:
        print_line(console, f"The earlier one is kept; what changed: pyflow-units compare {old!r} {name!r}")
    if not stats["current"]:
        print_line(console, f"It is not the current link set; to make it so: pyflow-units use {name!r}")
    return DONE


def export(options: argparse.Namespace) -> int:
    """Write a link set."""
    with open_store(options) as store:
        path = store.export(options.path, link_set=options.link_set)
    if options.json:
        return print_json({"path": str(path)})
    print_line(terminal(), f"Wrote {path}")
    return DONE


def merge(options: argparse.Namespace) -> int:
    """Take over another store."""
    with open_store(options, author=options.author) as store:
        names = store.merge(options.other)
        stats = store.stats()
    if options.json:
        return print_json(stats | {"link_sets": names})
    console = terminal()
    print_line(console, f"Merged {options.other} into {options.store}; link sets: {', '.join(names) or 'none'}")
    print_stats(console, stats)
    return DONE


def set_source(options: argparse.Namespace) -> int:
    """Say where a session's results are."""
    with open_store(options, author=options.author) as store:
        store.set_source(options.session, options.path, kind=options.kind)
        source = store.sessions({"name": options.session})["source"].iloc[0]
    if options.json:
        return print_json({"session": options.session, "source": source})
    print_line(terminal(), f"The results of {options.session} are in {source}")
    return DONE
