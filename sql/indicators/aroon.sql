-- aroon: how lately the lowest low and the highest high of the last n + 1 bars were.
-- n: bars, n >= 2 | grain: symbol, timestamp | unit: 0 to 100 | null on the first n bars
-- source: Tushar Chande (1995); equal to TA-Lib's AROON; of equal extremes the newest counts
-- look-back: n
create or replace macro aroon(n := 14, source := 'bars') as table (

    with

    numbered as (

        select
            symbol,
            timestamp,
            null_as_nan(high) as high,
            null_as_nan(low) as low,
            row_number() over bars_in_order as bar_number

        from query_table(source)

        where require_whole('aroon: n', n, 2)

        window bars_in_order as (partition by symbol order by timestamp)

    ),

    windowed as (

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
            rows between n preceding and current row
        )

    )

    select
        symbol,
        timestamp,
        case
            when bar_number > n and not isnan(lowest.price) then 100.0 * (n - (bar_number - lowest.bar)) / n
        end as aroon_down,
        case
            when bar_number > n and not isnan(highest.price) then 100.0 * (n - (bar_number - highest.bar)) / n
        end as aroon_up

    from windowed

);

comment on macro table aroon is 'Aroon: aroon_down, aroon_up, 0 to 100.';
