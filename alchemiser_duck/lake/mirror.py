"""The mirror: the lake's objects as local files, listed before every read and fetched when their ETag is new.

Over httpfs a read is a chain of round trips (list, footer, column chunks) and can meet an object that is being
replaced. Whole objects take one LIST and one GET each, all in flight at once, and cannot be torn: a writer replaces an
object in one step. The first read of a process asks for small objects while the LIST is in flight, by the names that
they must have; the LIST then says whether they are current. Where that saves much, only the needed columns and row
groups come, on condition of the ETag. What would be too much to copy stays on S3, and DuckDB reads the ranges that it
needs.

    listing = mirror.listing({"bars_raw", "corporate_actions"})     # in flight; holds nothing
    with mirror.copies(listing, Scan(since=day)) as copies:       # decides, acquires, begins to fetch
        copies.files()                                            # {"bars_raw": ["/tmp/…/bars.parquet"], …}
"""

import re
import weakref
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import timedelta
from itertools import count
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any

from obstore.exceptions import BaseError
from obstore.store import S3Store

from alchemiser_duck.errors import (
    AlchemiserDuckError,
    CorruptPartition,
    EmptyLake,
    MissingActions,
    StorageUnavailable,
)
from alchemiser_duck.lake import credentials
from alchemiser_duck.lake.cached_object import (
    CachedObject,
    NotIntactError,
    NotParquetError,
    ObjectMeta,
    Prefetched,
    TornRead,
    prefetch,
)
from alchemiser_duck.lake.checksums import NOT_INTACT
from alchemiser_duck.lake.credentials import Credentials
from alchemiser_duck.lake.forks import require_own_process
from alchemiser_duck.lake.io_stats import Traffic
from alchemiser_duck.lake.keys import year_of
from alchemiser_duck.lake.listing import Lister, Listing
from alchemiser_duck.lake.location import S3Location, code_in, locate, storage_error
from alchemiser_duck.lake.scan import MEBIBYTE, Projection, Scan
from alchemiser_duck.lake.scratch import ScratchFolder, remove_abandoned
from alchemiser_duck.settings import Settings

MIN_SAVING = 16 * MEBIBYTE
"""A read that needs this much less than whole partitions fetches their parts, which takes one more round trip."""
CACHE_BYTES = 256 * MEBIBYTE
"""Bytes that stay on disk between reads."""

REQUESTS_AT_ONCE = 32
HANDOVER_SECONDS = 0.001
"""How long the threads that send requests get Python's lock for; they would wait 5 ms for it, each in turn."""


