-- natr: normalised average true range: the average true range as a percentage of the close.
-- n: bars, n >= 1 | grain: symbol, timestamp | unit: percent | null on the first n bars
-- source: J. Welles Wilder (1978); equal to TA-Lib's NATR
-- look-back: wilder_look_back(n) + 1
create or replace macro natr(n := 14, source := 'bars') as table (

    with

    numbered as (

        select
            symbol,
            timestamp,
            null_as_nan(high) as high,
            null_as_nan(low) as low,
            close,
            lag(null_as_nan(close)) over bars_in_order as previous_close,
            row_number() over bars_in_order as bar_number

        from query_table(source)

        where require_whole('natr: n', n, 1)

        window bars_in_order as (partition by symbol order by timestamp)

    ),

    weighted as (

        select
            symbol,
            timestamp,
            bar_number,
            close,
            case when bar_number > 1 then true_range(high, low, previous_close) end as true_range,
            wilder_weights(bar_number - 1, n) as weights

        from numbered

    ),

    averaged as (

        select
            symbol,
            timestamp,
            bar_number,
            close,
            wilder_of(true_range, weights, n) as atr

        from weighted

    )

    select
        symbol,
        timestamp,
        case when bar_number > n then nan_as_null(100 * atr / close) end as natr

    from averaged

);

comment on macro table natr is 'Average true range over the close, percent.';
