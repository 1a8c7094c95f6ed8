-- mfi: money flow index: the part of the money flow of the last n bars that came with a rising typical price.
-- n: bars, n >= 2 | grain: symbol, timestamp | unit: 0 to 100 | null on the first n bars
-- source: Gene Quong and Avrum Soudack (1989); equal to TA-Lib's MFI:
--   0 where next to nothing traded, and a price that differs by rounding alone has not changed
-- look-back: n
create or replace macro mfi(n := 14, source := 'bars') as table (

    with

    priced as (

        select
            symbol,
            timestamp,
            null_as_nan((high + low + close) / 3) as price,
            volume,
            row_number() over bars_in_order as bar_number

        from query_table(source)

        where require_whole('mfi: n', n, 2)

        window bars_in_order as (partition by symbol order by timestamp)

    ),

    lagged as (

        select
            symbol,
            timestamp,
            bar_number,
            price,
            price * null_as_nan(volume) as flow,
            lag(price) over bars_in_order as previous_price

        from priced

        window bars_in_order as (partition by symbol order by timestamp)

    ),

    flows as (

        select
            symbol,
            timestamp,
            bar_number,
            flow,
            difference(price, previous_price) as change

        from lagged

    ),

    windowed as (

        select
            symbol,
            timestamp,
            bar_number,
            sum(case when change > 0 then flow else 0 * flow end) over trailing_bars as inflow,
            sum(case when change <> 0 then flow else 0 * flow end) over trailing_bars as total

        from flows

        window trailing_bars as (partition by symbol order by timestamp rows between n - 1 preceding and current row)

    )

    select
        symbol,
        timestamp,
        case
            when bar_number <= n then null
            when total < 1 then 0
            else nan_as_null(100 * inflow / total)
        end as mfi

    from windowed

);

comment on macro table mfi is 'Money flow index, 0 to 100.';
