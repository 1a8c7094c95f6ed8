-- stochrsi: stochastic of the relative strength index: where the RSI is between its lowest and highest of some bars.
-- n, fast_k, fast_d: bars, n >= 2, the others >= 1 | grain: symbol, timestamp | unit: 0 to 100
-- null on the first n + fast_k + fast_d - 2 bars; 0 where the RSI moved by less than its rounding, 1e-10
-- source: Tushar Chande and Stanley Kroll (1994); equal to TA-Lib's STOCHRSI
-- look-back: wilder_look_back(n) + fast_k + fast_d
create or replace macro stochrsi(n := 14, fast_k := 5, fast_d := 3, source := 'bars') as table (

    with

    strengths as (

        select
            symbol,
            timestamp,
            bar_number,
            case
                when bar_number <= n then null
                when moves = 0 then 0
                else 100 * gains / moves
            end as rsi

        from gains_and_moves(n, source := source)

        where require_whole('stochrsi: n', n, 2)
            and require_whole('stochrsi: fast_k', fast_k, 1)
            and require_whole('stochrsi: fast_d', fast_d, 1)

    ),

    ranges as (

        select
            symbol,
            timestamp,
            bar_number,
            rsi,
            max(rsi) over fast_bars as highest,
            -max(-rsi) over fast_bars as lowest

        from strengths

        window fast_bars as (partition by symbol order by timestamp rows between fast_k - 1 preceding and current row)

    ),

    fast as (

        select
            symbol,
            timestamp,
            bar_number,
            case
                when bar_number >= n + fast_k
                    then without_noise(rsi - lowest, 100)
                        * coalesce(100 / nullif(without_noise(highest - lowest, 100), 0), 0)
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

        window signal_bars as (partition by symbol order by timestamp rows between fast_d - 1 preceding and current row)

    )

    select
        symbol,
        timestamp,
        case when bar_number > n + fast_k + fast_d - 2 then nan_as_null(raw_k) end as fast_k,
        case when bar_number > n + fast_k + fast_d - 2 then nan_as_null(raw_d) end as fast_d

    from averaged

);

comment on macro table stochrsi is 'Stochastic of the relative strength index: fast_k, fast_d, 0 to 100.';
