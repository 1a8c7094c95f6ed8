-- willr: Williams' %R: how far the close is below the highest high, as a part of the range of the last n bars.
-- n: bars, n >= 2 | grain: symbol, timestamp | unit: -100 to 0 | null until n bars are there
-- source: Larry Williams; equal to TA-Lib's WILLR, 0 where prices did not move
-- look-back: n - 1
create or replace macro willr(n := 14, source := 'bars') as table (

    with

    windowed as (

        select
            symbol,
            timestamp,
            null_as_nan(close) as close,
            max(null_as_nan(high)) over trailing_bars as highest,
            -max(-null_as_nan(low)) over trailing_bars as lowest,
            row_number() over bars_in_order as bar_number

        from query_table(source)

        where require_whole('willr: n', n, 2)

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
        case
            when bar_number < n then null
            when highest = lowest then nan_as_null(0 * (highest - lowest))
            else nan_as_null(-100 * (highest - close) / (highest - lowest))
        end as willr

    from windowed

);

comment on macro table willr is 'Williams'' %R, -100 to 0.';
