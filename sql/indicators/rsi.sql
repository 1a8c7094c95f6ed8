-- rsi: relative strength index of the close, Wilder's smoothing seeded with the mean of the first n changes.
-- n: bars, n >= 2 | grain: symbol, timestamp | unit: 0 to 100 | null on the first n bars
-- source: J. Welles Wilder, New Concepts in Technical Trading Systems (1978); equal to TA-Lib's RSI,
--   0 where prices never moved
-- look-back: wilder_look_back(n)
--
-- The factors of Wilder's average cancel in the ratio: gains and moves are plain decaying sums.
create or replace macro rsi(n := 14, source := 'bars') as table (

    select
        symbol,
        timestamp,
        case
            when bar_number <= n then null
            when moves = 0 then 0
            else nan_as_null(100 * gains / moves)
        end as rsi

    from gains_and_moves(n, source := source)

    where require_whole('rsi: n', n, 2)

);

comment on macro table rsi is 'Relative strength index of the close, Wilder smoothing, 0 to 100.';
