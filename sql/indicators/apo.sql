-- apo: absolute price oscillator: fast less slow simple average of the close.
-- fast, slow: bars, 2 <= fast <= slow | grain: symbol, timestamp | unit: USD per share | null until slow bars are there
-- source: equal to TA-Lib's APO with its default, simple averages
-- look-back: slow - 1
create or replace macro apo(fast := 12, slow := 26, source := 'bars') as table (

    with

    windowed as (

        select
            symbol,
            timestamp,
            row_number() over bars_in_order as bar_number,
            avg(null_as_nan(close)) over fast_bars as fast_average,
            avg(null_as_nan(close)) over slow_bars as slow_average

        from query_table(source)

        where require_whole('apo: fast', fast, 2)
            and require_whole('apo: slow', slow, fast)

        window
            bars_in_order as (partition by symbol order by timestamp),
            fast_bars as (
                partition by symbol
                order by timestamp
                rows between fast - 1 preceding and current row
            ),
            slow_bars as (
                partition by symbol
                order by timestamp
                rows between slow - 1 preceding and current row
            )

    )

    select
        symbol,
        timestamp,
        case when bar_number >= slow then nan_as_null(fast_average - slow_average) end as apo

    from windowed

);

comment on macro table apo is 'Absolute price oscillator, USD per share.';
