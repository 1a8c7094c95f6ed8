"""Commands on indicators: compute one or a panel of them; list, show, check and begin them."""

import os
from pathlib import Path
from typing import Annotated

import typer

from alchemiser_duck.cli.arguments import assignment
from alchemiser_duck.cli.options import (
    AsOfOption,
    EndOption,
    FormatOption,
    LimitOption,
    OutputFormat,
    OutputOption,
    SourceOption,
    SqlOption,
    StartOption,
    StatsOption,
    SymbolsArgument,
    group,
)
from alchemiser_duck.cli.rows import open_adapter, tell_stats, write
from alchemiser_duck.errors import BadParameter, ExitCode

LatestOption = Annotated[bool, typer.Option("--latest", help="Only the newest row of each symbol.")]

commands = group()
listed = group("List the indicators; show, check or begin one.", "indicators --format json")
commands.add_typer(listed, name="indicators")


@commands.command(epilog="Example: alchemiser-duck indicator rsi AAPL MSFT --param n=14 --latest")
def indicator(
    name: Annotated[str | None, typer.Argument(help="An indicator; `alchemiser-duck indicators` lists them.")] = None,
    symbols: Annotated[list[str] | None, typer.Argument(help="Tickers.")] = None,
    param: Annotated[
        list[str] | None, typer.Option("--param", "-p", help="A parameter, e.g. n=14; repeatable.")
    ] = None,
    start: StartOption = None,
    end: EndOption = None,
    latest: LatestOption = False,
    source: SourceOption = "bars",
    as_of: AsOfOption = None,
    form: FormatOption = OutputFormat.TABLE,
    path: OutputOption = None,
    limit: LimitOption = None,
    stats: StatsOption = False,
    sql: SqlOption = False,
    strategies: Annotated[
        Path | None, typer.Option("--for", help="Strategies, or a JSON list of requests: the newest values they need.")
    ] = None,
) -> None:
    """Compute an indicator of some symbols, or the newest values that strategies ask for."""
    from alchemiser_duck.cli import output

    adapter = open_adapter(as_of)
    if strategies is not None:
        if name or symbols or param or start or end or sql:
            raise BadParameter("--for takes symbols, indicators and windows from the strategies: name none beside it")
        write(adapter.latest_of(strategies, source), form, path, limit)
        tell_stats(adapter, asked=stats)
        return
    if not name or not symbols:
        raise BadParameter("name an indicator and symbols, for example: alchemiser-duck indicator rsi AAPL; or --for")
    parameters = dict(assignment(text, "--param") for text in param or [])
    _refuse_range_of_latest(latest, start, end)
    if sql:
        output.text(str(adapter.explain({name: parameters}, symbols, start, end, source, latest=latest)))
        return
    if latest:
        result = adapter.latest(name, symbols, source, **parameters)
    else:
        result = adapter.indicator(name, symbols, start, end, source, **parameters)
    write(result, form, path, limit)
    tell_stats(adapter, asked=stats)


@commands.command(epilog='Example: alchemiser-duck panel AAPL MSFT --with "sma(50), rsi, bbands(20, 2, 2)" --latest')
def panel(
    symbols: SymbolsArgument,
    calls: Annotated[
        list[str], typer.Option("--with", "-w", help='Indicators, e.g. "sma(50), rsi(n=14)"; repeatable.')
    ],
    start: StartOption = None,
    end: EndOption = None,
    latest: LatestOption = False,
    source: SourceOption = "bars",
    as_of: AsOfOption = None,
    form: FormatOption = OutputFormat.TABLE,
    path: OutputOption = None,
    limit: LimitOption = None,
    stats: StatsOption = False,
    sql: SqlOption = False,
) -> None:
    """Compute several indicators side by side, in one pass over the bars."""
    from alchemiser_duck.cli import output
    from alchemiser_duck.query.arguments import split_calls

    adapter = open_adapter(as_of)
    _refuse_range_of_latest(latest, start, end)
    indicators = [call for text in calls for call in split_calls(text)]
    if sql:
        output.text(str(adapter.explain(indicators, symbols, start, end, source, latest=latest)))
        return
    write(adapter.indicators_table(indicators, symbols, start, end, source, latest=latest), form, path, limit)
    tell_stats(adapter, asked=stats)


def _refuse_range_of_latest(latest: bool, start: str | None, end: str | None) -> None:
    if latest and (start or end):
        raise BadParameter("--latest shows the newest row: leave --start and --end out")


@listed.callback(invoke_without_command=True)
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
        for file in indicator_files(own_folder()).values()
    ]
    write(pa.Table.from_pylist(rows), form, path, 0 if limit is None else limit)


@listed.command(epilog="Example: alchemiser-duck indicators show rsi")
def show(name: Annotated[str, typer.Argument(help="An indicator.")]) -> None:
    """Show an indicator's SQL with all it says about itself."""
    from alchemiser_duck.cli import output
    from alchemiser_duck.query.catalogue import indicator_file

    output.text(indicator_file(name, own_folder()).text.rstrip())


@listed.command("check", epilog="Example: alchemiser-duck indicators check my_signal.sql")
def check_indicators(path: Annotated[Path, typer.Argument(help="A .sql file, or a folder of them.")]) -> None:
    """Lint indicators, run them on sample bars, and look for look-ahead; exit 4 on findings."""
    from alchemiser_duck.cli import console, output
    from alchemiser_duck.query.checker import check as find

    findings = find(path)
    for finding in findings:
        output.text(str(finding))
    if findings:
        raise typer.Exit(int(ExitCode.BAD_DATA))
    console.info(f"{path}: no findings")


@listed.command(epilog="Example: alchemiser-duck indicators new my_signal")
def new(name: Annotated[str, typer.Argument(help="Its name: lower-case letters, digits and _.")]) -> None:
    """Write a commented indicator to start from, into ALCHEMISER_SQL_DIR or this folder."""
    from alchemiser_duck.cli import console, output
    from alchemiser_duck.query.checker import begin

    path = begin(name, own_folder() or Path())
    output.text(str(path))
    console.info(f"edit it, then: alchemiser-duck indicators check {path}")


def own_folder() -> Path | None:
    own = os.environ.get("ALCHEMISER_SQL_DIR")  # read by itself: no bucket is needed to look at indicators
    return Path(own) if own else None
