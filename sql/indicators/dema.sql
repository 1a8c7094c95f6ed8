-- dema: double exponential moving average of the close.
-- n: bars, n >= 2 | grain: symbol, timestamp | unit: USD per share | null until warm
-- source: Patrick Mulloy (1994), 2 * ema - ema of ema; equal to TA-Lib's DEMA
-- look-back: 2 * ema_look_back(n)
create or replace macro dema(n := 30, source := 'bars') as table (

    with

    numbered as (

        select
            symbol,
            timestamp,
            null_as_nan(close) as close,
            row_number() over bars_in_order as bar_number

        from query_table(source)

        where require_whole('dema: n', n, 2)

        window bars_in_order as (partition by symbol order by timestamp)

    ),

    weighted as (

        select
            *,
            ema_weights(bar_number, n) as weights_1,
            ema_weights(bar_number - (n - 1), n) as weights_2

        from numbered

    ),

    average_1 as (

        select
            *,
            case when bar_number >= n then ema_of(close, bar_number, weights_1, n) end as ema_1

        from weighted

    ),

    average_2 as (

        select
            *,
            case when bar_number > 2 * (n - 1) then ema_of(ema_1, bar_number - (n - 1), weights_2, n) end as ema_2

        from average_1

    )

    select
        symbol,
        timestamp,
        nan_as_null(2 * ema_1 - ema_2) as dema

    from average_2

);

comment on macro table dema is 'Double exponential moving average of the close, USD per share.';
