-- macdfix: MACD with the fixed smoothing factors 0.15 and 0.075 of its inventor: line, signal line and histogram.
-- signal: bars, signal >= 1
-- grain: symbol, timestamp | unit: USD per share | null on the first signal + 24 bars
-- source: Gerald Appel; equal to TA-Lib's MACDFIX
-- look-back: ema_look_back(26) + ema_look_back(signal)
create or replace macro macdfix(signal := 9, source := 'bars') as table (

    with

    weighted as (

        select
            symbol,
            timestamp,
            close,
            bar_number,
            decay_weights(bar_number - 14, 12, 1 - 0.15) as fast_weights,
            decay_weights(bar_number, 26, 1 - 0.075) as slow_weights,
            ema_weights(bar_number - (26 - 1), signal) as weights

        from numbered_closes(source := source)

        where require_whole('macdfix: signal', signal, 1)

    ),

    averaged as (

        select
            symbol,
            timestamp,
            bar_number,
            weights,
            0.15 * decayed_sum(
                close * case when bar_number - 14 <= 12.0 then 1 / (12.0 * 0.15) else 1 end, fast_weights, 1 - 0.15
            ) as fast_average,
            0.075 * decayed_sum(
                close * case when bar_number <= 26.0 then 1 / (26.0 * 0.075) else 1 end, slow_weights, 1 - 0.075
            ) as slow_average

        from weighted

    ),

    lines as (

        select
            symbol,
            timestamp,
            bar_number,
            weights,
            case when bar_number >= 26 then difference(fast_average, slow_average) end as macdfix,
            slow_average

        from averaged

    ),

    signals as (

        select
            symbol,
            timestamp,
            bar_number,
            macdfix,
            slow_average,
            without_noise(
                exponential_average(macdfix, bar_number - (26 - 1), weights, signal), slow_average
            ) as signal_line

        from lines

    )

    select
        symbol,
        timestamp,
        case when bar_number >= 26 + signal - 1 then nan_as_null(macdfix) end as macdfix,
        case when bar_number >= 26 + signal - 1 then nan_as_null(signal_line) end as signal,
        case
            when bar_number >= 26 + signal - 1 then nan_as_null(without_noise(macdfix - signal_line, slow_average))
        end as histogram

    from signals

);

comment on macro table macdfix is 'MACD with fixed factors: line, signal, histogram, USD per share.';
