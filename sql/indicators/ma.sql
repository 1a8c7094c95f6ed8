-- ma: moving average of the close, of the kind that is asked for.
-- n: bars, n >= 2 | kind: 'sma', 'ema', 'wma', 'dema', 'tema', 'trima' or 't3' | grain: symbol, timestamp
-- unit: USD per share | null until warm
-- source: equal to TA-Lib's MA with the matype of that name (t3 with its default volume factor)
-- look-back: case when kind = 't3' then 6 else 3 end * ema_look_back(n)
create or replace macro ma(n := 30, kind := 'sma', source := 'bars') as table (

    with

    -- only the kind asked for is computed: the other conditions are false before anything is read
    averages as (

        select symbol, timestamp, sma as ma from sma(n, source := source)
        where require_whole('ma: n', n, 2) and case
            when kind in ('sma', 'ema', 'wma', 'dema', 'tema', 'trima', 't3') then kind = 'sma'
            else error('ma: kind must be sma, ema, wma, dema, tema, trima or t3, got ' || coalesce(kind, 'null'))
        end

        union all

        select symbol, timestamp, ema as ma from ema(n, source := source) where kind = 'ema'

        union all

        select symbol, timestamp, wma as ma from wma(n, source := source) where kind = 'wma'

        union all

        select symbol, timestamp, dema as ma from dema(n, source := source) where kind = 'dema'

        union all

        select symbol, timestamp, tema as ma from tema(n, source := source) where kind = 'tema'

        union all

        select symbol, timestamp, trima as ma from trima(n, source := source) where kind = 'trima'

        union all

        select symbol, timestamp, t3 as ma from t3(n, source := source) where kind = 't3'

    )

    select
        symbol,
        timestamp,
        ma

    from averages

);

comment on macro table ma is 'Moving average of the close of the kind asked for, USD per share.';
