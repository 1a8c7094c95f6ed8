-- imi: intraday momentum index: the part of the moves from open to close that went up, over the last n bars.
-- n: bars, n >= 2 | grain: symbol, timestamp | unit: 0 to 100 | null until n bars are there
-- source: Tushar Chande; equal to TA-Lib's IMI, 50 where no bar moved
-- look-back: n - 1
create or replace macro imi(n := 14, source := 'bars') as table (

    with

    windowed as (

        select
            symbol,
            timestamp,
            row_number() over bars_in_order as bar_number,
            sum(null_as_nan(greatest(difference(close, open), 0) + 0 * (close - open))) over trailing_bars as rises,
            sum(null_as_nan(abs(difference(close, open)))) over trailing_bars as moves

        from query_table(source)

        where require_whole('imi: n', n, 2)

        window
            bars_in_order as (partition by symbol order by timestamp),
            trailing_bars as (partition by symbol order by timestamp rows between n - 1 preceding and current row)

    )

    select
        symbol,
        timestamp,
        case
            when bar_number < n then null
            when moves = 0 then 50
            else nan_as_null(100 * rises / moves)
        end as imi

    from windowed

);

comment on macro table imi is 'Intraday momentum index, 0 to 100.';
