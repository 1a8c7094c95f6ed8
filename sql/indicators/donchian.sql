-- donchian: Donchian channel: highest high and lowest low of the last n bars, and their middle.
-- n: bars, n >= 1 | grain: symbol, timestamp | unit: USD per share | null until n bars are there
-- look-back: n - 1
create or replace macro donchian(n := 20, source := 'bars') as table (

    with

    windowed as (

        select
            symbol,
            timestamp,
            row_number() over bars_in_order as bar_number,
            max(null_as_nan(high)) over trailing_bars as highest,
            -max(-null_as_nan(low)) over trailing_bars as lowest

        from query_table(source)

        where require_whole('donchian: n', n, 1)

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
        case when bar_number >= n then nan_as_null(highest) end as upper,
        case when bar_number >= n then nan_as_null((highest + lowest) / 2) end as middle,
        case when bar_number >= n then nan_as_null(lowest) end as lower

    from windowed

);

comment on macro table donchian is 'Donchian channel: upper, middle, lower, USD per share.';
