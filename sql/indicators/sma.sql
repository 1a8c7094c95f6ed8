-- sma: simple moving average of the close over the last n bars.
-- n: bars, n >= 1 | grain: symbol, timestamp | unit: USD per share | null until n bars are there
-- look-back: n - 1
create or replace macro sma(n := 20, source := 'bars') as table (

    with

    windowed as (

        select
            symbol,
            timestamp,
            row_number() over bars_in_order as bar_number,
            snapped(avg(null_as_nan(close)) over trailing_bars, close) as mean

        from query_table(source)

        where require_whole('sma: n', n, 1)

        window
            bars_in_order as (partition by symbol order by timestamp),
            trailing_bars as (partition by symbol order by timestamp rows between n - 1 preceding and current row)

    )

    select
        symbol,
        timestamp,
        case when bar_number >= n then nan_as_null(mean) end as sma

    from windowed

);

comment on macro table sma is 'Simple moving average of the close, USD per share.';
