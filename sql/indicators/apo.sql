-- apo: absolute price oscillator: fast less slow simple average of the close.
-- fast, slow: bars, 2 <= fast <= slow | grain: symbol, timestamp | unit: USD per share | null until slow bars are there
-- source: equal to TA-Lib's APO with its default, simple averages
-- look-back: slow - 1
create or replace macro apo(fast := 12, slow := 26, source := 'bars') as table (

    select
        symbol,
        timestamp,
        case when bar_number >= slow then nan_as_null(difference(fast_average, slow_average)) end as apo

    from simple_averages(fast, slow, source := source)

    where require_whole('apo: fast', fast, 2)
        and require_whole('apo: slow', slow, fast)

);

comment on macro table apo is 'Absolute price oscillator, USD per share.';
