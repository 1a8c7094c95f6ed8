"""The one place that opens DuckDB: UTC, the SQL layer, what it may read, and then the door is locked.

A session is an in-memory DuckDB that can read the lake and nothing else: local files, other buckets, secrets and
settings are out of reach of any SQL that runs on it. What a query reads of the lake is fetched first, whole (see
lake_objects); where that would be too much, a second DuckDB with httpfs reads ranges. Every read gets a connection of
its own, because the lens (variables `since` and `as_of`) belongs to a connection, and leaves as a snapshot: the rows
are read once, completely, into a temporary table, so that a relation in a caller's hands never changes, never fails on
S3 and keeps its horizon.
"""

import random
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache, lru_cache
from importlib import import_module
from pathlib import Path
from threading import Lock, local
from typing import TYPE_CHECKING, Any

import duckdb
from duckdb import DuckDBPyConnection, DuckDBPyRelation

from alchemiser_duck.errors import (
    AlchemiserDuckError,
    BadParameter,
    NotReadOnly,
    QueryFailed,
    SettingsError,
    StorageRefused,
    StorageUnavailable,
)
from alchemiser_duck.lake import credentials
from alchemiser_duck.lake.cached_object import TornRead, Wanted
from alchemiser_duck.lake.credentials import Credentials
from alchemiser_duck.lake.io_stats import Traffic
from alchemiser_duck.lake.mirror import RELATIONS, WIDE, LakeObjects, LakeRead, stand_in
from alchemiser_duck.panel.execution import InOrder, widened
from alchemiser_duck.panel.execution import run as run_side_by_side
from alchemiser_duck.query.catalogue import SqlFile, built_in_files, files_named_in, sql_root, user_files
from alchemiser_duck.query.literals import Scalar, identifier, literal, literal_array
from alchemiser_duck.query.result_cache import SCHEMA, ResultMemory
from alchemiser_duck.settings import Settings

if TYPE_CHECKING:
    import pyarrow as pa

READ_ATTEMPTS = 12
"""How often a read is tried when partitions are replaced while it runs."""

Parameters = Sequence[Any] | Mapping[str, Any] | None


@dataclass(frozen=True)
class Lens:
    """What a connection sees of the lake: bars from `since` on, the world as it stood at the close of `as_of`."""

    since: date | None = None
    as_of: date | None = None
    now: datetime | None = None
    """the time it is for freshness; None: the clock's"""


@dataclass(frozen=True, slots=True)
class CompleteSession:
    """The newest complete session, and from when until when it is."""

    date: date
    begins: datetime
    ends: datetime


@dataclass(frozen=True, slots=True)
class _Statement:
    query: str | InOrder
    parameters: Parameters
    lens: Lens
    tables: "Mapping[str, pa.Table]"
    remember: bool


