"""Commands on corporate actions: list them, find what is suspicious, override the vendor."""

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from alchemiser_duck.cli.arguments import assignment
from alchemiser_duck.cli.options import (
    AsOfOption,
    FormatOption,
    LimitOption,
    ListGroup,
    OutputFormat,
    OutputOption,
    ReasonOption,
    StatsOption,
    SymbolsArgument,
    group,
)
from alchemiser_duck.cli.rows import open_adapter, read, write
from alchemiser_duck.errors import BadParameter, ExitCode

commands = group(
    "Corporate actions: list them with their factors, find what is suspicious, override the vendor.",
    "actions AAPL",
    cls=ListGroup,
)


@commands.command("list", epilog="Example: alchemiser-duck actions list AAPL --format json")
def list_actions(
    symbols: SymbolsArgument,
    as_of: AsOfOption = None,
    form: FormatOption = OutputFormat.TABLE,
    path: OutputOption = None,
    limit: LimitOption = None,
    stats: StatsOption = False,
) -> None:
    """List the corporate actions of some symbols with what they do to prices."""
    from alchemiser_duck.query.arguments import one_symbol
    from alchemiser_duck.query.literals import literal_list

    names = literal_list([one_symbol(symbol) for symbol in symbols])
    query = (
        "select symbol, ex_date, type, cash_amount, old_rate, new_rate, new_symbol, previous_close, split_factor, "
        "price_factor, status, coalesce(override_reason, accepted_reason) as reason, withdrawn_at, override, id "
        "from corporate_actions "
        f"where type <> 'accepted_move' and (symbol in ({names}) or applies_to in ({names})) "
        "order by symbol, ex_date, id"
    )
    read(query, as_of, form, path, limit, stats=stats)


@commands.command(epilog="Example: alchemiser-duck actions suspects")
def suspects(form: FormatOption = OutputFormat.TABLE, path: OutputOption = None, limit: LimitOption = None) -> None:
    """List actions and overnight moves that do not fit each other; exit 4 where one is likely to be wrong."""
    result = open_adapter().sql("from corporate_action_suspects order by date desc, symbol")
    write(result, form, path, limit)
    if len(result.filter("not is_question")):
        raise typer.Exit(ExitCode.BAD_DATA)


@commands.command(epilog="Example: alchemiser-duck actions verify AAPL")
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
    write(rows, form, path, None)
    console.info(
        "Alpaca rounds to cents and takes a dividend off the close of its ex-date, this layer off the close before: "
        "expected_at_most is what that explains"
    )
    if any(row["largest_difference"] > row["expected_at_most"] for row in rows.to_pylist()):
        raise typer.Exit(ExitCode.BAD_DATA)


@commands.command(epilog="Example: alchemiser-duck actions override ID --set new_rate=2 --set old_rate=1 --reason …")
def override(
    action_id: Annotated[str, typer.Argument(help="The action's id, as `actions list` shows it.")],
    reason: ReasonOption,
    values: Annotated[
        list[str] | None, typer.Option("--set", help="A field of the vendor's and its value; repeatable.")
    ] = None,
    drop: Annotated[bool, typer.Option("--drop", help="The action did not happen.")] = False,
) -> None:
    """Replace some of an action's fields, or drop it; adjusted prices follow at once."""
    if bool(values) == drop:
        raise BadParameter("say either --set field=value, or --drop")
    given = None if drop else dict(assignment(text, "--set") for text in values or ())
    _action_store().override(action_id, given, reason, datetime.now(UTC))


@commands.command(epilog="Example: alchemiser-duck actions accept META 2022-02-03 --reason 'earnings'")
def accept(
    action: Annotated[str, typer.Argument(help="An action's id, or a ticker with the day of the move.")],
    reason: ReasonOption,
    day: Annotated[str | None, typer.Argument(help="The session, e.g. 2022-02-03.")] = None,
) -> None:
    """Say that an action or an overnight move is right: `check` is quiet about it from now on."""
    from alchemiser_duck.query.arguments import as_day, one_symbol

    now = datetime.now(UTC)
    if day is None:
        _action_store().accept(action, None, reason, now)
    else:
        _action_store().accept(one_symbol(action), as_day(day, "session"), reason, now)


@commands.command(
    epilog="Example: alchemiser-duck actions add BALL 2017-05-17 --type forward_split --set new_rate=2 "
    "--set old_rate=1 --reason 'says the company'"
)
def add(
    symbol: Annotated[str, typer.Argument(help="A ticker.")],
    day: Annotated[str, typer.Argument(help="The ex-date, e.g. 2017-05-17.")],
    kind: Annotated[str, typer.Option("--type", help="forward_split, reverse_split, stock_dividend, cash_dividend, …")],
    reason: ReasonOption,
    values: Annotated[
        list[str] | None, typer.Option("--set", help="A field of the vendor's and its value; repeatable.")
    ] = None,
) -> None:
    """Add an action that the vendor lacks; when it sends the same, that one counts."""
    from alchemiser_duck.query.arguments import as_day, one_symbol

    fields = dict(assignment(text, "--set") for text in values or ())
    _action_store().add(kind, one_symbol(symbol), as_day(day, "ex-date"), fields, reason, datetime.now(UTC))


@commands.command(epilog="Example: alchemiser-duck actions restore ID")
def restore(action_id: Annotated[str, typer.Argument(help="The action's id.")]) -> None:
    """Take an override or acceptance back, or an added action away: the vendor's word counts again."""
    _action_store().restore(action_id)


def _action_store() -> Any:
    from alchemiser_duck.market_data_store import MarketDataStore

    return MarketDataStore().actions
