-- minus_dm: downward directional movement, added up with Wilder's smoothing.
-- n: bars, n >= 1 | grain: symbol, timestamp | unit: USD per share | null on the first n - 1 bars
-- source: J. Welles Wilder (1978); equal to TA-Lib's MINUS_DM
-- look-back: wilder_look_back(n) + 1
create or replace macro minus_dm(n := 14, source := 'bars') as table (

    with

    summed as (

        select
            symbol,
            timestamp,
            bar_number,
            decayed_sum(minus_dm, weights, 1 - 1.0 / n) as moves

        from directional_moves(n, source := source)

        where require_whole('minus_dm: n', n, 1)

    )

    select
        symbol,
        timestamp,
        case when bar_number >= greatest(n, 2) then nan_as_null(moves) end as minus_dm

    from summed

);

comment on macro table minus_dm is 'Downward directional movement, USD per share.';
