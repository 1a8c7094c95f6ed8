"""Leases on S3: who fetches a symbol, until when; across processes and machines exactly one at a time.

`fetch_requests/<symbol>.json` is created with If-None-Match and taken over, once it has expired, with If-Match: of any
number of requesters one succeeds. A lease is short while its holder works, so that a crash does not block the symbol
for long, and lasts for the cooldown once the fetch is done.
"""

import json
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta

from alchemiser_duck.lake import keys
from alchemiser_duck.lake.object_store import PreconditionFailed, S3Objects, StoredObject

CLOCK_SKEW = timedelta(minutes=1)
"""How far requesters' clocks may differ: a holder is only thought dead this long after the end of its lease."""

ATTEMPTS = 5
"""How often a lease is looked at again when others change it meanwhile."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease that we hold."""

    symbol: str
    holder: str
    requested_by: str
    etag: str


class FetchLeases:
    """The leases of one lake."""

    def __init__(self, objects: S3Objects) -> None:
        self._objects = objects

    def take(self, symbol: str, requested_by: str, now: datetime, lasting: timedelta) -> Lease | timedelta:
        """The lease of a symbol, or how long somebody else's still counts.

        Raises:
            StorageError: S3 does not answer as it should.
        """
        holder = uuid.uuid4().hex
        body = _body(symbol, holder, requested_by, now, now + lasting + CLOCK_SKEW)
        key, found = keys.lease(symbol), None
        for _ in range(ATTEMPTS):
            try:
                etag = self._objects.put(key, body, replaces=found.etag if found else None)
                return Lease(symbol, holder, requested_by, etag)
            except PreconditionFailed:
                found = self._objects.get(key)
            if found is None:
                continue  # it was there a moment ago
            held_by, until = _read(found, now)
            if held_by == holder:  # our own PUT had arrived, only its answer was lost
                return Lease(symbol, holder, requested_by, found.etag)
            if until > now:
                return until - now
        return lasting  # others take it over faster than we can look

    def keep(self, lease: Lease, now: datetime, lasting: timedelta) -> None:
        """Let the lease last from now on: its fetch is done. Nothing happens where somebody else has taken it over."""
        self._replace(lease, now, now + lasting)

    def release(self, lease: Lease, now: datetime) -> None:
        """Give the lease back at once: its fetch has failed."""
        self._replace(lease, now, now)

    def _replace(self, lease: Lease, now: datetime, until: datetime) -> None:
        body = _body(lease.symbol, lease.holder, lease.requested_by, now, until)
        try:
            self._objects.put(keys.lease(lease.symbol), body, replaces=lease.etag)
        except PreconditionFailed:
            return


def _body(symbol: str, holder: str, requested_by: str, now: datetime, until: datetime) -> bytes:
    lease = {
        "symbol": symbol,
        "holder": holder,
        "requested_by": requested_by,
        "written_at": now.isoformat(),
        "expires_at": until.isoformat(),
    }
    return json.dumps(lease).encode()


def _read(found: StoredObject, now: datetime) -> tuple[str, datetime]:
    """Whose lease it is, and until when; one that cannot be read has expired."""
    try:
        lease = json.loads(found.body)
        until = datetime.fromisoformat(lease["expires_at"])
        if until.tzinfo is None:
            raise ValueError
        return str(lease["holder"]), until
    except (ValueError, KeyError, TypeError):
        return "", now
