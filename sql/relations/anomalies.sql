-- anomalies: bars that keep the contract and still look wrong; a person should look at them.
-- grain: symbol, date, anomaly | value: the measurement, in the unit that detail names
-- zero volume; repeated bar: same prices and volume as the bar before; open or close outside: of the bar's own high and
-- low, as on thin days, usual; overnight move: the open against the close before, adjusted, by a factor of more than 1.5
-- (variable overnight_move) either way; high outlier, low outlier: beyond a factor of 1.5 (variable outlier) of the bar's
-- own open and close, and of the highs or lows on both sides, unless those are beyond their own, too
-- out of level: the whole bar lies off both neighbours by a factor of more than 1.25 (variable level)
-- volume spike: more than 200 times (variable volume_spike) the volume of both neighbours
-- allows look-ahead: it compares a bar with the next one
create or replace view anomalies as

    with

    limits as (

        select
            coalesce(getvariable('overnight_move')::double, 1.5) as overnight_move,
            coalesce(getvariable('outlier')::double, 1.5) as outlier,
            coalesce(getvariable('level')::double, 1.25) as level,
            coalesce(getvariable('volume_spike')::double, 200) as volume_spike

    ),

    measured as (

        select
            bars.*,
            limits.*,
            case when high <= outlier * greatest(open, close) then high end as sound_high,
            case when low * outlier >= least(open, close) then low end as sound_low

        from bars

        cross join limits

    ),

    neighbours as (

        select
            symbol,
            date,
            open,
            high,
            low,
            close,
            volume,
            overnight_move,
            outlier,
            level,
            volume_spike,
            lag(close) over bars_in_order as close_before,
            lag(volume) over bars_in_order as volume_before,
            lag(open) over bars_in_order as open_before,
            lag(high) over bars_in_order as high_before,
            lag(low) over bars_in_order as low_before,
            lead(low) over bars_in_order as low_after,
            lead(high) over bars_in_order as high_after,
            lead(volume) over bars_in_order as volume_after,
            lag(sound_high) over bars_in_order as sound_high_before,
            lead(sound_high) over bars_in_order as sound_high_after,
            lag(sound_low) over bars_in_order as sound_low_before,
            lead(sound_low) over bars_in_order as sound_low_after

        from measured

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
            'open or close outside' as anomaly,
            greatest(open, close, high) / least(open, close, low) / (high / low) as value,
            'the range with open and close, as a multiple of high over low' as detail

        from neighbours

        where greatest(open, close) > high
            or least(open, close) < low

        union all

        select
            symbol,
            date,
            'high outlier' as anomaly,
            high / greatest(open, close, sound_high_before, sound_high_after) as value,
            'high, as a multiple of what is beside it' as detail

        from neighbours

        where high > outlier * greatest(open, close, sound_high_before, sound_high_after)

        union all

        select
            symbol,
            date,
            'low outlier' as anomaly,
            low / least(open, close, sound_low_before, sound_low_after) as value,
            'low, as a multiple of what is beside it' as detail

        from neighbours

        where low * outlier < least(open, close, sound_low_before, sound_low_after)

        union all

        select
            symbol,
            date,
            'out of level' as anomaly,
            close / close_before as value,
            'close, as a multiple of the close before, and back again' as detail

        from neighbours

        where high * level < case when low_after is not null then least(low_before, low_after) end
            or low > level * case when high_after is not null then greatest(high_before, high_after) end

        union all

        select
            symbol,
            date,
            'volume spike' as anomaly,
            volume / greatest(volume_before, volume_after) as value,
            'shares, as a multiple of what is beside it' as detail

        from neighbours

        where volume > volume_spike * greatest(volume_before, volume_after)
            and greatest(volume_before, volume_after) > 0

    )

    select * from anomalies;

comment on view anomalies is 'Bars that look wrong: moves, outliers, volumes and levels far from their neighbours.';
