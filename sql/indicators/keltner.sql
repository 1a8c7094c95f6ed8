-- keltner: Keltner channel: exponential average of the close, and so many average true ranges above and below it.
-- n, atr_n: bars, n >= 2, atr_n >= 1 | multiplier: 0 to 100 | grain: symbol, timestamp | unit: USD per share
-- null until both averages are there | source: Chester Keltner, as revised by Linda Raschke
-- look-back: greatest(ema_look_back(n), wilder_look_back(atr_n) + 1)
create or replace macro keltner(n := 20, multiplier := 2, atr_n := 10, source := 'bars') as table (

    with

    weighted as (

        select
            *,
            ema_weights(bar_number, n) as weights

        from average_true_range(atr_n, source := source)

        where require_whole('keltner: n', n, 2)
            and require_whole('keltner: atr_n', atr_n, 1)
            and require_between('keltner: multiplier', multiplier, 0, 100)

    ),

    averaged as (

        select
            symbol,
            timestamp,
            bar_number,
            snapped(exponential_average(close, bar_number, weights, n), close) as mean,
            atr

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