class DuckDBSession:
    """DuckDB over one lake, for reading only. Safe to share between threads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = Lock()
        self._columns: dict[str, dict[str, str]] = {}  # of definitions, which do not change while a session lives
        self._values: dict[str, tuple[Any, ...]] = {}  # of expressions without a relation
        self._objects: LakeObjects | None = None
        self._local: _Instance | None = None
        self._over_s3: _Instance | None = None
        self._streams: _Instance | None = None
        self._credentials: Credentials | None = None
        self._results = ResultMemory()
        self._of_thread = local()

    def close(self) -> None:
        """Close DuckDB and remove what was fetched; relations handed out earlier are gone with it."""
        with self._lock:
            for instance in (self._local, self._over_s3, self._streams):
                if instance is not None:
                    instance.con.close()
            if self._objects is not None:
                self._objects.close()
            self._local = self._over_s3 = self._streams = self._objects = None

    def read_ahead(self, names: str | None) -> LakeRead:
        """Begin to read the objects of the relations that a piece of SQL names (None: of all); for `snapshot`.

        Raises:
            StorageRefused: there are no AWS credentials.
        """
        return self._lake().read([file.name for file in self._files(names) if file.name in RELATIONS])

    def connection(
        self,
        lens: Lens = Lens(),
        *,
        names: str | None = "",
        files: Mapping[str, Sequence[str]] | None = None,
        over_s3: bool = False,
    ) -> DuckDBPyConnection:
        """A new connection that looks through the lens.

        Args:
            names: SQL; what that names of the layer is there. None: the whole layer is.
            files: what the relations read that are in it.
            over_s3: with httpfs and the credentials.

        Raises:
            StorageRefused: there are no AWS credentials.
            SettingsError: a file of the user's own SQL folder does not load.
        """
        folder = self._lake().folder
        with self._lock:
            if over_s3:
                instance = self._over_s3 = self._opened_over_s3(folder)
            else:
                instance = self._local = self._local or _Instance(self._settings, folder)
            instance.load(self._files(names))
            cursor = instance.con.cursor()
        variables: dict[str, Scalar] = {
            "market_data": self._settings.lake_url,
            "since": lens.since,
            "as_of": lens.as_of,
            "now": lens.now,
            "sip_delay_minutes": self._settings.sip_delay_minutes,
        }
        texts = {name: literal(value) for name, value in variables.items() if value is not None}
        texts |= {name: literal_array(paths) for name, paths in (files or {}).items()}
        cursor.execute("".join(f"set variable {name} = {text};" for name, text in texts.items()))
        return cursor

    def _opened_over_s3(self, folder: Path) -> "_Instance":
        now = credentials.current()
        if self._over_s3 is not None and now == self._credentials:
            return self._over_s3
        self._credentials = now  # a locked instance keeps its secret: open a new one
        return _Instance(self._settings, folder, now, threads=self._settings.threads)  # they mostly wait for S3

    def _stream(self, names: str | None) -> DuckDBPyConnection:
        """A connection whose queries run in the thread that asks: what streams keeps its order, and no thread waits."""
        folder = self._lake().folder
        with self._lock:
            self._streams = self._streams or _Instance(self._settings, folder, threads=1)
            self._streams.load([file for file in self._files(names) if file.is_function])
            return self._streams.con.cursor()

    def _lake(self) -> LakeObjects:
        with self._lock:
            self._objects = self._objects or LakeObjects(self._settings)
            return self._objects

    def _files(self, names: str | None) -> Sequence[SqlFile]:
        """The built-in files that a piece of SQL needs, by itself or through the user's own; None: all."""
        if names is None:
            return built_in_files()
        own = user_files(self._settings.sql_dir) if names else ()
        return files_named_in("\n".join([names, *(file.text for file in own)]))

    def snapshot(
        self,
        query: str | InOrder,
        parameters: Parameters = None,
        lens: Lens = Lens(),
        tables: "Mapping[str, pa.Table] | None" = None,
        *,
        names: str | None = None,
        limit: int = WIDE,
        wanted: Wanted | None = None,
        read: LakeRead | None = None,
        remember: bool = False,
    ) -> DuckDBPyRelation:
        """The rows of a SELECT-like query, read once and completely, in the query's order.

        Objects are fetched whole, which no writer can tear. Where DuckDB reads ranges instead and a partition is
        replaced meanwhile, it notices by the ETag, and the query runs again on whole objects.

        Args:
            tables: Arrow tables that the query may read by these names.
            names: SQL that names what the query needs of the layer; default: the query itself.
            limit: bytes of bars to fetch at most, before ranges are read.
            wanted: the columns and symbols of bars that the query reads; None: any.
            read: what `read_ahead` began; of use once.
            remember: whether the same objects and the same query may give the result of before; it must not ask for
                the time or for random numbers.

        Raises:
            EmptyLake: nothing is stored yet.
            StorageRefused, StorageUnavailable: S3 does not answer as it should.
            QueryFailed: DuckDB cannot run the query.
        """
        statement = _Statement(query, parameters, lens, tables or {}, remember)
        text = query.rows if isinstance(query, InOrder) else query
        defines: str | None = names or text
        reads: str | None = defines
        most: int | None = limit
        over_s3 = "s3:" in text.lower()
        torn_reads = 0
        while True:
            current = read if read and not read.ended else self.read_ahead(reads)
            try:
                with current:
                    current.fetch(lens.since, lens.as_of, most, wanted)
                    self.connection(names=defines)  # opens while S3 answers
                    if isinstance(query, InOrder):
                        # needed later, takes 0.3 s, and DuckDB has none of Python's lock while it scans
                        self._lake().coordinate(import_module, "pyarrow.dataset")
                        self._stream(defines)
                    return self._run(statement, defines, current, over_s3=over_s3)
            except QueryFailed as problem:
                # names that are put together, or mistyped: look through all there are, then fetch all there is
                if defines is not None and "does not exist" in str(problem):
                    defines = None
                elif reads is not None and "s3://" in str(problem):
                    reads, over_s3 = None, True
                else:
                    raise
            except TornRead as torn:
                torn_reads += 1
                most = wanted = None
                if torn_reads == READ_ATTEMPTS:
                    raise StorageUnavailable(
                        f"partitions under {self._settings.lake_url} were replaced during each of {torn_reads} reads, "
                        f"or one is damaged: try again when the writers have finished; met last: {torn}"
                    ) from torn
                time.sleep(random.uniform(0, 0.02 * torn_reads))  # noqa: S311 (jitter)
            finally:
                self._count(current.traffic)

    def _run(self, statement: "_Statement", names: str | None, read: LakeRead, *, over_s3: bool) -> DuckDBPyRelation:
        files = read.files()
        ranges = over_s3 or not read.relations <= files.keys()
        connection = self.connection(statement.lens, names=names, files=files, over_s3=ranges)
        for name, rows in statement.tables.items():
            connection.register(name, rows)
        if isinstance(statement.query, InOrder):
            return self._run_in_order(statement.query, names, connection, ranges=ranges)
        key = None
        if statement.remember and not ranges:
            key = (statement.query, statement.lens, tuple((name, *paths) for name, paths in files.items()))
            if self._results.get(key, connection, "result"):
                return connection.table("result")
        result = self._result(connection, statement.query, statement.parameters, ranges=ranges)
        if key:
            self._results.put(key, connection, result)
        return result

    def _run_in_order(
        self, asked: InOrder, names: str | None, connection: DuckDBPyConnection, *, ranges: bool
    ) -> DuckDBPyRelation:
        def rows_of(query: str) -> "pa.Table":
            if not ranges:
                return connection.sql(query).to_arrow_table()
            rows = self._result(connection, query, None, ranges=ranges).to_arrow_table()
            connection.execute("drop table result")
            return rows

        with translated(self._settings):
            result = run_side_by_side(asked, rows_of(asked.rows), lambda: self._stream(names))
            if asked.beside:
                more = rows_of(asked.beside)
                if (both := widened(result, more)) is not None:
                    return connection.from_arrow(both.select(asked.names))
                listed = ", ".join(map(identifier, asked.names))
                connection.register("in_lanes", result)
                connection.register("beside_them", more)
                joined = "in_lanes left join beside_them using (symbol, timestamp)"
                result = connection.sql(f"select {listed} from {joined} order by symbol, timestamp").to_arrow_table()
            return connection.from_arrow(result)

    def _result(
        self, connection: DuckDBPyConnection, query: str, parameters: Parameters, *, ranges: bool
    ) -> DuckDBPyRelation:
        """The rows of a query as the connection's table `result`."""
        with translated(self._settings):
            text = f"create temporary table result as from (\n{query}\n)"
            told = connection.execute(f"explain analyze {text}" if ranges else text, parameters)
        if ranges:
            self._count(_http_traffic(told.fetchall()[0][1]))
        return connection.table("result")

    @property
    def traffic(self) -> Traffic:
        """What this thread's snapshots have asked of S3 so far. Retries within a request do not count."""
        return getattr(self._of_thread, "traffic", Traffic())

    def _count(self, more: Traffic) -> None:
        self._of_thread.traffic = self.traffic + more

    def complete_session(self, now: datetime) -> "CompleteSession":
        """The newest session whose close the feed can have shown by now, from the sessions known at release.

        Without S3, and without the second that exchange_calendars takes to import.
        """
        connection = self.connection(Lens(now=now), names="sessions", files={"sessions": stand_in("sessions")})
        row = connection.execute(
            """
            with shown as (
                select date, close + to_minutes(getvariable('sip_delay_minutes')::integer) as visible from sessions
            )
            select
                max(date) filter (visible <= getvariable('now')),
                epoch_us(max(visible) filter (visible <= getvariable('now'))),
                epoch_us(min(visible) filter (visible > getvariable('now')))
            from shown
            """
        ).fetchone()
        if row is None or None in row:
            raise BadParameter(f"{now} lies outside the sessions that are known, 2000 to 2040")
        day, begins, ends = row
        return CompleteSession(day, moment(begins), moment(ends))

    def select(self, text: str, parameters: Parameters = None, lens: Lens = Lens()) -> DuckDBPyRelation:
        """A snapshot of what a user typed: one SELECT-like statement (SELECT, FROM, WITH, VALUES, DESCRIBE, ...).

        Raises:
            NotReadOnly: anything else, or more than one statement.
        """
        return self.snapshot(_single_select(text), parameters, lens)

    def relation_names(self) -> list[str]:
        """The names of all views of the layer and of the user's own, sorted."""
        files = (*built_in_files(), *user_files(self._settings.sql_dir))
        return sorted(file.name for file in files if file.is_relation)

    def stack(self, *parts: DuckDBPyRelation) -> DuckDBPyRelation:
        """The rows of several snapshots with the same columns as one, by symbol and timestamp."""
        import pyarrow as pa

        rows = pa.concat_tables([part.to_arrow_table() for part in parts])
        return self.relation_of(rows.sort_by([("symbol", "ascending"), ("timestamp", "ascending")]))

    def relation_of(self, rows: "pa.Table") -> DuckDBPyRelation:
        """Arrow rows as a snapshot, in their order."""
        connection = self.connection()
        connection.register("rows_given", rows)
        connection.execute("create temporary table result as from rows_given")
        connection.unregister("rows_given")
        return connection.table("result")

    def columns_of(self, call: str) -> dict[str, str]:
        """The columns that a relation or a table macro's call gives, and their types; S3 is not asked."""
        if call not in self._columns:
            connection = self.connection(names=call)
            connection.execute(f"set variable market_data = {literal(_empty_lake())}")
            with translated(self._settings):
                rows = connection.execute(f"describe select * from {call}").fetchall()
            self._columns[call] = {row[0]: row[1] for row in rows}
        return self._columns[call]

    def evaluate(self, expressions: Sequence[tuple[str, Mapping[str, str]]]) -> Sequence[Any]:
        """The values of SQL expressions, each over named SQL literals: the header lines of the .sql files.

        Raises:
            QueryFailed: one is not an expression.
        """
        texts = [
            f"(select {expression} from (select {_listed(values)}))" if values else f"({expression})"
            for expression, values in expressions
        ]
        query = f"select {', '.join(texts)}"
        if query not in self._values:
            with translated(self._settings):
                names = " ".join(expression for expression, _ in expressions)  # a literal may be a view's name
                self._values[query] = self.connection(names=names).execute(query).fetchall()[0]
        return self._values[query]


