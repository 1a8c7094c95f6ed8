"""Ask any way, get the same: random panels, ranges, sources and symbols against each indicator by itself, in SQL.

The lake holds what upsets a look-back: young listings, halts, prices that rest, a deep fall, gaps, an end, splits and
dividends. `slow` tries for minutes.
"""

import math
from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from action_cases import dividend, split, take_in
from conftest import bar_table, new_bucket
from duckdb import DuckDBPyRelation
from hypothesis import assume, given
from hypothesis import settings as example_settings
from hypothesis import strategies as st
from references import references

from alchemiser_duck import CachedMarketDataAdapter, MarketDataStore, Settings
from alchemiser_duck import exchange_calendar as calendar
from alchemiser_duck.query.literals import literal
from alchemiser_duck.sandbox import Sandbox

DAYS = calendar.sessions(date(2021, 1, 4), date(2023, 6, 30))
NOW = datetime(2023, 7, 1, 8, tzinfo=UTC)
AS_OF = (None, None, None, date(2022, 3, 15), date(2023, 1, 8))

OWN = {
    "above": """
        select averaged.symbol, averaged.timestamp, case when sma is not null then close > sma end as above
        from sma(n, source := source) as averaged join query_table(source) as prices using (symbol, timestamp)""",
    "calm": """
        with changes as (
            select symbol, timestamp, abs(difference(close, lag(close) over w)) as change, close
            from query_table(source) window w as (partition by symbol order by timestamp)
        ), means as (
            select symbol, timestamp, avg(change) over w / avg(close) over w as calm, count(change) over w as seen
            from changes
            window w as (partition by symbol order by timestamp rows between n - 1 preceding and current row)
        )
        select symbol, timestamp, case when seen = n then calm end as calm from means""",
    "place": """
        select symbol, timestamp, rank() over (partition by timestamp order by roc desc nulls last, symbol) as place
        from roc(n, source := source)""",
    "two_lines": """
        select quick.symbol, quick.timestamp, quick.ema as quick, slow.ema as slow, quick.ema > slow.ema as is_above
        from ema(n, source := source) as quick join ema(2 * n, source := source) as slow using (symbol, timestamp)""",
    "busy_days": """
        select symbol, timestamp, sum(volume) filter (where close > open) over w as busy_days, max(high) over w as top
        from query_table(source)
        window w as (partition by symbol order by timestamp rows between n preceding and current row)""",
}
COLUMNS = {"two_lines": ("quick", "slow", "is_above"), "busy_days": ("busy_days", "top")}
LOOK_BACKS = {"two_lines": "ema_look_back(2 * n)"}


def own_files(folder: Path) -> None:
    for name, body in OWN.items():
        header = f"-- look-back: {LOOK_BACKS[name]}\n" if name in LOOK_BACKS else ""
        macro = f"create or replace macro {name}(n := 10, source := 'bars') as table ({body}\n);\n"
        folder.joinpath(f"{name}.sql").write_text(f"-- {name}: a value\n{header}{macro}")


def closes_of_all() -> dict[str, dict[date, float]]:
    """Closes by symbol and session."""
    rng = np.random.default_rng(16)
    whole = len(DAYS)

    def walk(bars: int, size: float = 0.015) -> list[float]:
        return [round(float(close), 2) for close in 40 * np.exp(np.cumsum(rng.normal(0, size, bars)))]

    def ending(closes: list[float]) -> dict[date, float]:
        return dict(zip(DAYS[-len(closes) :], closes, strict=True))

    halted = walk(whole)
    halted[200:330] = [halted[200]] * 130
    stopped = walk(whole)
    stopped[-90:] = [stopped[-90]] * 90
    ties = [float(cents) / 100 for cents in 2551 + np.cumsum(rng.choice([-1, 0, 0, 0, 1], whole))]
    sunk = [close * 3e-4 ** (number / whole) for number, close in enumerate(walk(whole))]
    shapes = {f"W{letter}": ending(walk(whole)) for letter in "ABCDEF"}
    shapes |= {
        f"Y{letter}": ending(walk(bars)) for letter, bars in zip("ABCDEFG", (1, 2, 15, 40, 63, 130, 260), strict=True)
    }
    shapes |= {"HALT": ending(halted), "STOP": ending(stopped), "TIES": ending(ties), "REST": ending([25.37] * whole)}
    shapes["SUNK"] = ending([round(close, 4) for close in sunk])
    shapes["GAPS"] = {day: close for day, close in ending(walk(whole)).items() if rng.random() > 0.2}
    shapes["GONE"] = dict(zip(DAYS[:400], walk(400), strict=True))
    return shapes


