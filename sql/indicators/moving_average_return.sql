-- moving_average_return: mean of the bar-to-bar returns over the last n bars.
-- n: bars, n >= 1 | grain: symbol, timestamp | unit: percent | null on the first n bars
-- look-back: n
create or replace macro moving_average_return(n := 20, source := 'bars') as table (

    with

    windowed as (

        select
            symbol,
            timestamp,
            without_noise(avg(return) over trailing_bars, 100) as moving_average_return,
            count(return) over trailing_bars as returns_seen

        from daily_returns(source := source)

        where require_whole('moving_average_return: n', n, 1)

        window trailing_bars as (partition by symbol order by timestamp rows between n - 1 preceding and current row)

    )

    select
        symbol,
        timestamp,
        case when returns_seen = n then moving_average_return end as moving_average_return

    from windowed

);

comment on macro table moving_average_return is 'Mean of the bar-to-bar returns, percent.';
