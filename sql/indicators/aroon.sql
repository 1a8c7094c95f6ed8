-- aroon: how lately the lowest low and the highest high of the last n + 1 bars were.
-- n: bars, n >= 2 | grain: symbol, timestamp | unit: 0 to 100 | null on the first n bars
-- source: Tushar Chande (1995); equal to TA-Lib's AROON; of equal extremes the newest counts
-- look-back: n
create or replace macro aroon(n := 14, source := 'bars') as table (

    select
        symbol,
        timestamp,
        case
            when bar_number > n and not isnan(lowest.price) then 100.0 * (n - (bar_number - lowest.bar)) / n
        end as aroon_down,
        case
            when bar_number > n and not isnan(highest.price) then 100.0 * (n - (bar_number - highest.bar)) / n
        end as aroon_up

    from newest_extremes(n, source := source)

    where require_whole('aroon: n', n, 2)

);

comment on macro table aroon is 'Aroon: aroon_down, aroon_up, 0 to 100.';
