-- adxr: average directional index rating: mean of the average directional index now and n - 1 bars before.
-- n: bars, n >= 2 | grain: symbol, timestamp | unit: 0 to 100 | null on the first 3 * n - 2 bars
-- source: J. Welles Wilder (1978); equal to TA-Lib's ADXR
-- look-back: 2 * wilder_look_back(n) + n
create or replace macro adxr(n := 14, source := 'bars') as table (

    with

    lagged as (

        select
            symbol,
            timestamp,
            adx,
            lag(adx, n - 1) over (partition by symbol order by timestamp) as earlier_adx

        from average_directional_index(n, source := source)

        where require_whole('adxr: n', n, 2)

    )

    select
        symbol,
        timestamp,
        nan_as_null((adx + earlier_adx) / 2) as adxr

    from lagged

);

comment on macro table adxr is 'Average directional index rating, 0 to 100.';
