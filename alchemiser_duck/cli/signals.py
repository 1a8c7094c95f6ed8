"""Signals of commands that run until they are stopped."""

import signal
from threading import Event
from typing import Any


def stop_signal() -> Any:
    """Return a function that waits until the process is asked to stop."""
    event = Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: event.set())
    return event.wait
