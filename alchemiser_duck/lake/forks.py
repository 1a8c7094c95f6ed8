"""Notice that this process is a fork of one that has read: S3's client does not survive that."""

import os

from alchemiser_duck.errors import StorageUnavailable


class _Process:
    """The state of this process; a fork gets a copy of it."""

    has_read = False
    was_forked_after_reading = False


def _in_child() -> None:
    _Process.was_forked_after_reading = _Process.was_forked_after_reading or _Process.has_read


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)


def require_own_process() -> None:
    """Refuse to read in a fork whose parent has read: the threads that wait for S3 are not there, it would hang.

    Raises:
        StorageUnavailable: this is such a fork.
    """
    if _Process.was_forked_after_reading:
        raise StorageUnavailable(
            "this process was forked from one that had read before, and S3's client does not survive a fork: start "
            "workers by multiprocessing.get_context('spawn') or 'forkserver', or make the first read in the worker"
        )
    _Process.has_read = True
