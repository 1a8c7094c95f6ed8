-- plus_di: upward directional indicator: the part of the true range that was upward movement.
-- n: bars, n >= 2 | grain: symbol, timestamp | unit: 0 to 100 | null on the first n bars
-- source: J. Welles Wilder (1978); equal to TA-Lib's PLUS_DI
-- look-back: wilder_look_back(n) + 1
create or replace macro plus_di(n := 14, source := 'bars') as table (

    with

    numbered as (

        select
            symbol,
            timestamp,
            null_as_nan(high) as high,
            null_as_nan(low) as low,
            lag(null_as_nan(high)) over bars_in_order as previous_high,
            lag(null_as_nan(low)) over bars_in_order as previous_low,
            lag(null_as_nan(close)) over bars_in_order as previous_close,
            row_number() over bars_in_order as bar_number

        from query_table(source)

        where require_whole('plus_di: n', n, 2)

        window bars_in_order as (partition by symbol order by timestamp)

    ),

    ranges as (

        select
            symbol,
            timestamp,
            bar_number,
            high - previous_high as rise,
            previous_low - low as fall,
            case when bar_number > 1 then true_range(high, low, previous_close) end as true_range,
            decay_weights(bar_number - 1, greatest(n - 1, 1), 1 - 1.0 / n) as weights

        from numbered

    ),

    directions as (

        select
            symbol,
            timestamp,
            bar_number,
            true_range,
            weights,
            case when rise > 0 and rise > fall then rise else 0 * (rise + fall) end as plus_move

        from ranges

    ),

    summed as (

        select
            symbol,
            timestamp,
            bar_number,
            decayed_sum(plus_move, weights, 1 - 1.0 / n) as plus_moves,
            decayed_sum(true_range, weights, 1 - 1.0 / n) as true_ranges

        from directions

    )

    select
        symbol,
        timestamp,
        case
            when bar_number <= n then null
            when true_ranges = 0 then 0
            else nan_as_null(100 * plus_moves / true_ranges)
        end as plus_di

    from summed

);

comment on macro table plus_di is 'Upward directional indicator, 0 to 100.';
