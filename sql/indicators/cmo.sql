-- cmo: Chande momentum oscillator of the close, with Wilder's smoothing.
-- n: bars, n >= 2 | grain: symbol, timestamp | unit: -100 to 100 | null on the first n bars
-- source: Tushar Chande (1994); smoothed as TA-Lib's CMO is, 0 where prices never moved
-- look-back: wilder_look_back(n)
--
-- The factors of Wilder's average cancel in the ratio: gains and moves are plain decaying sums.
create or replace macro cmo(n := 14, source := 'bars') as table (

    select
        symbol,
        timestamp,
        case
            when bar_number <= n then null
            when moves = 0 then 0
            else nan_as_null(100 * (2 * gains - moves) / moves)
        end as cmo

    from gains_and_moves(n, source := source)

    where require_whole('cmo: n', n, 2)

);

comment on macro table cmo is 'Chande momentum oscillator, -100 to 100.';
