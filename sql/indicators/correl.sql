-- correl: correlation of high and low over the last n bars.
-- n: bars, n >= 1 | grain: symbol, timestamp | unit: -1 to 1 | null until n bars are there
-- source: Pearson's coefficient; equal to TA-Lib's CORREL of high and low, 0 where prices did not move
-- look-back: n - 1
create or replace macro correl(n := 30, source := 'bars') as table (

    with

    windowed as (

        select
            symbol,
            timestamp,
            count(high + low) over trailing_bars as bars_seen,
            without_noise(
                covar_pop(high, low) over trailing_bars, high * stddev_pop(low) over trailing_bars
            ) as covariance,
            without_noise(stddev_pop(high) over trailing_bars, high) as high_deviation,
            without_noise(stddev_pop(low) over trailing_bars, low) as low_deviation

        from query_table(source)

        where require_whole('correl: n', n, 1)

        window trailing_bars as (partition by symbol order by timestamp rows between n - 1 preceding and current row)

    )

    select
        symbol,
        timestamp,
        case
            when bars_seen = n then coalesce(nan_as_null(covariance / nullif(high_deviation * low_deviation, 0)), 0)
        end as correl

    from windowed

);

comment on macro table correl is 'Correlation of high and low, -1 to 1.';
