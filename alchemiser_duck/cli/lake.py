"""Commands that keep the lake: refresh it, check it, repair it, on schedule."""

import json
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from alchemiser_duck.cli.arguments import moment, split_symbols
from alchemiser_duck.cli.options import (
    FormatOption,
    LimitOption,
    NowOption,
    OutputFormat,
    OutputOption,
    SymbolsOption,
    group,
)
from alchemiser_duck.cli.rows import write
from alchemiser_duck.cli.signals import stop_signal
from alchemiser_duck.errors import BadParameter, ExitCode

if TYPE_CHECKING:
    from pathlib import Path

    from alchemiser_duck.ingest.run_reports import RefreshReport

commands = group()


class RefreshMode(StrEnum):
    """Which refresh to run."""

    OVERNIGHT = "overnight"
    POST_CLOSE = "post-close"


@commands.command(epilog="Example: alchemiser-duck refresh --mode overnight --symbols AAPL,MSFT --start 2016-01-01")
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
    from alchemiser_duck.query.arguments import as_day

    if start and mode is RefreshMode.POST_CLOSE:
        raise BadParameter("--start is for --mode overnight; post-close brings today's bar alone")
    if wait and mode is RefreshMode.OVERNIGHT:
        raise BadParameter("--wait is for --mode post-close")
    at = moment(now)
    named = split_symbols(symbols)
    service = DataRefreshService()
    console.narrate_retries()
    with console.refresh_progress() as progress:
        if mode is RefreshMode.OVERNIGHT:
            first = as_day(start, "--start") if start else HISTORY_START
            report = service.overnight(named, first, now=at, progress=progress)
        else:
            report = service.post_close(named, now=at, wait=wait, progress=progress)
    _show_report(report, form, path, limit)
    raise typer.Exit(int(report.exit_code))


@commands.command(epilog="Example: alchemiser-duck settings --probe")
def settings(
    probe: Annotated[
        bool, typer.Option("--probe", help="Also write to the lake: does its store keep conditional PUTs?")
    ] = False,
    form: FormatOption = OutputFormat.TABLE,
    path: OutputOption = None,
) -> None:
    """Show what the environment says, secrets as set or not set, and where the lake is."""
    import pyarrow as pa

    from alchemiser_duck.cli import console
    from alchemiser_duck.lake.location import locate
    from alchemiser_duck.lake.object_store import S3Objects
    from alchemiser_duck.settings import Settings

    found = Settings.from_environment()
    where = locate(found)
    rows = [*found.as_rows(), ("S3 endpoint", where.endpoint or "Amazon's"), ("S3 region", where.region)]
    write(pa.table({"setting": [name for name, _ in rows], "value": [value for _, value in rows]}), form, path, 0)
    if probe:
        S3Objects(found).require_conditions()
        console.info(f"{where} keeps the conditions of a PUT: any number of refreshers may write to it")


@commands.command(epilog="Example: alchemiser-duck check --symbols AAPL,MSFT")
def check(
    symbols: SymbolsOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Findings as a JSON list.")] = False,
    now: NowOption = None,
) -> None:
    """Say what is stale or broken and what to type to repair it; exit 4 on findings."""
    from alchemiser_duck.cli import console, output
    from alchemiser_duck.data_freshness_validator import DataFreshnessValidator

    findings = DataFreshnessValidator().findings(split_symbols(symbols), now=moment(now))
    if as_json:
        output.text(json.dumps([finding.as_row() for finding in findings], indent=2))
    else:
        for finding in findings:
            output.text(str(finding))
    if findings:
        raise typer.Exit(int(ExitCode.BAD_DATA))
    console.info("healthy: every symbol is as fresh as the schedules make it, and nothing is broken")


@commands.command(epilog="Example: alchemiser-duck repair")
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

    named, at = split_symbols(symbols), moment(now)
    validator = DataFreshnessValidator()
    reports = DataRefreshService().repair(validator.findings(named, now=at), now=at)
    for report in reports:
        _show_report(report, form, path, limit)
    if not reports:
        console.info("nothing to repair")
    elif left := validator.findings(named, now=at):
        console.warning(f"{len(left)} findings are left: alchemiser-duck check")
    raise typer.Exit(max((int(report.exit_code) for report in reports), default=0))


@commands.command(epilog="Example: alchemiser-duck schedule --print-cron >> my.crontab")
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
    schedules.Runner(settings, console.info, console.error).run(stop_signal())


def _show_report(report: "RefreshReport", form: OutputFormat, path: "Path | None", limit: int | None) -> None:
    from alchemiser_duck.cli import console

    if report.note:
        console.info(report.note)
    if not report.outcomes:
        return
    write(report.outcome_table(), form, path, limit)
    console.info(report.summary)
    if report.actions_added or report.actions_changed or report.new_suspects:
        console.info(
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
