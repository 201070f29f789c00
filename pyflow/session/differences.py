"""Say in words what changed between the parts of two keys, so that people see why a stage runs again."""

import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

# What the hashes among a key's parts stand for.
_MADE_FROM = {
    "stage1": "stage 1 of the recording",
    "center_stage1": "stage 1 of the centre",
    "stage2": "stage 2 of the recording",
}
_HASHED = (".ends", ".content", ".blake2b")
_FILES = {"input": "the input file"}


def difference(old: dict[str, Any], new: dict[str, Any]) -> str:
    """Say which parts differ: options with their two values, files and earlier stages by name."""
    old, new = dict(_flat(old)), dict(_flat(new))
    names = [name for name in {**old, **new} if old.get(name, "absent") != new.get(name, "absent")]
    if "center" in names and "center_stage1" in names:
        names.remove("center_stage1")  # another recording's, which need not be new
    return ", ".join(dict.fromkeys(_change(name, _shown(old, name), _shown(new, name)) for name in names))


def _change(name: str, old: str, new: str) -> str:
    """Say how one part changed; hashes tell a reader nothing, so that what they are of stands for them."""
    if name in _MADE_FROM:
        return f"{_MADE_FROM[name]} was made anew"
    group, _, rest = name.partition(".")
    if group == "recordings":
        return f"{rest} {'is new' if old == 'absent' else 'is gone' if new == 'absent' else 'was aligned anew'}"
    if name == "schema":
        return f"pyflow's way to compute it: version {old} -> {new}"
    if _is_hash(old) or _is_hash(new):
        where = name.rpartition(".")[0] if name.endswith(_HASHED) else name
        return f"content of {_FILES.get(where, where.removeprefix('made_elsewhere.'))}"
    return f"{name.removesuffix('_ns')}: {old} -> {new}"


def _shown(parts: dict[str, Any], name: str) -> str:
    value = parts.get(name, "absent")
    if name.endswith("mtime_ns") and isinstance(value, int):
        with suppress(ValueError, OverflowError, OSError):  # a number that is no time is shown as it is
            return f"{datetime.fromtimestamp(value // 10**9, UTC):%Y-%m-%dT%H:%M:%S}.{value % 10**9 // 1000:06}Z"
    return str(value)


def _is_hash(text: str) -> bool:
    return re.fullmatch("[0-9a-f]{32,}", text) is not None


def _flat(parts: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in parts.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
