-- aroonosc: Aroon oscillator: Aroon up less Aroon down.
-- n: bars, n >= 2 | grain: symbol, timestamp | unit: -100 to 100 | null on the first n bars
-- source: Tushar Chande (1995); equal to TA-Lib's AROONOSC; of equal extremes the newest counts
-- look-back: n
create or replace macro aroonosc(n := 14, source := 'bars') as table (

    with

    numbered as (

        select
            symbol,
            timestamp,
            null_as_nan(high) as high,
            null_as_nan(low) as low,
            row_number() over bars_in_order as bar_number

        from query_table(source)

        where require_whole('aroonosc: n', n, 2)

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
            when bar_number > n and not isnan(highest.price) and not isnan(lowest.price)
                then 100.0 * (highest.bar - lowest.bar) / n
        end as aroonosc

    from windowed

);

comment on macro table aroonosc is 'Aroon oscillator, -100 to 100.';
