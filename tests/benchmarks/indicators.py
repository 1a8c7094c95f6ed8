"""Indicators over 500 symbols x 20 years in memory, beside polars computing the same: `make bench-sql`.

Each is checked for equality with polars (1e-8) before it is timed; medians of five runs, interleaved, results
materialised as a DuckDB table and a polars frame. Exit status 1: results differ.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import duckdb
import polars as pl

from alchemiser_duck.panel.plan import panel
from alchemiser_duck.query.catalogue import IndicatorCall, PanelEntry, built_in_files, indicator_files

RUNS = 5
SYMBOLS, SESSIONS = 500, 5040

Frame = Callable[[pl.DataFrame], pl.DataFrame]


@dataclass(frozen=True)
class Contest:
    """One computation: as the layer's SQL, and as polars would be written for it."""

    name: str
    query: str
    polars: Frame
    goal: float
    """seconds, on 2 cores"""


def synthetic_bars(con: duckdb.DuckDBPyConnection) -> None:
    """Closes that wander, the same every time: the steps are hashes."""
    con.execute(
        f"""
        create table bars as
        select
            'S' || lpad(symbol::varchar, 4, '0') as symbol,
            timestamptz '2000-01-03 05:00:00+00' + to_days(session::integer) as timestamp,
            100 * exp(0.0002 * (
                sum(hash(symbol * 100000 + session) % 2001 / 10.0 - 100) over (partition by symbol order by session)
            )) as close
        from range({SYMBOLS}) as symbols(symbol), range({SESSIONS}) as sessions(session)
        order by symbol, timestamp
        """
    )


def over(expression: pl.Expr) -> pl.Expr:
    return expression.over("symbol")


CLOSE = pl.col("close")


def sma(n: int) -> pl.Expr:
    return CLOSE.rolling_mean(n)


def seeded(values: pl.Expr, seed: pl.Expr, first: int, alpha: float) -> pl.Expr:
    """An exponential average that begins with the seed at row `first`."""
    number = pl.int_range(pl.len())
    begun = pl.when(number == first).then(seed).when(number > first).then(values)
    return begun.ewm_mean(alpha=alpha, adjust=False, ignore_nulls=True)


def ema(n: int) -> pl.Expr:
    return seeded(CLOSE, CLOSE.rolling_mean(n), n - 1, 2 / (n + 1))


def rsi(n: int) -> pl.Expr:
    change = CLOSE.diff()
    gains, losses = change.clip(lower_bound=0), (-change).clip(lower_bound=0)
    gain = seeded(gains, gains.rolling_mean(n), n, 1 / n)
    loss = seeded(losses, losses.rolling_mean(n), n, 1 / n)
    return 100 * gain / (gain + loss)


def panel_in_polars(frame: pl.DataFrame) -> pl.DataFrame:
    mean, width = sma(20), 2 * CLOSE.rolling_std(20, ddof=0)
    columns = {
        **{f"sma_{n}": sma(n) for n in (20, 50, 200)},
        "ema": ema(20),
        "rsi": rsi(14),
        "bbands_upper": mean + width,
        "bbands_middle": mean,
        "bbands_lower": mean - width,
        "cumulative_return": 100 * CLOSE.pct_change(60),
        "stdev_return": 100 * CLOSE.pct_change().rolling_std(20, ddof=0) * 252**0.5,
    }
    return frame.select("symbol", "timestamp", **{name: over(column) for name, column in columns.items()})


def alone(name: str, column: pl.Expr) -> Frame:
    return lambda frame: frame.select("symbol", "timestamp", over(column).alias(name))


def panel_in_sql() -> str:
    files = indicator_files(None)
    asked: list[tuple[str, dict[str, str], dict[str, str]]] = [
        *(("sma", {"n": str(n)}, {"sma": f"sma_{n}"}) for n in (20, 50, 200)),
        ("ema", {"n": "20"}, {"ema": "ema"}),
        ("rsi", {"n": "14"}, {"rsi": "rsi"}),
        ("bbands", {"n": "20"}, {side: f"bbands_{side}" for side in ("upper", "middle", "lower")}),
        ("cumulative_return", {"n": "60"}, {"cumulative_return": "cumulative_return"}),
        ("stdev_return", {"n": "20"}, {"stdev_return": "stdev_return"}),
    ]
    return panel([PanelEntry(IndicatorCall(files[name], args), names) for name, args, names in asked], "bars", [])


CONTESTS = (
    Contest("rsi(14)", "from rsi(14)", alone("rsi", rsi(14)), 0.8),
    Contest("sma(20)", "from sma(20)", alone("sma", sma(20)), 0.35),
    Contest("panel of eight", panel_in_sql(), panel_in_polars, 2.5),
)


def timed(run: Callable[[], object]) -> float:
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def greatest_difference(ours: pl.DataFrame, theirs: pl.DataFrame) -> float:
    """The greatest relative difference; infinite where nulls are in other places."""
    ours, theirs = ours.sort("symbol", "timestamp"), theirs.sort("symbol", "timestamp")
    worst = 0.0
    for column in ours.columns[2:]:
        left, right = ours[column], theirs[column].fill_nan(None)
        if (left.is_null() != right.is_null()).any():
            return float("inf")
        difference = ((left - right).abs() / right.abs().clip(lower_bound=1e-3)).max()
        assert isinstance(difference, float)
        worst = max(worst, difference)
    return worst


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--json", help="also write the results to this file")
    target = arguments.parse_args().json
    con = duckdb.connect(":memory:", config={"threads": 2})
    con.execute("set timezone = 'UTC'")
    synthetic_bars(con)
    for file in built_in_files():
        if file.is_indicator or file.is_stage or file.is_function:
            con.execute(file.text)
    frame = con.sql("from bars").pl()
    results = []
    for contest in CONTESTS:
        ours = partial(con.execute, f"create or replace temporary table result as {contest.query}")
        ours()
        difference = greatest_difference(con.sql("from result").pl(), contest.polars(frame))
        if difference > 1e-8:
            sys.stderr.write(f"{contest.name}: differs from polars by {difference:.1e}\n")
            return 1
        runs = [(timed(ours), timed(partial(contest.polars, frame))) for _ in range(RUNS)]
        mine, theirs = (statistics.median(side) for side in zip(*runs, strict=True))
        results.append({"name": contest.name, "seconds": mine, "polars": theirs, "goal": contest.goal})
        sys.stdout.write(
            f"{contest.name:15} {mine:6.3f} s (goal {contest.goal})  polars {theirs:6.3f} s  "
            f"ratio {mine / theirs:5.2f}  greatest difference {difference:.0e}\n"
        )
    if target:
        Path(target).write_text(json.dumps({"rows": SYMBOLS * SESSIONS, "runs": RUNS, "results": results}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
