-- avgdev: mean absolute deviation of the close from its mean over the last n bars.
-- n: bars, n >= 2 | grain: symbol, timestamp | unit: USD per share | null until n bars are there
-- source: equal to TA-Lib's AVGDEV
-- look-back: n - 1
--
-- The mean deviation needs each window's own mean beside all its values: the one place where a list is used,
-- because no sum that slides along gives it.
create or replace macro avgdev(n := 14, source := 'bars') as table (

    with

    windowed as (

        select
            symbol,
            timestamp,
            row_number() over bars_in_order as bar_number,
            avg(null_as_nan(close)) over trailing_bars as mean,
            list(null_as_nan(close)) over trailing_bars as closes

        from query_table(source)

        where require_whole('avgdev: n', n, 2)

        window
            bars_in_order as (partition by symbol order by timestamp),
            trailing_bars as (partition by symbol order by timestamp rows between n - 1 preceding and current row)

    )

    select
        symbol,
        timestamp,
        case
            when bar_number >= n
                then nan_as_null(list_avg(list_transform(closes, lambda price: abs(difference(price, mean)))))
        end as avgdev

    from windowed

);

comment on macro table avgdev is 'Mean absolute deviation of the close, USD per share.';
