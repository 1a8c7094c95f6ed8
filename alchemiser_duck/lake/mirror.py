"""The lake's objects as local files: listed before every read, fetched when their ETag is new.

Over httpfs a read is a chain of round trips (list, footer, column chunks) and can meet an object that is being
replaced. Whole objects take one list and one GET each, all under way at once, and cannot be torn: a writer replaces an
object in one step. The first read of a process asks for small objects beside the list, by the names that they surely
have; the list then says whether they are current. Where that spares much, only the needed columns and row groups come,
on condition of the ETag. What would be too much to fetch stays on S3, where DuckDB reads the ranges that it needs.
"""

import re
import weakref
from collections.abc import Collection, Iterable, KeysView, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import date, timedelta
from itertools import count
from threading import Lock
from typing import Any

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from alchemiser_duck.errors import AlchemiserDuckError, EmptyLake, StorageRefused, StorageUnavailable
from alchemiser_duck.lake import credentials
from alchemiser_duck.lake.cached_object import Early, Listed, TornRead, Version, Wanted, etag, fetch_early
from alchemiser_duck.lake.credentials import Credentials
from alchemiser_duck.lake.io_stats import Traffic
from alchemiser_duck.lake.scratch import ScratchFolder, remove_abandoned
from alchemiser_duck.query.catalogue import sql_root
from alchemiser_duck.settings import Settings

MEBIBYTE = 1 << 20

NARROW = 32 * MEBIBYTE
"""A read of a few symbols fetches objects up to this in all: more of them than it needs is cheaper than round trips."""
WIDE = 192 * MEBIBYTE
"""A read of many symbols needs most of each object: two years of the whole US market are 140 MiB."""
SPARED = 16 * MEBIBYTE
"""A read that needs this much less than whole partitions fetches their parts: that takes one more round trip."""
KEPT = 256 * MEBIBYTE
"""How much stays on disk between reads."""
EARLY_YEARS = 4
"""A read of more years than this waits for the list: what it computes takes longer than a round trip."""
EARLY_SYMBOLS = 600
"""So does a read of more symbols than this: their partitions are surely not SMALL."""

REQUESTS_AT_ONCE = 32
HANDING_OVER = 0.001
"""Seconds that the threads that send requests get Python's lock for: they would wait 5 ms for it, each in turn."""
_PAGE = 1000
"""Keys in one answer to a list."""

RELATIONS = {
    "bars_raw": "bars/timeframe=1Day/*/bars.parquet",
    "corporate_actions": "corporate_actions/*.parquet",
    "refresh_runs": "refresh_runs/*/*.parquet",
    "sessions": "sessions/*.parquet",
}
"""Relations that read S3, and their objects. Each has a variable of its name: the files to read instead."""


