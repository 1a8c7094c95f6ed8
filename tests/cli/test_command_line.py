"""The command line: data on stdout, narration on stderr, exit codes as promised, in a process of its own."""

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from command_line import Ended, run
from conftest import MORNING, ROOT
from s3_proxy import S3Proxy

from alchemiser_duck import Settings
from alchemiser_duck.errors import ExitCode
from alchemiser_duck.sandbox import Fault, Sandbox


@pytest.fixture
def variables(box: Sandbox, stored_settings: Settings) -> dict[str, str]:
    """The environment that points at the stored lake."""
    return os.environ | box.environment | {"MARKET_DATA_BUCKET": stored_settings.market_data_bucket}


def test_every_format_carries_the_same_rows(variables: dict[str, str], tmp_path: Path) -> None:
    arguments = ["bars", "AAPL", "IBM", "--start", "2025-07-10"]
    as_csv = list(csv.DictReader(io.StringIO(run(variables, *arguments, "--format", "csv").stdout)))
    as_json = json.loads(run(variables, *arguments, "--format", "json").stdout)
    path = tmp_path / "bars.parquet"
    assert run(variables, *arguments, "--format", "parquet", "--output", str(path)).returncode == 0
    as_parquet = pq.read_table(path).to_pylist()
    assert [(row["symbol"], row["date"]) for row in as_csv] == [(row["symbol"], row["date"]) for row in as_json]
    assert (
        [row["close"] for row in as_json]
        == [row["close"] for row in as_parquet]
        == [float(row["close"]) for row in as_csv]
    )
    assert as_json[0]["timestamp"] == "2025-07-10T04:00:00Z"
    table = run(variables, *arguments).stdout
    assert all(str(row["close"]) in table for row in as_json)


def test_a_table_is_cut_loudly(variables: dict[str, str]) -> None:
    ended = run(variables, "bars", "AAPL", "--start", "2025-01-01")
    assert len(ended.stdout.splitlines()) == 41
    assert re.search(r"40 of 132 rows are shown; add --limit 0 for all", ended.stderr)
    whole = run(variables, "bars", "AAPL", "--start", "2025-01-01", "--limit", "0")
    assert len(whole.stdout.splitlines()) == 133
    assert whole.stderr == ""


def test_indicator_and_sql_agree(variables: dict[str, str]) -> None:
    first = run(variables, "indicator", "rsi", "IBM", "-p", "n=14", "--start", "2025-07-15", "-f", "json")
    query = "select symbol, timestamp, rsi from rsi(14) where symbol = 'IBM' order by timestamp desc limit 1"
    second = run(variables, "sql", "-", "-f", "json", stdin=query)
    third = run(variables, "indicator", "rsi", "IBM", "--latest", "--as-of", "2025-07-15", "-f", "json")
    assert json.loads(first.stdout)[0]["rsi"] == pytest.approx(json.loads(second.stdout)[0]["rsi"], rel=1e-10)
    assert json.loads(third.stdout)[0]["rsi"] == pytest.approx(json.loads(second.stdout)[0]["rsi"], rel=1e-10)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["sql", "select nonsense"], ExitCode.QUERY_FAILED, "nonsense"),
        (["sql", "drop view bars"], ExitCode.USAGE, "SELECT"),
        (["bars", "APPL"], ExitCode.USAGE, "did you mean AAPL"),
        (["bars"], ExitCode.USAGE, "Missing argument"),
        (["nonsense"], ExitCode.USAGE, "nonsense"),
        (["bars", "AAPL", "--start", "soon"], ExitCode.USAGE, "for example: 2024-01-31"),
        (["indicator", "sma", "AAPL", "--param", "n"], ExitCode.USAGE, "--param n=14"),
        (["indicator", "sma", "AAPL", "--param", "n=0"], ExitCode.USAGE, "from 1 to 100000"),
        (["indicator", "nope", "AAPL"], ExitCode.USAGE, "no indicator 'nope'"),
        (["refresh", "--mode", "weekly"], ExitCode.USAGE, "weekly"),
        (["refresh", "--mode", "post-close", "--start", "2020-01-01"], ExitCode.USAGE, "overnight"),
        (["refresh", "--now", "later"], ExitCode.USAGE, "--now 2026"),
        (
            ["refresh", "--mode", "post-close", "--now", "2025-07-15T20:05Z"],
            ExitCode.UNREACHABLE,
            "from 2025-07-15 16:15",
        ),
        (["bars", "AAPL", "-f", "parquet"], ExitCode.USAGE, "--output"),
    ],
)
def test_a_failure_says_why_on_stderr_and_exits_as_promised(
    variables: dict[str, str], arguments: list[str], code: ExitCode, says: str
) -> None:
    ended = run(variables, *arguments)
    assert ended.returncode == code
    assert says in ended.stderr
    assert ended.stdout == ""
    assert "Traceback" not in ended.stderr


