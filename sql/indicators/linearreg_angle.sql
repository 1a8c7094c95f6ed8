-- linearreg_angle: angle of the straight line that fits the last n closes best.
-- n: bars, n >= 2 | grain: symbol, timestamp | unit: degrees | null until n bars are there
-- source: ordinary least squares; equal to TA-Lib's LINEARREG_ANGLE
-- look-back: n - 1
create or replace macro linearreg_angle(n := 14, source := 'bars') as table (

    with

    numbered as (

        select
            symbol,
            timestamp,
            close,
            row_number() over bars_in_order as bar_number

        from query_table(source)

        where require_whole('linearreg_angle: n', n, 2)

        window bars_in_order as (partition by symbol order by timestamp)

    ),

    windowed as (

        select
            symbol,
            timestamp,
            count(close) over trailing_bars as bars_seen,
            regr_slope(close, bar_number) over trailing_bars as slope

        from numbered

        window trailing_bars as (
            partition by symbol
            order by timestamp
            rows between n - 1 preceding and current row
        )

    )

    select
        symbol,
        timestamp,
        case when bars_seen = n then degrees(atan(slope)) end as linearreg_angle

    from windowed

);

comment on macro table linearreg_angle is 'Angle of the regression line of the close, degrees.';
