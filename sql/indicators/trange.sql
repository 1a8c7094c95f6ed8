-- trange: true range: from the lower to the higher of the bar's low and high and the close before.
-- grain: symbol, timestamp | unit: USD per share | null on the first bar
-- source: J. Welles Wilder (1978); equal to TA-Lib's TRANGE
-- look-back: 1
create or replace macro trange(source := 'bars') as table (

    select
        symbol,
        timestamp,
        nan_as_null(true_range) as trange

    from true_ranges(source := source)

);

comment on macro table trange is 'True range, USD per share.';