@lru_cache(maxsize=20_000)
def moment(microseconds: int) -> datetime:
    """A TIMESTAMPTZ that was selected as epoch_us: as such it is slow to fetch, and many rows share it."""
    return _EPOCH + timedelta(microseconds=microseconds)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _listed(values: Mapping[str, str]) -> str:
    return ", ".join(f"{text} as {identifier(name)}" for name, text in values.items())


class _Instance:
    """A locked DuckDB that takes in the files of the layer when they are first needed: all of them take a while."""

    def __init__(
        self, settings: Settings, folder: Path, secret: Credentials | None = None, threads: int | None = None
    ) -> None:
        self.con = _open(settings, folder, secret, threads)
        self._loaded: set[str] = set()
        if own := user_files(settings.sql_dir):
            self.load(files_named_in("\n".join(file.text for file in own)))
            _load_user_files(self.con, own)

    def load(self, files: Sequence[SqlFile]) -> None:
        """Take in what is not there yet of these files, given in loading order."""
        for file in files:
            if file.name not in self._loaded:
                self.con.execute(file.text)
                self._loaded.add(file.name)


def _open(settings: Settings, folder: Path, secret: Credentials | None, threads: int | None) -> DuckDBPyConnection:
    """An in-memory DuckDB that may read the folder; with a secret also the lake over httpfs; locked."""
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
    allowed = [f"{folder}/", f"{_empty_lake()}/"]
    if threads:
        config["threads"] = threads
    if secret:
        allowed.append(f"{settings.lake_url}/")
    con = duckdb.connect(":memory:", config=config)
    con.execute("set global timezone = 'UTC'")
    if secret:
        load_httpfs(con)
        _create_secret(con, settings, secret)
    con.execute(f"create schema {SCHEMA}")  # once: two threads that create it at the same time conflict
    con.execute(f"set variable market_data = {literal(_empty_lake())}")
    con.execute(f"set allowed_directories = {literal_array(allowed)}")
    con.execute("set enable_external_access = false")
    con.execute("set lock_configuration = true")
    return con


