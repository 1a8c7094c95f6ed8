-- t3: Tillson's T3 moving average of the close: six exponential averages, one of the other.
-- n: bars, n >= 2 | grain: symbol, timestamp | unit: USD per share | null until warm
-- volume_factor: 0 to 1
-- source: Tim Tillson (1998); equal to TA-Lib's T3
-- look-back: 6 * ema_look_back(n)
create or replace macro t3(n := 5, volume_factor := 0.7, source := 'bars') as table (

    with

    weighted as (

        select
            *,
            ema_weights(bar_number - 3 * (n - 1), n) as weights_4,
            ema_weights(bar_number - 4 * (n - 1), n) as weights_5,
            ema_weights(bar_number - 5 * (n - 1), n) as weights_6

        from exponential_average_3(n, source := source)

        where require_whole('t3: n', n, 2)
            and require_between('t3: volume_factor', volume_factor, 0, 1)

    ),

    average_4 as (

        select
            *,
            case
                when bar_number > 4 * (n - 1) then exponential_average(ema_3, bar_number - 3 * (n - 1), weights_4, n)
            end as ema_4

        from weighted

    ),

    average_5 as (

        select
            *,
            case
                when bar_number > 5 * (n - 1) then exponential_average(ema_4, bar_number - 4 * (n - 1), weights_5, n)
            end as ema_5

        from average_4

    ),

    average_6 as (

        select
            *,
            case
                when bar_number > 6 * (n - 1) then exponential_average(ema_5, bar_number - 5 * (n - 1), weights_6, n)
            end as ema_6

        from average_5

    )

    select
        symbol,
        timestamp,
        nan_as_null(snapped(
            (1 + volume_factor) ** 3 * ema_3
            - 3 * volume_factor * (1 + volume_factor) ** 2 * ema_4
            + 3 * volume_factor ** 2 * (1 + volume_factor) * ema_5
            - volume_factor ** 3 * ema_6,
            close
        )) as t3

    from average_6

);

comment on macro table t3 is 'Tillson''s T3 moving average of the close, USD per share.';
