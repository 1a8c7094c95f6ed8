"""The lake's objects as S3 lists them, and the doubts that a LIST leaves.

An answer that is no LIST, or an old one, must not make bars disappear: an object that was there before is asked for by
its name, and so is the year after the last one, and one between two. Where there is one object at most, no LIST is
needed: a HEAD tells whether it is there.
"""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor, Future
from datetime import date, timedelta
from threading import Lock

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from alchemiser_duck.errors import AlchemiserDuckError, StorageUnavailable
from alchemiser_duck.lake import keys
from alchemiser_duck.lake.cached_object import ObjectMeta, Prefetched, TornRead
from alchemiser_duck.lake.checksums import bare_etag
from alchemiser_duck.lake.io_stats import Traffic
from alchemiser_duck.lake.keys import RELATIONS
from alchemiser_duck.lake.scan import Scan

PREFETCH_YEARS = 4
"""A read of more years waits for the LIST: what it computes takes longer than a round trip."""
PREFETCH_SYMBOLS = 600
"""So does a read of more symbols: their partitions are larger than PREFETCH_LIMIT."""

_LIST_PAGE = 1000
"""Keys in one answer to a LIST."""


class Listing:
    """The objects of some relations, being listed. It holds nothing that must be given back."""

    def __init__(
        self,
        lister: "Lister",
        lists: "Mapping[str, Future[Listed]]",
        prefetch: "Callable[[Iterable[str]], dict[str, Future[Prefetched | None]]]",
    ) -> None:
        self._lister = lister
        self._lists = lists
        self._prefetch = prefetch
        self.prefetched: dict[str, Future[Prefetched | None]] = {}

    def objects(self) -> dict[str, list[ObjectMeta]]:
        """Wait for the LISTs; give the objects of each relation, by key.

        Raises:
            StorageRefused, StorageUnavailable: S3 does not answer as it should.
        """
        return {relation: listed.result().metas for relation, listed in self._lists.items()}

    def newest_day(self) -> date | None:
        """Wait for the LIST of bars; give the last day that a stored bar can be of, None where none is stored."""
        years = self._years()
        return date(max(years) + 1, 1, 1) - timedelta(days=1) if years else None

    def begins_after(self, day: date) -> bool:
        """Wait for the LIST of bars; tell whether no year before this day's is stored."""
        return day.year <= min(self._years(), default=day.year)

    def _years(self) -> list[int]:
        bars = self._lists["bars_raw"].result().metas if "bars_raw" in self._lists else []
        return [year for year in (keys.year_of(meta.key) for meta in bars) if year]

    def prefetch(self, scan: Scan, until: date) -> None:
        """Begin to fetch what the scan most likely needs, by name; nothing where it is likely to be large."""
        since = scan.since
        few = len(scan.symbols or ()) <= PREFETCH_SYMBOLS
        if since is None or until.year - since.year >= PREFETCH_YEARS or not few:
            return
        names = [RELATIONS[relation] for relation in self._lists if "*" not in RELATIONS[relation]]
        if "bars_raw" in self._lists:
            years = range(since.year, until.year + 1)
            names += map(keys.partition, years)
        self.prefetched |= self._prefetch(names)

    def require_complete(self) -> None:
        """Wait for what was asked for by name.

        Raises:
            TornRead: an object is there that the LIST did not show; the next LIST will be asked about it.
        """
        for listed in self._lists.values():
            listed.result().require_complete()
        listed_keys = {meta.key for metas in self.objects().values() for meta in metas}
        for key, fetching in self.prefetched.items():
            if key not in listed_keys and fetching.result():
                self._lister.note(key)
                raise _incomplete(key)

    @property
    def traffic(self) -> Traffic:
        """Count the requests sent so far: LISTs, HEADs and prefetches, of use or not."""
        lists = [listed.result() for listed in self._lists.values() if listed.done() and not listed.exception()]
        came = [fetching.result() for fetching in self.prefetched.values() if fetching.done()]
        received = sum(len(fetched.body) for fetched in came if fetched)
        return Traffic(sum(listed.requests for listed in lists) + len(self.prefetched), 0, received)


