-- decay_rows: after how many bars a weight that shrinks by q with each bar is below 1e-280: the rows of a block.
create or replace macro decay_rows(q) as (

    cast(ceil(ln(1e-280) / ln(greatest(q, 1e-280))) as bigint)

);

comment on macro decay_rows is 'Bars after which a weight q per bar is below 1e-280.';
