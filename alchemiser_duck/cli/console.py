"""Narration: everything a command says that is not data goes to stderr, and only through here."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from alchemiser_duck.errors import AlchemiserDuckError

LOG_SECONDS = 5
"""Seconds between two lines of progress where there is no terminal."""

Advance = Callable[[int, int, int], None]


_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]|[\ud800-\udfff]")
"""What could move a terminal's cursor, colour it, or turn the order of its letters."""


def printable(text: str) -> str:
    """Return a text with control characters spelt out: data never steers a terminal."""
    return _CONTROL.sub(lambda match: ascii(match[0])[1:-1], text)


def _console() -> Console:
    return Console(stderr=True, highlight=False, soft_wrap=True)


def info(text: str) -> None:
    """One plain line."""
    _console().print(printable(text), markup=False)


def error(text: str) -> None:
    """Why a command stops."""
    _console().print(f"error: {printable(text)}", style="red", markup=False)


def warning(text: str) -> None:
    """What the user should know although the command goes on."""
    _console().print(f"warning: {printable(text)}", style="yellow", markup=False)


def narrate_retries() -> None:
    """From now on, say in one line why something is tried again, and when."""
    import stamina.instrumentation

    def say_why(details: stamina.instrumentation.RetryDetails) -> None:
        # a lost race for a partition is daily business
        if isinstance(details.caused_by, AlchemiserDuckError):
            info(f"{details.caused_by}; attempt {details.retry_num + 1} in {details.wait_for:.1f} s")

    stamina.instrumentation.set_on_retry_hooks([say_why])


@contextmanager
def refresh_progress() -> Iterator[Advance]:
    """A progress bar with rate and time left on a terminal, a plain line now and then elsewhere."""
    console = _console()
    if not console.is_terminal:
        yield _plain_lines()
        return
    columns = (
        TextColumn("fetching"),
        BarColumn(bar_width=16),
        MofNCompleteColumn(),
        TextColumn("{task.fields[bars]:,} bars, {task.fields[rate]:,.0f}/s,"),
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("fetching", total=None, bars=0, rate=0.0)
        begun = time.monotonic()

        def advance(done: int, total: int, bars: int) -> None:
            rate = bars / max(time.monotonic() - begun, 1e-3)
            progress.update(task, completed=done, total=total, bars=bars, rate=rate)

        yield advance


def _plain_lines() -> Advance:
    begun = spoken = time.monotonic()

    def advance(done: int, total: int, bars: int) -> None:
        nonlocal spoken
        now = time.monotonic()
        if now - spoken >= LOG_SECONDS or done == total:
            spoken = now
            left = (now - begun) / done * (total - done)
            rate = bars / max(now - begun, 1e-3)
            info(f"fetched {done} of {total} symbols x spans, {bars:,} bars, {rate:,.0f} bars/s, {left:.0f} s left")

    return advance
