-- ema: exponential moving average of the close, seeded with the mean of the first n bars.
-- n: bars, n >= 2 | grain: symbol, timestamp | unit: USD per share | null until n bars are there
-- source: smoothing factor 2 / (n + 1); equal to TA-Lib's EMA
-- look-back: n + ceil(ln(1e-12) / ln(1 - 2.0 / (n + 1)))
--
-- y_t = q * y_(t-1) + (1 - q) * x_t, q = 1 - 2 / (n + 1), as a weighted sum without recursion, cut into blocks as
-- explained in rsi.sql: the first n closes weigh 1 / n each and do not decay before position n, which is the seed.
create or replace macro ema(n := 20, source := 'bars') as table (

    with

    stepped as (

        select
            symbol,
            timestamp,
            close,
            row_number() over bars_in_order as bar_number,
            greatest(row_number() over bars_in_order - n, 0) as steps,
            cast(ceil(ln(1e-290) / ln(1 - 2.0 / (n + 1))) as bigint) as block_rows

        from query_table(source)

        where case
            when n >= 2 and n % 1 = 0 then true
            else error('ema: n must be a whole number of at least 2 bars, got ' || coalesce(n::varchar, 'null'))
        end

        window bars_in_order as (partition by symbol order by timestamp)

    ),

    blocked as (

        select
            symbol,
            timestamp,
            bar_number,
            close * case when bar_number <= n then 1.0 / n else 2.0 / (n + 1) end as weighted_close,
            steps // block_rows as block,
            steps % block_rows = block_rows - 1 as ends_block,
            pow(1 - 2.0 / (n + 1), steps % block_rows) as decay

        from stepped

    ),

    summed as (

        select
            symbol,
            timestamp,
            bar_number,
            ends_block,
            decay,
            decay * sum(weighted_close / decay) over block_so_far as within_block

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
            within_block + decay * (1 - 2.0 / (n + 1)) * coalesce(
                last_value(case when ends_block then within_block end ignore nulls) over bars_before, 0
            ) as ema

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
        case when bar_number >= n then ema end as ema

    from carried

);

comment on macro table ema is 'Exponential moving average of the close, USD per share.';
