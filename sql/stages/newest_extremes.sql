-- newest_extremes: highest high and lowest low of the last n + 1 bars, and the newest bar of each.
-- n: bars | grain: symbol, timestamp
-- gives bar_number, highest and lowest: {price, bar}; lowest.price has its sign turned
-- source: Tushar Chande (1995)
create or replace macro newest_extremes(n := 14, source := 'bars') as table (

    with

    numbered as (

        select
            symbol,
            timestamp,
            rounded_price(null_as_nan(high)) as high,
            rounded_price(null_as_nan(low)) as low,
            row_number() over (partition by symbol order by timestamp) as bar_number

        from query_table(source)

    )

    select
        symbol,
        timestamp,
        bar_number,
        max({'price': high, 'bar': bar_number}) over trailing_bars as highest,
        max({'price': -low, 'bar': bar_number}) over trailing_bars as lowest

    from numbered

    window trailing_bars as (
        partition by symbol
        order by timestamp
        rows between greatest(n, 0) preceding and current row
    )

);

comment on macro table newest_extremes is 'Highest high and lowest low of the last n + 1 bars with their bars.';