def _empty_lake() -> str:
    """Where the views are bound before they meet the lake: partitions without rows, of the same schema."""
    return str(sql_root() / "empty_lake")


def _http_traffic(explained: str) -> Traffic:
    """The requests and bytes that EXPLAIN ANALYZE tells of httpfs; it rounds the bytes."""
    requests = sum(int(number) for number in re.findall(r"#(?:HEAD|GET|PUT|POST|DELETE): (\d+)", explained))
    found = re.search(r"\bin: ([\d.]+) (bytes|[KMGT]iB)", explained)
    size = float(found.group(1)) * 1024 ** ["bytes", "KiB", "MiB", "GiB", "TiB"].index(found.group(2)) if found else 0
    return Traffic(requests, 0, round(size))


def install_httpfs() -> None:
    """Put the bundled httpfs where DuckDB itself looks, so that the duckdb shell loads it without a download."""
    with duckdb.connect(":memory:") as con:
        load_httpfs(con)


def load_httpfs(con: DuckDBPyConnection) -> None:
    """Load httpfs from the binary in the duckdb-extension-httpfs package, which DuckDB checks the signature of.

    The binary is also put where DuckDB itself looks (see `install_httpfs`). Where no bundled binary matches the running
    DuckDB, DuckDB's own repository is asked.
    """
    bundled = bundled_httpfs()
    if bundled is None:
        con.execute("install httpfs")
        con.execute("load httpfs")
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


