"""What the commands share towards the terminal: exit statuses, errors, lines and bars."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import ValidationError
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pyflow._help import one_line
from pyflow.session.results import Progress as ProgressCallback

DONE, FAILED, USAGE, NOT_ALIGNED, INTERRUPTED = 0, 1, 2, 3, 75

_LOG_EVERY_S = 5.0


class UsageError(Exception):
    """The command or the configuration is wrong, and nothing was begun: exit status 2."""


@contextmanager
def before_it_begins(errors: tuple[type[Exception], ...] = (OSError, ValueError)) -> Iterator[None]:
    """Take what is wrong while the command is still being understood for a `UsageError`."""
    try:
        yield
    except errors as error:
        raise UsageError(one_line(error) if isinstance(error, ValidationError) else str(error)) from error


def make_console(*, stderr: bool = False) -> Console:
    """Make a console that prints names and paths as they are: brackets are no markup, colons no emoji."""
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False, soft_wrap=True)


def print_error(console: Console, error: object, word: str = "error") -> None:
    """Print what went wrong after a word in red."""
    console.print(word, style="bold red", end=" ")
    console.print(str(error))


def log_to(console: Console) -> None:
    """Show what pyflow logs: with colours on a terminal, as plain lines elsewhere."""
    if console.is_terminal:
        handler: logging.Handler = RichHandler(console=console, show_path=False, log_time_format="%X")
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logger = logging.getLogger("pyflow")
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)


@contextmanager
def show_progress(console: Console) -> Iterator[ProgressCallback]:
    """Show a bar per recording on a terminal, and a line every few seconds elsewhere."""
    if console.is_terminal:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        tasks: dict[str, Any] = {}
        with Progress(*columns, console=console) as bars:

            def show(name: str, done: int, total: int) -> None:
                if name not in tasks:
                    tasks[name] = bars.add_task(name, total=total)
                bars.update(tasks[name], completed=done, total=total)

            yield show
        return

    last = time.monotonic()
    logger = logging.getLogger(__name__)

    def report(name: str, done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= _LOG_EVERY_S:
            last = time.monotonic()
            logger.info("%s: frame %d of %d", name, done, total)

    yield report
