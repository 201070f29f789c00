"""What a person decides, and takes back."""

import argparse

import pandas as pd

from pyflow.units.commands.printing import DONE, print_cell, print_json, print_line, records, terminal
from pyflow.units.commands.typed import named_cell, open_store, unit_key
from pyflow.units.store.lookup import MultiSessUnit


def link(options: argparse.Namespace) -> int:
    """Say that two units are one cell."""
    with open_store(options, author=options.author) as store:
        a, b = (unit_key(store, text) for text in (options.a, options.b))
        cell = store.link(a, b, link_set=options.link_set)
        members = store.members(cell, link_set=options.link_set)
    return _decided(options, f"{a} and {b} are one cell: cell {cell.number}", cell, members)


def unlink(options: argparse.Namespace) -> int:
    """Say that a unit is another cell."""
    with open_store(options, author=options.author) as store:
        keys = [unit_key(store, text) for text in (options.a, options.b) if text is not None]
        store.unlink(*keys, link_set=options.link_set)
    apart = f"not the same cell as {keys[1]}" if len(keys) > 1 else "another cell than the units it was linked with"
    return _decided(options, f"{keys[0]} is {apart}")


def lock(options: argparse.Namespace) -> int:
    """Lock a cell, or take the lock off."""
    with open_store(options, author=options.author) as store:
        cell = named_cell(store, options.cell, options.link_set)
        members = store.members(cell, link_set=options.link_set)  # before: what cannot be read is not changed
        (store.lock if options.command == "lock" else store.unlock)(cell, link_set=options.link_set)
    how = "locked: it stays as it is" if options.command == "lock" else "no longer locked"
    return _decided(options, f"Cell {cell.number} is {how}", cell, members)


def _decided(
    options: argparse.Namespace, done: str, cell: MultiSessUnit | None = None, members: pd.DataFrame | None = None
) -> int:
    if options.json:
        return print_json({"done": done, "members": [] if members is None else records(members)})
    console = terminal()
    print_line(console, done)
    if cell is not None and members is not None:
        print_cell(console, cell, members)
    return DONE


def use(options: argparse.Namespace) -> int:
    """Make a link set the current one."""
    with open_store(options) as store:
        store.use(options.link_set)
    if options.json:
        return print_json({"current": options.link_set})
    print_line(terminal(), f"The current link set is {options.link_set!r}")
    return DONE


def remove(options: argparse.Namespace) -> int:
    """Delete a link set."""
    with open_store(options, author=options.author) as store:
        store.remove(options.link_set)
        current = store.current()
    if options.json:
        return print_json({"removed": options.link_set, "current": current})
    now = "none is left" if current is None else f"the current one is {current!r}"
    print_line(terminal(), f"Removed link set {options.link_set!r}; {now}; pyflow-units undo brings it back")
    return DONE


def undo(options: argparse.Namespace) -> int:
    """Take back the last change."""
    with open_store(options, author=options.author) as store:
        what = store.undo()
    if options.json:
        return print_json({"undone": what})
    print_line(terminal(), f"Undone: {what}")
    return DONE