def _create_secret(con: DuckDBPyConnection, settings: Settings, secret: Credentials) -> None:
    for name in ("s3_access_key_id", "s3_secret_access_key", "s3_session_token"):
        con.execute(f"set global {name} = ''")  # httpfs copies them from the environment, for any SQL to read
    options: dict[str, str | bool] = {
        "key_id": secret.key_id,
        "secret": secret.secret,
        "region": credentials.region(settings),
        "url_style": settings.effective_url_style,
    }
    if secret.token:
        options["session_token"] = secret.token
    if settings.endpoint_url:
        scheme, _, host = settings.endpoint_url.partition("://")
        options |= {"endpoint": host, "use_ssl": scheme == "https"}
    listed = ", ".join(f"{name} {literal(value)}" for name, value in options.items())
    try:
        con.execute(f"create secret market_data (type s3, {listed})")
    except duckdb.Error:  # its text could quote the statement
        raise StorageRefused(
            "DuckDB did not accept the S3 credentials: check AWS_ACCESS_KEY_ID and its secret"
        ) from None


def _load_user_files(con: DuckDBPyConnection, files: Sequence[SqlFile]) -> None:
    """Lint the user's files, then load them in the order of their dependencies, their text unchanged."""
    from alchemiser_duck.query.linter import in_loading_order, lint  # sqlglot is only needed for users' own files

    if findings := lint(files, frozenset(file.name for file in built_in_files())):
        raise SettingsError("\n".join(str(finding) for finding in findings))
    for file in in_loading_order(files):
        try:
            con.execute(file.text)
        except duckdb.Error as problem:
            raise SettingsError(f"{file.path}:1: does not load: {problem}") from problem


