"""RefreshReport: the effect of one refresh, and its record."""

from dataclasses import asdict, dataclass
from datetime import date, datetime
from typing import Literal

import pyarrow as pa

from alchemiser_duck.bars import AlteredBar, QuarantinedBar
from alchemiser_duck.errors import ExitCode
from alchemiser_duck.ingest.merge import Changes
from alchemiser_duck.lake import keys

Mode = Literal["overnight", "post_close", "repair", "request"]
Status = Literal["ok", "no_data", "failed"]


@dataclass(frozen=True, slots=True)
class SymbolOutcome:
    """The effect of a refresh on one symbol."""

    symbol: str
    status: Status
    """no_data: the vendor answered without a bar of it; failed: reason says why, and nothing newer is certain"""
    changes: Changes
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class ShortHistory:
    """A symbol with fewer stored bars than the strategies' windows need."""

    symbol: str
    bars: int
    needed: int


@dataclass(frozen=True)
class RefreshReport:
    """The effect of one refresh.

    Counts are bars, bytes are body bytes, seconds wall time.
    """

    run_id: str
    mode: Mode
    started_at: datetime
    finished_at: datetime
    feed: str
    first_session: date | None
    last_session: date | None
    """the sessions asked for; None means that nothing was, and note says why"""
    outcomes: tuple[SymbolOutcome, ...] = ()
    quarantined: tuple[QuarantinedBar, ...] = ()
    altered: tuple[AlteredBar, ...] = ()
    """bars stored with a rounded volume, and the values before of those that the vendor restated"""
    former: tuple[str, ...] = ()
    """series that were set apart because their ticker has another owner"""
    partitions_written: tuple[str, ...] = ()
    partitions_unchanged: int = 0
    failures: tuple[str, ...] = ()
    """failures beyond single symbols: partitions that could not be written"""
    left: tuple[str, ...] = ()
    """symbols that a stop left undone; running the same again completes them"""
    short_history: tuple[ShortHistory, ...] = ()
    """symbols whose strategies would wait for more bars; counted overnight"""
    actions_added: int = 0
    actions_changed: int = 0
    """corporate actions that are new, and those that the vendor has changed"""
    actions_withdrawn: int = 0
    """those that the vendor's complete answer no longer holds"""
    new_suspects: int = 0
    """corporate_action_suspects of those actions or of the last days; counted overnight"""
    alpaca_requests: int = 0
    s3_requests: int = 0
    s3_bytes_sent: int = 0
    s3_bytes_received: int = 0
    seconds: float = 0.0
    note: str | None = None

    @property
    def changes(self) -> Changes:
        """Sum the changes over all symbols."""
        return sum((outcome.changes for outcome in self.outcomes), Changes())

    def symbols_with(self, status: Status) -> list[str]:
        """List the symbols that ended with this status."""
        return [outcome.symbol for outcome in self.outcomes if outcome.status == status]

    @property
    def status(self) -> Literal["ok", "partial", "failed"]:
        """Return ok where everything is stored, failed where nothing is, else partial."""
        failed = len(self.symbols_with("failed"))
        if not failed and not self.failures:
            return "ok"
        return "failed" if failed == len(self.outcomes) else "partial"

    @property
    def summary(self) -> str:
        """Return the run in a line."""
        changes = self.changes
        return (
            f"{self.status}: {changes.added:,} added, {changes.finalised:,} finalised, {changes.restated:,} restated, "
            f"{changes.unchanged:,} unchanged in {self.first_session} to {self.last_session}; "
            f"{len(self.partitions_written)} partitions written; {self.alpaca_requests} Alpaca requests, "
            f"{self.s3_requests} S3 requests, {self.s3_bytes_sent:,} bytes sent, {self.s3_bytes_received:,} "
            f"received, {self.seconds:.1f} s"
        )

    @property
    def exit_code(self) -> ExitCode:
        """Return 0 where everything is stored, else 3: run again."""
        return ExitCode.OK if self.status == "ok" else ExitCode.UNREACHABLE

    @property
    def key(self) -> str:
        """Return the key of the record, relative to the lake."""
        return keys.run(self.started_at.date(), self.run_id)

    def outcome_table(self) -> pa.Table:
        """Return one row per symbol, in OUTCOME_SCHEMA."""
        rows = [
            {"symbol": outcome.symbol, "status": outcome.status, **asdict(outcome.changes), "reason": outcome.reason}
            for outcome in self.outcomes
        ]
        return pa.Table.from_pylist(rows, schema=OUTCOME_SCHEMA)

    def record(self) -> pa.Table:
        """Return the report as a row of refresh_runs, without its own PUT."""
        row = {name: getattr(self, name) for name in RUN_SCHEMA.names if hasattr(self, name)} | {
            "symbols": len(self.outcomes),
            **asdict(self.changes),
            "no_data": len(self.symbols_with("no_data")),
            "failed": len(self.symbols_with("failed")),
            "outcomes": self.outcome_table().to_pylist(),
            "quarantined": [asdict(bar) for bar in self.quarantined],
            "altered": [asdict(bar) for bar in self.altered],
        }
        return pa.Table.from_pylist([row], schema=RUN_SCHEMA)


_COUNTS = [(name, pa.int64()) for name in ("added", "finalised", "restated", "unchanged")]
_INSTANT = pa.timestamp("us", tz="UTC")

_ODD_BAR = pa.struct([("symbol", pa.string()), ("timestamp", _INSTANT), ("reason", pa.string()), ("sent", pa.string())])

OUTCOME_SCHEMA = pa.schema([("symbol", pa.string()), ("status", pa.string()), *_COUNTS, ("reason", pa.string())])

RUN_SCHEMA = pa.schema(
    [
        ("run_id", pa.string()),
        ("mode", pa.string()),
        ("status", pa.string()),
        ("started_at", _INSTANT),
        ("finished_at", _INSTANT),
        ("feed", pa.string()),
        ("first_session", pa.date32()),
        ("last_session", pa.date32()),
        ("symbols", pa.int64()),
        *_COUNTS,
        ("no_data", pa.int64()),
        ("failed", pa.int64()),
        ("partitions_written", pa.list_(pa.string())),
        ("alpaca_requests", pa.int64()),
        ("s3_requests", pa.int64()),
        ("s3_bytes_sent", pa.int64()),
        ("s3_bytes_received", pa.int64()),
        ("seconds", pa.float64()),
        ("outcomes", pa.list_(pa.struct(list(OUTCOME_SCHEMA)))),
        ("quarantined", pa.list_(_ODD_BAR)),
        ("altered", pa.list_(_ODD_BAR)),
    ]
)
"""A row of refresh_runs."""
