-- donchian: Donchian channel: highest high and lowest low of the last n bars, and their middle.
-- n: bars, n >= 1 | grain: symbol, timestamp | unit: USD per share | null until n bars are there
-- look-back: n - 1
create or replace macro donchian(n := 20, source := 'bars') as table (

    select
        symbol,
        timestamp,
        case when bar_number >= n then nan_as_null(highest) end as upper,
        case when bar_number >= n then nan_as_null((highest + lowest) / 2) end as middle,
        case when bar_number >= n then nan_as_null(lowest) end as lower

    from price_range(n, source := source)

    where require_whole('donchian: n', n, 1)

);

comment on macro table donchian is 'Donchian channel: upper, middle, lower, USD per share.';
