"""The command line. Data on stdout, narration on stderr, exit codes as promised."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core
from typer.exceptions import TyperException

from alchemiser_duck.errors import AlchemiserDuckError, BadParameter, ExitCode

EXIT_CODES = (
    "Exit codes: 0 ok, 1 query failed, 2 usage or settings, 3 S3 or Alpaca unreachable or data not there yet "
    "(a retry may help), 4 stale or bad data found, 130 interrupted."
)

app = typer.Typer(
    help="Market data in Parquet on S3, read through DuckDB SQL. Settings come from the environment.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


class RefreshMode(StrEnum):
    """Which refresh to run."""

    OVERNIGHT = "overnight"
    POST_CLOSE = "post-close"


class OutputFormat(StrEnum):
    """How rows are written; the same names as output.Format, without its imports."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


class _ListGroup(typer.core.TyperGroup):
    """`actions AAPL` is `actions list AAPL`, `symbols --format csv` is `symbols list --format csv`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if "--help" not in args[:1] and (args or not self.no_args_is_help) and not (args and args[0] in self.commands):
            args = ["list", *args]
        return super().parse_args(ctx, args)


FormatOption = Annotated[OutputFormat, typer.Option("--format", "-f", help="How rows are written.")]
OutputOption = Annotated[Path | None, typer.Option("--output", "-o", help="Write to this file instead of stdout.")]
LimitOption = Annotated[
    int | None, typer.Option("--limit", min=0, help="Rows at most; 0: all. Default: 40 in a table.")
]
AsOfOption = Annotated[str | None, typer.Option("--as-of", help="Look from the close of this day, e.g. 2020-03-02.")]
StartOption = Annotated[str | None, typer.Option("--start", help="First session, e.g. 2024-01-31.")]
EndOption = Annotated[str | None, typer.Option("--end", help="Last session, included.")]
NowOption = Annotated[
    str | None, typer.Option("--now", help="Pretend it is this moment, e.g. 2026-11-20T21:30Z (replays).")
]
StatsOption = Annotated[
    bool, typer.Option("--stats", help="Say on stderr how many S3 requests, bytes and seconds it took.")
]
SymbolsOption = Annotated[str | None, typer.Option("--symbols", help="Tickers separated by commas.")]


@app.callback(invoke_without_command=True)
def _version(
    context: typer.Context, version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False
) -> None:
    if version:
        from importlib.metadata import version as installed

        typer.echo(f"alchemiser-duck {installed('alchemiser-duck')} (DuckDB {installed('duckdb')})")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command(epilog="Example: alchemiser-duck refresh --mode overnight --symbols AAPL,MSFT --start 2016-01-01")
def refresh(
    mode: Annotated[
        RefreshMode, typer.Option(help="Whole history, or today's bar after the close.")
    ] = RefreshMode.OVERNIGHT,
    symbols: SymbolsOption = None,
    start: Annotated[
        str | None, typer.Option(help="First day of the history (overnight). Default: 2016-01-01.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until today's bar can be complete (post-close).")] = False,
    now: NowOption = None,
    form: FormatOption = OutputFormat.TABLE,
    path: OutputOption = None,
    limit: LimitOption = None,
) -> None:
    """Bring bars from Alpaca into the lake. Without --symbols: ALCHEMISER_SYMBOLS, else what is stored."""
    from alchemiser_duck.cli import console
    from alchemiser_duck.data_refresh_service import HISTORY_START, DataRefreshService

    if start and mode is RefreshMode.POST_CLOSE:
        raise BadParameter("--start is for --mode overnight; post-close brings today's bar alone")
    if wait and mode is RefreshMode.OVERNIGHT:
        raise BadParameter("--wait is for --mode post-close")
    moment = _moment(now)
    named = _split(symbols)
    service = DataRefreshService()
    console.narrate_retries()
    with console.refresh_progress() as progress:
        if mode is RefreshMode.OVERNIGHT:
            first = _date(start, "--start") if start else HISTORY_START
            report = service.overnight(named, first, now=moment, progress=progress)
        else:
            report = service.post_close(named, now=moment, wait=wait, progress=progress)
    _show_report(report, form, path, limit)
    raise typer.Exit(int(report.exit_code))


@app.command(epilog="Example: alchemiser-duck bars AAPL MSFT --start 2024-01-01 --format csv")
def bars(
    symbols: Annotated[list[str], typer.Argument(help="Tickers.")],
    start: StartOption = None,
    end: EndOption = None,
    adjustment: Annotated[str, typer.Option(help="all, split or raw.")] = "all",
    as_of: AsOfOption = None,
    form: FormatOption = OutputFormat.TABLE,
    path: OutputOption = None,
    limit: LimitOption = None,
    stats: StatsOption = False,
) -> None:
    """Show stored bars."""
    adapter = _adapter(as_of)
    _write(adapter.bars(symbols, start, end, adjustment), form, path, limit)
    _say_stats(adapter, asked=stats)


@app.command(epilog="Example: alchemiser-duck indicator rsi AAPL MSFT --param n=14 --latest")
def indicator(
    name: Annotated[str, typer.Argument(help="An indicator; `alchemiser-duck indicators` lists them.")],
    symbols: Annotated[list[str], typer.Argument(help="Tickers.")],
    param: Annotated[
        list[str] | None, typer.Option("--param", "-p", help="A parameter, e.g. n=14; repeatable.")
    ] = None,
    start: StartOption = None,
    end: EndOption = None,
    latest: Annotated[bool, typer.Option("--latest", help="Only the newest row of each symbol.")] = False,
    source: Annotated[str, typer.Option(help="The relation it reads.")] = "bars",
    as_of: AsOfOption = None,
    form: FormatOption = OutputFormat.TABLE,
    path: OutputOption = None,
    limit: LimitOption = None,
    stats: StatsOption = False,
) -> None:
    """Compute an indicator of some symbols."""
    adapter = _adapter(as_of)
    parameters = dict(_parameter(text) for text in param or [])
    if latest and (start or end):
        raise BadParameter("--latest shows the newest row: leave --start and --end out")
    if latest:
        result = adapter.latest(name, symbols, source, **parameters)
    else:
        result = adapter.indicator(name, symbols, start, end, source, **parameters)
    _write(result, form, path, limit)
    _say_stats(adapter, asked=stats)


indicators_app = typer.Typer(
    help="List the indicators; show, check or begin one.",
    epilog="Example: alchemiser-duck indicators --format json",
    add_completion=False,
    rich_markup_mode=None,
)
app.add_typer(indicators_app, name="indicators")


@indicators_app.callback(invoke_without_command=True)
def indicators(
    context: typer.Context,
    form: FormatOption = OutputFormat.TABLE,
    path: OutputOption = None,
    limit: LimitOption = None,
) -> None:
    """List the indicators with their parameters."""
    if context.invoked_subcommand is not None:
        return
    import pyarrow as pa

    from alchemiser_duck.query.catalogue import indicator_files
    from alchemiser_duck.query.look_back import infer_look_back

    rows = [
        {
            "name": file.name,
            "parameters": file.signature,
            "look_back": file.look_back or (None if file.is_built_in else infer_look_back(file)),
            "look_ahead": file.allows_look_ahead,
            "description": file.description,
            "file": str(file.path),
        }
        for file in indicator_files(_own_folder()).values()
    ]
    _write(pa.Table.from_pylist(rows), form, path, 0 if limit is None else limit)


@indicators_app.command(epilog="Example: alchemiser-duck indicators show rsi")
def show(name: Annotated[str, typer.Argument(help="An indicator.")]) -> None:
    """Show an indicator's SQL with all it says about itself."""
    from alchemiser_duck.cli import output
    from alchemiser_duck.query.catalogue import indicator_file

    output.text(indicator_file(name, _own_folder()).text.rstrip())


