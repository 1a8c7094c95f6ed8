-- adosc: Chaikin oscillator: fast less slow exponential average of the accumulation / distribution line.
-- fast, slow: bars, >= 2 | grain: symbol, timestamp | unit: shares
-- null until the longer of both is there; counted from the first stored bar on
-- source: Marc Chaikin; averages seeded with the first value, equal to TA-Lib's ADOSC
create or replace macro adosc(fast := 3, slow := 10, source := 'bars') as table (

    with

    added as (

        select
            symbol,
            timestamp,
            bar_number,
            sum(flow) over bars_so_far as ad

        from money_flows(source := source)

        where require_whole('adosc: fast', fast, 2)
            and require_whole('adosc: slow', slow, 2)

        window bars_so_far as (partition by symbol order by timestamp rows unbounded preceding)

    ),

    weighted as (

        select
            symbol,
            timestamp,
            bar_number,
            ad,
            decay_weights(bar_number, 1, 1 - 2.0 / (fast + 1)) as fast_weights,
            decay_weights(bar_number, 1, 1 - 2.0 / (slow + 1)) as slow_weights

        from added

    ),

    averaged as (

        select
            symbol,
            timestamp,
            bar_number,
            2.0 / (fast + 1) * decayed_sum(
                ad * case when bar_number = 1 then (fast + 1) / 2.0 else 1 end, fast_weights, 1 - 2.0 / (fast + 1)
            ) as fast_average,
            2.0 / (slow + 1) * decayed_sum(
                ad * case when bar_number = 1 then (slow + 1) / 2.0 else 1 end, slow_weights, 1 - 2.0 / (slow + 1)
            ) as slow_average

        from weighted

    )

    select
        symbol,
        timestamp,
        case when bar_number >= greatest(fast, slow) then nan_as_null(fast_average - slow_average) end as adosc

    from averaged

);

comment on macro table adosc is 'Chaikin oscillator, shares.';
