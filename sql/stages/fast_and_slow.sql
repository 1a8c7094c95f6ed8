-- fast_and_slow: two exponential averages of the close.
-- fast, slow: bars | delay: bars after which the fast one begins
-- grain: symbol, timestamp
-- gives bar_number, fast_average, slow_average: mean nothing before bar `slow`, NaN from a missing close on
create or replace macro fast_and_slow(fast := 12, slow := 26, delay := 0, source := 'bars') as table (

    with

    weighted as (

        select
            symbol,
            timestamp,
            close,
            bar_number,
            ema_weights(bar_number - delay, fast) as fast_weights,
            ema_weights(bar_number, slow) as slow_weights

        from numbered_closes(source := source)

    )

    select
        symbol,
        timestamp,
        bar_number,
        exponential_average(close, bar_number - delay, fast_weights, fast) as fast_average,
        exponential_average(close, bar_number, slow_weights, slow) as slow_average

    from weighted

);

comment on macro table fast_and_slow is 'Fast and slow exponential average of the close, USD per share.';
