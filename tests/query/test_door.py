"""The door for typed SQL holds against a generator of hostile texts: nothing is read, asked or shown but the layer.

A canary file and a canary server on loopback must never be touched; each text ends in a refusal or in the layer's rows.
"""

import random
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import duckdb
import pytest
from conftest import MORNING

from alchemiser_duck import CachedMarketDataAdapter, Settings
from alchemiser_duck.errors import NotReadOnly, QueryFailed
from alchemiser_duck.query.door import typed_select

SECRET = "canary-5f2e81"
TEXTS = 2_000


@dataclass(frozen=True)
class Canary:
    """What must not be reached."""

    file: Path
    url: str
    requests: list[str]


@pytest.fixture(scope="module")
def canary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Canary]:
    file = tmp_path_factory.mktemp("canary") / "canary.csv"
    file.write_text(f"name\n{SECRET}\n")
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()

        do_HEAD = do_PUT = do_POST = do_GET  # noqa: N815 (http.server's names)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Canary(file, f"127.0.0.1:{server.server_address[1]}", asked)
    server.shutdown()
    server.server_close()


def every_function() -> list[str]:
    with duckdb.connect() as con:
        rows = con.execute("select distinct function_name from duckdb_functions() order by 1").fetchall()
    return [name for (name,) in rows if name.isidentifier()]


READERS = [
    *("read_csv", "read_csv_auto", "read_parquet", "parquet_scan", "read_json", "read_json_auto", "read_ndjson"),
    *("read_text", "read_blob", "glob", "sniff_csv", "parquet_metadata", "parquet_schema", "parquet_file_metadata"),
    *("parquet_kv_metadata", "query", "query_table", "arrow_scan", "pandas_scan", "iceberg_scan", "delta_scan"),
    *("duckdb_secrets", "duckdb_settings", "duckdb_variables", "which_secret", "getenv", "current_setting"),
    *("getvariable", "pragma_storage_info", "read_duckdb", "sqlite_scan", "postgres_scan", "st_read", "json_execute"),
    *("json_execute_serialized_sql", "enable_logging", "duckdb_logs", "checkpoint", "force_checkpoint", "nextval"),
    *("add_parquet_key", "write_log", "rsi", "sma", "panel"),
]
BLANKS = [
    " ",
    "\n",
    "\t",
    "/**/",
    "/* from bars */",
    "-- x\n",
    "\u00a0",
    "\u2003",
    "\ufeff",
    "\u200b",
    "\x0b",
    "\x0c",
    "\r",
]


def addresses(random_: random.Random, canary: Canary, bucket: str) -> str:
    """Write the address of something outside, as a SQL expression."""
    host, file = canary.url, str(canary.file)
    plain = random_.choice([
        file, f"file://{file}", f"http://{host}/x.csv", f"s3://{bucket}/x.csv?s3_endpoint={host}&s3_use_ssl=false",
        f"s3://{bucket}/../../x.csv?s3_endpoint={host}&s3_use_ssl=false&s3_url_style=path", f"{file[:-4]}*",
        f"s3://{bucket}/bars/timeframe=1Day/year=2025/bars.parquet?s3_endpoint={host}&s3_use_ssl=false",
        "/proc/self/environ", "/etc/passwd", "../../../../etc/passwd", f"hf://datasets/{host}/x", f"{file}\0.parquet",
    ])  # fmt: skip
    text = "'" + plain.replace("'", "''") + "'"
    half = len(plain) // 2
    return random_.choice([
        text, text, f"E{text}", f"'{plain[:half]}' || '{plain[half:]}'", f"concat('{plain[:half]}', '{plain[half:]}')",
        f"[{text}]", f"({text})", f"{text}::varchar", f"$${plain}$$", f"replace('{plain}#', '#', '')",
        f"(select {text})", f"chr({ord(plain[0])}) || '{plain[1:]}'", f"format('{{}}', {text})",
        f"getvariable('market_data') || '/../{plain}'", f"list_value({text})", f"reverse('{plain[::-1]}')",
    ])  # fmt: skip


def spelled(random_: random.Random, name: str) -> str:
    return random_.choice([
        name, name, name.upper(), name.title(), f'"{name}"', f"system.main.{name}", f"main.{name}",
        f'"system"."main"."{name}"', f"memory.main.{name}", f"pg_catalog.{name}", f'"{name} "', name.replace("r", "R"),
    ])  # fmt: skip


