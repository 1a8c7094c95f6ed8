-- atr: average true range: Wilder's average of the true range.
-- n: bars, n >= 1 | grain: symbol, timestamp | unit: USD per share | null on the first n bars
-- source: J. Welles Wilder (1978); equal to TA-Lib's ATR
-- look-back: wilder_look_back(n) + 1
create or replace macro atr(n := 14, source := 'bars') as table (

    select
        symbol,
        timestamp,
        case when bar_number > n then nan_as_null(atr) end as atr

    from average_true_range(n, source := source)

    where require_whole('atr: n', n, 1)

);

comment on macro table atr is 'Average true range, USD per share.';
