"""The layer in a plain DuckDB of the caller's own: every view and macro over the lake, queried directly over httpfs."""

from collections.abc import Iterable
from pathlib import Path

import duckdb
from duckdb import DuckDBPyConnection

from alchemiser_duck.errors import QueryFailed
from alchemiser_duck.lake import credentials
from alchemiser_duck.query.catalogue import SqlFile, built_in_files, user_files
from alchemiser_duck.query.connection import create_secret, empty_lake, load_httpfs, load_user_files
from alchemiser_duck.query.literals import literal
from alchemiser_duck.settings import Settings


def connect(settings: Settings | None = None, database: str | Path = ":memory:") -> DuckDBPyConnection:
    """Open a DuckDB connection with the layer in it.

    It is the caller's own: not locked down, with all that DuckDB can do, joins with local files and DataFrames
    included. Cursors and further connections to the same database see the layer too. Each query reads the lake as it
    then is, over httpfs, without local copies. `set variable as_of = '2020-03-02'` and `since` look through every view
    of the connection or cursor on which they are set.

    Args:
        settings: default: from the environment.
        database: a file to keep other tables in.

    Raises:
        SettingsError: a variable is missing, or a file of the user's own SQL folder does not load.
        StorageRefused: there are no AWS credentials.
    """
    con = duckdb.connect(str(database), config={"autoinstall_known_extensions": False})
    con.execute("set global timezone = 'UTC'")
    settings = settings or Settings.from_environment()
    con.execute(f"set global threads = {settings.threads}")  # they mostly wait for S3
    return attach(con, settings)


def attach(con: DuckDBPyConnection, settings: Settings | None = None) -> DuckDBPyConnection:
    """Define the layer in a DuckDB that is there already; return its connection.

    It loads httpfs, makes a secret for the lake's prefix alone, and defines views and macros. Settings of the
    connection stay as they are, its time zone included. Calling it again brings newer credentials.

    Raises:
        QueryFailed: the database has a table or view with the name of one of the layer's.
        SettingsError, StorageRefused: as `connect` does.
    """
    settings = settings or Settings.from_environment()
    load_httpfs(con)
    create_secret(con, settings, credentials.current(), replace=True)
    files, own = built_in_files(), user_files(settings.sql_dir)
    _require_free_names(con, (*files, *own))
    defaults: dict[str, str | int] = {"market_data": settings.lake_url, "sip_delay_minutes": settings.sip_delay_minutes}
    con.execute(f"set variable market_data = {literal(empty_lake())}")  # views are bound to it: S3 is not asked
    for file in files:
        text = file.text
        for name, value in defaults.items():
            variable = f"getvariable('{name}')"
            text = text.replace(variable, f"coalesce({variable}, {literal(value)})")
        con.execute(text)
    load_user_files(con, own)
    con.execute("reset variable market_data")
    return con


def _require_free_names(con: DuckDBPyConnection, files: Iterable[SqlFile]) -> None:
    """Refuse to replace what is not ours: our own views carry our comments."""
    names = {file.name for file in files if file.is_relation}
    rows = con.execute(
        "select table_name from duckdb_tables() union all select view_name from duckdb_views() "
        "where not internal and comment is null"
    ).fetchall()
    if taken := sorted(names & {name.lower() for (name,) in rows}):
        raise QueryFailed(
            f"the database has a table or view named {', '.join(taken)}, as the layer does: rename it, or attach to "
            "another database: duckdb.connect()"
        )
