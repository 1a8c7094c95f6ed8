-- trange: true range: from the lower to the higher of the bar's low and high and the close before.
-- grain: symbol, timestamp | unit: USD per share | null on the first bar
-- source: J. Welles Wilder (1978); equal to TA-Lib's TRANGE
-- look-back: 1
create or replace macro trange(source := 'bars') as table (

    with

    lagged as (

        select
            symbol,
            timestamp,
            null_as_nan(high) as high,
            null_as_nan(low) as low,
            lag(null_as_nan(close)) over bars_in_order as previous_close

        from query_table(source)

        window bars_in_order as (partition by symbol order by timestamp)

    )

    select
        symbol,
        timestamp,
        case when previous_close is not null then nan_as_null(true_range(high, low, previous_close)) end as trange

    from lagged

);

comment on macro table trange is 'True range, USD per share.';