def bars_of(symbol: str, closes: Mapping[date, float]) -> list[dict[str, Any]]:
    rng = np.random.default_rng(len(symbol) + ord(symbol[0]))
    moves = symbol not in ("REST",)
    rows = []
    before = None
    for day, close in closes.items():
        is_still = not moves or close == before
        up, down, gap = (0.0, 0.0, 0.0) if is_still else rng.uniform(0, 0.02, 3)
        opened = close if is_still else close * (1 + gap - 0.01)
        rows.append(
            {
                "symbol": symbol, "timestamp": datetime(day.year, day.month, day.day, 5, tzinfo=UTC), "open": opened,
                "high": max(opened, close) * (1 + up), "low": min(opened, close) * (1 - down), "close": close,
                "vwap": (opened + close) / 2, "volume": int(rng.integers(0, 5) * 1000), "trade_count": 10,
                "is_final": True,
            }
        )  # fmt: skip
        before = close
    return rows


@pytest.fixture(scope="module")
def adapter(shared_box: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> CachedMarketDataAdapter:
    folder = tmp_path_factory.mktemp("own")
    own_files(folder)
    settings = Settings.from_environment(
        **(shared_box.environment | {"MARKET_DATA_BUCKET": new_bucket(shared_box), "ALCHEMISER_SQL_DIR": str(folder)})
    )
    shapes = closes_of_all()
    store = MarketDataStore(settings)
    store.write_bars(bar_table([row for symbol, closes in shapes.items() for row in bars_of(symbol, closes)]))
    store.write_sessions(calendar.known_sessions(NOW))
    rows = [split("WA", str(DAYS[300]), 3), split("WB", str(DAYS[450]), 1, 7), split("YF", str(DAYS[-20]), 2)]
    rows += [
        dividend(symbol, str(day), 0.16, id=f"{symbol}{day}")
        for symbol in ("WC", "TIES", "REST", "HALT")
        for day in DAYS[60::63]
    ]
    take_in(settings, rows, DAYS[-1])
    return CachedMarketDataAdapter(settings, clock=lambda: NOW, on_suspect="ignore")


Key = tuple[str, datetime]
Values = dict[Key, tuple[Any, ...]]


class Alone:
    """Values of each indicator by itself over the whole history, in SQL."""

    def __init__(self, adapter: CachedMarketDataAdapter) -> None:
        self._adapter = adapter
        self._known: dict[tuple[Any, ...], tuple[Values, dict[tuple[str, int], float]]] = {}

    def __call__(
        self, name: str, parameters: Mapping[str, Any], source: str, as_of: date | None
    ) -> tuple[Values, dict[tuple[str, int], float]]:
        """Return the values by bar, and the largest of each symbol and column."""
        key = (name, *sorted(parameters.items()), source, as_of)
        if key not in self._known:
            arguments = {name: literal(value) for name, value in (dict(parameters) | {"source": source}).items()}
            adapter = self._adapter.as_of(as_of) if as_of else self._adapter
            call = f"{name}({', '.join(f'{key} := {value}' for key, value in arguments.items())})"
            values = by_bar(adapter.sql(f"from {call}"))
            largest: dict[tuple[str, int], float] = {}
            for (symbol, _), row in values.items():
                for place, value in enumerate(row):
                    if isinstance(value, float) and math.isfinite(value):
                        largest[symbol, place] = max(largest.get((symbol, place), 0.0), abs(value))
            self._known[key] = values, largest
        return self._known[key]


@pytest.fixture(scope="module")
def alone(adapter: CachedMarketDataAdapter) -> Alone:
    return Alone(adapter)


def by_bar(rows: DuckDBPyRelation) -> Values:
    return {(row[0], row[1]): row[2:] for row in rows.fetchall()}


def columns_of(name: str) -> int:
    return len(COLUMNS.get(name, (name,)) if name in OWN else references(14)[name].columns)


Entry = tuple[str, dict[str, Any]]
entries: st.SearchStrategy[Entry] = st.one_of(
    st.builds(
        lambda name, n: (name, dict(references(n)[name].parameters)),
        st.sampled_from(sorted(references(2))),
        st.sampled_from([2, 3, 5, 9, 14, 20, 50, 100, 200]),
    ),
    st.tuples(st.sampled_from(sorted(OWN)), st.builds(dict, n=st.sampled_from([2, 5, 10, 21, 60]))),
)
panels = st.lists(entries, min_size=1, max_size=40, unique_by=repr)
sources = st.sampled_from(["bars"] * 6 + ["bars_split", "bars_raw", "bars_weekly", "bars_monthly"])
chosen = st.one_of(st.none(), st.lists(st.sampled_from(sorted(closes_of_all())), min_size=1, max_size=20, unique=True))
spans = st.sampled_from(["newest", "newest", "all", "recent", "middle"])


def indicators_of(panel: list[Entry]) -> tuple[dict[str, Any], list[Entry]]:
    """Return the panel as the adapter takes it, and its entries in the order of its columns."""
    asked: dict[str, list[dict[str, Any]]] = {}
    for name, parameters in panel:
        asked.setdefault(name, []).append(parameters)
    return {name: many if len(many) > 1 else many[0] for name, many in asked.items()}, [
        (name, parameters) for name, many in asked.items() for parameters in many
    ]


def check(
    adapter: CachedMarketDataAdapter,
    alone: Alone,
    panel: list[Entry],
    source: str,
    symbols: list[str] | None,
    span: str,
    as_of: date | None,
) -> None:
    asked, ordered = indicators_of(panel)
    expected = [alone(name, parameters, source, as_of) for name, parameters in ordered]
    if symbols is not None:  # not all are listed on each day
        listed = {symbol for symbol, _ in expected[0][0]}
        symbols = [symbol for symbol in symbols if symbol in listed]
        assume(symbols)
    looking = adapter.as_of(as_of) if as_of else adapter
    start, end = {"recent": (DAYS[-15], None), "middle": (DAYS[250], DAYS[262])}.get(span, (None, None))
    rows = looking.indicators_table(asked, symbols, start, end, source, latest=span == "newest")
    got = by_bar(rows)
    whole = {key for key in expected[0][0] if symbols is None or key[0] in symbols}
    if span == "newest":
        newest = {symbol: max(when for other, when in whole if other == symbol) for symbol, _ in whole}
        assert set(got) <= set(newest.items())
        assert symbols is None or set(got) == set(newest.items())
    elif source not in ("bars_weekly", "bars_monthly"):
        first, last = start or DAYS[0], end or DAYS[-1]
        assert set(got) == {key for key in whole if first <= key[1].date() <= last}
    for key, row in got.items():
        place = 0
        for (name, parameters), (values, largest) in zip(ordered, expected, strict=True):
            for number, value in enumerate(values[key]):
                told = row[place]
                place += 1
                if isinstance(value, float) and isinstance(told, float):
                    bound = 1e-9 * abs(value) + 1e-11 * largest.get((key[0], number), 0.0)
                    assert abs(told - value) <= bound, (name, parameters, key, told, value)
                else:
                    assert told == value, (name, parameters, key, told, value)
        assert place == len(row)


@pytest.mark.parametrize("examples", [10, pytest.param(40, marks=pytest.mark.slow)])
def test_a_panel_gives_what_each_indicator_gives_alone(
    adapter: CachedMarketDataAdapter, alone: Alone, examples: int
) -> None:
    @example_settings(max_examples=examples, deadline=None)
    @given(panel=panels, source=sources, symbols=chosen, span=spans, as_of=st.sampled_from(AS_OF))
    def holds(**asked: Any) -> None:
        check(adapter, alone, **asked)

    holds()


@example_settings(max_examples=8, deadline=None)
@given(
    requests=st.dictionaries(
        st.sampled_from(sorted(closes_of_all())),
        st.dictionaries(
            st.sampled_from(["rsi", "sma", "ema", "stdev_return", "cumulative_return", "max_drawdown", "cci", "above"]),
            st.sampled_from([{"n": n} for n in (2, 5, 10, 14, 60, 200)]),
            min_size=1,
        ),
        min_size=1,
    )
)
def test_each_symbol_gets_the_values_that_it_asks_for(
    adapter: CachedMarketDataAdapter, alone: Alone, requests: dict[str, dict[str, dict[str, int]]]
) -> None:
    rows = adapter.latest_of(requests)
    names = rows.columns
    told = {
        (row[names.index("symbol")], row[names.index("indicator")]): row[names.index("value")]
        for row in rows.fetchall()
    }
    for symbol, indicators in requests.items():
        for name, parameters in indicators.items():
            values, largest = alone(name, parameters, "bars", None)
            newest = max(when for other, when in values if other == symbol)
            [value] = values[symbol, newest]
            found = [told[key] for key in told if key[0] == symbol and key[1].split("(")[0].startswith(name)]
            assert len(found) == 1
            expected = None if value is None else float(value)
            bound = 1e-11 * largest.get((symbol, 0), 0.0)
            assert found[0] == (expected if expected is None else pytest.approx(expected, rel=1e-9, abs=bound))
