"""A folder of this process alone in the system's temporary folder; what killed processes left there is removed.

A lock, which the system lifts however a process ends, tells whose folder is still in use. Process ids would not:
containers that share a temporary folder give the same ones.
"""

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: nobody removes a folder but the process that made it
    fcntl = None  # type: ignore[assignment]

_PREFIX = "alchemiser-duck-"
_LOCK = "in-use"


class ScratchFolder:
    """An empty folder, for nobody else to look into; `remove` it, or, if this process is killed, the next one does."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self._process = os.getpid()
        made = self.path / "lock"
        self._lock = os.open(made, os.O_CREAT | os.O_RDWR, 0o600)
        if fcntl is None:
            return
        with suppress(OSError):  # some network file systems have no locks: as on Windows
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            made.rename(self.path / _LOCK)  # nobody looks for it before it is held

    @property
    def is_own(self) -> bool:
        """Whether it belongs to this process, not to one that this is a fork of."""
        return os.getpid() == self._process

    def remove(self) -> None:
        """Remove it with all that is in it; nothing happens in a fork, or the second time."""
        if self.is_own and self.path.exists():
            os.close(self._lock)  # first: Windows removes no open file
            shutil.rmtree(self.path, ignore_errors=True)


def remove_abandoned() -> None:
    """Remove the folders of this user's processes that ended without removing them."""
    if fcntl is None:
        return
    for held in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*/{_LOCK}"):
        try:
            lock = os.open(held, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
        except OSError:  # another user's, or just removed
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(held.parent, ignore_errors=True)
        except OSError:
            pass  # in use, or there are no locks
        finally:
            os.close(lock)
