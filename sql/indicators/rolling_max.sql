-- rolling_max: highest close of the last n bars.
-- n: bars, n >= 2 | grain: symbol, timestamp | unit: USD per share | null until n bars are there
-- source: equal to TA-Lib's MAX
-- look-back: n - 1
create or replace macro rolling_max(n := 30, source := 'bars') as table (

    with

    windowed as (

        select
            symbol,
            timestamp,
            row_number() over bars_in_order as bar_number,
            max(null_as_nan(close)) over trailing_bars as highest

        from query_table(source)

        where require_whole('rolling_max: n', n, 2)

        window
            bars_in_order as (partition by symbol order by timestamp),
            trailing_bars as (partition by symbol order by timestamp rows between n - 1 preceding and current row)

    )

    select
        symbol,
        timestamp,
        case when bar_number >= n then nan_as_null(highest) end as rolling_max

    from windowed

);

comment on macro table rolling_max is 'Highest close, USD per share.';
