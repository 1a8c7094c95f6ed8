-- decay_weights: what decayed_sum needs to know of a bar; computed once, it serves any number of sums.
-- bar_number: 1 on the first bar that enters the sum | seed_bars: the first bars, which do not decay among themselves
-- q: what a bar's weight is multiplied by with each later bar, 0 <= q < 1
--
-- The sum y_t = q * y_(t-1) + x_t needs no recursion: it is the sum of x_i * q^(t-i). Powers of q stay in range because
-- each symbol is cut into blocks of decay_rows(q) bars and counted within them; a bar adds its own block and what is
-- left of the block before, and older blocks weigh less than 1e-280.
create or replace macro decay_weights(bar_number, seed_bars, q) as (

    struct_pack(
        factor := pow(q, (greatest(bar_number, seed_bars) - 1) % decay_rows(q)),
        -- bars back to the beginning of the block, and of the block before (equal where there is none)
        block := cast((greatest(bar_number, seed_bars) - 1) % decay_rows(q) as integer),
        two_blocks := cast(
            case when bar_number > decay_rows(q) then decay_rows(q) else 0 end
            + (greatest(bar_number, seed_bars) - 1) % decay_rows(q) as integer
        )
    )

);

comment on macro decay_weights is 'Weights of a bar in a decayed_sum.';
