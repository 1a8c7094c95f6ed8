-- keltner: Keltner channel: exponential average of the close, and so many average true ranges above and below it.
-- n, atr_n: bars, n >= 2, atr_n >= 1 | multiplier: 0 to 100 | grain: symbol, timestamp | unit: USD per share
-- null until both averages are there | source: Chester Keltner, as revised by Linda Raschke
-- look-back: greatest(ema_look_back(n), wilder_look_back(atr_n) + 1)
create or replace macro keltner(n := 20, multiplier := 2, atr_n := 10, source := 'bars') as table (

    with

    numbered as (

        select
            symbol,
            timestamp,
            null_as_nan(high) as high,
            null_as_nan(low) as low,
            null_as_nan(close) as close,
            lag(null_as_nan(close)) over bars_in_order as previous_close,
            row_number() over bars_in_order as bar_number

        from query_table(source)

        where require_whole('keltner: n', n, 2)
            and require_whole('keltner: atr_n', atr_n, 1)
            and require_between('keltner: multiplier', multiplier, 0, 100)

        window bars_in_order as (partition by symbol order by timestamp)

    ),

    weighted as (

        select
            symbol,
            timestamp,
            bar_number,
            close,
            case when bar_number > 1 then true_range(high, low, previous_close) end as true_range,
            ema_weights(bar_number, n) as weights,
            wilder_weights(bar_number - 1, atr_n) as range_weights

        from numbered

    ),

    averaged as (

        select
            symbol,
            timestamp,
            bar_number,
            ema_of(close, bar_number, weights, n) as mean,
            wilder_of(true_range, range_weights, atr_n) as atr

        from weighted

    )

    select
        symbol,
        timestamp,
        case when bar_number >= greatest(n, atr_n + 1) then nan_as_null(mean + multiplier * atr) end as upper,
        case when bar_number >= greatest(n, atr_n + 1) then nan_as_null(mean) end as middle,
        case when bar_number >= greatest(n, atr_n + 1) then nan_as_null(mean - multiplier * atr) end as lower

    from averaged

);

comment on macro table keltner is 'Keltner channel: upper, middle, lower, USD per share.';
