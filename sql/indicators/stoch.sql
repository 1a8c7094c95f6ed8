-- stoch: slow stochastic oscillator: where the close is between lowest low and highest high, averaged, and its average.
-- fast_k, slow_k, slow_d: bars, >= 1 | grain: symbol, timestamp | unit: 0 to 100
-- null on the first fast_k + slow_k + slow_d - 3 bars; 0 where prices did not move
-- source: George Lane; equal to TA-Lib's STOCH
-- look-back: fast_k + slow_k + slow_d - 3
create or replace macro stoch(fast_k := 5, slow_k := 3, slow_d := 3, source := 'bars') as table (

    with

    slow as (

        select
            symbol,
            timestamp,
            bar_number,
            case when bar_number > fast_k + slow_k - 2 then avg(raw_k) over slow_bars end as slow_k_average

        from stochastic(fast_k, source := source)

        where require_whole('stoch: fast_k', fast_k, 1)
            and require_whole('stoch: slow_k', slow_k, 1)
            and require_whole('stoch: slow_d', slow_d, 1)

        window slow_bars as (partition by symbol order by timestamp rows between slow_k - 1 preceding and current row)

    ),

    averaged as (

        select
            symbol,
            timestamp,
            bar_number,
            slow_k_average,
            avg(slow_k_average) over signal_bars as slow_d_average

        from slow

        window signal_bars as (partition by symbol order by timestamp rows between slow_d - 1 preceding and current row)

    )

    select
        symbol,
        timestamp,
        case when bar_number > fast_k + slow_k + slow_d - 3 then nan_as_null(slow_k_average) end as slow_k,
        case when bar_number > fast_k + slow_k + slow_d - 3 then nan_as_null(slow_d_average) end as slow_d

    from averaged

);

comment on macro table stoch is 'Slow stochastic oscillator: slow_k, slow_d, 0 to 100.';
