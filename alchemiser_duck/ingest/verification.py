"""Verification: compare our adjusted closes with those that Alpaca computes itself."""

from datetime import date, datetime, timedelta

import pyarrow as pa

from alchemiser_duck import exchange_calendar as calendar
from alchemiser_duck.errors import AlpacaUnavailable, BadParameter, UnknownSymbol, did_you_mean
from alchemiser_duck.ingest.source import AlpacaSource
from alchemiser_duck.query.literals import literal
from alchemiser_duck.query.session import DuckDBSession

_COMPARISON = """
with

theirs as (

    select
        cast(timezone('America/New_York', timestamp) as date) as date,
        close

    from vendor_bars

),

compared as (

    select
        date,
        ours.close / theirs.close - 1 as difference,
        0.005 / theirs.close as rounding

    from {relation} as ours

    join theirs using (date)

    where ours.symbol = $1

),

-- Alpaca divides a dividend by the close of the ex-date with the dividend added, we by the close before; and it
-- rounds to cents, in the worst case after every action
applied as (

    select
        count(*) as actions,
        coalesce(sum(abs(
            corporate_actions.price_factor * (bars_raw.close + cash_amount) / bars_raw.close - 1
        )) filter (where type = 'cash_dividend'), 0) as formula

    from corporate_actions

    join bars_raw
        on corporate_actions.symbol = bars_raw.symbol
        and corporate_actions.ex_date = bars_raw.date

    where corporate_actions.symbol = $1
        and price_factor is not null
        and ({adjustment} = 'all' or type not in ('cash_dividend', 'spin_off'))

)

select
    {adjustment} as adjustment,
    count(*) as sessions,
    max(abs(difference)) as largest_difference,
    arg_max(date, abs(difference)) as on_date,
    max(rounding) * (1 + any_value(actions)) + any_value(formula) as expected_at_most

from compared

cross join applied
"""


def verify(session: DuckDBSession, source: AlpacaSource, symbol: str) -> pa.Table:
    """Compare adjusted closes with Alpaca's, for splits and for everything.

    Columns: adjustment, sessions (compared), largest_difference (relative), on_date, expected_at_most: what cents and
    the other dividend formula explain; more than that is worth a look. Spin-offs are not in it.

    Raises:
        UnknownSymbol: no bar of the symbol is stored.
        EmptyLake: nothing is stored.
        BadParameter: Alpaca has no bar of it.
        AlpacaError, StorageError: one of both does not answer as it should.
    """
    days = _stored_sessions(session, symbol)
    start = datetime(days[0].year, days[0].month, days[0].day, tzinfo=calendar.NEW_YORK)
    end = datetime(days[-1].year, days[-1].month, days[-1].day, tzinfo=calendar.NEW_YORK) + timedelta(hours=23)
    parts = []
    for adjustment, relation in (("split", "bars_split"), ("all", "bars")):
        batches = list(source.daily_bars([symbol], start, end, len(days), adjustment=adjustment))
        if reasons := [reason for batch in batches for reason in (batch.failed | batch.rejected).values()]:
            raise AlpacaUnavailable(reasons[0])
        theirs = pa.concat_tables([batch.bars for batch in batches])
        if not theirs.num_rows:
            raise BadParameter(f"Alpaca has no bar of {symbol!r} from {days[0]} to {days[-1]}: nothing to compare with")
        query = _COMPARISON.format(relation=relation, adjustment=literal(adjustment))
        parts.append(session.snapshot(query, [symbol], tables={"vendor_bars": theirs}).to_arrow_table())
    return pa.concat_tables(parts)


def _stored_sessions(session: DuckDBSession, symbol: str) -> list[date]:
    days = session.snapshot("select date from bars_raw where symbol = $1 order by date", [symbol]).fetchall()
    if not days:
        stored = session.snapshot("select distinct symbol from bars_raw").fetchall()
        raise UnknownSymbol(
            f"no bar of {symbol!r} is stored{did_you_mean(symbol, [name for (name,) in stored])}; "
            f"to fetch: alchemiser-duck refresh --symbols {symbol}",
            (symbol,),
        )
    return [day for (day,) in days]
