-- anomalies: bars that keep the contract and still look wrong; a person should look at them.
-- grain: symbol, date, anomaly | value: the measurement, in the unit that detail names
-- zero volume; repeated bar: same prices and volume as the bar before; overnight move: the open against the close before,
-- adjusted, by a factor of more than 1.5 (variable overnight_move) either way; high outlier, low outlier: beyond a factor
-- of 1.5 (variable outlier) of the bar's own open and close and of the highs or lows on both sides
-- allows look-ahead: it compares a bar with the next one
create or replace view anomalies as

    with

    neighbours as (

        select
            symbol,
            date,
            open,
            high,
            low,
            close,
            volume,
            coalesce(getvariable('overnight_move')::double, 1.5) as overnight_move,
            coalesce(getvariable('outlier')::double, 1.5) as outlier,
            lag(close) over bars_in_order as close_before,
            lag(volume) over bars_in_order as volume_before,
            lag(open) over bars_in_order as open_before,
            lag(high) over bars_in_order as high_before,
            lag(low) over bars_in_order as low_before,
            lead(high) over bars_in_order as high_after,
            lead(low) over bars_in_order as low_after

        from bars

        window bars_in_order as (partition by symbol order by timestamp)

    ),

    anomalies as (

        select
            symbol,
            date,
            'zero volume' as anomaly,
            volume::double as value,
            'shares' as detail

        from neighbours

        where volume = 0

        union all

        select
            symbol,
            date,
            'repeated bar' as anomaly,
            volume::double as value,
            'shares, as many as the day before, at the same prices' as detail

        from neighbours

        where volume > 0
            and volume = volume_before
            and open = open_before
            and high = high_before
            and low = low_before
            and close = close_before

        union all

        select
            symbol,
            date,
            'overnight move' as anomaly,
            open / close_before as value,
            'open, as a multiple of the close before' as detail

        from neighbours

        where greatest(open / close_before, close_before / open) > overnight_move

        union all

        select
            symbol,
            date,
            'high outlier' as anomaly,
            high / greatest(open, close, high_before, high_after) as value,
            'high, as a multiple of what is beside it' as detail

        from neighbours

        where high > outlier * greatest(open, close, high_before, high_after)

        union all

        select
            symbol,
            date,
            'low outlier' as anomaly,
            low / least(open, close, low_before, low_after) as value,
            'low, as a multiple of what is beside it' as detail

        from neighbours

        where low * outlier < least(open, close, low_before, low_after)

    )

    select * from anomalies;

comment on view anomalies is 'Zero volume, repeated bars, overnight moves, highs and lows far from their neighbours.';
