-- exponential_average_2: the exponential average of the exponential average, and what it is made of.
-- n: bars | grain: symbol, timestamp
-- gives close, bar_number, ema_1, ema_2: null until warm, NaN from a missing close on
create or replace macro exponential_average_2(n := 14, source := 'bars') as table (

    with

    weighted as (

        select
            *,
            ema_weights(bar_number - (n - 1), n) as weights

        from exponential_average_1(n, source := source)

    )

    select
        symbol,
        timestamp,
        close,
        bar_number,
        ema_1,
        case
            when bar_number > 2 * (n - 1) then exponential_average(ema_1, bar_number - (n - 1), weights, n)
        end as ema_2

    from weighted

);

comment on macro table exponential_average_2 is 'Exponential average, and that of it, USD per share.';
