-- cci: commodity channel index: distance of the typical price from its mean, in mean deviations.
-- n: bars, n >= 2 | grain: symbol, timestamp | unit: 0.015 mean deviations | null until n bars are there
-- source: Donald Lambert (1980); equal to TA-Lib's CCI, 0 where prices did not move
-- look-back: n - 1
--
-- The mean deviation needs each window's own mean beside all its values: the one place where a list is used,
-- because no sum that slides along gives it.
create or replace macro cci(n := 14, source := 'bars') as table (

    with

    priced as (

        select
            symbol,
            timestamp,
            null_as_nan((high + low + close) / 3) as price,
            row_number() over bars_in_order as bar_number

        from query_table(source)

        where require_whole('cci: n', n, 2)

        window bars_in_order as (partition by symbol order by timestamp)

    ),

    windowed as (

        select
            symbol,
            timestamp,
            bar_number,
            price,
            avg(price) over trailing_bars as mean,
            list(price) over trailing_bars as prices

        from priced

        window trailing_bars as (partition by symbol order by timestamp rows between n - 1 preceding and current row)

    ),

    deviated as (

        select
            symbol,
            timestamp,
            bar_number,
            price,
            mean,
            list_avg(list_transform(prices, lambda one: abs(difference(one, mean)))) as deviation

        from windowed

    )

    select
        symbol,
        timestamp,
        case
            when bar_number < n then null
            else nan_as_null(difference(price, mean) * coalesce(1 / nullif(0.015 * deviation, 0), 0))
        end as cci

    from deviated

);

comment on macro table cci is 'Commodity channel index.';