def _single_select(text: str) -> str:
    with duckdb.connect(":memory:") as parser:
        try:
            statements = parser.extract_statements(text)
        except (duckdb.Error, IndexError) as problem:
            raise QueryFailed(str(problem)) from problem
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        kinds = ", ".join(statement.type.name for statement in statements) or "nothing"
        raise NotReadOnly(
            f"this is {kinds}, but only a single SELECT-like statement is run here: "
            "type one that starts with SELECT, FROM, WITH, VALUES, DESCRIBE, SUMMARIZE or SHOW"
        )
    if denied := _DENIED.search(text):
        raise NotReadOnly(
            f"{denied.group()} is out of reach here: it changes the session, hides what runs, or shows what S3 is sent"
        )
    return str(statements[0].query).strip().rstrip(";")


# SELECT-like, and still not reading: HTTP logs hold session tokens, query() runs what no check has seen. Searched for
# in the whole text, literals included: a word too many refused is better than one hidden in a clever quotation
_DENIED = re.compile(
    r"\b(?:enable_logging|disable_logging|truncate_duckdb_logs|duckdb_logs\w*|duckdb_log_contexts"
    r"|parse_duckdb_log_message|write_log|checkpoint|force_checkpoint|query|json_execute_serialized_sql)\b",
    re.IGNORECASE,
)

_TORN = re.compile(
    r"ETag on reading file|No magic bytes|Footer length|TProtocol|don't know what type|too small to be a Parquet file"
    r"|decompress|ZSTD|corrupt|s3://\S+\.parquet",
    re.IGNORECASE,
)
_STATUS = re.compile(r"HTTP (\d{3})|\(HTTP (\d{3})\)")


@contextmanager
def translated(settings: Settings) -> Iterator[None]:
    """DuckDB's errors as ours; the one place for it."""
    try:
        yield
    except UnicodeDecodeError as problem:
        # DuckDB quotes the bytes it met where a footer should be, which Python cannot decode
        raise TornRead("a footer that is none") from problem
    except duckdb.Error as problem:
        raise _translate(problem, settings) from problem


def _translate(problem: duckdb.Error, settings: Settings) -> Exception:
    text = str(problem)
    about_s3 = "s3://" in text or "HTTP" in text
    if isinstance(problem, duckdb.HTTPException) or (isinstance(problem, duckdb.IOException) and about_s3):
        return _translate_http(text, getattr(problem, "status_code", None), settings)
    half_read = type(problem) is duckdb.Error or isinstance(problem, duckdb.InvalidInputException)
    if half_read and _TORN.search(text):
        return TornRead(text)
    return QueryFailed(text)


def _translate_http(text: str, status: int | None, settings: Settings) -> AlchemiserDuckError | Exception:
    if found := _STATUS.search(text):
        status = status or int(found.group(1) or found.group(2))
    if _TORN.search(text) or status in (412, 416):
        return TornRead(text)
    where = settings.lake_url + (f" at {settings.endpoint_url}" if settings.endpoint_url else "")
    if status in (400, 401, 403):
        return StorageRefused(
            f"S3 refuses to show {where} (HTTP {status}): check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, "
            "AWS_SESSION_TOKEN and AWS_REGION, and that they may list and read the bucket"
        )
    if status == 404:
        return StorageRefused(f"S3 knows no bucket {settings.bucket!r} ({where}): check MARKET_DATA_BUCKET")
    return StorageUnavailable(f"S3 cannot be read: {where}: {text.splitlines()[0]}")
