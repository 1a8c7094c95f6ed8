-- macdext: MACD of simple averages: line, signal line and histogram.
-- fast, slow, signal: bars, 2 <= fast <= slow, signal >= 1
-- grain: symbol, timestamp | unit: USD per share | null on the first slow + signal - 2 bars
-- source: equal to TA-Lib's MACDEXT with its default, simple averages; macd has exponential ones
-- look-back: slow + signal - 2
create or replace macro macdext(fast := 12, slow := 26, signal := 9, source := 'bars') as table (

    with

    lines as (

        select
            symbol,
            timestamp,
            bar_number,
            case when bar_number >= slow then difference(fast_average, slow_average) end as macdext,
            slow_average

        from simple_averages(fast, slow, source := source)

        where require_whole('macdext: fast', fast, 2)
            and require_whole('macdext: slow', slow, fast)
            and require_whole('macdext: signal', signal, 1)

    ),

    signals as (

        select
            symbol,
            timestamp,
            bar_number,
            macdext,
            slow_average,
            without_noise(avg(macdext) over signal_bars, slow_average) as signal_line

        from lines

        window signal_bars as (partition by symbol order by timestamp rows between signal - 1 preceding and current row)

    )

    select
        symbol,
        timestamp,
        case when bar_number >= slow + signal - 1 then nan_as_null(macdext) end as macdext,
        case when bar_number >= slow + signal - 1 then nan_as_null(signal_line) end as signal,
        case
            when bar_number >= slow + signal - 1 then nan_as_null(without_noise(macdext - signal_line, slow_average))
        end as histogram

    from signals

);

comment on macro table macdext is 'MACD of simple averages: line, signal, histogram, USD per share.';