class Listed:
    """The answer to one LIST, with what it left open."""

    def __init__(self, metas: list[ObjectMeta], requests: int) -> None:
        self.metas = metas
        self.requests = requests
        self._doubts: dict[str, Future[ObjectMeta | None]] = {}

    def doubt(self, key: str, asked: "Future[ObjectMeta | None]") -> None:
        """Remember an object that was asked for by name, besides the LIST."""
        self._doubts[key] = asked
        self.requests += 1

    def require_complete(self) -> None:
        """Raise TornRead where an object is there that was not listed."""
        for key, asked in self._doubts.items():
            if asked.result():
                raise _incomplete(key)


class Lister:
    """Lists the objects of relations, and remembers which ones there were. Safe to share between threads."""

    def __init__(self, requests: Executor, translated: Callable[[Exception], AlchemiserDuckError]) -> None:
        """Prepare it; nothing is sent.

        Args:
            requests: runs what goes to S3.
            translated: obstore's errors as ours.
        """
        self._requests = requests
        self._translated = translated
        self._lock = Lock()
        self._known: dict[str, frozenset[str]] = {}

    def ask(self, store: S3Store, relation: str) -> Listed:
        """List the objects of a relation, and what was there before and is missing now.

        Raises:
            StorageRefused, StorageUnavailable: S3 does not answer as it should.
        """
        pattern = RELATIONS[relation]
        if "*" not in pattern:
            meta = self._head(store, pattern)
            return Listed([meta] if meta else [], 1)
        metas, requests = self._pages(store, pattern)
        if not metas:  # an answer that is no LIST at all reads like an empty one
            metas, again = self._pages(store, pattern)
            requests += again
        listed_keys = frozenset(meta.key for meta in metas)
        with self._lock:
            is_first, missed = pattern not in self._known, self._known.get(pattern, listed_keys) - listed_keys
        metas += [meta for key in missed if (meta := self._head(store, key))]
        with self._lock:
            self._known[pattern] = frozenset(meta.key for meta in metas)
        listed = Listed(sorted(metas, key=lambda meta: meta.key), requests + len(missed))
        for key in _neighbours(listed_keys) if is_first else ():
            listed.doubt(key, self._requests.submit(self._head_noted, store, key))
        return listed

    def note(self, key: str) -> None:
        """Miss a partition from now on where a LIST does not show it."""
        pattern = RELATIONS["bars_raw"]
        with self._lock:
            self._known[pattern] = self._known.get(pattern, frozenset()) | {key}

    def _pages(self, store: S3Store, pattern: str) -> tuple[list[ObjectMeta], int]:
        folder = pattern.partition("*")[0].rpartition("/")[0]
        try:
            listed = obstore.list(store, folder, return_arrow=False).collect()
        except (BaseError, OSError) as problem:
            raise self._translated(problem) from None
        fits = keys.fits(pattern)
        metas = [
            ObjectMeta(meta["path"], bare_etag(meta["e_tag"]), meta["size"]) for meta in listed if fits(meta["path"])
        ]
        return metas, max(1, -(-len(listed) // _LIST_PAGE))

    def _head(self, store: S3Store, key: str) -> ObjectMeta | None:
        """Ask for one object by name; None means that there is none."""
        try:
            meta = obstore.head(store, key)
        except FileNotFoundError:
            return None
        except (BaseError, OSError) as problem:
            raise self._translated(problem) from None
        if not (etag := bare_etag(meta["e_tag"])):
            text = f"{key}: the answer to a HEAD has no ETag: what answers is no S3 server"
            raise TornRead(text, StorageUnavailable(text))
        return ObjectMeta(key, etag, meta["size"])

    def _head_noted(self, store: S3Store, key: str) -> ObjectMeta | None:
        """Ask for a partition that the LIST did not show."""
        if meta := self._head(store, key):
            self.note(key)
        return meta


def _neighbours(listed: Iterable[str]) -> list[str]:
    """Name the year after the last partition, and those between two that are not there."""
    years = {year for year in map(keys.year_of, listed) if year}
    if not years:
        return []
    return [keys.partition(year) for year in range(min(years), min(max(years) + 2, 10_000)) if year not in years]


def _incomplete(key: str) -> TornRead:
    text = f"{key} is stored, and the store's LIST does not show it"
    return TornRead(text, StorageUnavailable(f"{text}: something between here and the store answers with old lists"))
