"""LakeWriter: everything that a refresh writes, over one S3 client."""

from contextlib import suppress

import pyarrow as pa

from alchemiser_duck.ingest.action_store import CorporateActionStore
from alchemiser_duck.ingest.partitions import BarPartitions
from alchemiser_duck.lake import keys
from alchemiser_duck.lake.io_stats import Traffic
from alchemiser_duck.lake.object_store import PreconditionFailed, S3Objects
from alchemiser_duck.lake.parquet import small_parquet
from alchemiser_duck.query.session import DuckDBSession
from alchemiser_duck.settings import Settings


class LakeWriter:
    """Writes bars, corporate actions, sessions and run records, object by object."""

    def __init__(self, settings: Settings, session: DuckDBSession) -> None:
        self._objects = S3Objects(settings)
        self.bars = BarPartitions(settings, self._objects)
        self.actions = CorporateActionStore(settings, self._objects, session)

    @property
    def traffic(self) -> Traffic:
        """Count requests and bytes so far; reads through DuckDB are not counted."""
        return self._objects.traffic

    def write_sessions(self, sessions: pa.Table) -> None:
        """Store the exchange's sessions: one request, two where they changed.

        Raises:
            StorageError: S3 does not answer as it should.
        """

        def step(_: int) -> None:
            stored = self._objects.get(keys.SESSIONS)
            body = small_parquet(sessions, increasing=["date", "open", "close"])
            if stored is None or stored.body != body:
                self._objects.put(keys.SESSIONS, body, replaces=stored.etag if stored else None)

        self._objects.until_written(keys.SESSIONS, step)

    def append_run(self, key: str, record: pa.Table) -> None:
        """Store the record of one run under its own key.

        It is never rewritten.

        Raises:
            StorageError: S3 does not answer as it should.
        """
        with suppress(PreconditionFailed):  # a retried PUT of ours that had arrived the first time
            self._objects.put(key, small_parquet(record), replaces=None)
