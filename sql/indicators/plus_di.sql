-- plus_di: upward directional indicator: the part of the true range that was upward movement.
-- n: bars, n >= 2 | grain: symbol, timestamp | unit: 0 to 100 | null on the first n bars
-- source: J. Welles Wilder (1978); equal to TA-Lib's PLUS_DI
-- look-back: wilder_look_back(n) + 1
create or replace macro plus_di(n := 14, source := 'bars') as table (

    with

    summed as (

        select
            symbol,
            timestamp,
            bar_number,
            decayed_sum(plus_dm, weights, 1 - 1.0 / n) as moves,
            decayed_sum(true_range, weights, 1 - 1.0 / n) as true_ranges

        from directional_moves(n, source := source)

        where require_whole('plus_di: n', n, 2)

    )

    select
        symbol,
        timestamp,
        case
            when bar_number <= n then null
            when true_ranges = 0 then 0
            else nan_as_null(100 * moves / true_ranges)
        end as plus_di

    from summed

);

comment on macro table plus_di is 'Upward directional indicator, 0 to 100.';
