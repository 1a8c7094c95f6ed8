"""The command line: all groups of commands, and one exit for every error."""

import sys
from typing import Annotated

import typer
from typer.exceptions import TyperException

from alchemiser_duck.cli import actions, bars, indicators, lake, sandbox, shell, symbols
from alchemiser_duck.cli.options import group
from alchemiser_duck.errors import AlchemiserDuckError, ExitCode

EXIT_CODES = (
    "Exit codes: 0 ok, 1 query failed, 2 usage or settings, 3 S3 or Alpaca unreachable or data not there yet "
    "(a retry may help), 4 stale or bad data found, 130 interrupted."
)

app = group(
    "Market data in Parquet on S3, read through DuckDB SQL. Settings come from the environment.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.info.epilog = EXIT_CODES
for commands in (lake.commands, bars.commands, indicators.commands, shell.commands, sandbox.commands):
    app.add_typer(commands)
app.add_typer(actions.commands, name="actions")
app.add_typer(symbols.commands, name="symbols")


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
