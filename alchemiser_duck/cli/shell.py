"""The duckdb shell with everything ready."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from alchemiser_duck.cli.options import group
from alchemiser_duck.errors import AlchemiserDuckError

if TYPE_CHECKING:
    from alchemiser_duck.settings import Settings

commands = group()


@commands.command(
    epilog='Example: alchemiser-duck shell -c "from sma(20) limit 5"',
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def shell(context: typer.Context) -> None:
    """Open the duckdb shell with secret, views and indicators ready; further arguments go to duckdb."""
    from alchemiser_duck.query.catalogue import sql_root, user_files
    from alchemiser_duck.query.connection import install_httpfs, linted
    from alchemiser_duck.settings import Settings

    settings = Settings.from_environment()
    program = _program()
    install_httpfs()
    with tempfile.TemporaryDirectory(prefix="alchemiser-duck-") as folder:
        steps = [f".cd {_quoted(sql_root().parent)}", ".read sql/init.sql", f".cd {_quoted(Path.cwd())}"]
        for number, file in enumerate(linted(user_files(settings.sql_dir))):
            copy = Path(folder) / f"{number}.sql"  # what was linted is what runs
            copy.write_text(file.text, encoding="utf-8")
            steps.append(f".read {_quoted(copy)}")
        init = Path(folder) / "init.sql"
        init.write_text("\n".join(steps) + "\n", encoding="utf-8")
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the shell
        command = [program, "-init", str(init), *context.args]
        ended = subprocess.run(command, env=_environment(settings), check=False)  # noqa: S603
    raise typer.Exit(ended.returncode)


def _program() -> str:
    beside_python = Path(sys.executable).parent / ("duckdb.exe" if os.name == "nt" else "duckdb")
    program = str(beside_python) if beside_python.is_file() else shutil.which("duckdb")
    if program is None:
        raise AlchemiserDuckError("there is no duckdb shell here; to install it: pip install 'alchemiser-duck[shell]'")
    return program


def _environment(settings: "Settings") -> dict[str, str]:
    """Return the environment with the secret in it: no file and no history holds it."""
    from alchemiser_duck.lake import credentials
    from alchemiser_duck.lake.location import locate

    secret, where = credentials.current(), locate(settings)
    return os.environ | {
        "MARKET_DATA_BUCKET": settings.market_data_bucket,
        "AWS_ACCESS_KEY_ID": secret.key_id,
        "AWS_SECRET_ACCESS_KEY": secret.secret,
        "AWS_SESSION_TOKEN": secret.token or "",
        "AWS_REGION": where.region,
        "AWS_ENDPOINT_URL_S3": where.endpoint or "",
        "MARKET_DATA_URL_STYLE": "vhost" if where.by_host else "path",
        "AWS_CA_BUNDLE": where.ca_bundle or "",
    }


def _quoted(path: Path) -> str:
    """Quote a path for a dot command: only in double quotes can every character stand."""
    text = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
