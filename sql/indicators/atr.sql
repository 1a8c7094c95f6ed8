-- atr: average true range: Wilder's average of the true range.
-- n: bars, n >= 1 | grain: symbol, timestamp | unit: USD per share | null on the first n bars
-- source: J. Welles Wilder (1978); equal to TA-Lib's ATR
-- look-back: wilder_look_back(n) + 1
create or replace macro atr(n := 14, source := 'bars') as table (

    with

    numbered as (

        select
            symbol,
            timestamp,
            null_as_nan(high) as high,
            null_as_nan(low) as low,
            lag(null_as_nan(close)) over bars_in_order as previous_close,
            row_number() over bars_in_order as bar_number

        from query_table(source)

        where require_whole('atr: n', n, 1)

        window bars_in_order as (partition by symbol order by timestamp)

    ),

    weighted as (

        select
            symbol,
            timestamp,
            bar_number,
            case when bar_number > 1 then true_range(high, low, previous_close) end as true_range,
            wilder_weights(bar_number - 1, n) as weights

        from numbered

    ),

    averaged as (

        select
            symbol,
            timestamp,
            bar_number,
            wilder_of(true_range, weights, n) as atr

        from weighted

    )

    select
        symbol,
        timestamp,
        case when bar_number > n then nan_as_null(atr) end as atr

    from averaged

);

comment on macro table atr is 'Average true range, USD per share.';
