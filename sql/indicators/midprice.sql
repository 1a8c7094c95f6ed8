-- midprice: halfway between the highest high and the lowest low of the last n bars.
-- n: bars, n >= 2 | grain: symbol, timestamp | unit: USD per share | null until n bars are there
-- source: equal to TA-Lib's MIDPRICE
-- look-back: n - 1
create or replace macro midprice(n := 14, source := 'bars') as table (

    with

    windowed as (

        select
            symbol,
            timestamp,
            row_number() over bars_in_order as bar_number,
            max(null_as_nan(high)) over trailing_bars as highest,
            -max(-null_as_nan(low)) over trailing_bars as lowest

        from query_table(source)

        where require_whole('midprice: n', n, 2)

        window
            bars_in_order as (partition by symbol order by timestamp),
            trailing_bars as (
                partition by symbol
                order by timestamp
                rows between n - 1 preceding and current row
            )

    )

    select
        symbol,
        timestamp,
        case when bar_number >= n then nan_as_null((highest + lowest) / 2) end as midprice

    from windowed

);

comment on macro table midprice is 'Midpoint of the highest high and lowest low, USD per share.';
