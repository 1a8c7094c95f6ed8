"""Options and groups that commands share, so that each is spelt and explained once."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core


class OutputFormat(StrEnum):
    """How rows are written; the same names as output.Format, without its imports."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


class ListGroup(typer.core.TyperGroup):
    """`actions AAPL` is `actions list AAPL`, `symbols --format csv` is `symbols list --format csv`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Insert `list` where no command of the group is named."""
        if "--help" not in args[:1] and not (args and args[0] in self.commands):
            args = ["list", *args]
        return super().parse_args(ctx, args)


def group(text: str = "", example: str = "", **more: Any) -> typer.Typer:
    """Make a group of commands with the settings that all groups have."""
    epilog = f"Example: alchemiser-duck {example}" if example else None
    return typer.Typer(help=text, epilog=epilog, add_completion=False, rich_markup_mode=None, **more)


FormatOption = Annotated[OutputFormat, typer.Option("--format", "-f", help="How rows are written.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why, for whoever reads it later.")]
OutputOption = Annotated[Path | None, typer.Option("--output", "-o", help="Write to this file instead of stdout.")]
LimitOption = Annotated[
    int | None, typer.Option("--limit", min=0, max=2**31 - 1, help="Rows at most; 0: all. Default: 40 in a table.")
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
SourceOption = Annotated[str, typer.Option("--source", help="The relation it reads.")]
SqlOption = Annotated[bool, typer.Option("--sql", help="Show the SQL as it would run, and each column's expression.")]
SymbolsArgument = Annotated[list[str], typer.Argument(help="Tickers.")]
SymbolsOption = Annotated[str | None, typer.Option("--symbols", help="Tickers separated by commas.")]
