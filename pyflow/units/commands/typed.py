"""Stores, units and options as people type them."""

import argparse
from collections.abc import Iterable
from typing import Any

from pyflow.units.incoming.recognise import UnrecognisedError
from pyflow.units.store.database import UnitStoreError
from pyflow.units.store.lookup import MultiSessUnit, UnitKey
from pyflow.units.store.unit_store import UnitStore


def pair(text: str) -> tuple[str, str]:
    """Parse MEANING=HEADING."""
    key, separator, value = text.partition("=")
    if not (key and separator and value):
        raise argparse.ArgumentTypeError(f"expected MEANING=HEADING, found {text!r}")
    return key, value


def span(text: str) -> tuple[str, tuple[int, int]]:
    """Parse NAME=START:END."""
    name, _, span = text.rpartition("=")
    start, _, end = span.partition(":")
    if not (name and start.isdecimal() and end.isdecimal()):
        raise argparse.ArgumentTypeError(f"expected NAME=START:END in samples, found {text!r}")
    return name, (int(start), int(end))


def once(option: str, given: list[tuple[str, Any]] | None) -> dict[str, Any] | None:
    """Return what an option said by name, of which each may be given once; None where it was not given."""
    names = [name for name, _ in given or ()]
    if len(set(names)) < len(names):
        raise UnrecognisedError(f"{option}: {max(names, key=names.count)!r} is given twice")
    return dict(given) if given else None


def open_store(options: argparse.Namespace, **how: Any) -> UnitStore:
    """Open the store that the options name; it must be there."""
    return UnitStore.open(options.store, create=False, **how)


def _keys_in(text: str) -> Iterable[UnitKey]:
    """What session/group/unit or session/unit may mean: names of sessions and groups may hold slashes."""
    parts = text.split("/")
    for cut in range(len(parts) - 1, 0, -1):
        yield UnitKey("/".join(parts[:cut]), "/".join(parts[cut:-1]), parts[-1])


def unit_key(store: UnitStore, text: str) -> UnitKey:
    """Return the unit of the store that the text names."""
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


def named_cell(store: UnitStore, text: str, link_set: str | None) -> MultiSessUnit:
    """The cell of that number, global id or label, or with a member of that name."""
    try:
        return store.multi_sess_unit(text, link_set=link_set)
    except UnitStoreError:
        if "/" not in text:
            raise
    return store.multi_sess_unit(unit_key(store, text), link_set=link_set)
