"""S3 as this project uses it: whole objects with their ETags, conditional PUTs, and an exact count of requests."""

import base64
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from threading import Lock
from typing import Any, TypeVar

import stamina
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    IncompleteReadError,
    ReadTimeoutError,
    ResponseStreamingError,
)

from alchemiser_duck.errors import StorageUnavailable, UnsafeStore, WriteConflict
from alchemiser_duck.lake import credentials
from alchemiser_duck.lake.checksums import CRC32, NOT_INTACT, bare_etag, checksum, is_intact, md5_etag
from alchemiser_duck.lake.io_stats import Traffic
from alchemiser_duck.lake.keys import CONDITIONS
from alchemiser_duck.lake.location import locate, storage_error
from alchemiser_duck.settings import Settings

WRITE_ATTEMPTS = 40

Result = TypeVar("Result")


class PreconditionFailed(Exception):
    """Somebody else wrote the object since it was read."""


class _UnprovenAnswer(Exception):
    """An answer says that all is well, and its bytes or its ETag say otherwise."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object's content and the ETag that stands for it."""

    body: bytes
    etag: str


class S3Objects:
    """The objects under the lake's prefix. Keys are relative to it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = Lock()
        self.traffic = Traffic()
        """so far, retries included"""

    @cached_property
    def _client(self) -> Any:
        import boto3
        from botocore.config import Config

        credentials.current()  # raises our own error where there are none
        where = locate(self._settings)
        client = boto3.session.Session().client(
            "s3",
            endpoint_url=where.endpoint,
            region_name=where.region,
            verify=where.ca_bundle,
            config=Config(
                connect_timeout=5,
                read_timeout=60,
                retries={"mode": "standard", "total_max_attempts": 5},
                request_checksum_calculation="when_required",  # other S3 servers do not know the newer ones
                response_checksum_validation="when_required",
                s3={"addressing_style": "virtual" if where.by_host else "path"},
            ),
        )
        client.meta.events.register("before-send.s3", self._count_request)
        return client

    def _count_request(self, request: Any, **_: Any) -> None:
        body = request.body
        size = len(body) if isinstance(body, bytes | bytearray) else int(request.headers.get("Content-Length", 0))
        self._count(Traffic(1, size, 0))

    def _count(self, more: Traffic) -> None:
        with self._lock:
            self.traffic += more

    def get(self, key: str) -> StoredObject | None:
        """The whole object in one request; None where there is none."""
        return self._get(key)

    def get_end(self, key: str, size: int) -> bytes | None:
        """The last bytes of the object, at most size of them; None where there is none."""
        stored = self._get(key, Range=f"bytes=-{size}")
        return stored.body if stored else None

    def _get(self, key: str, **options: str) -> StoredObject | None:
        # boto3 retries until the answer begins; a body that breaks off afterwards is ours to ask for again
        broken = (ResponseStreamingError, IncompleteReadError, ReadTimeoutError, _UnprovenAnswer)
        with self._translated(key):
            try:
                for attempt in stamina.retry_context(on=broken, attempts=4, wait_initial=0.1, wait_max=2):
                    with attempt:
                        answer = self._client.get_object(
                            Bucket=self._settings.bucket, Key=self._settings.prefix + key, **options
                        )
                        body = answer["Body"].read()
                        self._count(Traffic(0, 0, len(body)))
                        etag = answer.get("ETag", "")
                        is_whole = not options
                        if not etag or (is_whole and not is_intact(body, bare_etag(etag), answer["Metadata"])):
                            raise _UnprovenAnswer
                        return StoredObject(body, etag)
            except ClientError as problem:
                if _code(problem) not in ("NoSuchKey", "404"):
                    raise
        return None

    def put(self, key: str, body: bytes, *, replaces: str | None) -> str:
        """Store the object and return its ETag.

        replaces: the ETag of the version that this one was made from; None means there must be no object yet.

        Raises:
            PreconditionFailed: the object is another one by now; nothing was written.
        """
        with self._translated(key):
            for attempt in stamina.retry_context(on=_UnprovenAnswer, attempts=4, wait_initial=0.1, wait_max=2):
                with attempt:
                    etag = self._put_once(key, body, replaces)
                    if bare_etag(etag) == md5_etag(body) or (etag and self._is_stored(key, body)):
                        return etag
                    # bytes that are not ours lie there under this ETag; without one, nothing was stored
                    replaces = etag or replaces
                    raise _UnprovenAnswer
        raise AssertionError("unreachable")

    def require_conditions(self) -> None:
        """Prove that the store refuses a PUT whose condition does not hold; three requests.

        Raises:
            UnsafeStore: it stores it all the same.
            StorageError: S3 does not answer as it should.
        """
        with suppress(PreconditionFailed):
            self.put(CONDITIONS, b"{}", replaces=None)
        for condition, replaces in (("If-None-Match", None), ("If-Match", f'"{"0" * 32}"')):
            try:
                self.put(CONDITIONS, b"{}", replaces=replaces)
            except PreconditionFailed:
                continue
            raise UnsafeStore(
                f"{locate(self._settings)} ignores {condition}: two refreshers would lose each other's bars "
                "in silence; use a store that keeps conditional PUTs (Amazon S3 does), or make sure that one process "
                "writes at a time, and export ALCHEMISER_SINGLE_WRITER=1"
            )

    def _put_once(self, key: str, body: bytes, replaces: str | None) -> str:
        """Send the object; return the ETag that the store answers with, or none."""
        condition = {"IfNoneMatch": "*"} if replaces is None else {"IfMatch": replaces}
        try:
            answer = self._client.put_object(
                Bucket=self._settings.bucket,
                Key=self._settings.prefix + key,
                Body=body,
                ContentMD5=base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode(),
                Metadata={CRC32: checksum(body)},
                **condition,
            )
        except ClientError as problem:
            # 409: a concurrent conditional write is under way; 404: the object to be replaced is gone
            if _code(problem) in ("PreconditionFailed", "412", "ConditionalRequestConflict", "409", "NoSuchKey"):
                raise PreconditionFailed(key) from problem
            raise
        return str(answer.get("ETag", ""))

    def _is_stored(self, key: str, body: bytes) -> bool:
        """Read back what was put, where the ETag is not its MD5."""
        answer = self._client.get_object(Bucket=self._settings.bucket, Key=self._settings.prefix + key)
        stored = answer["Body"].read()
        self._count(Traffic(0, 0, len(stored)))
        return bool(stored == body)

    def until_written(self, key: str, step: Callable[[int], Result]) -> Result:
        """Read, change and put an object through `step`; again if others are faster.

        Args:
            step: is given the number of the attempt, from 1.

        Raises:
            WriteConflict: other writers were faster every time.
        """
        try:
            for attempt in stamina.retry_context(
                on=PreconditionFailed,
                attempts=WRITE_ATTEMPTS,
                timeout=300,
                wait_initial=0.01,
                wait_max=2,
                wait_jitter=0.2,
            ):
                with attempt:
                    return step(attempt.num)
        except PreconditionFailed as problem:
            raise WriteConflict(
                f"{key} was replaced by others {WRITE_ATTEMPTS} times in a row: run the same command again"
            ) from problem
        raise AssertionError("unreachable")

    def keys(self, prefix: str) -> list[str]:
        """The keys under a prefix of the lake, sorted."""
        start = len(self._settings.prefix)
        with self._translated(prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._settings.bucket, Prefix=self._settings.prefix + prefix
            )
            keys = []
            for page in pages:
                if "KeyCount" not in page and "Name" not in page:
                    raise _UnprovenAnswer
                keys += [item["Key"][start:] for item in page.get("Contents", ())]
            return sorted(keys)

    def create_bucket(self) -> None:
        """Create the lake's bucket, for the sandbox: a lake of one's own has one already."""
        with self._translated():
            self._client.create_bucket(Bucket=self._settings.bucket)

    @contextmanager
    def _translated(self, key: str = "") -> Iterator[None]:
        """boto3's errors as ours."""
        try:
            yield
        except ClientError as problem:
            status = problem.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            code = _code(problem)
            named = "" if code.isdigit() else code
            raise storage_error(locate(self._settings), status, named, f"{problem}: try again") from problem
        except _UnprovenAnswer as problem:
            raise StorageUnavailable(f"{self._settings.lake_url}/{key} {NOT_INTACT}") from problem
        except BotoCoreError as problem:
            raise storage_error(locate(self._settings), None, "", f"{problem}") from problem


def _code(problem: ClientError) -> str:
    return str(problem.response.get("Error", {}).get("Code", ""))
