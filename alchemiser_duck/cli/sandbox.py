"""Commands that need neither Alpaca nor AWS: the sandbox and the demo."""

from typing import Annotated

import typer

from alchemiser_duck.cli.options import group
from alchemiser_duck.cli.signals import stop_signal

commands = group()


@commands.command(epilog="Example: alchemiser-duck sandbox > sandbox.env &   then: source sandbox.env")
def sandbox(
    original_dates: Annotated[bool, typer.Option("--original-dates", help="Serve 2000 to 2013 as it was.")] = False,
) -> None:
    """Run a local S3 and a stand-in for Alpaca with real bars until Ctrl-C; prints the variables to export."""
    from alchemiser_duck.cli import console, output
    from alchemiser_duck.sandbox import sandbox as start_sandbox

    stopped = stop_signal()
    with start_sandbox(original_dates=original_dates) as box:
        console.info(f"sandbox: {box.notice}")
        for name, value in box.environment.items():
            output.text(f"export {name}={value}")
        console.info("sandbox: running; Ctrl-C stops it and forgets everything")
        stopped()
    console.info("sandbox: stopped")


@commands.command(epilog="Example: alchemiser-duck demo")
def demo() -> None:
    """Show everything once, on loopback: refresh real bars into S3, read them back through DuckDB."""
    from alchemiser_duck.cli.demo import run

    run()
