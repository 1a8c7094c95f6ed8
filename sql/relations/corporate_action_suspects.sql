-- corporate_action_suspects: actions and price moves that do not fit each other; a person should look at them.
-- grain: symbol, date, suspicion | id: of the action, null where one seems to be missing
-- A stated split is compared with the move from the close before to the open of its day: more than a factor of 1.6
-- between them is suspicious. So is a move of 1.8 or more that is near a whole ratio and has no action.
-- allows look-ahead: it knows the last bar of each symbol
create or replace view corporate_action_suspects as

    with

    moves as (

        select
            symbol,
            date,
            open,
            lag(close) over bars_in_order as previous_close

        from bars_raw

        window bars_in_order as (partition by symbol order by timestamp)

    ),

    stated as (

        select
            symbol,
            ex_date,
            min(id) as id,
            exp(sum(ln(price_factor))) as price_factor,
            bool_or(type not in ('cash_dividend', 'spin_off')) as has_split

        from corporate_actions

        where price_factor is not null

        group by symbol, ex_date

    ),

    jumps as (

        select
            moves.symbol,
            moves.date,
            stated.id,
            stated.price_factor,
            stated.has_split,
            moves.open / moves.previous_close as move

        from moves

        left join stated
            on moves.symbol = stated.symbol
            and moves.date = stated.ex_date

        where moves.previous_close > 0
            and moves.open > 0

    ),

    duplicates as (

        select
            id,
            symbol,
            ex_date

        from corporate_actions

        where override is distinct from 'drop'

        qualify row_number() over (
            partition by symbol, type, ex_date, cash_amount, old_rate, new_rate, new_symbol, special
            order by id
        ) > 1

    ),

    corporate_action_suspects as (

        select
            symbol,
            date,
            id,
            'split ratio' as suspicion,
            printf('prices moved by a factor of %.4f overnight, the actions say %.4f', move, price_factor) as detail

        from jumps

        where has_split
            and abs(ln(move / price_factor)) > ln(1.6)

        union all

        select
            symbol,
            date,
            null as id,
            'missing split' as suspicion,
            printf('prices moved by a factor of %.4f overnight, and no action says so', move) as detail

        from jumps

        where id is null
            and greatest(move, 1 / move) >= 1.8
            and abs(greatest(move, 1 / move) / round(greatest(move, 1 / move)) - 1) < 0.1

        union all

        select
            symbol,
            ex_date as date,
            id,
            'duplicate' as suspicion,
            'the same action is there under another id: it is applied once' as detail

        from duplicates

        union all

        select
            symbol,
            ex_date as date,
            id,
            'large dividend' as suspicion,
            printf('%.4f a share after a close of %.4f', cash_amount, previous_close) as detail

        from corporate_actions

        where type = 'cash_dividend'
            and override is distinct from 'drop'
            and cash_amount > 0.3 * previous_close

        union all

        select
            corporate_actions.symbol,
            corporate_actions.ex_date as date,
            corporate_actions.id,
            case when previous_close is null then 'no bar before' else 'not derived' end as suspicion,
            case
                when previous_close is null then 'no bar is stored before the ex-date'
                else 'its effect on prices cannot be derived'
            end as detail

        from corporate_actions

        join (select symbol, max(date) as last_date from bars_raw group by symbol) as stored
            on corporate_actions.symbol = stored.symbol
            and corporate_actions.ex_date <= stored.last_date

        where type in ('cash_dividend', 'spin_off', 'forward_split', 'reverse_split', 'stock_dividend', 'unit_split')
            and override is distinct from 'drop'
            and (previous_close is null or price_factor is null)
            and id not in (select id from duplicates)

    )

    select * from corporate_action_suspects;

comment on view corporate_action_suspects is 'Corporate actions and overnight moves that do not fit each other.';
