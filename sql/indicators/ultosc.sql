-- ultosc: ultimate oscillator: buying pressure over true range, of three lengths of time.
-- short, medium, long: bars, >= 1 | grain: symbol, timestamp | unit: 0 to 100 | null on the first bars of the longest
-- source: Larry Williams (1985); equal to TA-Lib's ULTOSC
-- look-back: greatest(short, medium, long)
create or replace macro ultosc(short := 7, medium := 14, long := 28, source := 'bars') as table (

    with

    ranges as (

        select
            symbol,
            timestamp,
            bar_number,
            case when bar_number > 1 then difference(close, -greatest(-low, -previous_close)) end as pressure,
            true_range

        from true_ranges(source := source)

        where require_whole('ultosc: short', short, 1)
            and require_whole('ultosc: medium', medium, 1)
            and require_whole('ultosc: long', long, 1)

    ),

    windowed as (

        select
            symbol,
            timestamp,
            bar_number,
            sum(pressure) over short_bars as short_pressure,
            sum(true_range) over short_bars as short_true_range,
            sum(pressure) over medium_bars as medium_pressure,
            sum(true_range) over medium_bars as medium_true_range,
            sum(pressure) over long_bars as long_pressure,
            sum(true_range) over long_bars as long_true_range

        from ranges

        window
            short_bars as (partition by symbol order by timestamp rows between short - 1 preceding and current row),
            medium_bars as (partition by symbol order by timestamp rows between medium - 1 preceding and current row),
            long_bars as (partition by symbol order by timestamp rows between long - 1 preceding and current row)

    )

    select
        symbol,
        timestamp,
        case
            when bar_number > greatest(short, medium, long) then nan_as_null(100 / 7.0 * (
                4 * coalesce(short_pressure / nullif(short_true_range, 0), 0)
                + 2 * coalesce(medium_pressure / nullif(medium_true_range, 0), 0)
                + coalesce(long_pressure / nullif(long_true_range, 0), 0)
            ))
        end as ultosc

    from windowed

);

comment on macro table ultosc is 'Ultimate oscillator, 0 to 100.';
