-- macd: moving average convergence / divergence: fast less slow exponential average, its signal line and histogram.
-- fast, slow, signal: bars, 2 <= fast <= slow, signal >= 1
-- grain: symbol, timestamp | unit: USD per share | null on the first slow + signal - 2 bars
-- source: Gerald Appel; equal to TA-Lib's MACD
-- look-back: ema_look_back(slow) + ema_look_back(signal)
--
-- As in TA-Lib, the fast average begins so late that both averages have their first value on the same bar.
create or replace macro macd(fast := 12, slow := 26, signal := 9, source := 'bars') as table (

    with

    lines as (

        select
            symbol,
            timestamp,
            bar_number,
            case when bar_number >= slow then difference(fast_average, slow_average) end as macd,
            slow_average,
            ema_weights(bar_number - (slow - 1), signal) as weights

        from fast_and_slow(fast, slow, slow - fast, source := source)

        where require_whole('macd: fast', fast, 2)
            and require_whole('macd: slow', slow, fast)
            and require_whole('macd: signal', signal, 1)

    ),

    signals as (

        select
            symbol,
            timestamp,
            bar_number,
            macd,
            slow_average,
            without_noise(
                exponential_average(macd, bar_number - (slow - 1), weights, signal), slow_average
            ) as signal_line

        from lines

    )

    select
        symbol,
        timestamp,
        case when bar_number >= slow + signal - 1 then nan_as_null(macd) end as macd,
        case when bar_number >= slow + signal - 1 then nan_as_null(signal_line) end as signal,
        case
            when bar_number >= slow + signal - 1 then nan_as_null(without_noise(macd - signal_line, slow_average))
        end as histogram

    from signals

);

comment on macro table macd is 'MACD: line, signal, histogram, USD per share.';
