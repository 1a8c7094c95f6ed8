-- rolling_vwap: volume-weighted average price of the last n bars.
-- n: bars, n >= 1 | grain: symbol, timestamp | unit: USD per share | null where nothing traded
-- made from each bar's own vwap
-- look-back: n - 1
create or replace macro rolling_vwap(n := 20, source := 'bars') as table (

    with

    windowed as (

        select
            symbol,
            timestamp,
            row_number() over bars_in_order as bar_number,
            sum(null_as_nan(vwap) * volume) over trailing_bars as value,
            sum(null_as_nan(volume)) over trailing_bars as shares

        from query_table(source)

        where require_whole('rolling_vwap: n', n, 1)

        window
            bars_in_order as (partition by symbol order by timestamp),
            trailing_bars as (partition by symbol order by timestamp rows between n - 1 preceding and current row)

    )

    select
        symbol,
        timestamp,
        case when bar_number >= n then nan_as_null(value / nullif(shares, 0)) end as rolling_vwap

    from windowed

);

comment on macro table rolling_vwap is 'Volume-weighted average price of the last bars, USD per share.';
