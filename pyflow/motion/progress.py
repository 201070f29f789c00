"""How far a run is, in one line: what ``progress=True`` shows."""

import sys
import time
from collections.abc import Callable

Progress = Callable[[int, int], None]

_EVERY_S = 10.0  # between two lines in a file or a notebook
_REDRAW_S = 0.2  # between two states of the line on a terminal


class ProgressLine:
    """Writes frames, speed and time left: over and over in one line of a terminal, elsewhere a line now and then."""

    def __init__(self) -> None:
        self._began = self._last = time.monotonic()
        self._first: int | None = None
        self._redraws = sys.stderr.isatty()
        if self._redraws:
            sys.stderr.write("reference and smoothness are found first ...")
            sys.stderr.flush()

    def __call__(self, done: int, total: int) -> None:
        """Take how many frames are done."""
        now = time.monotonic()
        if self._first is None:  # of a run that goes on, not 1; the reference's time is no frame's
            self._began, self._first = now, done
        if done < total and now - self._last < (_REDRAW_S if self._redraws else _EVERY_S):
            return
        self._last = now
        line = f"frame {done} of {total}"
        if (registered := done - self._first) and (took := now - self._began):
            line += f", {registered / took:.0f} frames/s"
            if done < total:
                line += f", {_duration((total - done) * took / registered)} left"
        sys.stderr.write(f"\r\x1b[K{line}" if self._redraws else f"{line}\n")
        if self._redraws and done == total:
            sys.stderr.write("\n")
        sys.stderr.flush()


def as_callback(progress: Progress | bool | None) -> Progress | None:
    """Return what is called with frames done and in all; True stands for a `ProgressLine`."""
    return ProgressLine() if progress is True else progress or None


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min" if minutes > 9 else f"{minutes}:{seconds:02d} min"
