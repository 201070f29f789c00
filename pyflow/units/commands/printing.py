"""How the commands print: lines, tables, JSON."""

import argparse
import json
import re
import sys
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pyflow.units.store.lookup import MultiSessUnit, UnitKey

DONE, FAILED, USAGE = 0, 1, 2

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_ROWS = 20  # of a long table on the terminal; --json has all


def print_error(console: Console, error: BaseException) -> None:
    """Print what went wrong."""
    console.print("[bold red]error[/] ", end="")
    console.print(printable(str(error)), markup=False, highlight=False, soft_wrap=True)


def terminal() -> Console:
    """Return where answers are printed."""
    return Console(highlight=False)


def print_line(console: Console, text: str) -> None:
    """Print a line as it is."""
    console.print(printable(text), markup=False, soft_wrap=True)


def printable(text: str) -> str:
    """Text whose control characters, which could move the cursor or hide what follows, are shown as escapes."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def print_json(value: Any) -> int:
    """Print JSON."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    return DONE


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table as JSON has them."""
    return json.loads(frame.to_json(orient="records", double_precision=15))


def answer(options: argparse.Namespace, frame: pd.DataFrame, title: str) -> int:
    """Print a table, or JSON where the options ask for it."""
    if options.json:
        return print_json(records(frame))
    print_frame(terminal(), frame, title)
    return DONE


def print_frame(console: Console, frame: pd.DataFrame, title: str) -> None:
    """Print a table: blank columns left out, numbers to the right, the first rows of many."""
    if frame.empty:
        print_line(console, f"{title}: none")
        return
    frame = frame.loc[:, [not (frame[column].isna() | frame[column].eq("")).all() for column in frame]]
    table = Table(title=printable(title), title_justify="left", title_style="bold")
    for heading in frame:
        right = pd.api.types.is_numeric_dtype(frame[heading])
        table.add_column(Text(printable(heading)), justify="right" if right else "left", overflow="fold")
    for row in frame.head(_ROWS).itertuples(index=False):
        table.add_row(*(Text(_cell(value)) for value in row))
    console.print(table)
    if len(frame) > _ROWS:
        print_line(console, f"... and {len(frame) - _ROWS:,} more; --json lists all")


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


def unit_names(session: pd.Series, group: pd.Series, unit: pd.Series) -> list[str]:
    """Return units as people type them."""
    return [str(UnitKey(*key)) for key in zip(session, group, unit, strict=True)]


def counted(n: int, what: str) -> str:
    """Say how many there are of something."""
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"


def print_stats(console: Console, stats: dict[str, Any]) -> None:
    """Print how many units and cells there are."""
    print_line(console, f"{counted(stats['units'], 'unit')} in {counted(stats['sessions'], 'session')}")
    if "link_set" not in stats:
        return
    followed, identities = stats["followed"], stats["multi_sess_units"]
    verb, they = ("is", "it is") if followed == 1 else ("are", "they are")
    print_line(
        console, f"{stats['link_set']}: {followed:,} of them {verb} followed; {they} {counted(identities, 'cell')}"
    )
    most = max(stats["by_sessions"].values(), default=0)
    for n, count in sorted(stats["by_sessions"].items()):
        bar = "\u2588" * max(1, round(30 * count / most))
        print_line(console, f"  in {n:>3} {'session ' if n == 1 else 'sessions'} {count:>8,}  {bar}")


def print_cell(console: Console, unit: MultiSessUnit, members: pd.DataFrame) -> None:
    """Print a cell and its members."""
    shown = members[["session", "start_time", "group", "unit", "original_index", "probability", "kind", "source"]]
    shown = shown.rename(columns={"start_time": "start", "original_index": "index"})
    label = "" if unit.label == str(unit.number) else f", {unit.label!r} in its source"
    print_frame(console, shown, title=f"Cell {unit.number}{label}; {unit.link_set}")
    print_line(console, f"global id {unit.global_id}")


def print_pairs(console: Console, frame: pd.DataFrame, further: tuple[str, ...], title: str) -> None:
    """Print pairs of units: both, and further columns."""
    sides = {side: unit_names(*(frame[f"{part}_{side}"] for part in UnitKey._fields)) for side in ("a", "b")}
    print_frame(console, pd.DataFrame(sides | {column: frame[column].array for column in further}), title)


def print_links(console: Console, frame: pd.DataFrame, title: str) -> None:
    """Print links."""
    sides = [unit_names(*(frame[f"{side}{part}"] for part in UnitKey._fields)) for side in ("", "partner_")]
    print_frame(console, pd.DataFrame(dict(zip(("unit", "and"), sides, strict=True))), title)


def print_conflicts(console: Console, frame: pd.DataFrame, a: str, b: str) -> None:
    """Print units with another partner in each link set."""
    columns = {"unit": unit_names(*(frame[part] for part in UnitKey._fields))}
    for name, side in ((a, "a"), (b, "b")):
        partner = (frame["partner_session"], frame[f"group_in_{side}"], frame[f"unit_in_{side}"])
        columns[f"is in {name}"] = unit_names(*partner)
    print_frame(console, pd.DataFrame(columns), title="Conflicting links")
