-- rsi: relative strength index of the close, Wilder's smoothing seeded with the mean of the first n changes.
-- n: bars, n >= 2 | grain: symbol, timestamp | unit: 0 to 100 | null on the first n bars
-- source: J. Welles Wilder, New Concepts in Technical Trading Systems (1978); equal to TA-Lib's RSI, 0 where prices never moved
-- look-back: n + ceil(ln(1e-12) / ln(1 - 1.0 / n))
--
-- Wilder's average y_t = q * y_(t-1) + (1 - q) * x_t, q = 1 - 1/n, is a sum of x_i * q^(t-i): no recursion is needed.
-- The first n changes enter with equal weight, which is the seed. Powers of q stay in range because each symbol is cut
-- into blocks with q^rows = 1e-290: a row adds its own block's sum and the decayed sum at the end of the block before;
-- older blocks weigh nothing. The factor (1 - q) cancels in gains / (gains + losses).
create or replace macro rsi(n := 14, source := 'bars') as table (

    with

    changes as (

        select
            symbol,
            timestamp,
            close - lag(close) over bars_in_order as change,
            row_number() over bars_in_order as bar_number

        from query_table(source)

        window bars_in_order as (partition by symbol order by timestamp)

    ),

    stepped as (

        select
            symbol,
            timestamp,
            bar_number,
            change,
            greatest(bar_number - 1 - n, 0) as steps,
            cast(ceil(ln(1e-290) / ln(1 - 1.0 / n)) as bigint) as block_rows

        from changes

        where case
            when n >= 2 and n % 1 = 0 then true
            else error('rsi: n must be a whole number of at least 2 bars, got ' || coalesce(n::varchar, 'null'))
        end

    ),

    blocked as (

        select
            symbol,
            timestamp,
            bar_number,
            change,
            steps // block_rows as block,
            steps % block_rows = block_rows - 1 as ends_block,
            pow(1 - 1.0 / n, steps % block_rows) as decay

        from stepped

    ),

    summed as (

        select
            symbol,
            timestamp,
            bar_number,
            block,
            ends_block,
            decay,
            decay * sum(greatest(change, 0) / decay) over block_so_far as gains,
            decay * sum(abs(change) / decay) over block_so_far as moves

        from blocked

        window block_so_far as (
            partition by symbol, block
            order by timestamp
            rows between unbounded preceding and current row
        )

    ),

    carried as (

        select
            symbol,
            timestamp,
            bar_number,
            gains + decay * (1 - 1.0 / n) * coalesce(
                last_value(case when ends_block then gains end ignore nulls) over bars_before, 0
            ) as gains,
            moves + decay * (1 - 1.0 / n) * coalesce(
                last_value(case when ends_block then moves end ignore nulls) over bars_before, 0
            ) as moves

        from summed

        window bars_before as (
            partition by symbol
            order by timestamp
            rows between unbounded preceding and 1 preceding
        )

    )

    select
        symbol,
        timestamp,
        case
            when bar_number <= n then null
            when moves = 0 then 0
            else 100 * gains / moves
        end as rsi

    from carried

);

comment on macro table rsi is 'Relative strength index of the close, Wilder smoothing, 0 to 100.';
