"""A session: DuckDB over one lake, for reading only.

Every read is three steps. **Plan**: the SQL names relations, relations name objects, and a `Scan` says which years and
symbols. **Fetch**: the mirror copies those objects, or leaves them to httpfs; one decision, before the query runs.
**Run**: SQL and files give rows.

    def rows(read: Reading) -> DuckDBPyRelation:              # the LIST is in flight
        with read.copies(Scan(since=day)) as copies:           # decides and begins to fetch
            return session.run(Query("from sma(20)"), copies)  # waits for the files, then runs

    session.reading("sma", rows)                              # again, where an object was replaced meanwhile

Every query gets a connection of its own, because the lens (variables `since` and `as_of`) belongs to a connection. Its
rows are read once, completely, into a temporary table: a relation in a caller's hands never changes, never fails on S3
and keeps its horizon.
"""

import random
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock, Timer, local
from typing import TYPE_CHECKING, Any, TypeVar

import duckdb
from duckdb import DuckDBPyConnection, DuckDBPyRelation

from alchemiser_duck.errors import MissingActions, QueryFailed, StorageUnavailable
from alchemiser_duck.lake import credentials
from alchemiser_duck.lake.cached_object import TornRead
from alchemiser_duck.lake.io_stats import Traffic
from alchemiser_duck.lake.keys import ACTIONS, ACTIONS_VERSION, RELATIONS, fits, year_of
from alchemiser_duck.lake.listing import Listing
from alchemiser_duck.lake.mirror import Copies, ObjectMirror, torn_by_damage
from alchemiser_duck.lake.scan import Scan
from alchemiser_duck.query.catalogue import SqlFile, built_in_files, files_named_in, user_files
from alchemiser_duck.query.connection import Instance, empty_lake
from alchemiser_duck.query.door import typed_select
from alchemiser_duck.query.literals import Scalar, literal, literal_array
from alchemiser_duck.query.result_cache import ResultCache
from alchemiser_duck.query.statement import EVERYTHING, Lens, Parameters, Query
from alchemiser_duck.query.suspects import LABEL, Suspect, decoded
from alchemiser_duck.query.translation import httpfs_error, may_be_torn
from alchemiser_duck.settings import Settings

if TYPE_CHECKING:
    import pyarrow as pa

    from alchemiser_duck.lake.credentials import Credentials

READ_ATTEMPTS = 12
"""How often a read is tried while partitions are replaced under it."""

_LABELS = f"""
select file_name, decode(key), decode(value)

from parquet_kv_metadata({{}})

where decode(key) in ('{LABEL}', '{ACTIONS_VERSION}')
"""

Result = TypeVar("Result")


class Reading:
    """One try of a read: its objects are being listed."""

    def __init__(self, mirror: ObjectMirror, listing: Listing, *, whole: bool) -> None:
        self._mirror = mirror
        self._whole = whole
        self._copies: list[Copies] = []
        self.listing = listing

    def copies(self, scan: Scan) -> Copies:
        """Prepare the files of a scan, of the versions listed; a context manager."""
        copies = self._mirror.copies(self.listing, scan, whole=self._whole)
        self._copies.append(copies)
        return copies

    @property
    def traffic(self) -> Traffic:
        """Count what it has asked of S3 so far."""
        return sum((copies.traffic for copies in self._copies), self.listing.traffic)

    @property
    def versions(self) -> frozenset[tuple[str, str]]:
        """Key and ETag of every object that it has read."""
        return frozenset().union(*(copies.versions for copies in self._copies))

    @property
    def is_whole(self) -> bool:
        """Tell whether all of it was read from whole local copies."""
        return all(copies.is_whole for copies in self._copies)


