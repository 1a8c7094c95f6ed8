-- stddev: population standard deviation of the close over the last n bars, times a factor.
-- n: bars, n >= 2 | grain: symbol, timestamp | unit: USD per share | null until n bars are there
-- deviations: factor, 0 to 100
-- source: equal to TA-Lib's STDDEV
-- look-back: n - 1
create or replace macro stddev(n := 5, deviations := 1, source := 'bars') as table (

    with

    windowed as (

        select
            symbol,
            timestamp,
            without_noise(stddev_pop(close) over trailing_bars, close) as deviation,
            count(close) over trailing_bars as bars_seen

        from query_table(source)

        where require_whole('stddev: n', n, 2)
            and require_between('stddev: deviations', deviations, 0, 100)

        window trailing_bars as (partition by symbol order by timestamp rows between n - 1 preceding and current row)

    )

    select
        symbol,
        timestamp,
        case when bars_seen = n then deviations * deviation end as stddev

    from windowed

);

comment on macro table stddev is 'Population standard deviation of the close, USD per share.';