class LakeObjects:
    """The objects of one lake on this machine's disk. Safe to share between threads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = Lock()
        self._credentials: Credentials | None = None
        self._store: S3Store | None = None
        self._versions: dict[str, Version] = {}
        self._numbers = count()
        scratch = ScratchFolder()
        self.folder = scratch.path
        # reads wait for large objects, these for requests, which wait for nobody
        pools = [
            ThreadPoolExecutor(REQUESTS_AT_ONCE, f"alchemiser-duck-{name}") for name in ("requests", "large", "reads")
        ]
        self._requests, self._large, self._reads = pools
        self.close = weakref.finalize(self, _close, pools, scratch)
        self._reads.submit(remove_abandoned)

    def read(self, relations: Collection[str]) -> "LakeRead":
        """Begin a read of these relations: their objects are being listed when this returns.

        Raises:
            StorageRefused: there are no AWS credentials.
        """
        now = credentials.current()
        with self._lock:
            if self._store is None or now != self._credentials:
                self._store, self._credentials = _open_store(self._settings, now), now
        return LakeRead(self, {name: self._requests.submit(self._list, RELATIONS[name]) for name in relations})

    def fetch_early(self, keys: Iterable[str]) -> "dict[str, Future[Early | None]]":
        """Begin to fetch those of the objects that no version is here of, before a list tells of them."""
        assert self._store is not None  # noqa: S101 (a read comes first)
        with self._lock:
            new = [key for key in keys if key not in self._versions]
        return {key: self._requests.submit(fetch_early, self._store, key) for key in new}

    def coordinate(self, function: Any, *arguments: Any) -> "Future[Any]":
        """Run what waits for requests, in threads that no request needs."""
        return self._reads.submit(function, *arguments)

    def nothing_stored(self) -> EmptyLake:
        return EmptyLake(
            f"nothing is stored under {self._settings.lake_url} yet; to fill it: "
            "alchemiser-duck refresh --mode overnight --symbols AAPL,MSFT"
        )

    def _list(self, pattern: str) -> list[Listed]:
        prefix, _, _ = pattern.partition("*")
        try:
            found = obstore.list(self._store, prefix, return_arrow=False).collect()  # type: ignore[arg-type]
        except (BaseError, OSError) as problem:
            raise _translated(problem, self._settings) from None
        fits = re.compile(re.escape(pattern).replace(r"\*", "[^/]+")).fullmatch  # as DuckDB's glob
        listed = (Listed(one["path"], etag(one["e_tag"]), one["size"]) for one in found if fits(one["path"]))
        return sorted(listed, key=lambda one: one.key)

    def acquire(
        self, needs: Iterable[tuple[Listed, Wanted | None]], early: "Mapping[str, Future[Early | None]]"
    ) -> "list[tuple[Version, Future[Traffic]]]":
        """The version of each object to read, and what fetching takes as far as it is for this read.

        Args:
            needs: what is wanted of each; None: all of it. `release` gives the versions back.
            early: what `fetch_early` began.
        """
        acquired = []
        with self._lock:
            for one, wanted in needs:
                version = self._versions.pop(one.key, None)
                if version is not None and not (version.is_of(one.etag) and (wanted or not version.partly)):
                    self._retire(version)
                    version = None
                if version is None:
                    version = Version(self.folder / str(next(self._numbers)), one, partly=wanted is not None)
                version.readers += 1
                self._versions[one.key] = version  # the last one used comes last
                acquired.append((version, self._large.submit(self._fetch, version, wanted, early.get(one.key))))
        return acquired

    def release(self, versions: Iterable[Version]) -> None:
        """These versions are no longer read; of all that is not, what was out of use longest goes beyond KEPT."""
        with self._lock:
            for version in versions:
                version.readers -= 1
                if not version.current:
                    self._retire(version)
            kept = sum(version.size for version in self._versions.values())
            for key, version in list(self._versions.items()):
                if kept > KEPT and not version.readers:
                    kept -= version.size
                    self._retire(self._versions.pop(key))

    def _retire(self, version: Version) -> None:
        version.current = False
        if not version.readers:
            version.delete()

    def _fetch(self, version: Version, wanted: Wanted | None, early: "Future[Early | None] | None") -> Traffic:
        assert self._store is not None  # noqa: S101 (a read comes first)
        try:
            return version.fetch(self._store, self._requests, wanted, early)
        except FileNotFoundError as problem:
            raise TornRead(str(problem)) from problem
        except (BaseError, OSError) as problem:
            raise _translated(problem, self._settings) from None


class LakeRead:
    """One read: what it lists and fetches, and the files that stay until it ends. A context manager, used once."""

    def __init__(self, lake: LakeObjects, listings: "dict[str, Future[list[Listed]]]") -> None:
        self._lake = lake
        self._listings = listings
        self._early: dict[str, Future[Early | None]] = {}
        self._held: list[Version] = []
        self._files: Future[dict[str, list[str]]] | None = None
        self.ended = False
        self.traffic = Traffic()

    @property
    def relations(self) -> KeysView[str]:
        return self._listings.keys()

    def __enter__(self) -> "LakeRead":
        return self

    def __exit__(self, *_: object) -> None:
        wait(self._early.values())
        if self._files is not None:
            wait([self._files])
        self._lake.release(self._held)
        self.ended = True

    def newest_day(self) -> date | None:
        """The last day that a stored bar can be of; None: no bar is stored."""
        bars = self._listings["bars_raw"].result() if "bars_raw" in self._listings else []
        years = [year for year in map(year_of, bars) if year]
        return date(max(years) + 1, 1, 1) - timedelta(days=1) if years else None

    def expect(self, since: date | None, until: date, symbols: Collection[str] | None) -> None:
        """Begin to fetch what a read most likely needs, while S3 lists; None: since ever, of all symbols."""
        if since is None or until.year - since.year >= EARLY_YEARS or len(symbols or ()) > EARLY_SYMBOLS:
            return
        years = [f"year={year}" for year in range(since.year, until.year + 1)]
        names = {"bars_raw": years, "corporate_actions": ["corporate_actions"], "sessions": ["sessions"]}
        keys = [RELATIONS[one].replace("*", name) for one in names.keys() & self._listings for name in names[one]]
        begun = self._lake.fetch_early(keys)
        self._early |= begun
        self.traffic += Traffic(len(begun))

    def fetch(self, since: date | None, as_of: date | None, limit: int | None, wanted: Wanted | None = None) -> None:
        """Begin to fetch, once, what the lens shows.

        Args:
            since, as_of: the lens: partitions outside are left out.
            limit: bytes of bars to fetch at most; None: whatever it is.
            wanted: what the query needs of the bars; None: everything.
        """
        if self._files is not None:
            return
        begun = None
        if all(listing.done() and not listing.exception() for listing in self._listings.values()):
            begun = self._begin(since, as_of, limit, wanted)
            wait([fetched for _, fetched in begun[1]], HANDING_OVER)
        self._files = self._lake.coordinate(self._fetch, since, as_of, limit, wanted, begun)

    def files(self) -> dict[str, list[str]]:
        """The local files to read by relation; bars are left out where they are more than the limit.

        Raises:
            EmptyLake: no bar is stored.
            TornRead: an object was removed meanwhile.
            StorageRefused, StorageUnavailable: S3 does not answer as it should.
        """
        assert self._files is not None  # noqa: S101 (fetch comes first)
        return self._files.result()

    def _fetch(
        self,
        since: date | None,
        as_of: date | None,
        limit: int | None,
        wanted: Wanted | None,
        begun: "_Begun | None",
    ) -> dict[str, list[str]]:
        objects, acquired = begun or self._begin(since, as_of, limit, wanted)
        if not objects.get("bars_raw", True):
            raise self._lake.nothing_stored()
        for _, fetched in acquired:
            self.traffic += fetched.result()
        paths = {version.listed.key: str(version.path) for version, _ in acquired}
        return {name: [paths[one.key] for one in found] or stand_in(name) for name, found in objects.items()}

    def _begin(self, since: date | None, as_of: date | None, limit: int | None, wanted: Wanted | None) -> "_Begun":
        """The objects to read and their versions, which are being fetched when this returns."""
        objects = {name: listing.result() for name, listing in self._listings.items()}
        self.traffic += Traffic(sum(max(1, -(-len(found) // _PAGE)) for found in objects.values()))
        if bars := objects.get("bars_raw"):
            bars = objects["bars_raw"] = _seen_through(bars, since, as_of)
            whole = sum(one.size for one in bars)
            share = wanted.share if wanted else 1
            if whole * (1 - share) < SPARED:
                wanted, share = None, 1
            if limit is not None and whole * share > limit:
                del objects["bars_raw"]
        acquired = self._lake.acquire(
            ((one, wanted if name == "bars_raw" else None) for name, found in objects.items() for one in found),
            self._early,
        )
        self._held += [version for version, _ in acquired]
        return objects, acquired


_Begun = tuple[dict[str, list[Listed]], list[tuple[Version, "Future[Traffic]"]]]


def year_of(partition: Listed) -> int | None:
    """The year that a partition's key names."""
    found = re.search(r"/year=(\d+)/", partition.key)
    return int(found.group(1)) if found else None


