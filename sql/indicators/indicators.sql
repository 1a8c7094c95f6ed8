-- indicators: the ready-made indicators side by side with the close they were made from.
-- grain: symbol, timestamp | units: USD per share; rsi_14 from 0 to 100 | null until warm
create or replace view indicators as

    select
        bars.symbol,
        bars.date,
        bars.timestamp,
        bars.close,
        sma_20.sma as sma_20,
        sma_50.sma as sma_50,
        sma_200.sma as sma_200,
        rsi_14.rsi as rsi_14

    from bars

    left join sma_20 using (symbol, timestamp)
    left join sma_50 using (symbol, timestamp)
    left join sma_200 using (symbol, timestamp)
    left join rsi_14 using (symbol, timestamp);

comment on view indicators is 'Close, SMA 20/50/200 and RSI 14 side by side.';
