-- plus_dm: upward directional movement, added up with Wilder's smoothing.
-- n: bars, n >= 1 | grain: symbol, timestamp | unit: USD per share | null on the first n - 1 bars
-- source: J. Welles Wilder (1978); equal to TA-Lib's PLUS_DM
-- look-back: wilder_look_back(n) + 1
create or replace macro plus_dm(n := 14, source := 'bars') as table (

    with

    summed as (

        select
            symbol,
            timestamp,
            bar_number,
            decayed_sum(plus_dm, weights, 1 - 1.0 / n) as moves

        from directional_moves(n, source := source)

        where require_whole('plus_dm: n', n, 1)

    )

    select
        symbol,
        timestamp,
        case when bar_number >= greatest(n, 2) then nan_as_null(moves) end as plus_dm

    from summed

);

comment on macro table plus_dm is 'Upward directional movement, USD per share.';
