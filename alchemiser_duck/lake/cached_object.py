"""A local copy of one version of an object: all of it, or the parts that were needed so far.

Of a large partition most reads need a few columns, or a few symbols: its footer says where they are, and they go to the
same places in a sparse file of the same size. DuckDB cannot take a hole for data: it refuses to decode it.
"""

import mmap
import shutil
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future, wait
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from alchemiser_duck.errors import AlchemiserDuckError
from alchemiser_duck.lake.checksums import bare_etag, is_intact
from alchemiser_duck.lake.io_stats import Traffic
from alchemiser_duck.lake.scan import BAR_KEYS, Projection

if TYPE_CHECKING:
    from obstore import GetResult

RANGE_BYTES = 8 << 20
"""Larger objects come in ranges of this, side by side: one connection to S3 carries some 90 MB/s."""
PREFETCH_LIMIT = 4 << 20
"""Objects up to this may come before a LIST tells of them: a year of some 600 symbols."""
MAX_GAP = 32 << 10
"""Two ranges this close together are fetched as one."""

_FOOTER_BYTES = 64 << 10
_FOOTER_SHARE = 512
"""The footer is looked for in the last _FOOTER_BYTES, or in this part of the object if that is more."""
_MAGIC = b"PAR1"


class TornRead(Exception):
    """An object was replaced, removed or damaged while it was read; reading again may help."""

    def __init__(self, text: str, error: AlchemiserDuckError | None = None) -> None:
        """error: what to raise where the same versions fail again; None means they are tried on."""
        super().__init__(text)
        self.error = error


class NotParquetError(Exception):
    """The body is complete, and not a Parquet file."""


class NotIntactError(Exception):
    """The body has other bytes than were stored."""


@dataclass(frozen=True, slots=True)
class ObjectMeta:
    """An object as a LIST shows it."""

    key: str
    etag: str
    size: int


@dataclass(frozen=True, slots=True)
class Prefetched:
    """An object that was fetched while the LIST was in flight."""

    etag: str
    body: memoryview
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Chunk:
    """A column of a row group."""

    column: str
    start: int
    end: int
    symbols: tuple[str | None, str | None]
    """first and last of the row group"""


