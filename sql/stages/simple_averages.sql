-- simple_averages: two simple averages of the close.
-- fast, slow: bars | grain: symbol, timestamp
-- gives bar_number, fast_average, slow_average: NaN where a close is missing
create or replace macro simple_averages(fast := 12, slow := 26, source := 'bars') as table (

    select
        symbol,
        timestamp,
        row_number() over bars_in_order as bar_number,
        avg(null_as_nan(close)) over fast_bars as fast_average,
        avg(null_as_nan(close)) over slow_bars as slow_average

    from query_table(source)

    window
        bars_in_order as (partition by symbol order by timestamp),
        fast_bars as (
            partition by symbol
            order by timestamp
            rows between greatest(fast - 1, 0) preceding and current row
        ),
        slow_bars as (
            partition by symbol
            order by timestamp
            rows between greatest(slow - 1, 0) preceding and current row
        )

);

comment on macro table simple_averages is 'Fast and slow simple average of the close, USD per share.';
