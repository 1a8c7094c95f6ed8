"""DataFreshnessValidator: names symbols that are behind the schedules, or broken.

The rules are SQL: sql/relations/freshness.sql, gaps.sql and findings.sql.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from typing import Any

from alchemiser_duck import exchange_calendar as calendar
from alchemiser_duck.bars import in_alpaca_form
from alchemiser_duck.errors import BadParameter, EmptyLake, StaleData
from alchemiser_duck.query.literals import literal_list, where
from alchemiser_duck.query.session import DuckDBSession
from alchemiser_duck.query.statement import Lens
from alchemiser_duck.settings import Settings

FIRST_LOOK = timedelta(days=45)
"""Read first: a symbol with a bar this recent needs no older one to be judged."""
FETCHED_AGAIN = frozenset({"stale", "vendor gap", "not finalised", "quarantined", "missing"})
"""Findings that the vendor's next answer may mend; the others are for a person to judge."""
OFF_THE_MARK = frozenset({"high outlier", "low outlier", "out of level"})
NO_BAR_AT_ALL = "no bar of any symbol"


@dataclass(frozen=True)
class FreshnessReport:
    """The freshness of some symbols, each in exactly one tuple."""

    expected_session: date | None
    """the newest session that should be stored by now; None means that nothing is stored at all"""
    fresh: tuple[str, ...]
    stale: tuple[str, ...]
    missing: tuple[str, ...]
    """named, and no bar is stored"""
    halted: tuple[str, ...]
    """a person said so, and no bar has come since"""
    ended: tuple[str, ...]
    """renamed, merged or removed: no bar is expected any more"""
    last_dates: Mapping[str, date]
    """the newest stored session of each stored symbol"""
    sessions_behind: Mapping[str, int]
    """sessions that each of them is behind"""

    @property
    def is_fresh(self) -> bool:
        """Return whether nothing is stale or missing."""
        return not self.stale and not self.missing


@dataclass(frozen=True, slots=True)
class DataIssue:
    """A stale or broken range of sessions: a row of `findings`."""

    symbol: str
    finding: str
    """stale, vendor gap, not finalised, quarantined, missing, and others that findings.sql names"""
    first_session: date | None
    last_session: date | None
    """both included: what to ask the vendor for; None means the whole history"""
    detail: str

    @property
    def can_be_fetched(self) -> bool:
        """Return whether asking the vendor again may mend it."""
        return self.finding in FETCHED_AGAIN

    @property
    def repair(self) -> str:
        """Return what to type to settle it."""
        if self.finding == "missing":
            return f"alchemiser-duck refresh --mode overnight --symbols {self.symbol}"
        if self.can_be_fetched:
            return f"alchemiser-duck repair --symbols {self.symbol}"
        if self.finding == NO_BAR_AT_ALL:
            return f"export ALCHEMISER_CLOSURES={self.first_session}; alchemiser-duck refresh --mode overnight"
        if self.symbol == "*":
            return f"take {self.first_session} out of ALCHEMISER_CLOSURES, or wait for a calendar that knows it"
        if self.finding in OFF_THE_MARK:
            return f"alchemiser-duck bars override {self.symbol} {self.first_session} --help, or bars accept"
        return "alchemiser-duck actions suspects, then actions accept, add or override"

    def as_row(self) -> dict[str, Any]:
        """Return the fields and the repair as plain values, days as text."""
        row = {name: str(value) if isinstance(value, date) else value for name, value in asdict(self).items()}
        return row | {"repair": self.repair}

    def __str__(self) -> str:
        days = "" if self.first_session is None else f" {self.first_session}"
        if self.last_session != self.first_session:
            days += f" to {self.last_session}"
        return f"{self.symbol}: {self.finding}{days}: {self.detail}; to settle: {self.repair}"


