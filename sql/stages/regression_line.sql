-- regression_line: the straight line that fits the last n closes best.
-- n: bars | grain: symbol, timestamp
-- gives close, bars_seen: closes in the frame, mean: its height in the middle, slope: USD per bar
-- source: ordinary least squares
create or replace macro regression_line(n := 14, source := 'bars') as table (

    with

    numbered as (

        select
            symbol,
            timestamp,
            close,
            row_number() over (partition by symbol order by timestamp) as bar_number

        from query_table(source)

    )

    select
        symbol,
        timestamp,
        close,
        count(close) over trailing_bars as bars_seen,
        avg(close) over trailing_bars as mean,
        without_noise(regr_slope(close, bar_number) over trailing_bars, close) as slope

    from numbered

    window trailing_bars as (
        partition by symbol
        order by timestamp
        rows between greatest(n - 1, 0) preceding and current row
    )

);

comment on macro table regression_line is 'Regression line of the last n closes: mean and slope.';