class CachedObject:
    """A file that holds an object, or will. Safe to share between threads."""

    def __init__(self, folder: Path, meta: ObjectMeta, *, is_partial: bool) -> None:
        self.meta = meta
        self.is_partial = is_partial
        self.readers = 0
        self.is_current = True
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
        """The local file; its folders are those of the key, which DuckDB reads the year from."""
        return self._folder / self.meta.key

    def is_version(self, etag: str) -> bool:
        """Tell whether it is the version that a LIST shows now, and still on the disk."""
        if self._failed or etag != (self._etag or self.meta.etag):
            return False
        return self._etag is None or self.path.is_file()

    def fail(self) -> None:
        """Never hand it out again: a read of it failed."""
        self._failed = True

    def delete(self) -> None:
        """Remove the file; a reader that has it open can still read it, except on Windows."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def fetch(
        self, store: S3Store, pool: Executor, part: Projection | None, prefetched: "Future[Prefetched | None] | None"
    ) -> Traffic:
        """Fetch what is needed and not here yet; return what that took, without `prefetched`.

        Args:
            part: None means all of it, for a copy that is not partial.
            prefetched: taken instead of a request if it is this version; it is counted where it was asked for.

        Raises:
            TornRead: the object is another one by now.
            NotParquetError: it is not ours.
            NotIntactError: it has other bytes than were stored.
            BaseError, OSError: obstore's own.
        """
        with self._lock:
            try:
                if self._etag is None:
                    self.path.parent.mkdir(parents=True, exist_ok=True)
                if prefetched:
                    self._adopt(prefetched.result())
                before = self.size
                requests = self._fill(store, pool, part) if part and self.is_partial else self._whole(store, pool)
                return Traffic(requests, 0, self.size - before)
            except BaseException:
                self._failed = True
                raise

    def _adopt(self, prefetched: Prefetched | None) -> None:
        """Take what came before the LIST, if it is this version."""
        if prefetched is None or self._etag is not None or prefetched.etag != self.meta.etag:
            return
        self.size = self.path.write_bytes(prefetched.body)
        self._require_sound(prefetched.etag, prefetched.metadata)
        self.is_partial = False
        self._etag = prefetched.etag

    def _whole(self, store: S3Store, pool: Executor) -> int:
        if self._etag is not None:
            return 0
        size, requests = self.meta.size, 0
        if size > RANGE_BYTES:
            ranges = [(start, min(start + RANGE_BYTES, size)) for start in range(0, size, RANGE_BYTES)]
            requests = len(ranges)
            if (metadata := self._ranges(store, pool, ranges)) is not None:
                self._require_sound(self.meta.etag, metadata)
                return requests
        answer = obstore.get(store, self.meta.key)
        with self.path.open("wb") as file:
            for part in answer.stream(min_chunk_size=RANGE_BYTES):
                file.write(part)
            self.size = file.tell()
        if self.size != answer.meta["size"]:
            raise TornRead(f"{self.meta.key} came with {self.size} of {answer.meta['size']} bytes")
        etag = bare_etag(answer.meta["e_tag"])
        self._require_sound(etag, metadata_of(answer))
        self._etag = etag
        return requests + 1

    def _require_sound(self, etag: str, metadata: Mapping[str, str]) -> None:
        """Refuse a file that is not what was stored, or is no Parquet."""
        if not self.size:
            raise NotParquetError("it is empty")
        with self.path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            with memoryview(content) as body:
                if not is_intact(body, etag, metadata):
                    raise NotIntactError
            if not content[:4] == content[-4:] == _MAGIC:
                raise NotParquetError("no magic bytes")

    def _fill(self, store: S3Store, pool: Executor, part: Projection) -> int:
        requests = 0
        if self._chunks is None:
            requests += self._footer(store, pool)
            self._chunks = _chunks(self.path)
        needed = [
            chunk
            for chunk in self._chunks
            if chunk.start not in self._fetched
            and chunk.column in part.columns | BAR_KEYS
            and _may_hold(chunk, part.symbols)
        ]
        ranges = list(_joined(sorted((chunk.start, chunk.end) for chunk in needed)))
        if ranges and self._ranges(store, pool, ranges) is None:
            raise TornRead(f"{self.meta.key} was replaced")
        self._fetched |= {chunk.start for chunk in needed}
        return requests + len(ranges)

    def _footer(self, store: S3Store, pool: Executor) -> int:
        """Fetch the end of the object, once more if the footer is longer than that; return the requests."""
        size, requests = self.meta.size, 0
        length = max(_FOOTER_BYTES, size // _FOOTER_SHARE)
        while True:
            requests += 1
            if self._ranges(store, pool, [(max(0, size - length), size)]) is None:
                raise TornRead(f"{self.meta.key} was replaced, or its server sends no ranges")
            with self.path.open("rb") as file:
                file.seek(size - 8)
                needed = 8 + int.from_bytes(file.read(4), "little")
            if needed <= length or requests == 2:
                return requests
            length = needed

    def _ranges(self, store: S3Store, pool: Executor, ranges: Sequence[tuple[int, int]]) -> Mapping[str, str] | None:
        """Fetch ranges side by side and return the object's metadata.

        None means that they are not of the version listed, or that the server sends no ranges.
        """
        meta = self.meta
        with self.path.open("ab") as file:
            file.truncate(meta.size)

        def fetch(bounds: tuple[int, int]) -> tuple[str, Mapping[str, str]]:
            # the end is not included
            options: Any = {"range": bounds, "if_match": f'"{meta.etag}"'}
            answer = obstore.get(store, meta.key, options=options)
            body = answer.bytes()
            if len(body) != bounds[1] - bounds[0]:
                return "", {}
            with self.path.open("r+b") as file:  # of its own: no system has one position for several writers
                file.seek(bounds[0])
                file.write(body)
            return bare_etag(answer.meta["e_tag"]), metadata_of(answer)

        parts = [pool.submit(fetch, bounds) for bounds in ranges]
        wait(parts)
        if any(isinstance(part.exception(), BaseError) for part in parts):
            return None
        if {part.result()[0] for part in parts} != {meta.etag}:
            return None
        self._etag = meta.etag
        self.size += sum(end - start for start, end in ranges)
        return parts[0].result()[1]


def prefetch(store: S3Store, key: str) -> Prefetched | None:
    """Fetch a small object by name; None means that it is large, or not to be had, as the LIST will tell."""
    try:
        answer = obstore.get(store, key, options={"range": (0, PREFETCH_LIMIT)})
        if answer.meta["size"] > PREFETCH_LIMIT:
            return None  # its body is not waited for
        return Prefetched(bare_etag(answer.meta["e_tag"]), memoryview(answer.bytes()), metadata_of(answer))
    except (BaseError, OSError):
        return None


def metadata_of(answer: "GetResult") -> Mapping[str, str]:
    """Return the user metadata that came with an object."""
    return {str(name): value for name, value in answer.attributes.items()}


def _chunks(path: Path) -> list[_Chunk]:
    """Read the column chunks of a Parquet file whose footer is here.

    Raises:
        NotParquetError: it is not a footer.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        footer = pq.read_metadata(path)
    except (pa.ArrowInvalid, OSError) as problem:
        raise NotParquetError(str(problem)) from problem
    chunks = []
    for number in range(footer.num_row_groups):
        group = footer.row_group(number)
        columns = {column.path_in_schema: column for column in map(group.column, range(group.num_columns))}
        known = columns["symbol"].statistics if "symbol" in columns else None
        symbols = (known.min, known.max) if known is not None and known.has_min_max else (None, None)
        for name, column in columns.items():
            start = column.dictionary_page_offset or column.data_page_offset
            chunks.append(_Chunk(name, start, start + column.total_compressed_size, symbols))
    return chunks


def _may_hold(chunk: _Chunk, symbols: Iterable[str] | None) -> bool:
    first, last = chunk.symbols
    return symbols is None or first is None or last is None or any(first <= symbol <= last for symbol in symbols)


def _joined(ranges: Sequence[tuple[int, int]]) -> Iterable[tuple[int, int]]:
    """Join sorted ranges that lie close together, none longer than RANGE_BYTES."""
    joined: list[list[int]] = []
    for start, end in ranges:
        if joined and start - joined[-1][1] <= MAX_GAP:
            joined[-1][1] = max(joined[-1][1], end)
        else:
            joined.append([start, end])
    for start, end in joined:
        for first in range(start, end, RANGE_BYTES):
            yield first, min(first + RANGE_BYTES, end)
