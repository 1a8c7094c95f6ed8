-- sma: simple moving average of the close over the last n bars.
-- n: bars, n >= 1 | grain: symbol, timestamp | unit: USD per share | null until n bars are there
-- look-back: n - 1
create or replace macro sma(n := 20, source := 'bars') as table (

    with

    windowed as (

        select
            symbol,
            timestamp,
            avg(close) over trailing_bars as sma,
            count(close) over trailing_bars as bars_seen

        from query_table(source)

        window trailing_bars as (
            partition by symbol
            order by timestamp
            rows between n - 1 preceding and current row
        )

    )

    select
        symbol,
        timestamp,
        case when bars_seen = n then sma end as sma

    from windowed

    where case
        when n >= 1 and n % 1 = 0 then true
        else error('sma: n must be a whole number of at least 1 bar, got ' || coalesce(n::varchar, 'null'))
    end

);

comment on macro table sma is 'Simple moving average of the close, USD per share.';