@indicators_app.command("check", epilog="Example: alchemiser-duck indicators check my_signal.sql")
def check_indicators(path: Annotated[Path, typer.Argument(help="A .sql file, or a folder of them.")]) -> None:
    """Lint indicators, run them on sample bars, and look for look-ahead; exit 4 on findings."""
    from alchemiser_duck.cli import console, output
    from alchemiser_duck.query.checker import check as find

    findings = find(path)
    for finding in findings:
        output.text(str(finding))
    if findings:
        raise typer.Exit(int(ExitCode.BAD_DATA))
    console.say(f"{path}: no findings")


@indicators_app.command(epilog="Example: alchemiser-duck indicators new my_signal")
def new(name: Annotated[str, typer.Argument(help="Its name: lower-case letters, digits and _.")]) -> None:
    """Write a commented indicator to start from, into ALCHEMISER_SQL_DIR or this folder."""
    from alchemiser_duck.cli import console, output
    from alchemiser_duck.query.checker import begin

    path = begin(name, _own_folder() or Path())
    output.text(str(path))
    console.say(f"edit it, then: alchemiser-duck indicators check {path}")


def _own_folder() -> Path | None:
    own = os.environ.get("ALCHEMISER_SQL_DIR")  # read by itself: no bucket is needed to look at indicators
    return Path(own) if own else None


