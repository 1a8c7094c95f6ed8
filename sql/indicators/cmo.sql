-- cmo: Chande momentum oscillator of the close, with Wilder's smoothing.
-- n: bars, n >= 2 | grain: symbol, timestamp | unit: -100 to 100 | null on the first n bars
-- source: Tushar Chande (1994); smoothed as TA-Lib's CMO is, 0 where prices never moved
-- look-back: wilder_look_back(n)
--
-- The factors of Wilder's average cancel in the ratio: gains and moves are plain decaying sums.
create or replace macro cmo(n := 14, source := 'bars') as table (

    with

    changes as (

        select
            symbol,
            timestamp,
            null_as_nan(close) - lag(null_as_nan(close)) over bars_in_order as change,
            row_number() over bars_in_order as bar_number

        from query_table(source)

        where require_whole('cmo: n', n, 2)

        window bars_in_order as (partition by symbol order by timestamp)

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

    ),

    summed as (

        select
            symbol,
            timestamp,
            bar_number,
            decayed_sum(gain, weights, 1 - 1.0 / n) as gains,
            decayed_sum(move, weights, 1 - 1.0 / n) as moves

        from weighted

    )

    select
        symbol,
        timestamp,
        case
            when bar_number <= n then null
            when moves = 0 then 0
            else nan_as_null(100 * (2 * gains - moves) / moves)
        end as cmo

    from summed

);

comment on macro table cmo is 'Chande momentum oscillator, -100 to 100.';
