-- minus_dm: downward directional movement, added up with Wilder's smoothing.
-- n: bars, n >= 1 | grain: symbol, timestamp | unit: USD per share | null on the first n - 1 bars
-- source: J. Welles Wilder (1978); equal to TA-Lib's MINUS_DM
-- look-back: wilder_look_back(n) + 1
create or replace macro minus_dm(n := 14, source := 'bars') as table (

    with

    numbered as (

        select
            symbol,
            timestamp,
            null_as_nan(high) as high,
            null_as_nan(low) as low,
            lag(null_as_nan(high)) over bars_in_order as previous_high,
            lag(null_as_nan(low)) over bars_in_order as previous_low,
            row_number() over bars_in_order as bar_number

        from query_table(source)

        where require_whole('minus_dm: n', n, 1)

        window bars_in_order as (partition by symbol order by timestamp)

    ),

    ranges as (

        select
            symbol,
            timestamp,
            bar_number,
            high - previous_high as rise,
            previous_low - low as fall,
            decay_weights(bar_number - 1, greatest(n - 1, 1), 1 - 1.0 / n) as weights

        from numbered

    ),

    directions as (

        select
            symbol,
            timestamp,
            bar_number,
            weights,
            case when fall > 0 and fall > rise then fall else 0 * (rise + fall) end as minus_move

        from ranges

    ),

    summed as (

        select
            symbol,
            timestamp,
            bar_number,
            decayed_sum(minus_move, weights, 1 - 1.0 / n) as minus_moves

        from directions

    )

    select
        symbol,
        timestamp,
        case when bar_number >= greatest(n, 2) then nan_as_null(minus_moves) end as minus_dm

    from summed

);

comment on macro table minus_dm is 'Downward directional movement, USD per share.';
