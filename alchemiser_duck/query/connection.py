"""Opening DuckDB: UTC, the SQL layer, what it may read, and then the door is locked.

The one place that knows DuckDB's settings, the httpfs extension, and how S3's address and keys become a secret.
"""

from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
from duckdb import DuckDBPyConnection

from alchemiser_duck.errors import SettingsError, StorageRefused, StorageUnavailable
from alchemiser_duck.lake.credentials import Credentials
from alchemiser_duck.lake.location import locate
from alchemiser_duck.query.catalogue import (
    SqlFile,
    built_in_names,
    files_named_in,
    sql_root,
    user_files,
)
from alchemiser_duck.query.literals import literal, literal_array
from alchemiser_duck.query.result_cache import SCHEMA
from alchemiser_duck.settings import Settings


class Instance:
    """A locked DuckDB that takes in the layer's files when they are first needed: all of them take a while."""

    def __init__(
        self, settings: Settings, folder: Path, secret: Credentials | None = None, threads: int | None = None
    ) -> None:
        """Open it.

        Args:
            folder: what it may read, besides the empty lake.
            secret: with it, also the lake over httpfs.
            threads: None means as many as there are cores.

        Raises:
            SettingsError: a file of the user's own SQL folder does not load.
        """
        self.con = _open(settings, folder, secret, threads)
        self._loaded: set[str] = set()
        if own := user_files(settings.sql_dir):
            self.load(files_named_in("\n".join(file.text for file in own)))
            load_user_files(self.con, own)

    def load(self, files: Sequence[SqlFile]) -> None:
        """Take in what is not there yet of these files, given in loading order."""
        for file in files:
            if file.name not in self._loaded:
                self.con.execute(file.text)
                self._loaded.add(file.name)


def _open(settings: Settings, folder: Path, secret: Credentials | None, threads: int | None) -> DuckDBPyConnection:
    config: dict[str, Any] = {
        "temp_directory": str(folder / "spilled"),
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "allow_persistent_secrets": False,
        "python_enable_replacements": False,
        # DuckDB takes an Arrow table for a few rows, and would hold each action against every bar
        "asof_loop_join_threshold": 0,
    }
    if settings.memory_limit:
        config["memory_limit"] = settings.memory_limit
    if threads:
        config["threads"] = threads
    allowed = [f"{folder}/", f"{empty_lake()}/"]
    con = duckdb.connect(":memory:", config=config)
    con.execute("set global timezone = 'UTC'")
    con.execute(f"set max_temp_directory_size = {literal(settings.temp_limit)}")  # no effect in config
    if secret:
        allowed.append(f"{settings.lake_url}/")
        load_httpfs(con)
        create_secret(con, settings, secret)
    con.execute(f"create schema {SCHEMA}")  # once: two threads that create it at the same time conflict
    con.execute(f"set variable market_data = {literal(empty_lake())}")
    con.execute(f"set allowed_directories = {literal_array(allowed)}")
    con.execute("set enable_external_access = false")
    con.execute("set lock_configuration = true")
    return con


def empty_lake() -> str:
    """Name the folder that views are bound to before they meet the lake: partitions without rows, same schema."""
    return str(sql_root() / "empty_lake")


def install_httpfs() -> None:
    """Put the bundled httpfs where DuckDB itself looks, so that the duckdb shell loads it without a download."""
    with duckdb.connect(":memory:") as con:
        load_httpfs(con)


def load_httpfs(con: DuckDBPyConnection) -> None:
    """Load httpfs from the binary in the duckdb-extension-httpfs package, which DuckDB checks the signature of.

    The binary is also put where DuckDB itself looks (see `install_httpfs`). Where no bundled binary matches the running
    DuckDB, DuckDB's own repository is asked.

    Raises:
        StorageUnavailable: neither has one.
    """
    bundled = bundled_httpfs()
    if bundled is None:
        try:
            con.execute("install httpfs")
            con.execute("load httpfs")
        except duckdb.Error as problem:
            raise StorageUnavailable(
                f"DuckDB {duckdb.__version__} has no httpfs here, and cannot download it "
                f"({str(problem).splitlines()[0]}): pip install 'alchemiser-duck[httpfs]' brings it, with DuckDB 1.5.5"
            ) from problem
        return
    with suppress(duckdb.Error):  # a home that cannot be written (Lambda) only costs the shell its extension
        con.execute(f"install {literal(str(bundled))}")
    con.execute(f"load {literal(str(bundled))}")


@cache
def bundled_httpfs() -> Path | None:
    """The path of the bundled httpfs binary that matches the running DuckDB, if there is one."""
    try:
        import duckdb_extension_httpfs
    except ImportError:
        return None
    folder = Path(duckdb_extension_httpfs.__file__).parent / "extensions" / f"v{duckdb.__version__}"
    binary = folder / "httpfs.duckdb_extension"
    return binary if binary.is_file() else None


def create_secret(con: DuckDBPyConnection, settings: Settings, secret: Credentials, *, replace: bool = False) -> None:
    """Give DuckDB the keys to the lake's prefix, and to nothing else."""
    for name in ("s3_access_key_id", "s3_secret_access_key", "s3_session_token"):
        con.execute(f"set global {name} = ''")  # httpfs copies them from the environment, for any SQL to read
    where = locate(settings)
    if where.ca_bundle:
        con.execute(f"set global ca_cert_file = {literal(where.ca_bundle)}")
        con.execute("set global enable_server_cert_verification = true")
    options: dict[str, str | bool] = {
        "key_id": secret.key_id,
        "secret": secret.secret,
        "region": where.region,
        "url_style": "vhost" if where.by_host else "path",
    }
    if secret.token:
        options["session_token"] = secret.token
    if where.endpoint:
        scheme, _, host = where.endpoint.partition("://")
        options |= {"endpoint": host, "use_ssl": scheme == "https"}
    listed = ", ".join(f"{name} {literal(value)}" for name, value in options.items())
    try:
        created = "create or replace temporary secret" if replace else "create secret"
        con.execute(f"{created} market_data (type s3, scope {literal(settings.lake_url + '/')}, {listed})")
    except duckdb.Error:  # its text could quote the statement
        raise StorageRefused(
            "DuckDB did not accept the S3 credentials: check AWS_ACCESS_KEY_ID and its secret"
        ) from None


def linted(files: Sequence[SqlFile]) -> list[SqlFile]:
    """Return the user's files in the order of their dependencies.

    Raises:
        SettingsError: one of them breaks a rule, or they read each other in a circle.
    """
    from alchemiser_duck.query.definitions import in_loading_order  # sqlglot is only needed for users' own files
    from alchemiser_duck.query.linter import lint

    if errors := lint(files, built_in_names()):
        raise SettingsError("\n".join(str(error) for error in errors))
    return in_loading_order(files)


def load_user_files(con: DuckDBPyConnection, files: Sequence[SqlFile]) -> None:
    """Lint the user's files, then load them in the order of their dependencies, their text unchanged."""
    for file in linted(files):
        try:
            con.execute(file.text)
        except duckdb.Error as problem:
            raise SettingsError(f"{file.path}:1: does not load: {problem}") from problem
