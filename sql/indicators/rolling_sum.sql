-- rolling_sum: sum of the closes of the last n bars.
-- n: bars, n >= 2 | grain: symbol, timestamp | unit: USD per share | null until n bars are there
-- source: equal to TA-Lib's SUM
-- look-back: n - 1
create or replace macro rolling_sum(n := 30, source := 'bars') as table (

    with

    windowed as (

        select
            symbol,
            timestamp,
            row_number() over bars_in_order as bar_number,
            sum(null_as_nan(close)) over trailing_bars as total

        from query_table(source)

        where require_whole('rolling_sum: n', n, 2)

        window
            bars_in_order as (partition by symbol order by timestamp),
            trailing_bars as (partition by symbol order by timestamp rows between n - 1 preceding and current row)

    )

    select
        symbol,
        timestamp,
        case when bar_number >= n then nan_as_null(total) end as rolling_sum

    from windowed

);

comment on macro table rolling_sum is 'Sum of the closes, USD per share.';
