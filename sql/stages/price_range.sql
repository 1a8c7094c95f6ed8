-- price_range: highest high and lowest low of the last n bars.
-- n: bars | grain: symbol, timestamp
-- gives bar_number, close, highest, lowest: NaN where a price is missing
create or replace macro price_range(n := 14, source := 'bars') as table (

    select
        symbol,
        timestamp,
        row_number() over bars_in_order as bar_number,
        null_as_nan(close) as close,
        max(null_as_nan(high)) over trailing_bars as highest,
        -- min() would pass over a NaN
        -max(-null_as_nan(low)) over trailing_bars as lowest

    from query_table(source)

    window
        bars_in_order as (partition by symbol order by timestamp),
        trailing_bars as (
            partition by symbol
            order by timestamp
            rows between greatest(n - 1, 0) preceding and current row
        )

);

comment on macro table price_range is 'Highest high and lowest low of the last n bars, USD per share.';
