-- dx: directional index: how one-sided the directional movement is.
-- n: bars, n >= 2 | grain: symbol, timestamp | unit: 0 to 100 | null on the first n bars
-- source: J. Welles Wilder (1978); equal to TA-Lib's DX
-- look-back: wilder_look_back(n) + 1
create or replace macro dx(n := 14, source := 'bars') as table (

    select
        symbol,
        timestamp,
        nan_as_null(dx) as dx

    from directional_index(n, source := source)

    where require_whole('dx: n', n, 2)

);

comment on macro table dx is 'Directional index, 0 to 100.';
