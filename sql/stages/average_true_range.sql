-- average_true_range: Wilder's average of the true range.
-- n: bars | grain: symbol, timestamp
-- gives bar_number, close, atr: means nothing on the first n bars, NaN from a missing price on
-- source: J. Welles Wilder (1978)
create or replace macro average_true_range(n := 14, source := 'bars') as table (

    with

    weighted as (

        select
            *,
            wilder_weights(bar_number - 1, n) as weights

        from true_ranges(source := source)

    )

    select
        symbol,
        timestamp,
        bar_number,
        close,
        wilder_average(true_range, weights, n) as atr

    from weighted

);

comment on macro table average_true_range is 'Average true range, USD per share.';
