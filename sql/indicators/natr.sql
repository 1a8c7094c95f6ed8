-- natr: normalised average true range: the average true range as a percentage of the close.
-- n: bars, n >= 1 | grain: symbol, timestamp | unit: percent | null on the first n bars
-- source: J. Welles Wilder (1978); equal to TA-Lib's NATR
-- look-back: wilder_look_back(n) + 1
create or replace macro natr(n := 14, source := 'bars') as table (

    select
        symbol,
        timestamp,
        case when bar_number > n then nan_as_null(100 * atr / close) end as natr

    from average_true_range(n, source := source)

    where require_whole('natr: n', n, 1)

);

comment on macro table natr is 'Average true range over the close, percent.';
