-- beta: slope of the low's returns on the high's returns over the last n bars.
-- n: bars, n >= 1 | grain: symbol, timestamp | unit: ratio | null on the first n bars
-- source: ordinary least squares; equal to TA-Lib's BETA of high and low, 0 where prices did not move
-- look-back: n
create or replace macro beta(n := 5, source := 'bars') as table (

    with

    returns as (

        select
            symbol,
            timestamp,
            difference(high, lag(high) over bars_in_order) / lag(high) over bars_in_order as high_return,
            difference(low, lag(low) over bars_in_order) / lag(low) over bars_in_order as low_return

        from query_table(source)

        where require_whole('beta: n', n, 1)

        window bars_in_order as (partition by symbol order by timestamp)

    ),

    windowed as (

        select
            symbol,
            timestamp,
            count(high_return + low_return) over trailing_bars as returns_seen,
            regr_slope(low_return, high_return) over trailing_bars as slope

        from returns

        window trailing_bars as (partition by symbol order by timestamp rows between n - 1 preceding and current row)

    )

    select
        symbol,
        timestamp,
        case when returns_seen = n then coalesce(nan_as_null(slope), 0) end as beta

    from windowed

);

comment on macro table beta is 'Slope of the low''s returns on the high''s returns.';
