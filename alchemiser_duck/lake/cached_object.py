"""One version of an object of the lake as a local file: all of it, or the parts that were needed so far.

Of a partition most reads need a few columns, or a few symbols: its footer says where they are, and they go to the same
places in a sparse file of the same size. DuckDB cannot take a hole for data: it refuses to decode it.
"""

import os
import shutil
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor, Future, wait
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from alchemiser_duck.lake.io_stats import Traffic

PART = 8 << 20
"""Larger objects come in parts of this, side by side: one connection to S3 carries some 90 MB/s."""
SMALL = 4 << 20
"""Objects up to this may come before a list tells of them: a year of some 600 symbols."""
GAP = 32 << 10
"""What lies between two ranges is fetched with them, if it is no more than this."""
KEYS = frozenset({"symbol", "date", "timestamp"})
"""What every read of bars needs; next to nothing."""
VALUES = frozenset({"open", "high", "low", "close", "vwap", "volume", "trade_count"})

_FOOTER = 64 << 10
_FOOTER_SHARE = 512
"""What is fetched for the footer: this, or this part of the object if that is more."""
_FEW = 0.05
"""About which part of a partition's row groups one symbol is in."""


class TornRead(Exception):
    """An object was replaced or removed while it was read."""


@dataclass(frozen=True, slots=True)
class Listed:
    """An object as a list shows it."""

    key: str
    etag: str
    size: int


@dataclass(frozen=True)
class Wanted:
    """What a read needs of partitions of bars."""

    columns: frozenset[str]
    """besides KEYS"""
    symbols: tuple[str, ...] | None = None
    """None: all"""

    @property
    def share(self) -> float:
        """About which part of an object that is."""
        columns = len(self.columns & VALUES) / len(VALUES)
        return columns if self.symbols is None else columns * min(1, _FEW * len(self.symbols))


@dataclass(frozen=True, slots=True)
class _Chunk:
    """A column of a row group."""

    column: str
    start: int
    end: int
    symbols: tuple[str | None, str | None]
    """first and last of the row group"""


