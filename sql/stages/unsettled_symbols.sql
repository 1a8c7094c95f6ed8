-- unsettled_symbols: symbols whose bars before a time do not decide what averages with a long memory are after it.
-- grain: symbol | until: a timestamp
-- still_bars: nothing moved for more bars than these: an average of moves is then made of what was before them
-- deep_fall: a price was more than so many times a later one: what a look-back leaves out is not small beside that
create or replace macro unsettled_symbols(
    until := timestamptz '2000-01-01', still_bars := 10, deep_fall := 100, source := 'bars'
) as table (

    with

    moves as (

        select
            symbol,
            timestamp < until as is_before,
            high,
            low,
            row_number() over bars_in_order as bar_number,
            close is distinct from lag(close) over bars_in_order as close_moved,
            (high, low) is distinct from lag((high, low)) over bars_in_order as range_moved

        from query_table(source)

        window bars_in_order as (partition by symbol order by timestamp)

    )

    select symbol

    from moves

    group by symbol

    having max(high) filter (is_before) > deep_fall * min(low)
        or count(*) filter (is_before) - still_bars > least(
            max(bar_number) filter (is_before and close_moved),
            max(bar_number) filter (is_before and range_moved)
        )

);

comment on macro table unsettled_symbols is 'Symbols whose warm-up does not decide averages with a long memory.';
