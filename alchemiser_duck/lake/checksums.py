"""Checksums of objects: a body counts only when it is proven to be the one that was stored.

Every object that the layer writes carries its CRC-32 as user metadata, which comes back with every GET: bytes that a
proxy, a disk or a network card has changed are found for a quarter of a millisecond per MiB. Of what others wrote the
ETag is the proof: on most stores it is the MD5 of an object that was put in one piece.
"""

import hashlib
import re
import zlib
from collections.abc import Mapping
from typing import TypeAlias

CRC32 = "crc32"
"""User metadata `x-amz-meta-crc32`: eight hexadecimal digits."""

_MD5 = re.compile(r"[0-9a-f]{32}")

Body: TypeAlias = bytes | memoryview


def checksum(body: Body) -> str:
    """Return the CRC-32 of a body as its metadata spell it."""
    return f"{zlib.crc32(body):08x}"


def md5_etag(body: Body) -> str:
    """Return the ETag that most stores give this body: its MD5, without quotes."""
    return hashlib.md5(body, usedforsecurity=False).hexdigest()


def bare_etag(text: str | None) -> str:
    """Return an ETag without its quotes, which some answers have and others lack."""
    return (text or "").strip('"')


def is_intact(body: Body, etag: str, metadata: Mapping[str, str]) -> bool:
    """Tell whether a body is what was stored.

    An object of another writer on a store whose ETags are no MD5 (KMS encryption) is not: there is no proof.
    One that was uploaded in parts, whose ETag shows that, counts as intact.
    """
    if declared := metadata.get(CRC32):
        return declared == checksum(body)
    return not _MD5.fullmatch(etag) or etag == md5_etag(body)


NOT_INTACT = (
    "arrived with other bytes than were stored: something on the way changes them, or the object is damaged; try "
    "again, and if it stays, move the object away and refresh (an object that another program wrote to a store whose "
    f"ETags are no MD5, as with KMS encryption, needs the user metadata {CRC32!r})"
)
"""What to say of an object that is not intact, after its address."""
