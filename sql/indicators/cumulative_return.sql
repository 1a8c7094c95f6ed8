-- cumulative_return: change of the close over n bars, in percent.
-- n: bars, n >= 1 | grain: symbol, timestamp | unit: percent | null on the first n bars
-- look-back: n
create or replace macro cumulative_return(n := 60, source := 'bars') as table (

    select
        symbol,
        timestamp,
        100 * (close / lag(close, n) over bars_in_order - 1) as cumulative_return

    from query_table(source)

    where case
        when n >= 1 and n % 1 = 0 then true
        else error('cumulative_return: n must be a whole number of at least 1 bar, got ' || coalesce(n::varchar, 'null'))
    end

    window bars_in_order as (partition by symbol order by timestamp)

);

comment on macro table cumulative_return is 'Change of the close over n bars, percent.';