def hostile(random_: random.Random, canary: Canary, bucket: str, function: str) -> str:
    """Write one text that reaches for something outside."""
    address, name = addresses(random_, canary, bucket), spelled(random_, function)
    blank = random_.choice(BLANKS)
    call = f"{name}{blank}({address})"
    plain = address.strip("'")
    text = random_.choice([
        f"from {call}", f"select * from {call}", f"select {call}", f"from bars, {call}",
        f"from bars where close > {call}",
        f"select (select max(x) from {call} as t(x))", f"with bars as (from {call}) from bars",
        f"with recursive t as (select 1 as x union all select x from t, {call}) from t", f"describe from {call}",
        f"summarize from {call}", f"summarize {address}", f"from {address}", f'from "{plain}"',
        f"show tables from {plain}",
        f"from sma(20, source := {address})", f"from sma({call})", f"from rsi(n := {call}, source := 'bars')",
        f"from query_table({address})", f"from query_table([{address}])", f"from query({address})",
        f"from query('from ' || {address})", f"select list_transform([1], lambda x: {call})", f"values ({call})",
        f"from bars join lateral (from {call}) on true", f"pivot (from {call}) on name",
        f"unpivot (from {call}) on name",
        f"from bars order by {call}", f"from bars qualify row_number() over (order by {call}) = 1",
        f"select columns(c -> {call}) from bars", f"from (values (1)) t(x) where exists (from {call})",
        f"copy (from bars) to {address}", f"copy bars from {address}", f"attach {address}",
        f"export database {address}",
        f"install {plain}", f"load {address}", f"create table x as from {call}", f"prepare x as from {call}",
        f"from bars; from {call}", f"call {call}", f"pragma {function}({address})", f"set variable x = {call}",
        f"explain analyze from {call}", f"insert into bars from {call}", f"create macro m() as table from {call}",
        f"from bars{blank}union all{blank}by name from {call}", f"select * replace ({call} as close) from bars",
        f"from x.{name}({address})", f'from x."{plain}"', f"from bars as t(a) , {address}", f"table {plain}",
        f"from bars tablesample reservoir({address})", f"from bars limit (select 1 from {call})", f"use {plain}",
    ])  # fmt: skip
    if random_.random() < 0.2:
        place = random_.randrange(len(text) + 1)
        text = text[:place] + random_.choice([*BLANKS, ";", "'", '"', "\\", "--", "/*", "$$"]) + text[place:]
    return text


@pytest.fixture(scope="module", params=["copies", "httpfs"])
def door(request: pytest.FixtureRequest, stored_settings: Settings) -> CachedMarketDataAdapter:
    over = {} if request.param == "copies" else {"local_copies": False}
    return CachedMarketDataAdapter(stored_settings, clock=lambda: MORNING, on_suspect="ignore", **over)


def test_hostile_sql_reaches_nothing(door: CachedMarketDataAdapter, canary: Canary, stored_settings: Settings) -> None:
    """Half of the texts for each way of reading; every function of DuckDB, and the dangerous ones most."""
    random_ = random.Random(23)  # noqa: S311 (a seed, no secret)
    functions = every_function()
    wrong, refused = [], 0
    for number in range(TEXTS // 2):
        function = random_.choice(READERS if number % 2 else functions)
        text = hostile(random_, canary, stored_settings.market_data_bucket, function)
        try:
            rows = door.sql(text).limit(5).fetchall()
        except (NotReadOnly, QueryFailed) as refusal:
            refused += 1
            if SECRET in str(refusal) or not str(refusal).strip():
                wrong.append((text, str(refusal)))
        except Exception as other:  # noqa: BLE001 (any other is a hole of its own)
            wrong.append((text, repr(other)))
        else:
            if SECRET in repr(rows) or "root:" in repr(rows):
                wrong.append((text, rows))
    assert wrong == []
    assert canary.requests == []
    assert refused > 0.9 * TEXTS / 2
    assert door.sql("select count(*) > 0 from bars").fetchall() == [(True,)]


@pytest.mark.parametrize(
    "text", ["from x.bars", 'from "x.y"."bars"', "from memory.x.bars", "select 1 from bars, x.bars"]
)
def test_a_schema_is_none_of_the_layer(text: str) -> None:
    """The layer lives in one schema: another's relation of the same name is another relation."""
    assert typed_select("from bars", {"bars"}).names == "bars"
    with pytest.raises(QueryFailed, match="there is no schema"):
        typed_select(text, {"bars"})


@pytest.mark.parametrize(
    "bomb",
    [
        "select sum(a.range * b.range) from range(10000000) a, range(10000000) b",
        "select count(*) from range(1000000000000)",
        "with recursive t as (select 1::hugeint as x union all select x + 1 from t) select max(x) from t",
        "select max(d.close) from bars a, bars b, bars c, bars d where a.close + b.close < c.close + d.close",
    ],
)
def test_a_query_without_end_is_stopped(stored_settings: Settings, bomb: str) -> None:
    settings = stored_settings.model_copy(update={"timeout_seconds": 1.0})
    adapter = CachedMarketDataAdapter(settings, clock=lambda: MORNING, on_suspect="ignore")
    with pytest.raises(QueryFailed, match=r"stopped after 1 seconds.*ALCHEMISER_TIMEOUT"):
        adapter.sql(bomb)
    assert adapter.sql("select 1").fetchall() == [(1,)]


@pytest.mark.parametrize(
    "bomb",
    [
        "select list(range) from range(100000000)",
        "select string_agg(range::varchar, ',') from range(1000000000)",
        "select random() from range(1000000000)",
    ],
)
def test_a_query_without_bounds_ends_within_its_limits(stored_settings: Settings, bomb: str) -> None:
    limits: dict[str, Any] = {"memory_limit": "200MB", "temp_limit": "100MB"}
    adapter = CachedMarketDataAdapter(
        stored_settings.model_copy(update=limits), clock=lambda: MORNING, on_suspect="ignore"
    )
    with pytest.raises(QueryFailed, match="ALCHEMISER_MEMORY_LIMIT"):
        adapter.sql(bomb)
    assert adapter.sql("select 1").fetchall() == [(1,)]
