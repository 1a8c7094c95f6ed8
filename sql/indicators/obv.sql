-- obv: on-balance volume: volume added on rising, taken away on falling closes.
-- grain: symbol, timestamp | unit: shares | counted from the first stored bar on, so its level depends on where that is
-- source: Joseph Granville (1963); equal to TA-Lib's OBV, which begins with the first bar's volume
create or replace macro obv(source := 'bars') as table (

    with

    changes as (

        select
            symbol,
            timestamp,
            null_as_nan(volume) as volume,
            row_number() over bars_in_order as bar_number,
            difference(null_as_nan(close), lag(null_as_nan(close)) over bars_in_order) as change

        from query_table(source)

        window bars_in_order as (partition by symbol order by timestamp)

    ),

    flows as (

        select
            symbol,
            timestamp,
            case
                when bar_number = 1 or change > 0 then volume + 0 * coalesce(change, 0)
                when change < 0 then -volume
                else 0 * volume
            end as flow

        from changes

    )

    select
        symbol,
        timestamp,
        nan_as_null(sum(flow) over bars_so_far) as obv

    from flows

    window bars_so_far as (partition by symbol order by timestamp rows unbounded preceding)

);

comment on macro table obv is 'On-balance volume, shares.';
