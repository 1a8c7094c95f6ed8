-- ppo: percentage price oscillator: distance of the fast from the slow exponential average, its signal and histogram.
-- fast, slow, signal: bars, 2 <= fast <= slow, signal >= 1
-- grain: symbol, timestamp | unit: percent of the slow average | null on the first slow + signal - 2 bars
-- source: Gerald Appel; the line is equal to TA-Lib's PPO with exponential averages
-- look-back: ema_look_back(slow) + ema_look_back(signal)
create or replace macro ppo(fast := 12, slow := 26, signal := 9, source := 'bars') as table (

    with

    lines as (

        select
            symbol,
            timestamp,
            bar_number,
            case when bar_number >= slow then 100 * difference(fast_average, slow_average) / slow_average end as ppo,
            ema_weights(bar_number - (slow - 1), signal) as weights

        from fast_and_slow(fast, slow, 0, source := source)

        where require_whole('ppo: fast', fast, 2)
            and require_whole('ppo: slow', slow, fast)
            and require_whole('ppo: signal', signal, 1)

    ),

    signals as (

        select
            symbol,
            timestamp,
            bar_number,
            ppo,
            exponential_average(ppo, bar_number - (slow - 1), weights, signal) as signal_line

        from lines

    )

    select
        symbol,
        timestamp,
        case when bar_number >= slow + signal - 1 then nan_as_null(ppo) end as ppo,
        case when bar_number >= slow + signal - 1 then nan_as_null(signal_line) end as signal,
        case
            when bar_number >= slow + signal - 1 then nan_as_null(without_noise(ppo - signal_line, 100))
        end as histogram

    from signals

);

comment on macro table ppo is 'Percentage price oscillator: line, signal, histogram, percent.';
