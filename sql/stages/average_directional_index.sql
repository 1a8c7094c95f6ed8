-- average_directional_index: Wilder's average of the directional index.
-- n: bars, n >= 2 | grain: symbol, timestamp
-- gives adx: 0 to 100, null on the first 2 * n - 1 bars, NaN from a missing price on
-- source: J. Welles Wilder (1978)
create or replace macro average_directional_index(n := 14, source := 'bars') as table (

    with

    weighted as (

        select
            symbol,
            timestamp,
            bar_number,
            dx,
            wilder_weights(bar_number - n, n) as weights

        from directional_index(n, source := source)

    )

    select
        symbol,
        timestamp,
        case when bar_number >= 2 * n then wilder_average(dx, weights, n) end as adx

    from weighted

);

comment on macro table average_directional_index is 'Average directional index, 0 to 100.';
