-- gains_and_moves: decaying sums of the close's rises, and of all its moves.
-- n: bars | grain: symbol, timestamp
-- gives bar_number, gains, moves: mean nothing on the first n bars, NaN from a missing close on
-- source: J. Welles Wilder (1978); the factors of his average cancel in a ratio, so these are plain sums
create or replace macro gains_and_moves(n := 14, source := 'bars') as table (

    with

    changes as (

        select
            symbol,
            timestamp,
            difference(close, lag(close) over (partition by symbol order by timestamp)) as change,
            bar_number

        from numbered_closes(source := source)

    ),

    weighted as (

        select
            symbol,
            timestamp,
            bar_number,
            case when change > 0 then change else 0 end as gain,
            abs(change) as move,
            wilder_weights(bar_number - 1, n) as weights

        from changes

    )

    select
        symbol,
        timestamp,
        bar_number,
        decayed_sum(gain, weights, 1 - 1.0 / n) as gains,
        decayed_sum(move, weights, 1 - 1.0 / n) as moves

    from weighted

);

comment on macro table gains_and_moves is 'Decaying sums of rises and of all moves of the close, USD per share.';
