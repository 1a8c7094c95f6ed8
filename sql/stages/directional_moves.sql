-- directional_moves: what a bar's range moved up or down by, with the weights of Wilder's sums over n bars.
-- n: bars | grain: symbol, timestamp | gives bar_number, plus_dm, minus_dm, true_range (null on the first bar), weights
-- Where the range moved up as far as down, neither counts; TA-Lib lets the last bit of the doubles decide such a tie.
-- source: J. Welles Wilder, New Concepts in Technical Trading Systems (1978)
create or replace macro directional_moves(n := 14, source := 'bars') as table (

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

        window bars_in_order as (partition by symbol order by timestamp)

    ),

    moved as (

        select
            symbol,
            timestamp,
            bar_number,
            difference(high, previous_high) as up_move,
            difference(previous_low, low) as down_move,
            without_noise(high - previous_high - (previous_low - low), high) as lead,
            case when bar_number > 1 then true_range(high, low, previous_close) end as true_range,
            decay_weights(bar_number - 1, greatest(n - 1, 1), 1 - 1.0 / n) as weights

        from numbered

    )

    select
        symbol,
        timestamp,
        bar_number,
        case when up_move > 0 and lead > 0 then up_move else 0 * (up_move + down_move) end as plus_dm,
        case when down_move > 0 and lead < 0 then down_move else 0 * (up_move + down_move) end as minus_dm,
        true_range,
        weights

    from moved

);

comment on macro table directional_moves is 'Directional movement and true range of each bar, USD per share.';
