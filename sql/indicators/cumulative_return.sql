-- cumulative_return: change of the close over n bars, in percent.
-- n: bars, n >= 1 | grain: symbol, timestamp | unit: percent | null on the first n bars
-- look-back: n
create or replace macro cumulative_return(n := 60, source := 'bars') as table (

    select
        symbol,
        timestamp,
        100 * difference(close, lag(close, n) over bars_in_order) / lag(close, n) over bars_in_order as cumulative_return

    from query_table(source)

    where require_whole('cumulative_return: n', n, 1)

    window bars_in_order as (partition by symbol order by timestamp)

);

comment on macro table cumulative_return is 'Change of the close over n bars, percent.';
