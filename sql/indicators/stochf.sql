-- stochf: fast stochastic oscillator: where the close is between lowest low and highest high, and its average.
-- fast_k, fast_d: bars, >= 1 | grain: symbol, timestamp | unit: 0 to 100
-- null on the first fast_k + fast_d - 2 bars; 0 where prices did not move
-- source: George Lane; equal to TA-Lib's STOCHF
-- look-back: fast_k + fast_d - 2
create or replace macro stochf(fast_k := 5, fast_d := 3, source := 'bars') as table (

    with

    ranges as (

        select
            symbol,
            timestamp,
            null_as_nan(close) as close,
            max(null_as_nan(high)) over fast_bars as highest,
            -max(-null_as_nan(low)) over fast_bars as lowest,
            row_number() over bars_in_order as bar_number

        from query_table(source)

        where require_whole('stochf: fast_k', fast_k, 1)
            and require_whole('stochf: fast_d', fast_d, 1)

        window
            bars_in_order as (partition by symbol order by timestamp),
            fast_bars as (
                partition by symbol
                order by timestamp
                rows between fast_k - 1 preceding and current row
            )

    ),

    fast as (

        select
            symbol,
            timestamp,
            bar_number,
            case
                when bar_number >= fast_k
                    then (close - lowest) * case when highest = lowest then 0 else 100 / (highest - lowest) end
            end as raw_k

        from ranges

    ),

    averaged as (

        select
            symbol,
            timestamp,
            bar_number,
            raw_k,
            avg(raw_k) over signal_bars as raw_d

        from fast

        window signal_bars as (
            partition by symbol
            order by timestamp
            rows between fast_d - 1 preceding and current row
        )

    )

    select
        symbol,
        timestamp,
        case when bar_number > fast_k + fast_d - 2 then nan_as_null(raw_k) end as fast_k,
        case when bar_number > fast_k + fast_d - 2 then nan_as_null(raw_d) end as fast_d

    from averaged

);

comment on macro table stochf is 'Fast stochastic oscillator: fast_k, fast_d, 0 to 100.';