actions_app = typer.Typer(
    cls=_ListGroup,
    help="Corporate actions: list them with their factors, find what is suspicious, override the vendor.",
    epilog="Example: alchemiser-duck actions AAPL",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)
app.add_typer(actions_app, name="actions")


@actions_app.command("list", epilog="Example: alchemiser-duck actions list AAPL --format json")
def list_actions(
    symbols: Annotated[list[str], typer.Argument(help="Tickers.")],
    as_of: AsOfOption = None,
    form: FormatOption = OutputFormat.TABLE,
    path: OutputOption = None,
    limit: LimitOption = None,
    stats: StatsOption = False,
) -> None:
    """List the corporate actions of some symbols with what they do to prices."""
    from alchemiser_duck.query.literals import literal_list

    query = (
        "select symbol, ex_date, type, cash_amount, old_rate, new_rate, new_symbol, previous_close, split_factor, "
        f"price_factor, override, id from corporate_actions where symbol in ({literal_list(symbols)}) "
        "order by symbol, ex_date, id"
    )
    _read(query, as_of, form, path, limit, stats=stats)


@actions_app.command(epilog="Example: alchemiser-duck actions suspects")
def suspects(form: FormatOption = OutputFormat.TABLE, path: OutputOption = None, limit: LimitOption = None) -> None:
    """List actions and overnight moves that do not fit each other; exit 4 where there are any."""
    result = _adapter(None).sql("from corporate_action_suspects order by date desc, symbol")
    _write(result, form, path, limit)
    if len(result):
        raise typer.Exit(ExitCode.BAD_DATA)


@actions_app.command(epilog="Example: alchemiser-duck actions verify AAPL")
def verify(
    symbol: Annotated[str, typer.Argument(help="A ticker.")],
    form: FormatOption = OutputFormat.TABLE,
    path: OutputOption = None,
) -> None:
    """Compare adjusted closes with Alpaca's own, for splits alone and for everything."""
    from alchemiser_duck.cli import console
    from alchemiser_duck.ingest.source import AlpacaSource
    from alchemiser_duck.ingest.verification import verify as compare
    from alchemiser_duck.query.session import DuckDBSession
    from alchemiser_duck.settings import Settings

    settings = Settings.from_environment()
    rows = compare(DuckDBSession(settings), AlpacaSource(settings), symbol)
    _write(rows, form, path, None)
    console.say(
        "Alpaca rounds to cents and takes a dividend off the close of its ex-date, this layer off the close before: "
        "expected_at_most is what that explains"
    )
    if any(row["largest_difference"] > row["expected_at_most"] for row in rows.to_pylist()):
        raise typer.Exit(ExitCode.BAD_DATA)


