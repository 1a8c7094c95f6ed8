"""What reading adjusted bars costs over raw ones: 500 symbols x 20 years, 80 actions each, in memory: `make bench-sql`.

Medians of five runs, interleaved, results materialised. The sum of all closes is checked against the factors first.
"""

import statistics
import sys
from functools import partial

import duckdb
import pytest
from indicators import RUNS, SESSIONS, SYMBOLS, timed

from alchemiser_duck.query.catalogue import built_in_files, sql_root

ACTIONS = 80
GOAL = 0.35
"""seconds more than raw, on 2 cores"""


def in_memory(con: duckdb.DuckDBPyConnection) -> None:
    """The layer over tables: every close is 10, every action takes one percent."""
    con.execute("set timezone = 'UTC'")
    con.execute(f"set variable market_data = '{sql_root()}/empty_lake'")
    for file in built_in_files():
        con.execute(file.text)
    con.execute(
        f"""
        create table stored_bars as
        select
            'S' || lpad(symbol::varchar, 4, '0') as symbol,
            date '2005-01-03' + session::integer as date,
            timestamptz '2005-01-03 05:00:00+00' + to_days(session::integer) as timestamp,
            10.0::double as open, 10.0::double as high, 10.0::double as low, 10.0::double as close,
            10.0::double as vwap, 1000::bigint as volume, 10::bigint as trade_count, true as is_final
        from range({SYMBOLS}) as symbols(symbol), range({SESSIONS}) as sessions(session)
        """
    )
    con.execute(
        f"""
        create table stored_actions as
        select
            'S' || lpad(symbol::varchar, 4, '0') || '-' || number as id,
            'S' || lpad(symbol::varchar, 4, '0') as symbol,
            'cash_dividend' as type,
            date '2005-01-10' + (number * 62)::integer as ex_date,
            0.99::double as price_factor,
            1.0::double as split_factor
        from range({SYMBOLS}) as symbols(symbol), range({ACTIONS}) as numbers(number)
        """
    )
    con.execute("create or replace view bars_raw as from stored_bars")
    con.execute("create or replace view corporate_actions as from stored_actions")


def main() -> int:
    con = duckdb.connect(":memory:", config={"threads": 2})
    in_memory(con)
    first = con.execute("select close from bars where symbol = 'S0001' order by timestamp limit 1").fetchone()
    assert first == (pytest.approx(10 * 0.99**ACTIONS, rel=1e-12),)
    for columns in ("*", "symbol, timestamp, close"):
        raw, adjusted = (
            partial(con.execute, f"create or replace temporary table result as select {columns} from {relation}")
            for relation in ("bars_raw", "bars")
        )
        runs = [(timed(raw), timed(adjusted)) for _ in range(RUNS)]
        before, after = (statistics.median(side) for side in zip(*runs, strict=True))
        sys.stdout.write(
            f"adjusted bars, {'all columns' if columns == '*' else 'closes':11}  {after:.3f} s, raw {before:.3f} s, "
            f"{after - before:.3f} s more (goal {GOAL})\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