class ObjectMirror:
    """Copies of the objects of one lake on this machine's disk. Safe to share between threads."""

    def __init__(self, settings: Settings, *, is_local: bool = True) -> None:
        """Prepare the scratch folder and the threads; S3 is not asked.

        Args:
            is_local: False leaves every object on S3, for DuckDB to read over httpfs.
        """
        require_own_process()
        self.lake_url = settings.lake_url
        self._settings = settings
        self._is_local = is_local
        self._lock = Lock()
        self._credentials: Credentials | None = None
        self._store: S3Store | None = None
        self._objects: dict[str, CachedObject] = {}
        self._numbers = count()
        scratch = ScratchFolder()
        self.folder = scratch.path
        # a copy waits for its requests, which wait for nobody
        self._requests = ThreadPoolExecutor(REQUESTS_AT_ONCE, "alchemiser-duck-requests")
        self._copying = ThreadPoolExecutor(REQUESTS_AT_ONCE, "alchemiser-duck-copies")
        self.close = weakref.finalize(self, _close, (self._requests, self._copying), scratch)
        self._copying.submit(remove_abandoned)
        self._lister = Lister(self._requests, lambda problem: _translated(problem, locate(settings)))

    def listing(self, relations: Collection[str]) -> Listing:
        """Begin to list the objects of these relations.

        Raises:
            StorageRefused: there are no AWS credentials.
        """
        require_own_process()
        now = credentials.current()
        with self._lock:
            if self._store is None or now != self._credentials:
                self._store, self._credentials = _open_store(locate(self._settings), now), now
            store = self._store
        lists = {name: self._requests.submit(self._lister.ask, store, name) for name in relations}
        return Listing(self._lister, lists, self.prefetch)

    def copies(self, listing: Listing, scan: Scan, *, whole: bool = False) -> "Copies":
        """Prepare the local files of a scan; they are acquired when the context is entered.

        Args:
            whole: copy whole objects, however large: what no writer can tear.
        """
        return Copies(self, listing, scan, whole=whole)

    def prefetch(self, keys: Iterable[str]) -> "dict[str, Future[Prefetched | None]]":
        """Begin to fetch those of the objects that no copy is here of."""
        store = self._store
        if store is None or not self._is_local:
            return {}
        with self._lock:
            new = [key for key in keys if key not in self._objects]
        return {key: self._requests.submit(prefetch, store, key) for key in new}

    def plan(self, objects: Mapping[str, list[ObjectMeta]], scan: Scan, *, whole: bool) -> "_Plan":
        """Decide which objects are copied, which of them in part, and which are read over httpfs.

        Raises:
            EmptyLake: no bar is stored.
            MissingActions: nothing is stored about corporate actions.
        """
        if not objects.get("bars_raw", True):
            raise self._nothing_stored()
        if not objects.get("corporate_actions", True) and not scan.may_lack_actions:
            raise MissingActions(
                f"{self._settings.lake_url} holds no corporate actions, so no price can be adjusted; to fetch them: "
                "alchemiser-duck refresh --mode overnight (bars as sent need none: adjustment='raw', bars_raw)"
            )
        seen = {name: _seen(found, scan) if name == "bars_raw" else found for name, found in objects.items()}
        if not self._is_local:
            return _Plan({}, seen, None)
        bars, part = seen.get("bars_raw", []), None if whole else scan.projection
        size, share = sum(meta.size for meta in bars), part.share if part else 1
        if size * (1 - share) < MIN_SAVING:
            part, share = None, 1
        if size * share > scan.limit and not whole:
            return _Plan({name: found for name, found in seen.items() if name != "bars_raw"}, {"bars_raw": bars}, None)
        return _Plan(seen, {}, part)

    def acquire(
        self, plan: "_Plan", prefetched: "Mapping[str, Future[Prefetched | None]]"
    ) -> "list[tuple[CachedObject, Future[Traffic]]]":
        """Begin to fetch what a plan copies; `release` gives it back."""
        acquired = []
        with self._lock:
            for name, metas in plan.copied.items():
                part = plan.part if name == "bars_raw" else None
                for meta in metas:
                    cached = self._objects.pop(meta.key, None)
                    if cached is not None and not (cached.is_version(meta.etag) and (part or not cached.is_partial)):
                        self._retire(cached)
                        cached = None
                    if cached is None:
                        folder = self.folder / str(next(self._numbers))
                        cached = CachedObject(folder, meta, is_partial=part is not None)
                    cached.readers += 1
                    self._objects[meta.key] = cached  # the last one used comes last
                    fetching = self._copying.submit(self._fetch, cached, part, prefetched.get(meta.key))
                    acquired.append((cached, fetching))
        return acquired

    def release(self, objects: Iterable[CachedObject], *, failed: bool) -> None:
        """Give copies back; those out of use longest go beyond CACHE_BYTES, and those of a failed read at once."""
        with self._lock:
            for cached in objects:
                cached.readers -= 1
                if failed:
                    cached.fail()
                if not cached.is_current:
                    self._retire(cached)
            kept = sum(cached.size for cached in self._objects.values())
            for key, cached in list(self._objects.items()):
                if kept > CACHE_BYTES and not cached.readers:
                    kept -= cached.size
                    self._retire(self._objects.pop(key))

    def _retire(self, cached: CachedObject) -> None:
        cached.is_current = False
        if not cached.readers:
            cached.delete()

    def _nothing_stored(self) -> EmptyLake:
        return EmptyLake(
            f"nothing is stored under {self._settings.lake_url} yet; to fill it: "
            "alchemiser-duck refresh --mode overnight --symbols AAPL,MSFT"
        )

    def _fetch(
        self, cached: CachedObject, part: Projection | None, prefetched: "Future[Prefetched | None] | None"
    ) -> Traffic:
        assert self._store is not None  # noqa: S101 (a list comes first)
        try:
            return cached.fetch(self._store, self._requests, part, prefetched)
        except FileNotFoundError as problem:
            raise TornRead(str(problem)) from problem
        except NotIntactError as problem:
            error = StorageUnavailable(f"{self._settings.lake_url}/{cached.meta.key} {NOT_INTACT}")
            raise TornRead(str(error), error) from problem
        except NotParquetError as problem:
            raise torn_by_damage(self._settings, cached.meta.key, problem) from problem
        except (BaseError, OSError) as problem:
            raise _translated(problem, locate(self._settings)) from None


class _Plan:
    """Decide what a read does with each object."""

    def __init__(
        self, copied: dict[str, list[ObjectMeta]], remote: dict[str, list[ObjectMeta]], part: Projection | None
    ) -> None:
        self.copied = copied
        self.remote = remote
        self.part = part
        """what is copied of bars; None means whole objects"""


