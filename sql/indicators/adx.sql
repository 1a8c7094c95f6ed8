-- adx: average directional index: Wilder's average of the directional index.
-- n: bars, n >= 2 | grain: symbol, timestamp | unit: 0 to 100 | null on the first 2 * n - 1 bars
-- source: J. Welles Wilder (1978); equal to TA-Lib's ADX
-- look-back: 2 * wilder_look_back(n)
create or replace macro adx(n := 14, source := 'bars') as table (

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

        where require_whole('adx: n', n, 2)

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
            case when rise > 0 and rise > fall then rise else 0 * (rise + fall) end as plus_move,
            case when fall > 0 and fall > rise then fall else 0 * (rise + fall) end as minus_move

        from ranges

    ),

    summed as (

        select
            symbol,
            timestamp,
            bar_number,
            decayed_sum(plus_move, weights, 1 - 1.0 / n) as plus_moves,
            decayed_sum(minus_move, weights, 1 - 1.0 / n) as minus_moves

        from directions

    ),

    indexed as (

        select
            symbol,
            timestamp,
            bar_number,
            case
                when bar_number <= n then null
                when plus_moves + minus_moves = 0 then 0
                else 100 * abs(plus_moves - minus_moves) / (plus_moves + minus_moves)
            end as dx,
            wilder_weights(bar_number - n, n) as weights

        from summed

    ),

    averaged as (

        select
            symbol,
            timestamp,
            bar_number,
            case when bar_number >= 2 * n then wilder_of(dx, weights, n) end as adx

        from indexed

    )

    select
        symbol,
        timestamp,
        nan_as_null(adx) as adx

    from averaged

);

comment on macro table adx is 'Average directional index, 0 to 100.';
