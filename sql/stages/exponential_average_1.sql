-- exponential_average_1: the exponential average of the close, and what it is made of.
-- n: bars | grain: symbol, timestamp | gives close, bar_number, ema_1: null until warm, NaN from a missing close on
create or replace macro exponential_average_1(n := 14, source := 'bars') as table (

    with

    weighted as (

        select
            *,
            ema_weights(bar_number, n) as weights

        from numbered_closes(source := source)

    )

    select
        symbol,
        timestamp,
        close,
        bar_number,
        case when bar_number >= n then snapped(exponential_average(close, bar_number, weights, n), close) end as ema_1

    from weighted

);

comment on macro table exponential_average_1 is 'Exponential average of the close, USD per share.';