@actions_app.command(epilog="Example: alchemiser-duck actions override ID --set new_rate=2 --set old_rate=1 --reason …")
def override(
    action_id: Annotated[str, typer.Argument(help="The action's id, as `actions list` shows it.")],
    reason: Annotated[str, typer.Option("--reason", help="Why, for whoever reads it later.")],
    values: Annotated[
        list[str] | None, typer.Option("--set", help="A field of the vendor's and its value; repeatable.")
    ] = None,
    drop: Annotated[bool, typer.Option("--drop", help="The action did not happen.")] = False,
) -> None:
    """Replace some of an action's fields, or drop it; adjusted prices follow at once."""
    if bool(values) == drop:
        raise BadParameter("say either --set field=value, or --drop")
    given = None if drop else dict(_parameter(text) for text in values or ())
    _action_store().override(action_id, given, reason, datetime.now(UTC))


@actions_app.command(epilog="Example: alchemiser-duck actions restore ID")
def restore(action_id: Annotated[str, typer.Argument(help="The action's id.")]) -> None:
    """Take an override back: the vendor's word counts again."""
    _action_store().restore(action_id)


def _action_store() -> Any:
    from alchemiser_duck.market_data_store import MarketDataStore

    return MarketDataStore().actions


@app.command(epilog='Example: alchemiser-duck sql "select symbol, rsi from rsi(14) order by timestamp desc limit 5"')
def sql(
    query: Annotated[str, typer.Argument(help="One SELECT-like statement; - reads it from stdin.")],
    as_of: AsOfOption = None,
    form: FormatOption = OutputFormat.TABLE,
    path: OutputOption = None,
    limit: LimitOption = None,
    stats: StatsOption = False,
) -> None:
    """Run read-only SQL over the views and indicators."""
    _read(sys.stdin.read() if query == "-" else query, as_of, form, path, limit, stats=stats)


symbols_app = typer.Typer(
    cls=_ListGroup,
    help="List the stored symbols; extract symbols from strategies, queries and lists.",
    epilog="Example: alchemiser-duck symbols --format csv",
    add_completion=False,
    rich_markup_mode=None,
)
app.add_typer(symbols_app, name="symbols")


@symbols_app.command("list", epilog="Example: alchemiser-duck symbols list --format csv")
def list_symbols(
    form: FormatOption = OutputFormat.TABLE,
    path: OutputOption = None,
    limit: LimitOption = None,
    stats: StatsOption = False,
) -> None:
    """List the stored symbols with their first and last session."""
    _read("from symbols order by symbol", None, form, path, limit, stats=stats)


@symbols_app.command(epilog="Example: alchemiser-duck symbols extract strategies/")
def extract(
    paths: Annotated[list[Path], typer.Argument(help="Files or folders.")],
    form: FormatOption = OutputFormat.TABLE,
    path: OutputOption = None,
    limit: LimitOption = None,
) -> None:
    """Show the symbols that files talk about, where, and the indicators and windows they use."""
    import pyarrow as pa

    from alchemiser_duck.cli import console
    from alchemiser_duck.symbol_extractor import SymbolExtractor

    found = SymbolExtractor().extract(*paths)
    rows = [
        {
            "symbol": one.symbol,
            "indicators": [str(use) for use in one.indicators],
            "bars_needed": one.bars_needed,
            "places": [str(place) for place in one.places],
        }
        for one in found.symbols
    ]
    texts = pa.list_(pa.string())
    columns = {"symbol": pa.string(), "indicators": texts, "bars_needed": pa.int64(), "places": texts}
    _write(pa.Table.from_pylist(rows, pa.schema(list(columns.items()))), form, path, 0 if limit is None else limit)
    for one in found.left_out:
        console.warning(str(one))


@app.command(epilog="Example: alchemiser-duck check --symbols AAPL,MSFT")
def check(
    symbols: SymbolsOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Findings as a JSON list.")] = False,
    now: NowOption = None,
) -> None:
    """Say what is stale or broken and what to type to repair it; exit 4 on findings."""
    from alchemiser_duck.cli import console, output
    from alchemiser_duck.data_freshness_validator import DataFreshnessValidator

    findings = DataFreshnessValidator().findings(_split(symbols), now=_moment(now))
    if as_json:
        output.text(json.dumps([finding.as_row() for finding in findings], indent=2))
    else:
        for finding in findings:
            output.text(str(finding))
    if findings:
        raise typer.Exit(int(ExitCode.BAD_DATA))
    console.say("healthy: every symbol is as fresh as the schedules make it, and nothing is broken")