class Version:
    """A local file, or on its way to be one. Safe to share between threads."""

    def __init__(self, folder: Path, listed: Listed, *, partly: bool) -> None:
        self.listed = listed
        self.partly = partly
        self.readers = 0
        self.current = True
        self.size = 0
        """bytes that are here"""
        self._folder = folder
        self._lock = Lock()
        self._failed = False
        self._etag: str | None = None
        self._chunks: list[_Chunk] | None = None
        self._fetched: set[int] = set()

    @property
    def path(self) -> Path:
        return self._folder / self.listed.key

    def is_of(self, etag: str) -> bool:
        """Whether it is the version that a list shows now."""
        return not self._failed and etag == (self._etag or self.listed.etag)

    def delete(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)  # what DuckDB has open stays readable until it closes

    def fetch(
        self, store: S3Store, pool: Executor, wanted: Wanted | None, early: "Future[Early | None] | None"
    ) -> Traffic:
        """Fetch what is wanted (None: all of it, for a version that is not `partly`) and not here yet.

        Args:
            early: what came before the list: if it is this version, nothing more is fetched. Its request is counted.

        Raises:
            TornRead: a part is no longer to be had.
            BaseError, OSError: obstore's own.
        """
        with self._lock:
            try:
                if self._etag is None:
                    self.path.parent.mkdir(parents=True, exist_ok=True)
                before = self.size
                unused = self._adopt(early.result()) if early else 0
                requests = self._fill(store, pool, wanted) if wanted and self.partly else self._whole(store, pool)
                return Traffic(requests, 0, self.size - before + unused)
            except BaseException:
                self._failed = True
                raise

    def _adopt(self, early: "Early | None") -> int:
        """Take what came before the list for this version, if it is; returns the bytes that came in vain."""
        if early is None:
            return 0
        if self._etag is not None or early.etag != self.listed.etag:
            return len(early.body)
        self.size = self.path.write_bytes(early.body)
        self.partly = False
        self._etag = early.etag
        return 0

    def _whole(self, store: S3Store, pool: Executor) -> int:
        if self._etag is not None:
            return 0
        requests = 0
        if self.listed.size > PART:
            ranges = [(start, min(start + PART, self.listed.size)) for start in range(0, self.listed.size, PART)]
            requests = len(ranges)
            if self._ranges(store, pool, ranges):
                return requests
        answer = obstore.get(store, self.listed.key)
        with self.path.open("wb") as file:
            for part in answer.stream(min_chunk_size=PART):
                file.write(part)
            self.size = file.tell()
        self._etag = etag(answer.meta["e_tag"])
        return requests + 1

    def _fill(self, store: S3Store, pool: Executor, wanted: Wanted) -> int:
        requests = 0
        if self._chunks is None:
            requests += self._footer(store, pool)
            self._chunks = _chunks(self.path)
        needed = [
            chunk
            for chunk in self._chunks
            if chunk.start not in self._fetched
            and chunk.column in wanted.columns | KEYS
            and _may_hold(chunk, wanted.symbols)
        ]
        ranges = list(_joined(sorted((chunk.start, chunk.end) for chunk in needed)))
        if ranges and not self._ranges(store, pool, ranges):
            raise TornRead(f"{self.listed.key} was replaced")
        self._fetched |= {chunk.start for chunk in needed}
        return requests + len(ranges)

    def _footer(self, store: S3Store, pool: Executor) -> int:
        """Fetch the end of the object, once more if the footer is longer than that; returns the requests."""
        size, requests = self.listed.size, 0
        length = max(_FOOTER, size // _FOOTER_SHARE)
        while True:
            requests += 1
            if not self._ranges(store, pool, [(max(0, size - length), size)]):
                raise TornRead(f"{self.listed.key} was replaced, or its server sends no parts")
            with self.path.open("rb") as file:
                file.seek(size - 8)
                needed = 8 + int.from_bytes(file.read(4), "little")
            if needed <= length or requests == 2:
                return requests
            length = needed

    def _ranges(self, store: S3Store, pool: Executor, ranges: Sequence[tuple[int, int]]) -> bool:
        """Fetch ranges side by side; False: they are not of the version listed, or the server sends no parts."""
        one = self.listed
        file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.truncate(file, one.size)

            def fetch(bounds: tuple[int, int]) -> str:
                # the end is not included
                options: Any = {"range": bounds, "if_match": f'"{one.etag}"'}
                answer = obstore.get(store, one.key, options=options)
                os.pwrite(file, memoryview(answer.bytes()), bounds[0])
                return etag(answer.meta["e_tag"])

            parts = [pool.submit(fetch, bounds) for bounds in ranges]
            wait(parts)
        finally:
            os.close(file)
        if any(isinstance(part.exception(), BaseError) for part in parts):
            return False
        if {part.result() for part in parts} != {one.etag}:
            return False
        self._etag = one.etag
        self.size += sum(end - start for start, end in ranges)
        return True


@dataclass(frozen=True, slots=True)
class Early:
    """An object that was fetched before a list told of it."""

    etag: str
    body: obstore.Bytes


def fetch_early(store: S3Store, key: str) -> Early | None:
    """A small object; None: it is large, which no byte of is waited for, or not to be had, which the list tells."""
    try:
        answer = obstore.get(store, key, options={"range": (0, SMALL)})
        return Early(etag(answer.meta["e_tag"]), answer.bytes()) if answer.meta["size"] <= SMALL else None
    except (BaseError, OSError):
        return None


def etag(text: str | None) -> str:
    """An ETag without its quotes: servers set them here and not there."""
    return (text or "").strip('"')


def _chunks(path: Path) -> list[_Chunk]:
    """The column chunks of a Parquet file of which the footer is here; TornRead: that is none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        footer = pq.read_metadata(path)
    except (pa.ArrowInvalid, OSError) as problem:  # as DuckDB finds it, all of it at hand
        raise TornRead(f"{path}: {problem}") from problem
    chunks = []
    for number in range(footer.num_row_groups):
        group = footer.row_group(number)
        columns = {one.path_in_schema: one for one in map(group.column, range(group.num_columns))}
        known = columns["symbol"].statistics if "symbol" in columns else None
        symbols = (known.min, known.max) if known is not None and known.has_min_max else (None, None)
        for name, one in columns.items():
            start = one.dictionary_page_offset or one.data_page_offset
            chunks.append(_Chunk(name, start, start + one.total_compressed_size, symbols))
    return chunks


def _may_hold(chunk: _Chunk, symbols: Iterable[str] | None) -> bool:
    first, last = chunk.symbols
    return symbols is None or first is None or last is None or any(first <= symbol <= last for symbol in symbols)


def _joined(ranges: Sequence[tuple[int, int]]) -> Iterable[tuple[int, int]]:
    """Sorted ranges, those joined that lie close together, none longer than PART."""
    joined: list[list[int]] = []
    for start, end in ranges:
        if joined and start - joined[-1][1] <= GAP:
            joined[-1][1] = max(joined[-1][1], end)
        else:
            joined.append([start, end])
    for start, end in joined:
        for first in range(start, end, PART):
            yield first, min(first + PART, end)
