-- macd: moving average convergence / divergence: fast less slow exponential average, its signal line and histogram.
-- fast, slow, signal: bars, 2 <= fast <= slow, signal >= 1
-- grain: symbol, timestamp | unit: USD per share | null on the first slow + signal - 2 bars
-- source: Gerald Appel; equal to TA-Lib's MACD
-- look-back: ema_look_back(slow) + ema_look_back(signal)
--
-- As in TA-Lib, the fast average begins so late that both averages have their first value on the same bar.
create or replace macro macd(fast := 12, slow := 26, signal := 9, source := 'bars') as table (

    with

    numbered as (

        select
            symbol,
            timestamp,
            null_as_nan(close) as close,
            row_number() over bars_in_order as bar_number

        from query_table(source)

        where require_whole('macd: fast', fast, 2)
            and require_whole('macd: slow', slow, fast)
            and require_whole('macd: signal', signal, 1)

        window bars_in_order as (partition by symbol order by timestamp)

    ),

    weighted as (

        select
            symbol,
            timestamp,
            close,
            bar_number,
            ema_weights(bar_number - (slow - fast), fast) as fast_weights,
            ema_weights(bar_number, slow) as slow_weights,
            ema_weights(bar_number - (slow - 1), signal) as signal_weights

        from numbered

    ),

    averaged as (

        select
            symbol,
            timestamp,
            bar_number,
            signal_weights,
            ema_of(close, bar_number - (slow - fast), fast_weights, fast) as fast_average,
            ema_of(close, bar_number, slow_weights, slow) as slow_average

        from weighted

    ),

    lines as (

        select
            symbol,
            timestamp,
            bar_number,
            signal_weights,
            case when bar_number >= slow then fast_average - slow_average end as macd

        from averaged

    ),

    signals as (

        select
            symbol,
            timestamp,
            bar_number,
            macd,
            ema_of(macd, bar_number - (slow - 1), signal_weights, signal) as signal_line

        from lines

    )

    select
        symbol,
        timestamp,
        case when bar_number >= slow + signal - 1 then nan_as_null(macd) end as macd,
        case when bar_number >= slow + signal - 1 then nan_as_null(signal_line) end as signal,
        case when bar_number >= slow + signal - 1 then nan_as_null(macd - signal_line) end as histogram

    from signals

);

comment on macro table macd is 'MACD: line, signal, histogram, USD per share.';
