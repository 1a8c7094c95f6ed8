-- stdev_price: sample standard deviation of the close over the last n bars.
-- n: bars, n >= 2 | grain: symbol, timestamp | unit: USD per share | null until n bars are there
-- look-back: n - 1
create or replace macro stdev_price(n := 20, source := 'bars') as table (

    with

    windowed as (

        select
            symbol,
            timestamp,
            without_noise(stddev_samp(close) over trailing_bars, close) as deviation,
            count(close) over trailing_bars as bars_seen

        from query_table(source)

        where require_whole('stdev_price: n', n, 2)

        window trailing_bars as (partition by symbol order by timestamp rows between n - 1 preceding and current row)

    )

    select
        symbol,
        timestamp,
        case when bars_seen = n then deviation end as stdev_price

    from windowed

);

comment on macro table stdev_price is 'Sample standard deviation of the close, USD per share.';
