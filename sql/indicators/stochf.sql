-- stochf: fast stochastic oscillator: where the close is between lowest low and highest high, and its average.
-- fast_k, fast_d: bars, >= 1 | grain: symbol, timestamp | unit: 0 to 100
-- null on the first fast_k + fast_d - 2 bars; 0 where prices did not move
-- source: George Lane; equal to TA-Lib's STOCHF
-- look-back: fast_k + fast_d - 2
create or replace macro stochf(fast_k := 5, fast_d := 3, source := 'bars') as table (

    with

    averaged as (

        select
            symbol,
            timestamp,
            bar_number,
            raw_k,
            avg(raw_k) over signal_bars as raw_d

        from stochastic(fast_k, source := source)

        where require_whole('stochf: fast_k', fast_k, 1)
            and require_whole('stochf: fast_d', fast_d, 1)

        window signal_bars as (partition by symbol order by timestamp rows between fast_d - 1 preceding and current row)

    )

    select
        symbol,
        timestamp,
        case when bar_number > fast_k + fast_d - 2 then nan_as_null(raw_k) end as fast_k,
        case when bar_number > fast_k + fast_d - 2 then nan_as_null(raw_d) end as fast_d

    from averaged

);

comment on macro table stochf is 'Fast stochastic oscillator: fast_k, fast_d, 0 to 100.';
