-- var: population variance of the close over the last n bars.
-- n: bars, n >= 1 | grain: symbol, timestamp | unit: (USD per share) squared | null until n bars are there
-- source: equal to TA-Lib's VAR
-- look-back: n - 1
create or replace macro var(n := 5, source := 'bars') as table (

    with

    windowed as (

        select
            symbol,
            timestamp,
            without_noise(var_pop(close) over trailing_bars, 1e-12 * close * close) as variance,
            count(close) over trailing_bars as bars_seen

        from query_table(source)

        where require_whole('var: n', n, 1)

        window trailing_bars as (partition by symbol order by timestamp rows between n - 1 preceding and current row)

    )

    select
        symbol,
        timestamp,
        case when bars_seen = n then variance end as var

    from windowed

);

comment on macro table var is 'Population variance of the close, (USD per share) squared.';