@app.command(epilog="Example: alchemiser-duck repair")
def repair(
    symbols: SymbolsOption = None,
    now: NowOption = None,
    form: FormatOption = OutputFormat.TABLE,
    path: OutputOption = None,
    limit: LimitOption = None,
) -> None:
    """Fetch again exactly what `check` finds."""
    from alchemiser_duck.cli import console
    from alchemiser_duck.data_freshness_validator import DataFreshnessValidator
    from alchemiser_duck.data_refresh_service import DataRefreshService

    named, moment = _split(symbols), _moment(now)
    validator = DataFreshnessValidator()
    reports = DataRefreshService().repair(validator.findings(named, now=moment), now=moment)
    for report in reports:
        _show_report(report, form, path, limit)
    if not reports:
        console.say("nothing to repair")
    elif left := validator.findings(named, now=moment):
        console.warning(f"{len(left)} findings are left: alchemiser-duck check")
    raise typer.Exit(max((int(report.exit_code) for report in reports), default=0))


@app.command(epilog="Example: alchemiser-duck schedule --print-cron >> my.crontab")
def schedule(
    print_cron: Annotated[bool, typer.Option("--print-cron", help="Print crontab lines instead of running.")] = False,
) -> None:
    """Run both refreshes at their times until Ctrl-C: 04:00 UTC, and 16:05 New York from Monday to Friday."""
    from alchemiser_duck.cli import console, output, schedules
    from alchemiser_duck.settings import Settings

    if print_cron:
        for line in schedules.cron_lines("alchemiser-duck"):
            output.text(line)
        return
    settings = Settings.from_environment()
    settings.alpaca_keys()  # now, not at four in the morning
    console.narrate_retries()
    schedules.Runner(settings, console.say, console.error).run(_stop_signal())


@app.command(
    epilog='Example: alchemiser-duck shell -c "from sma(20) limit 5"',
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def shell(context: typer.Context) -> None:
    """Open the duckdb shell with secret, views and indicators ready; further arguments go to duckdb."""
    from alchemiser_duck.lake import credentials
    from alchemiser_duck.query.catalogue import sql_root, user_files
    from alchemiser_duck.query.connection import install_httpfs
    from alchemiser_duck.settings import Settings

    settings = Settings.from_environment()
    beside_python = Path(sys.executable).parent / "duckdb"
    program = str(beside_python) if beside_python.is_file() else shutil.which("duckdb")
    if program is None:
        raise AlchemiserDuckError("there is no duckdb shell here: pip install duckdb-cli")
    install_httpfs()
    secret = credentials.current()
    # the environment carries the secret: no file and no history does
    environment = os.environ | {
        "MARKET_DATA_BUCKET": settings.market_data_bucket,
        "AWS_ACCESS_KEY_ID": secret.key_id,
        "AWS_SECRET_ACCESS_KEY": secret.secret,
        "AWS_SESSION_TOKEN": secret.token or "",
        "AWS_REGION": credentials.region(settings),
        "AWS_ENDPOINT_URL_S3": settings.endpoint_url or "",
    }
    steps = [f".cd '{sql_root().parent}'", ".read sql/init.sql", f".cd '{Path.cwd()}'"]
    steps += [f".read '{file.path.resolve()}'" for file in user_files(settings.sql_dir)]
    with tempfile.NamedTemporaryFile("w", suffix=".sql", prefix="alchemiser-duck-") as init:
        init.write("\n".join(steps) + "\n")
        init.flush()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the shell
        ended = subprocess.run([program, "-init", init.name, *context.args], env=environment, check=False)  # noqa: S603
    raise typer.Exit(ended.returncode)


@app.command(epilog="Example: alchemiser-duck sandbox > sandbox.env &   then: source sandbox.env")
def sandbox(
    original_dates: Annotated[bool, typer.Option("--original-dates", help="Serve 2000 to 2013 as it was.")] = False,
) -> None:
    """Run a local S3 and a stand-in for Alpaca with real bars until Ctrl-C; prints the variables to export."""
    from alchemiser_duck.cli import console, output
    from alchemiser_duck.sandbox import sandbox as start_sandbox

    stopped = _stop_signal()
    with start_sandbox(original_dates=original_dates) as box:
        console.say(f"sandbox: {box.notice}")
        for name, value in box.environment.items():
            output.text(f"export {name}={value}")
        console.say("sandbox: running; Ctrl-C stops it and forgets everything")
        stopped()
    console.say("sandbox: stopped")


@app.command(epilog="Example: alchemiser-duck demo")
def demo() -> None:
    """Show everything once, on loopback: refresh real bars into S3, read them back through DuckDB."""
    from alchemiser_duck.cli.demo import run

    run()


def _stop_signal() -> Any:
    """A function that returns when the process is asked to stop."""
    from threading import Event

    event = Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: event.set())
    return event.wait


