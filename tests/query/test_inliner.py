"""What is put in a macro's place gives the rows that DuckDB gives for the call itself."""

import re

import duckdb
import pytest
import sqlglot
from sqlglot import exp

from alchemiser_duck.query.catalogue import built_in_files
from alchemiser_duck.query.inliner import Macro, NotInlinable, inlined

BARS = """
    create table bars as
    select case when i % 3 = 0 then 'A' else 'B' end as symbol, i as timestamp, i * i % 17 as close, i as n
    from range(40) as rows(i)
"""

MACROS = {
    "doubled": """
        create macro doubled(source := 'bars') as table (select *, close * 2 as twice from query_table(source))
    """,
    "summed": """
        create macro summed(n, factor := 10, source := 'bars') as table (
            with numbered as (select *, row_number() over (partition by symbol order by timestamp) as bar
                from doubled(source := source)),
            windowed as (select numbered.symbol, timestamp, bar, factor * sum(twice) over (
                partition by symbol order by timestamp rows between n - 1 preceding and current row) as total
                from numbered)
            select symbol, timestamp, total + n as total from windowed where bar > 1)
    """,
    "numbered": "create macro numbered(n := 1) as table (select symbol, timestamp, close + n as close from bars)",
}

CALLS = {
    "by position": "select * from summed(3)",
    "by name": "select * from summed(factor := 2, n := 4)",
    "an expression": "select * from summed(1 + 2, -3)",
    "another source": "select * from summed(2, source := 'others')",
    "with an alias": "select s.total from summed(2) as s",
    "twice": "select * from summed(2) as a join summed(3) as b using (symbol, timestamp)",
    "in a CTE": "with numbered as (select * from summed(2)), windowed as (from numbered) select * from windowed",
    "a CTE of the macro's name": "with doubled as (select 1 as x) select * from doubled, summed(2)",
    "in a subquery": "select (select max(total) from summed(5)) as most from bars",
    "a macro named like a CTE of another": "select * from numbered(7) join summed(2) using (symbol, timestamp)",
    "in a union": "select * from summed(2) union all select * from summed(3)",
    "a default": "select * from doubled()",
}


@pytest.fixture(scope="module")
def con() -> duckdb.DuckDBPyConnection:
    con = duckdb.connect()
    con.execute(BARS)
    con.execute("create table others as select symbol, timestamp, close + 1 as close, n from bars")
    for text in MACROS.values():
        con.execute(text)
    return con


def macro(name: str) -> Macro | None:
    if name not in MACROS:
        return None
    found = re.search(r"macro \w+\((.*?)\) as table \((.*)\)", MACROS[name], re.DOTALL)
    assert found
    pairs = [part.partition(":=") for part in found.group(1).split(",")]
    parameters = {
        name.strip(): sqlglot.parse_one(default.strip() or "null", read="duckdb") for name, _, default in pairs
    }
    body = sqlglot.parse_one(found.group(2), read="duckdb")
    assert isinstance(body, exp.Query)
    return parameters, body


def parsed(text: str) -> exp.Query:
    body = sqlglot.parse_one(text, read="duckdb")
    assert isinstance(body, exp.Query)
    return body


@pytest.mark.parametrize("text", CALLS.values(), ids=CALLS)
def test_a_body_in_place_of_a_call_gives_the_same_rows(con: duckdb.DuckDBPyConnection, text: str) -> None:
    given = inlined(parsed(text), macro).sql("duckdb")
    assert not re.search(r"\b(summed|doubled|numbered)\(", given, re.IGNORECASE)
    assert sorted(con.execute(given).fetchall(), key=str) == sorted(con.execute(text).fetchall(), key=str)


def test_what_calls_nothing_known_stays_as_it_is() -> None:
    body = parsed("select * from other(3) join bars using (symbol)")
    assert inlined(body, macro) is body


def test_the_body_that_is_given_is_not_changed() -> None:
    body = parsed("select * from summed(2)")
    inlined(body, macro)
    assert body == parsed("select * from summed(2)")


@pytest.mark.parametrize(
    "call", ["summed(1, 2, 'bars', 4)", "summed(1, window := 2)", "summed(1, n := 2)", "doubled('bars', 'bars')"]
)
def test_a_call_that_does_not_fit_is_refused(call: str) -> None:
    with pytest.raises(NotInlinable):
        inlined(parsed(f"select * from {call}"), macro)


def test_macros_that_call_each_other_in_a_circle_are_refused() -> None:
    with pytest.raises(NotInlinable, match="circle"):
        inlined(parsed("select * from a()"), lambda name: ({}, parsed("select * from a()")))


def test_stages_are_no_indicators() -> None:
    stages = [file.name for file in built_in_files() if file.is_stage]
    assert "directional_moves" in stages
    assert not [file.name for file in built_in_files() if file.is_stage and file.is_indicator]
