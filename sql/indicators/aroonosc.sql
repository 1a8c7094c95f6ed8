-- aroonosc: Aroon oscillator: Aroon up less Aroon down.
-- n: bars, n >= 2 | grain: symbol, timestamp | unit: -100 to 100 | null on the first n bars
-- source: Tushar Chande (1995); equal to TA-Lib's AROONOSC; of equal extremes the newest counts
-- look-back: n
create or replace macro aroonosc(n := 14, source := 'bars') as table (

    select
        symbol,
        timestamp,
        case
            when bar_number > n and not isnan(highest.price) and not isnan(lowest.price)
                then 100.0 * (highest.bar - lowest.bar) / n
        end as aroonosc

    from newest_extremes(n, source := source)

    where require_whole('aroonosc: n', n, 2)

);

comment on macro table aroonosc is 'Aroon oscillator, -100 to 100.';