class Copies:
    """The files of one read. A context manager: entering acquires and begins to fetch, leaving gives back."""

    def __init__(self, mirror: ObjectMirror, listing: Listing, scan: Scan, *, whole: bool) -> None:
        self._mirror = mirror
        self._listing = listing
        self.scan = scan
        self._whole = whole
        self._plan = _Plan({}, {}, None)
        self._acquired: list[tuple[CachedObject, Future[Traffic]]] = []

    def __enter__(self) -> "Copies":
        self._plan = self._mirror.plan(self._listing.objects(), self.scan, whole=self._whole)
        self._acquired = self._mirror.acquire(self._plan, self._listing.prefetched)
        wait([fetching for _, fetching in self._acquired], HANDOVER_SECONDS)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        wait(self._listing.prefetched.values())
        wait([fetching for _, fetching in self._acquired])
        self._mirror.release([cached for cached, _ in self._acquired], failed=isinstance(error, TornRead))

    @property
    def versions(self) -> frozenset[tuple[str, str]]:
        """Key and ETag of every object of the read: the same ones give the same rows."""
        return frozenset(
            (meta.key, meta.etag)
            for objects in (self._plan.copied, self._plan.remote)
            for metas in objects.values()
            for meta in metas
        )

    @property
    def is_remote(self) -> bool:
        """Tell whether something is left on S3, for DuckDB to read over httpfs."""
        return bool(self._plan.remote)

    @property
    def is_whole(self) -> bool:
        """Tell whether all of it is copied, and nothing in part."""
        return not self.is_remote and not any(cached.is_partial for cached, _ in self._acquired)

    @property
    def paths(self) -> dict[str, str]:
        """The local path of every object that is copied, the s3:// address of every other, by key."""
        root = self._mirror.lake_url
        remote = [meta.key for metas in self._plan.remote.values() for meta in metas]
        return {cached.meta.key: str(cached.path) for cached, _ in self._acquired} | {
            key: f"{root}/{key}" for key in remote
        }

    def files(self) -> dict[str, list[str]]:
        """Wait for the files; give local paths, and s3:// addresses of what is left there, by relation.

        Raises:
            TornRead: an object was replaced or removed since the LIST, or the LIST lacks one.
            StorageRefused, StorageUnavailable: S3 does not answer as it should.
        """
        for _, fetching in self._acquired:
            fetching.result()
        self._listing.require_complete()
        paths, objects = self.paths, self._plan.copied | self._plan.remote
        return {relation: [paths[meta.key] for meta in metas] for relation, metas in objects.items()}

    @property
    def traffic(self) -> Traffic:
        """Count what fetching has sent and received so far, without the listing."""
        done = [fetching for _, fetching in self._acquired if fetching.done() and not fetching.exception()]
        return sum((fetching.result() for fetching in done), Traffic())


def torn_by_damage(settings: Settings, key: str, problem: Exception) -> TornRead:
    """Say that an object cannot be decoded; the second time that the same version cannot, it is an error."""
    error = CorruptPartition(
        f"{settings.lake_url}/{key} is damaged, or not ours ({str(problem).splitlines()[0]}): it was left as it is; "
        "move it away and refresh again"
    )
    return TornRead(str(error), error)


def _seen(partitions: list[ObjectMeta], scan: Scan) -> list[ObjectMeta]:
    """Select the partitions that the scan sees; one of them where it sees none, for the sake of its columns."""
    return [meta for meta in partitions if (year := year_of(meta.key)) is None or scan.sees(year)] or partitions[-1:]


def _close(pools: Iterable[ThreadPoolExecutor], scratch: ScratchFolder) -> None:
    if scratch.is_own:  # not in a fork, where the threads are not
        for pool in pools:
            pool.shutdown(wait=False, cancel_futures=True)
        scratch.remove()


def _open_store(where: S3Location, secret: Credentials) -> S3Store:
    address: dict[str, Any] = {}
    if where.endpoint:
        scheme, _, host = where.endpoint.partition("://")
        # the one name that the environment's own AWS_ENDPOINT_URL_S3 does not overrule
        address["aws_endpoint_url_s3"] = f"{scheme}://{where.bucket}.{host}" if where.by_host else where.endpoint
    if secret.token:
        address["session_token"] = secret.token
    trusted: dict[str, Any] = {"root_certificate": Path(where.ca_bundle).read_bytes()} if where.ca_bundle else {}
    client: Any = {
        **trusted,
        "allow_http": where.is_plain,
        "allow_invalid_certificates": where.is_plain,  # there are none to check: the system's own take 6 ms to load
        "connect_timeout": timedelta(seconds=5),
        "read_timeout": timedelta(seconds=60),
        "timeout": timedelta(hours=1),  # of a whole answer: lines are slow, too
    }
    return S3Store(
        where.bucket,
        prefix=where.prefix or None,
        region=where.region,
        access_key_id=secret.key_id,
        secret_access_key=secret.secret,
        virtual_hosted_style_request=where.by_host,
        client_options=client,
        retry_config={
            "max_retries": 4,
            "retry_timeout": timedelta(seconds=60),
            "backoff": {
                "init_backoff": timedelta(milliseconds=100),
                "max_backoff": timedelta(seconds=2),
                "base": 2,
            },
        },
        **address,
    )


def _translated(problem: Exception, where: S3Location) -> AlchemiserDuckError:
    """obstore's errors as ours."""
    if isinstance(problem, OSError) and problem.errno is not None:
        return StorageUnavailable(
            f"what was fetched of {where} cannot be kept here: {problem}; free space, or set TMPDIR to another folder"
        )
    text = str(problem)
    status = re.search(r"status code: (\d+)", text)
    return storage_error(where, int(status.group(1)) if status else None, code_in(text), text)
