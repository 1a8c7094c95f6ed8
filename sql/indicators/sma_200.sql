-- sma_200: simple moving average of the adjusted close over 200 bars.
-- grain: symbol, timestamp | unit: USD per share | null until 200 bars are there
create or replace view sma_200 as

    select
        symbol,
        timestamp,
        sma

    from sma(n := 200);

comment on view sma_200 is 'Simple moving average of the close over 200 bars, USD per share.';