class DuckDBSession:
    """DuckDB over one lake. Safe to share between threads."""

    def __init__(self, settings: Settings, *, is_local: bool = True) -> None:
        """Prepare it; nothing is opened yet.

        Args:
            is_local: False reads everything straight over httpfs, without local copies.
        """
        self._settings = settings
        self._is_local = is_local
        self._lock = Lock()
        self._mirror: ObjectMirror | None = None
        self._local: Instance | None = None
        self._over_s3: Instance | None = None
        self._streams: Instance | None = None
        self._credentials: Credentials | None = None
        self._results = ResultCache()
        self._labels: dict[tuple[str, str], dict[str, str]] = {}
        self.suspects: tuple[Suspect, ...] = ()
        """unsettled suspects of the corporate actions that were read last"""
        self._of_thread = local()

    def close(self) -> None:
        """Close DuckDB and remove the local copies; relations handed out earlier are gone with it."""
        with self._lock:
            for instance in (self._local, self._over_s3, self._streams):
                if instance is not None:
                    instance.con.close()
            if self._mirror is not None:
                self._mirror.close()
            self._local = self._over_s3 = self._streams = self._mirror = None

    @property
    def mirror(self) -> ObjectMirror:
        """The local copies of the lake's objects."""
        with self._lock:
            self._mirror = self._mirror or ObjectMirror(self._settings, is_local=self._is_local)
            return self._mirror

    def reading(self, names: str | None, read: Callable[[Reading], Result]) -> Result:
        """Return what `read` makes of the objects that some SQL names; again where they are replaced meanwhile.

        Args:
            names: SQL that names relations and indicators of the layer; None means all there are.
            read: called with the LIST in flight; everything that it reads is of the versions listed.

        Raises:
            EmptyLake: nothing is stored yet.
            StorageRefused, StorageUnavailable: S3 does not answer as it should.
            CorruptPartition: an object is damaged: it fails twice though nobody has replaced it.
            QueryFailed: DuckDB cannot run the query.
        """
        relations = [file.name for file in self._files(names) if file.name in RELATIONS]
        failed_before: frozenset[tuple[str, str]] | None = None
        for attempt in range(1, READ_ATTEMPTS + 1):
            reading = Reading(self.mirror, self.mirror.listing(relations), whole=attempt > 1)
            try:
                return read(reading)
            except TornRead as torn:
                last = torn
                if reading.versions == failed_before and torn.error is not None:
                    raise torn.error from torn
                failed_before = reading.versions if reading.is_whole or not self._is_local else None
                time.sleep(random.uniform(0, 0.02 * attempt))  # noqa: S311 (jitter)
            finally:
                self._of_thread.traffic = self.traffic + reading.traffic
        raise StorageUnavailable(
            f"partitions under {self._settings.lake_url} were replaced during each of {READ_ATTEMPTS} reads: "
            f"try again when the writers have finished; met last: {last}"
        ) from last

    def run(self, query: Query, copies: Copies) -> DuckDBPyRelation:
        """Run a query over the files of a scan; its rows are a snapshot, in the query's order.

        Raises:
            TornRead: an object was replaced, removed or damaged meanwhile.
            QueryFailed: DuckDB cannot run the query.
        """
        connection = self._connected(query, copies)
        if not query.is_cacheable or copies.is_remote:
            return self._result(connection, query, copies)
        key = (query.text, query.lens, copies.versions)
        if not self._results.get(key, connection, "result"):
            self._results.put(key, connection, self._result(connection, query, copies))
        return connection.table("result")

    def rows(self, query: Query, copies: Copies) -> "pa.Table":
        """Run a query over the files of a scan; its rows as Arrow, in any order."""
        connection = self._connected(query, copies)
        if copies.is_remote:
            return self._result(connection, query, copies).to_arrow_table()
        with self._noticing(query, copies):
            return connection.sql(query.text).to_arrow_table()

    def read(self, query: Query, scan: Scan) -> DuckDBPyRelation:
        """Plan, fetch and run one query; raises as `reading` does."""

        def read(reading: Reading) -> DuckDBPyRelation:
            with reading.copies(scan) as copies:
                self.connection(names=query.names)  # opens while objects arrive
                return self.run(query, copies)

        return self.reading(query.names, read)

    def snapshot(
        self,
        text: str,
        parameters: Parameters = None,
        lens: Lens = EVERYTHING,
        tables: "Mapping[str, pa.Table] | None" = None,
    ) -> DuckDBPyRelation:
        """Return the rows of a SELECT of the package's own; raises as `reading` does."""
        return self.read(Query(text, text, lens, parameters, tables or {}), Scan(lens.since, lens.as_of))

    def select(
        self,
        text: str,
        parameters: Parameters = None,
        lens: Lens = EVERYTHING,
        tables: "Mapping[str, pa.Table] | None" = None,
    ) -> DuckDBPyRelation:
        """Return the rows of what a user typed: one SELECT-like statement over the layer; raises as `reading` does.

        Raises:
            NotReadOnly: it is anything else, or reaches for something outside of the layer.
        """
        known = {file.name for file in (*built_in_files(), *user_files(self._settings.sql_dir))}
        typed = typed_select(text, known, tables or {})
        return self.read(Query(typed.text, typed.names, lens, parameters, tables or {}), Scan(lens.since, lens.as_of))

    def connection(
        self,
        lens: Lens = EVERYTHING,
        *,
        names: str | None = "",
        files: Mapping[str, Sequence[str]] | None = None,
        over_s3: bool = False,
    ) -> DuckDBPyConnection:
        """Open a connection that looks through the lens.

        Args:
            names: SQL; what that names of the layer is there. None means the whole layer is.
            files: what each relation reads.
            over_s3: with httpfs and the credentials.

        Raises:
            StorageRefused: there are no AWS credentials.
            SettingsError: a file of the user's own SQL folder does not load.
        """
        folder = self.mirror.folder
        with self._lock:
            if over_s3:
                instance = self._over_s3 = self._opened_over_s3()
            else:
                instance = self._local = self._local or Instance(self._settings, folder)
            instance.load(self._files(names))
            cursor = instance.con.cursor()
        variables: dict[str, Scalar] = {
            # locally, a relation that was not planned is a loud error
            "market_data": self._settings.lake_url if over_s3 else f"{folder}/not-listed",
            "since": lens.since,
            "as_of": lens.as_of,
            "now": lens.now,
            "sip_delay_minutes": self._settings.sip_delay_minutes,
        }
        texts = {name: literal(value) for name, value in variables.items() if value is not None}
        texts |= {name: literal_array(paths) for name, paths in (files or {}).items()}
        cursor.execute("".join(f"set variable {name} = {text};" for name, text in texts.items()))
        return cursor

    def stream(self, names: str | None) -> DuckDBPyConnection:
        """Open a connection whose queries run in the thread that asks: what streams keeps its order."""
        folder = self.mirror.folder
        with self._lock:
            self._streams = self._streams or Instance(self._settings, folder, threads=1)
            self._streams.load([file for file in self._files(names) if file.is_function])
            return self._streams.con.cursor()

    def _opened_over_s3(self) -> Instance:
        now = credentials.current()
        if self._over_s3 is not None and now == self._credentials:
            return self._over_s3
        self._credentials = now  # a locked instance keeps its secret: open a new one
        assert self._mirror is not None  # noqa: S101 (its folder was asked for before)
        return Instance(self._settings, self._mirror.folder, now, threads=self._settings.threads)  # they wait for S3

    def _files(self, names: str | None) -> Sequence[SqlFile]:
        """The built-in files that a piece of SQL needs, by itself or through the user's own; None means all."""
        if names is None:
            return built_in_files()
        own = user_files(self._settings.sql_dir) if names else ()
        return files_named_in("\n".join([names, *(file.text for file in own)]))

    def _connected(self, query: Query, copies: Copies) -> DuckDBPyConnection:
        files = {relation: paths or stand_in(relation) for relation, paths in copies.files().items()}
        connection = self.connection(query.lens, names=query.names, files=files, over_s3=copies.is_remote)
        for name, rows in query.tables.items():
            connection.register(name, rows)
        self._read_labels(connection, query, copies)
        return connection

    def _read_labels(self, connection: DuckDBPyConnection, query: Query, copies: Copies) -> None:
        """Read what writers have noted in the objects of a read, once for each version.

        Raises:
            TornRead: the bars come after newer corporate actions than those listed.
        """
        versions = dict(copies.versions)
        if ACTIONS not in versions or copies.scan.may_lack_actions:
            return
        bars = sorted(key for key in versions if year_of(key))
        # over httpfs a footer is a round trip: the newest is the one that a run writes
        labelled = {(key, versions[key]) for key in (ACTIONS, *(bars[-1:] if copies.is_remote else bars))}
        known = self._labels
        if new := [copies.paths[key] for key, etag in labelled if (key, etag) not in known]:
            key_of = {path: (key, versions[key]) for key, path in copies.paths.items()}
            known = {version: labels for version, labels in known.items() if version in labelled}
            known |= {key_of[path]: {} for path in new}
            with self._noticing(query, copies):
                labels = self._table("labels", _LABELS.format(literal_array(new)), None, connection, copies)
            for path, name, value in labels.fetchall():
                known[key_of[path]][name] = value
            self._labels = known
            self.suspects = tuple(decoded(known[ACTIONS, versions[ACTIONS]].get(LABEL)))
        met = {key: int(known[key, etag].get(ACTIONS_VERSION, 0)) for key, etag in labelled}
        if (needed := max(met.values())) > met[ACTIONS]:
            error = MissingActions(
                f"{self._settings.lake_url}/{ACTIONS} is version {met[ACTIONS]}, and the bars came after {needed}, "
                "so prices would be adjusted wrongly; to bring it up to date: "
                "alchemiser-duck refresh --mode overnight"
            )
            raise TornRead(str(error), error)

    def _result(self, connection: DuckDBPyConnection, query: Query, copies: Copies) -> DuckDBPyRelation:
        """The rows of a query as the connection's table `result`."""
        with self._noticing(query, copies):
            return self._table("result", query.text, query.parameters, connection, copies)

    def _table(
        self, name: str, text: str, parameters: Parameters, connection: DuckDBPyConnection, copies: Copies
    ) -> DuckDBPyRelation:
        """Read rows into a temporary table, and count what httpfs asks for."""
        create = f"create temporary table {name} as from (\n{text}\n)"
        with _stopped_after(self._settings.timeout_seconds, connection):
            told = connection.execute(f"explain analyze {create}" if copies.is_remote else create, parameters)
        if copies.is_remote:
            self._of_thread.traffic = self.traffic + _http_traffic(told.fetchall()[0][1])
        return connection.table(name)

    @contextmanager
    def _noticing(self, query: Query, copies: Copies) -> Iterator[None]:
        """Raise TornRead for an object that was replaced or is damaged, QueryFailed for what is wrong by itself."""
        try:
            yield
        except duckdb.InterruptException as problem:
            raise QueryFailed(
                f"the query was stopped after {self._settings.timeout_seconds:g} seconds: ask for less, "
                "or export ALCHEMISER_TIMEOUT=3600"
            ) from problem
        except duckdb.OutOfMemoryException as problem:
            raise QueryFailed(
                f"the query needs more than it may have: {_first_line(problem)}; ask for less, or raise "
                "ALCHEMISER_MEMORY_LIMIT (memory) or ALCHEMISER_TEMP_LIMIT (disk)"
            ) from problem
        except duckdb.HTTPException as problem:
            raise TornRead(_first_line(problem), httpfs_error(problem, self._settings)) from problem
        except (duckdb.Error, UnicodeDecodeError) as problem:
            if not may_be_torn(problem) or self._fails_without_bars(query):
                raise QueryFailed(str(problem)) from problem
            if self._is_local and not copies.is_whole:
                raise TornRead(_first_line(problem)) from problem  # whole copies tell which of the two it is
            if damaged := self._damaged(copies):
                raise torn_by_damage(self._settings, damaged, problem) from problem
            raise QueryFailed(str(problem)) from problem

    def _fails_without_bars(self, query: Query) -> bool:
        """Tell whether a query fails over an empty lake too: then no object is to blame."""
        connection = self.connection(query.lens, names=query.names, files={name: stand_in(name) for name in RELATIONS})
        for name, rows in query.tables.items():
            connection.register(name, rows)
        try:
            with _stopped_after(self._settings.timeout_seconds, connection):
                connection.execute(query.text, query.parameters).fetchall()
        except duckdb.Error:
            return True
        return False

    def _damaged(self, copies: Copies) -> str | None:
        """Find the first object that DuckDB cannot decode completely; None means all of them are sound."""
        for key, path in copies.paths.items():
            decode = f"select count(columns(*)) from read_parquet({literal(path)})"
            try:
                self.connection(over_s3=copies.is_remote).execute(decode).fetchall()
            except (duckdb.Error, UnicodeDecodeError):
                return key
        return None

    @property
    def traffic(self) -> Traffic:
        """Count what this thread has asked of S3 so far; retries within a request do not count."""
        return getattr(self._of_thread, "traffic", Traffic())

    def over(self, objects: "Mapping[str, pa.Table]", text: str, lens: Lens = EVERYTHING) -> list[tuple[Any, ...]]:
        """Return the rows of a SELECT over objects as they are given, by key; S3 is not asked."""
        from alchemiser_duck.lake.parquet import small_parquet

        with TemporaryDirectory(dir=self.mirror.folder) as folder:
            files = {name: stand_in(name) for name in RELATIONS}
            for key, table in objects.items():
                path = Path(folder, key)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(small_parquet(table))
                files |= {name: [str(path)] for name, pattern in RELATIONS.items() if fits(pattern)(key)}
            return self.connection(lens, names=text, files=files).execute(text).fetchall()

    def stack(self, *parts: DuckDBPyRelation) -> DuckDBPyRelation:
        """Put the rows of snapshots with the same columns together, by symbol and timestamp."""
        tables = {f"part_{number}": part.to_arrow_table() for number, part in enumerate(parts)}
        connection = self.connection()
        for name, rows in tables.items():
            connection.register(name, rows)
        union = " union all by name ".join(f"from {name}" for name in tables)
        connection.execute(f"create temporary table result as from ({union}) order by symbol, timestamp")
        return connection.table("result")

    def relation_of(self, rows: "pa.Table") -> DuckDBPyRelation:
        """Give Arrow rows as a snapshot, in their order."""
        connection = self.connection()
        connection.register("rows_given", rows)
        connection.execute("create temporary table result as from rows_given")
        connection.unregister("rows_given")
        return connection.table("result")


def stand_in(relation: str) -> list[str]:
    """Name the files that stand for a relation without objects: no rows, but the sessions known at release."""
    return [str(path) for path in sorted(Path(empty_lake()).glob(RELATIONS[relation]))]


@contextmanager
def _stopped_after(seconds: float, connection: DuckDBPyConnection) -> Iterator[None]:
    """Interrupt what the connection runs when its time is over."""
    timer = Timer(seconds, connection.interrupt)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _first_line(problem: Exception) -> str:
    return str(problem).splitlines()[0]


def _http_traffic(explained: str) -> Traffic:
    """The requests and bytes that EXPLAIN ANALYZE tells of httpfs; it rounds the bytes."""
    requests = sum(int(number) for number in re.findall(r"#(?:HEAD|GET|PUT|POST|DELETE): (\d+)", explained))
    found = re.search(r"\bin: ([\d.]+) (bytes|[KMGT]iB)", explained)
    size = float(found.group(1)) * 1024 ** ["bytes", "KiB", "MiB", "GiB", "TiB"].index(found.group(2)) if found else 0
    return Traffic(requests, 0, round(size))
