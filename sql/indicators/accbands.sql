-- accbands: acceleration bands: simple averages of the close, and of high and low widened by the bar's range.
-- n: bars, n >= 2 | grain: symbol, timestamp | unit: USD per share | null until n bars are there
-- source: Price Headley, Big Trends in Trading (2002); equal to TA-Lib's ACCBANDS
-- look-back: n - 1
create or replace macro accbands(n := 20, source := 'bars') as table (

    with

    widened as (

        select
            symbol,
            timestamp,
            close,
            high * (1 + 4 * (high - low) / (high + low)) as widened_high,
            low * (1 - 4 * (high - low) / (high + low)) as widened_low

        from query_table(source)

        where require_whole('accbands: n', n, 2)

    ),

    windowed as (

        select
            symbol,
            timestamp,
            row_number() over bars_in_order as bar_number,
            snapped(avg(null_as_nan(widened_high)) over trailing_bars, widened_high) as upper,
            snapped(avg(null_as_nan(close)) over trailing_bars, close) as middle,
            snapped(avg(null_as_nan(widened_low)) over trailing_bars, widened_low) as lower

        from widened

        window
            bars_in_order as (partition by symbol order by timestamp),
            trailing_bars as (partition by symbol order by timestamp rows between n - 1 preceding and current row)

    )

    select
        symbol,
        timestamp,
        case when bar_number >= n then nan_as_null(upper) end as upper,
        case when bar_number >= n then nan_as_null(middle) end as middle,
        case when bar_number >= n then nan_as_null(lower) end as lower

    from windowed

);

comment on macro table accbands is 'Acceleration bands: upper, middle, lower, USD per share.';