def test_missing_settings_exit_2(variables: dict[str, str]) -> None:
    ended = run(variables | {"MARKET_DATA_BUCKET": ""}, "symbols")
    assert ended.returncode == ExitCode.USAGE
    assert "MARKET_DATA_BUCKET is not set" in ended.stderr


def test_an_unreachable_s3_exits_3(variables: dict[str, str]) -> None:
    ended = run(variables | {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1"}, "symbols")
    assert ended.returncode == ExitCode.UNREACHABLE


def test_refresh_reports_and_exits_3_when_a_symbol_failed(
    variables: dict[str, str], box: Sandbox, settings: Settings
) -> None:
    own = variables | {"MARKET_DATA_BUCKET": settings.market_data_bucket}
    arguments = ["refresh", "--start", "2025-01-01", "--now", MORNING.isoformat(), "-f", "json"]
    box.alpaca.faults = [Fault("status", times=1, status=503)]
    ended = run(own, *arguments, "--symbols", "AAPL,3USL,ZZZZ")
    assert ended.returncode == ExitCode.UNREACHABLE
    outcomes = {row["symbol"]: row for row in json.loads(ended.stdout)}
    assert {symbol: row["status"] for symbol, row in outcomes.items()} == {
        "AAPL": "ok",
        "3USL": "failed",
        "ZZZZ": "no_data",
    }
    assert "partial: 132 added" in ended.stderr
    assert "Alpaca answers HTTP 503: fault 503; attempt 2 in" in ended.stderr
    assert box.environment["APCA_API_SECRET_KEY"] not in ended.stderr + ended.stdout
    ended = run(own, *arguments, "--symbols", "AAPL")
    assert ended.returncode == ExitCode.OK
    assert "ok: 0 added" in ended.stderr
    assert "132 unchanged" in ended.stderr


def test_post_close_on_a_holiday_says_so(variables: dict[str, str]) -> None:
    ended = run(variables, "refresh", "--mode", "post-close", "--now", "2025-07-04T21:00Z")
    assert ended.returncode == ExitCode.OK
    assert "2025-07-04 is not a session of the exchange: nothing to do" in ended.stderr


def test_indicators_lists_them_without_a_bucket() -> None:
    ended = run({"PATH": os.environ["PATH"]}, "indicators", "-f", "json")
    listed = {row["name"]: row["parameters"] for row in json.loads(ended.stdout)}
    assert listed["sma"] == "n := 20, source := 'bars'"
    assert listed["rsi"] == "n := 14, source := 'bars'"


def test_help_shows_exit_codes_and_an_example_per_command() -> None:
    bare = {"PATH": os.environ["PATH"]}
    top = run(bare, "--help").stdout
    assert "Exit codes: 0 ok" in top
    commands = re.findall(r"^  ([a-z]+)  ", top.split("Commands:")[1], re.MULTILINE)
    assert set(commands) == {
        *(
            "check",
            "panel",
            "repair",
            "schedule",
            "settings",
            "actions",
            "refresh",
            "bars",
            "indicator",
            "indicators",
            "sql",
            "shell",
            "symbols",
            "sandbox",
            "demo",
        ),
    }
    for command in commands:
        assert f"Example: alchemiser-duck {command}" in " ".join(run(bare, command, "--help").stdout.split())


def test_version_names_both_versions() -> None:
    assert re.match(
        r"alchemiser-duck \d+\.\d+\.\d+ \(DuckDB 1\.5\.5\)", run({"PATH": os.environ["PATH"]}, "--version").stdout
    )


@pytest.mark.parametrize("form", ["csv", "json", "table --limit 0"])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_closed_pipe_is_no_error(variables: dict[str, str], form: str, unbuffered: str) -> None:
    command = f"{sys.executable} -m alchemiser_duck sql 'select * from bars' -f {form} | head -n 1"
    ended = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        env=variables | {"PYTHONUNBUFFERED": unbuffered},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0
    assert len(ended.stdout.splitlines()) == 1
    assert ended.stderr == ""


def shell(variables: dict[str, str], *arguments: str, cwd: Path) -> Ended:
    return subprocess.run(arguments, env=variables, cwd=cwd, capture_output=True, text=True, timeout=240, check=False)


def test_the_duckdb_shell_reads_the_lake_from_the_environment_alone(variables: dict[str, str]) -> None:
    """Without Python: the views, the indicators, the lens."""
    program = str(Path(sys.executable).parent / "duckdb")
    ended = shell(
        variables,
        *(program, "-csv", "-noheader", "-init", "sql/init.sql"),
        *("-c", "select count(*) from bars where symbol = 'AAPL'"),
        *(
            "-c",
            "set variable as_of = '2020-03-02'",
            "-c",
            "select max(date), count(*) from bars where symbol = 'AAPL'",
        ),
        *(
            "-c",
            "set variable since = '2020-02-03'",
            "-c",
            "select count(*), count(sma) from sma(5) where symbol = 'IBM'",
        ),
        *("-c", "select round(rsi, 6) is not null from rsi_14 where symbol = 'IBM' order by timestamp desc limit 1"),
        *("-c", "select count(*) from indicators", "-c", "select count(*) from refresh_runs"),
        *("-c", "reset variable as_of", "-c", "reset variable since", "-c", f"set variable now = '{MORNING}'"),
        *("-c", "select count(*), max(sessions_behind) from freshness", "-c", "select count(*) from findings"),
        cwd=ROOT,
    )
    lines = [line for line in ended.stdout.splitlines() if re.match(r"^[\dtf]", line)]
    assert lines[0] == "3270"
    assert lines[1].startswith("2020-03-02,")
    assert lines[2] == "20,16"
    assert lines[3] == "true"
    assert lines[5:] == ["1", "4,0", "0"]
    assert "rror" not in ended.stderr


def test_the_shell_command_works_from_any_folder(variables: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "my_range.sql").write_text(
        "create or replace macro my_range(source := 'bars') as table ("
        "select symbol, timestamp, high - low as my_range from query_table(source));"
    )
    own = variables | {"ALCHEMISER_SQL_DIR": str(tmp_path / "own")}
    command = [sys.executable, "-m", "alchemiser_duck", "shell", "-csv", "-noheader"]
    ended = shell(own, *command, "-c", "select count(*) from my_range() where symbol = 'AAPL'", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert "3270" in ended.stdout.splitlines()
    ended = shell(own, *command, "-c", "select value from duckdb_settings() where name like 's3_secret%'", cwd=tmp_path)
    assert "sandbox" not in ended.stdout


def test_the_shell_without_a_bucket_says_so() -> None:
    program = str(Path(sys.executable).parent / "duckdb")
    bare = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"]}
    ended = shell(bare, program, "-init", "sql/init.sql", "-c", "select 1", cwd=ROOT)
    assert "MARKET_DATA_BUCKET is not set" in ended.stderr + ended.stdout


def test_the_sandbox_command_exports_a_working_environment_and_stops_on_ctrl_c() -> None:
    bare = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"]}
    process = subprocess.Popen(
        [sys.executable, "-m", "alchemiser_duck", "sandbox"],
        env=bare,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    exported = {}
    while "ALCHEMISER_SYMBOLS" not in exported:
        name, _, value = process.stdout.readline().removeprefix("export ").rstrip().partition("=")
        exported[name] = value
    ended = run(bare | exported, "refresh", "--symbols", "FB", "-f", "csv")
    assert ended.returncode == 0, ended.stderr
    assert '"FB","ok",196' in ended.stdout
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 0
    assert "dates are shifted" in stderr
    assert "stopped" in stderr


def test_cold_reads_cost_few_requests(variables: dict[str, str], proxy: S3Proxy) -> None:
    ended = run(
        variables | {"AWS_ENDPOINT_URL_S3": proxy.url}, "indicator", "sma", "AAPL", "--start", "2025-07-01", "--stats"
    )
    assert 0 < len(proxy.exchanges) <= 6
    received = sum(
        exchange.received
        for exchange in proxy.exchanges
        if exchange.method == "GET" and ".parquet" in exchange.path and exchange.status < 300
    )
    assert f"{len(proxy.exchanges)} S3 requests, {received:,} bytes, " in ended.stderr
    for command in (["bars", "AAPL"], ["sql", "select 1"], ["symbols"], ["actions", "AAPL"]):
        ended = run(variables, *command, "--stats", "-f", "csv")
        assert (ended.returncode, " S3 requests, " in ended.stderr) == (0, True)
