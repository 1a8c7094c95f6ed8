-- directional_index: Wilder's directional index with the bars' numbers.
-- n: bars, n >= 2 | grain: symbol, timestamp
-- gives bar_number, dx: 0 to 100, null on the first n bars, NaN from a missing price on
-- source: J. Welles Wilder (1978)
create or replace macro directional_index(n := 14, source := 'bars') as table (

    with

    summed as (

        select
            symbol,
            timestamp,
            bar_number,
            decayed_sum(plus_dm, weights, 1 - 1.0 / n) as plus_moves,
            decayed_sum(minus_dm, weights, 1 - 1.0 / n) as minus_moves

        from directional_moves(n, source := source)

    )

    select
        symbol,
        timestamp,
        bar_number,
        case
            when bar_number <= n then null
            when plus_moves + minus_moves = 0 then 0
            else 100 * abs(plus_moves - minus_moves) / (plus_moves + minus_moves)
        end as dx

    from summed

);

comment on macro table directional_index is 'Directional index, 0 to 100, with bar numbers.';
