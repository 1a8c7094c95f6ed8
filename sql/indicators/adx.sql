-- adx: average directional index: Wilder's average of the directional index.
-- n: bars, n >= 2 | grain: symbol, timestamp | unit: 0 to 100 | null on the first 2 * n - 1 bars
-- source: J. Welles Wilder (1978); equal to TA-Lib's ADX
-- look-back: 2 * wilder_look_back(n)
create or replace macro adx(n := 14, source := 'bars') as table (

    select
        symbol,
        timestamp,
        nan_as_null(adx) as adx

    from average_directional_index(n, source := source)

    where require_whole('adx: n', n, 2)

);

comment on macro table adx is 'Average directional index, 0 to 100.';
