-- rsi_14: relative strength index over 14 bars, Wilder's smoothing.
-- grain: symbol, timestamp | unit: 0 to 100 | null on the first 14 bars
create or replace view rsi_14 as

    select
        symbol,
        timestamp,
        rsi

    from rsi(n := 14);

comment on view rsi_14 is 'Relative strength index over 14 bars, 0 to 100.';
