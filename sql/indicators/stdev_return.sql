-- stdev_return: volatility: population standard deviation of the last n returns, annualised by sqrt(252).
-- n: bars, n >= 1 | grain: symbol, timestamp | unit: percent a year | null on the first n bars
-- look-back: n
create or replace macro stdev_return(n := 20, source := 'bars') as table (

    with

    windowed as (

        select
            symbol,
            timestamp,
            sqrt(252) * without_noise(stddev_pop(return) over trailing_bars, 100) as stdev_return,
            count(return) over trailing_bars as returns_seen

        from daily_returns(source := source)

        where require_whole('stdev_return: n', n, 1)

        window trailing_bars as (partition by symbol order by timestamp rows between n - 1 preceding and current row)

    )

    select
        symbol,
        timestamp,
        case when returns_seen = n then stdev_return end as stdev_return

    from windowed

);

comment on macro table stdev_return is 'Annualised volatility of the bar-to-bar returns, percent.';
