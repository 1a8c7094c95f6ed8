-- max_drawdown: worst decline from a peak to a later trough of the closes inside the last n bars.
-- n: bars, n >= 1 | grain: symbol, timestamp | unit: percent, positive | null until n bars are there
-- source: the Alchemiser strategies' max-drawdown; 0 where the close never fell
-- look-back: n - 1
--
-- Each symbol is cut into blocks of n bars, so that a window is the rest of one block and the beginning of the next.
-- The worst decline lies in the one, in the other, or leads from the peak of the one to the trough of the other.
-- The rest of a block is only used n - 1 bars after it began, when the block is complete: nothing is seen early.
create or replace macro max_drawdown(n := 60, source := 'bars') as table (

    with

    numbered as (

        select
            symbol,
            timestamp,
            null_as_nan(close) as close,
            row_number() over bars_in_order as bar_number

        from query_table(source)

        where require_whole('max_drawdown: n', n, 1)

        window bars_in_order as (partition by symbol order by timestamp)

    ),

    blocked as (

        select
            symbol,
            timestamp,
            close,
            bar_number,
            (bar_number - 1) // n as block

        from numbered

    ),

    extremes as (

        select
            symbol,
            timestamp,
            close,
            bar_number,
            block,
            max(close) over block_so_far as peak,
            min(close) over block_so_far as trough,
            max(close) over rest_of_block as later_peak,
            min(close) over rest_of_block as later_trough

        from blocked

        window
            block_so_far as (
                partition by symbol, block
                order by timestamp
                rows between unbounded preceding and current row
            ),
            rest_of_block as (
                partition by symbol, block
                order by timestamp
                rows between current row and unbounded following
            )

    ),

    declines as (

        select
            symbol,
            timestamp,
            bar_number,
            trough,
            later_peak,
            max(difference(peak, close) / peak) over block_so_far as decline,
            max(difference(close, later_trough) / close) over rest_of_block as later_decline

        from extremes

        window
            block_so_far as (
                partition by symbol, block
                order by timestamp
                rows between unbounded preceding and current row
            ),
            rest_of_block as (
                partition by symbol, block
                order by timestamp
                rows between current row and unbounded following
            )

    ),

    joined as (

        select
            symbol,
            timestamp,
            bar_number,
            trough,
            decline,
            lag(later_peak, n - 1) over bars_in_order as first_peak,
            lag(later_decline, n - 1) over bars_in_order as first_decline

        from declines

        window bars_in_order as (partition by symbol order by timestamp)

    )

    select
        symbol,
        timestamp,
        case
            when bar_number < n then null
            when bar_number % n = 0 then nan_as_null(100 * decline)
            else nan_as_null(100 * greatest(first_decline, decline, difference(first_peak, trough) / first_peak))
        end as max_drawdown

    from joined

);

comment on macro table max_drawdown is 'Worst peak-to-trough decline inside the window, percent.';
