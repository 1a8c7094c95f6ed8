"""DuckDB's errors as ours; the one place for it.

They are told apart by their class and, over httpfs, by the HTTP status, never by their text. A damaged or replaced
object gives one of a few classes, depending on the byte that DuckDB stumbles over, and so do queries that are wrong by
themselves: `may_be_torn` names the classes, and the session finds out which of the two it is.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import duckdb

from alchemiser_duck.errors import AlchemiserDuckError, QueryFailed
from alchemiser_duck.lake.location import code_in, locate, storage_error
from alchemiser_duck.settings import Settings

_OF_FILES = (duckdb.IOException, duckdb.InvalidInputException, duckdb.SerializationException, duckdb.InternalException)


def may_be_torn(problem: Exception) -> bool:
    """Tell whether a file that is not what it was can have caused this error."""
    if isinstance(problem, UnicodeDecodeError):  # DuckDB quotes bytes that it met where a footer should be
        return True
    return type(problem) is duckdb.Error or isinstance(problem, _OF_FILES)


@contextmanager
def translated() -> Iterator[None]:
    """Raise DuckDB's errors about a statement as QueryFailed."""
    try:
        yield
    except duckdb.Error as problem:
        raise QueryFailed(str(problem)) from problem


def httpfs_error(problem: duckdb.HTTPException, settings: Settings) -> AlchemiserDuckError:
    """Translate what httpfs could not read, after it was tried again."""
    text = str(problem)
    return storage_error(locate(settings), getattr(problem, "status_code", None) or None, code_in(text), text)
