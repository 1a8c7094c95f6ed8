-- tema: triple exponential moving average of the close.
-- n: bars, n >= 2 | grain: symbol, timestamp | unit: USD per share | null until warm
-- source: Patrick Mulloy (1994), 3 * ema - 3 * ema of ema + ema of ema of ema; equal to TA-Lib's TEMA
-- look-back: 3 * ema_look_back(n)
create or replace macro tema(n := 30, source := 'bars') as table (

    with

    numbered as (

        select
            symbol,
            timestamp,
            null_as_nan(close) as close,
            row_number() over bars_in_order as bar_number

        from query_table(source)

        where require_whole('tema: n', n, 2)

        window bars_in_order as (partition by symbol order by timestamp)

    ),

    weighted as (

        select
            *,
            ema_weights(bar_number, n) as weights_1,
            ema_weights(bar_number - (n - 1), n) as weights_2,
            ema_weights(bar_number - 2 * (n - 1), n) as weights_3

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

    ),

    average_3 as (

        select
            *,
            case when bar_number > 3 * (n - 1) then ema_of(ema_2, bar_number - 2 * (n - 1), weights_3, n) end as ema_3

        from average_2

    )

    select
        symbol,
        timestamp,
        nan_as_null(3 * ema_1 - 3 * ema_2 + ema_3) as tema

    from average_3

);

comment on macro table tema is 'Triple exponential moving average of the close, USD per share.';