def _seen_through(partitions: list[Listed], since: date | None, as_of: date | None) -> list[Listed]:
    """The partitions that the lens shows; one of them, if none, for the sake of its columns."""
    seen = [
        one
        for one in partitions
        if (year := year_of(one)) is None
        or ((since is None or year >= since.year) and (as_of is None or year <= as_of.year))
    ]
    return seen or partitions[-1:]


def stand_in(relation: str) -> list[str]:
    """What a relation that nothing is stored of reads: no rows, but the sessions known at release."""
    return [str(path) for path in sorted((sql_root() / "empty_lake").glob(RELATIONS[relation]))]


def _close(pools: Iterable[ThreadPoolExecutor], scratch: ScratchFolder) -> None:
    if scratch.is_own:  # not in a fork, where the threads are not
        for pool in pools:
            pool.shutdown(wait=False, cancel_futures=True)
        scratch.remove()


def _open_store(settings: Settings, secret: Credentials) -> S3Store:
    by_host = settings.effective_url_style == "vhost"
    plain = (settings.endpoint_url or "").startswith("http://")
    address: dict[str, Any] = {}
    if settings.endpoint_url:
        scheme, _, host = settings.endpoint_url.partition("://")
        # the one name that the environment's own AWS_ENDPOINT_URL_S3 does not overrule
        address["aws_endpoint_url_s3"] = f"{scheme}://{settings.bucket}.{host}" if by_host else settings.endpoint_url
    if secret.token:
        address["session_token"] = secret.token
    return S3Store(
        settings.bucket,
        prefix=settings.prefix or None,
        region=credentials.region(settings),
        access_key_id=secret.key_id,
        secret_access_key=secret.secret,
        virtual_hosted_style_request=by_host,
        client_options={
            "allow_http": plain,
            "allow_invalid_certificates": plain,  # there are none to check: the system's own take 6 ms to load
            "connect_timeout": timedelta(seconds=5),
            "read_timeout": timedelta(seconds=60),
            "timeout": timedelta(hours=1),  # of a whole answer: lines are slow, too
        },
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


def _translated(problem: Exception, settings: Settings) -> AlchemiserDuckError:
    """obstore's errors as ours; the one place for it."""
    where = settings.lake_url + (f" at {settings.endpoint_url}" if settings.endpoint_url else "")
    text = str(problem)
    if isinstance(problem, OSError) and problem.errno is not None:
        return StorageUnavailable(
            f"what was fetched of {where} cannot be kept here: {problem}; free space, or set TMPDIR to another folder"
        )
    if "NoSuchBucket" in text:
        return StorageRefused(f"S3 knows no bucket {settings.bucket!r} ({where}): check MARKET_DATA_BUCKET")
    for status in ("400", "401", "403"):
        if f"status code: {status}" in text:
            return StorageRefused(
                f"S3 refuses to show {where} (HTTP {status}): check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, "
                "AWS_SESSION_TOKEN and AWS_REGION, and that they may list and read the bucket"
            )
    return StorageUnavailable(f"S3 cannot be read: {where}: {text.splitlines()[0]}")