def _adapter(as_of: str | None) -> Any:
    from alchemiser_duck.cached_market_data_adapter import CachedMarketDataAdapter

    adapter = CachedMarketDataAdapter()
    return adapter.as_of(as_of) if as_of else adapter


def _write(rows: Any, form: OutputFormat, path: Path | None, limit: int | None) -> None:
    from alchemiser_duck.cli import output

    output.write(rows, output.Format(form.value), path, limit)


def _read(
    query: str, as_of: str | None, form: OutputFormat, path: Path | None, limit: int | None, *, stats: bool
) -> None:
    adapter = _adapter(as_of)
    _write(adapter.sql(query), form, path, limit)
    _say_stats(adapter, asked=stats)


def _say_stats(adapter: Any, *, asked: bool) -> None:
    from alchemiser_duck.cli import console

    if asked:
        console.say(str(adapter.last_query_stats))


def _show_report(report: Any, form: OutputFormat, path: Path | None, limit: int | None) -> None:
    from alchemiser_duck.cli import console

    if report.note:
        console.say(report.note)
        return
    _write(report.outcome_table(), form, path, limit)
    console.say(report.summary)
    if report.actions_added or report.actions_changed or report.new_suspects:
        console.say(
            f"corporate actions: {report.actions_added:,} new, {report.actions_changed:,} changed, "
            f"{report.new_suspects:,} suspicious (alchemiser-duck actions suspects)"
        )
    for bar in report.quarantined[:20]:
        console.warning(f"not stored: {bar.symbol} {bar.timestamp}: {bar.reason}")
    if len(report.quarantined) > 20:
        console.warning(f"{len(report.quarantined) - 20} more bars were not stored: see refresh_runs.quarantined")
    for short in report.short_history:
        console.warning(f"{short.symbol}: the strategies need {short.needed} bars, {short.bars} are stored")
    for failure in report.failures:
        console.error(failure)


def _split(symbols: str | None) -> list[str] | None:
    return None if symbols is None else symbols.replace(",", " ").split()


def _date(text: str, option: str) -> Any:
    from datetime import date

    try:
        return date.fromisoformat(text)
    except ValueError:
        raise BadParameter(f"{option} {text!r} is not a date; for example: {option} 2016-01-01") from None


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise BadParameter(f"--now {text!r} is not a moment; for example: --now 2026-11-20T21:30Z") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _parameter(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise BadParameter(f"--param {text!r} is not name=value; for example: --param n=14")
    for kind in (int, float):
        try:
            return name, kind(value)
        except ValueError:
            continue
    return name, value


def main() -> None:
    """Run the command line and exit."""
    from alchemiser_duck.cli import console

    try:
        code = app(standalone_mode=False)
    except AlchemiserDuckError as problem:
        console.error(str(problem))
        code = problem.exit_code
    except (KeyboardInterrupt, typer.Abort):
        code = ExitCode.INTERRUPTED
    except TyperException as problem:
        console.error(f"{problem.format_message()} (add --help for how to use it)")
        code = ExitCode.USAGE
    sys.exit(int(code or 0))
