-- exponential_average_3: the third exponential average, one of the other, and what it is made of.
-- n: bars | grain: symbol, timestamp
-- gives close, bar_number, ema_1, ema_2, ema_3: null until warm, NaN from a missing close on
create or replace macro exponential_average_3(n := 14, source := 'bars') as table (

    with

    weighted as (

        select
            *,
            ema_weights(bar_number - 2 * (n - 1), n) as weights

        from exponential_average_2(n, source := source)

    )

    select
        symbol,
        timestamp,
        close,
        bar_number,
        ema_1,
        ema_2,
        case
            when bar_number > 3 * (n - 1) then exponential_average(ema_2, bar_number - 2 * (n - 1), weights, n)
        end as ema_3

    from weighted

);

comment on macro table exponential_average_3 is 'Exponential average, that of it, and that of that, USD per share.';