class DataFreshnessValidator:
    """Judges a lake, read-only.

    Every method takes the time it looks at; by default that is the clock's.
    """

    def __init__(self, settings: Settings | None = None, *, session: DuckDBSession | None = None) -> None:
        self._settings = settings or Settings.from_environment()
        self._session = session or DuckDBSession(self._settings)

    def validate(
        self,
        symbols: Sequence[str] | None = None,
        *,
        max_sessions_behind: int = 0,
        raise_on_stale: bool = False,
        now: datetime | None = None,
        as_of: date | None = None,
    ) -> FreshnessReport:
        """Judge symbols by what the schedules should have delivered by now.

        Args:
            symbols: default: ALCHEMISER_SYMBOLS and those of ALCHEMISER_STRATEGIES, else every stored symbol.
            max_sessions_behind: a symbol further behind than this is stale.
            as_of: look from the close of this day.

        Raises:
            StaleData: something is stale or missing, and raise_on_stale is set.
            BadParameter: max_sessions_behind is negative.
            EmptyLake: nothing is stored, and no symbols are named.
            StorageError: the lake cannot be read.
        """
        if max_sessions_behind < 0:
            raise BadParameter(f"max_sessions_behind is 0 or more, got {max_sessions_behind}")
        now = now or calendar.utc_now()
        universe = self._universe(symbols)
        rows = self._freshness(universe, now, as_of)
        stale = {row[0]: None for row in rows if row[3] == "stale" and row[2] > max_sessions_behind}
        unknown = set(universe or ()) - {row[0] for row in rows}
        renamed = self._renamed(unknown, now, as_of) if rows and unknown else []
        report = FreshnessReport(
            expected_session=rows[0][4] if rows else None,
            fresh=tuple(row[0] for row in rows if row[3] in ("fresh", "stale") and row[0] not in stale),
            stale=tuple(stale),
            missing=tuple(sorted(unknown - set(renamed))),
            halted=tuple(row[0] for row in rows if row[3] == "halted"),
            ended=(*(row[0] for row in rows if row[3] == "ended"), *renamed),
            last_dates={row[0]: row[1] for row in rows},
            sessions_behind={row[0]: row[2] for row in rows},
        )
        if raise_on_stale and not report.is_fresh:
            raise StaleData(_complaint(report))
        return report

    def findings(self, symbols: Sequence[str] | None = None, *, now: datetime | None = None) -> list[DataIssue]:
        """List stale and broken symbols; empty where all is well.

        Symbols as in `validate`.

        Raises:
            EmptyLake, StorageError: as `validate` does.
        """
        universe = self._universe(symbols)
        conditions = [] if universe is None else [f"symbol in ({literal_list([*universe, '*'])})"]
        query = (
            f"select symbol, finding, first_session, last_session, detail from findings{where(conditions)} "
            "order by symbol, first_session, finding"
        )
        missing = self.validate(universe, now=now).missing if universe is not None else ()
        issues = [DataIssue(symbol, "missing", None, None, "no bar is stored") for symbol in missing]
        if universe is None or len(missing) < len(universe):
            rows = self._session.snapshot(query, lens=Lens(now=now or calendar.utc_now())).fetchall()
            issues += [DataIssue(*row) for row in rows]
        return issues

    def _universe(self, symbols: Sequence[str] | None) -> list[str] | None:
        if symbols is None:
            from alchemiser_duck.symbol_extractor import configured_symbols  # takes a while, and is rarely needed

            return configured_symbols(self._settings) or None
        if isinstance(symbols, str) or not symbols:
            raise BadParameter(f"symbols is a list of tickers, got {symbols!r}: name one, or leave it out for all")
        return list(dict.fromkeys(map(in_alpaca_form, symbols)))

    def _freshness(self, universe: list[str] | None, now: datetime, as_of: date | None) -> list[tuple[Any, ...]]:
        """Read symbol, last_date, sessions_behind, status, expected_session of the stored ones, by symbol."""
        recent = min(as_of or now.date(), now.date()) - FIRST_LOOK
        by_symbol: dict[str, tuple[Any, ...]] = {}
        for since in (recent, None) if universe is not None else (None,):
            left = None if universe is None else [symbol for symbol in universe if symbol not in by_symbol]
            if left == []:
                break
            conditions = [] if left is None else [f"symbol in ({literal_list(left)})"]
            query = "select symbol, last_date, sessions_behind, status, expected_session from freshness"
            try:
                rows = self._session.snapshot(query + where(conditions), lens=Lens(since, as_of, now)).fetchall()
            except EmptyLake:
                if universe is None:
                    raise
                rows = []
            by_symbol |= {row[0]: row for row in rows}
        return [by_symbol[symbol] for symbol in sorted(by_symbol)]

    def _renamed(self, symbols: Collection[str], now: datetime, as_of: date | None) -> list[str]:
        """Return those of the symbols whose bars are stored under the company's newer ticker."""
        conditions = [f"symbol in ({literal_list(sorted(symbols))})", "valid_to is not null", "series is not null"]
        query = f"select distinct symbol from listings{where(conditions)} order by symbol"
        return [symbol for (symbol,) in self._session.snapshot(query, lens=Lens(as_of=as_of, now=now)).fetchall()]


def _complaint(report: FreshnessReport) -> str:
    parts = [
        f"{symbol} (last bar {report.last_dates[symbol]}, {report.sessions_behind[symbol]} sessions behind)"
        for symbol in report.stale
    ]
    parts += [f"{symbol} (no bar)" for symbol in report.missing]
    listed = ", ".join(parts[:10]) + (f" and {len(parts) - 10} more" if len(parts) > 10 else "")
    symbols = ",".join([*report.stale, *report.missing][:10])
    return (
        f"bars up to {report.expected_session} should be stored by now, and are not: {listed}; "
        f"to look: alchemiser-duck check; to fetch: alchemiser-duck refresh --symbols {symbols}"
    )
