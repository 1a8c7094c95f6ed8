-- daily_returns: each bar's return in percent of the close before.
-- grain: symbol, timestamp
-- gives return: null on the first bar, and where a close is missing
create or replace macro daily_returns(source := 'bars') as table (

    select
        symbol,
        timestamp,
        100 * difference(close, previous_close) / previous_close as return

    from earlier_close(1, source := source)

);

comment on macro table daily_returns is 'Return of each bar, percent.';
