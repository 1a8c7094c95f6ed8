-- bbands: Bollinger bands: mean of the close over n bars, and so many standard deviations above and below it.
-- n: bars, n >= 2 | grain: symbol, timestamp | unit: USD per share | null until n bars are there
-- upper_deviations, lower_deviations: 0 to 100
-- source: John Bollinger, Bollinger on Bollinger Bands (2001); population deviation, equal to TA-Lib's BBANDS
-- look-back: n - 1
create or replace macro bbands(n := 20, upper_deviations := 2, lower_deviations := 2, source := 'bars') as table (

    with

    windowed as (

        select
            symbol,
            timestamp,
            row_number() over bars_in_order as bar_number,
            snapped(avg(null_as_nan(close)) over trailing_bars, close) as mean,
            without_noise(stddev_pop(close) over trailing_bars, close) as deviation

        from query_table(source)

        where require_whole('bbands: n', n, 2)
            and require_between('bbands: upper_deviations', upper_deviations, 0, 100)
            and require_between('bbands: lower_deviations', lower_deviations, 0, 100)

        window
            bars_in_order as (partition by symbol order by timestamp),
            trailing_bars as (partition by symbol order by timestamp rows between n - 1 preceding and current row)

    )

    select
        symbol,
        timestamp,
        case when bar_number >= n then nan_as_null(mean + upper_deviations * deviation) end as upper,
        case when bar_number >= n then nan_as_null(mean) end as middle,
        case when bar_number >= n then nan_as_null(mean - lower_deviations * deviation) end as lower

    from windowed

);

comment on macro table bbands is 'Bollinger bands: upper, middle, lower, USD per share.';
