-- true_ranges: each bar's true range, with the closes.
-- grain: symbol, timestamp
-- gives bar_number, close, low, previous_close, true_range: null on the first bar, NaN where a price is missing
-- source: J. Welles Wilder (1978)
create or replace macro true_ranges(source := 'bars') as table (

    with

    lagged as (

        select
            symbol,
            timestamp,
            null_as_nan(high) as high,
            null_as_nan(low) as low,
            null_as_nan(close) as close,
            lag(null_as_nan(close)) over bars_in_order as previous_close,
            row_number() over bars_in_order as bar_number

        from query_table(source)

        window bars_in_order as (partition by symbol order by timestamp)

    )

    select
        symbol,
        timestamp,
        bar_number,
        close,
        low,
        previous_close,
        case when bar_number > 1 then true_range(high, low, previous_close) end as true_range

    from lagged

);

comment on macro table true_ranges is 'True range of each bar, USD per share.';
