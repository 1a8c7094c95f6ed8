-- earlier_close: each close beside the close of n bars before.
-- n: bars | grain: symbol, timestamp | gives close, previous_close: null on the first n bars
create or replace macro earlier_close(n := 14, source := 'bars') as table (

    select
        symbol,
        timestamp,
        close,
        lag(close, n) over (partition by symbol order by timestamp) as previous_close

    from query_table(source)

);

comment on macro table earlier_close is 'The close, and that of n bars before, USD per share.';
