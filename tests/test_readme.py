"""The README cannot lie: its shell session runs as printed, its Python block too, its tables name what exists."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from alchemiser_duck import DataRefreshService, Settings
from alchemiser_duck.query.checker import check
from alchemiser_duck.sandbox import sandbox

README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(heading: str, language: str) -> str:
    section = README.split(heading, 1)[1]
    found = re.search(rf"```{language}\n(.*?)```", section, re.DOTALL)
    assert found, heading
    return found.group(1)


def bare_environment() -> dict[str, str]:
    return {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}


def test_the_session_runs_as_printed(tmp_path: Path) -> None:
    """Shell, then Python, in one shell as a reader would; none of the project's variables set; `make install` finds
    what is installed."""
    for name in ("Makefile", "pyproject.toml", "sql", ".ci"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / ".venv").symlink_to(Path(sys.executable).parent.parent)
    python = block("has it too", "python").replace("\nadapter.", "\nassert adapter.")
    assert python.count("\nassert adapter.") == 10
    python += "\n" + block("In a DuckDB of your own", "python").replace('\ncon.sql("select', '\nassert con.sql("select')
    assert python.count("\nassert con.") == 1
    session = f"{block('## Try it', 'sh')}\npython - <<'EOF'\n{python}\nprint('python is done')\nEOF\nkill %1\n"
    ended = subprocess.run(
        ["bash", "-mec", session],
        cwd=tmp_path,
        env=bare_environment(),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "AAPL" in ended.stdout
    assert "dates are shifted" in (tmp_path / "sandbox.log").read_text()
    assert "overnight" in ended.stdout
    assert re.search(r"│ IBM\s+│\s+\d+ │", ended.stdout), "the duckdb shell showed no count"
    assert ended.stdout.rstrip().endswith("python is done")


def test_every_block_is_run_by_a_test() -> None:
    assert re.findall(r"^```(\w+)$", README, re.MULTILINE) == ["sh", "sh", "python", "python"]
    assert README.split("```sh\n")[1].startswith("make demo\n```")  # as tests/test_demo.py does


def test_the_table_names_every_variable() -> None:
    named = set(re.findall(r"`((?:MARKET|AWS|APCA|ALPACA|ALCHEMISER)_[A-Z0-9_]+)`", README))
    aliases = {
        str(choice)
        for field in Settings.model_fields.values()
        for choice in getattr(field.validation_alias, "choices", [field.validation_alias])
    }
    assert named - aliases == {"ALPACA_SECRET_ID"}  # read by the Lambda handler alone
    assert aliases - named == {"AWS_DEFAULT_REGION"}


def test_the_commands_of_the_usage_block_exist() -> None:
    from typer.testing import CliRunner

    from alchemiser_duck.cli.app import app

    commands = re.findall(r"alchemiser-duck ([a-z]+)", README)
    assert len(commands) > 8
    for command in commands:
        assert CliRunner().invoke(app, [command, "--help"]).exit_code == 0, command


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_bare_make_lists_every_target() -> None:
    shown = subprocess.run(["make", "-C", str(ROOT)], capture_output=True, text=True, check=True).stdout
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert targets
    for target in targets:
        assert f"make {target}" in shown


def test_the_indicator_guide_runs_as_printed(tmp_path: Path) -> None:
    """sql/README.md, typed by someone who has just run a refresh; its example is sound."""
    guide = (ROOT / "sql" / "README.md").read_text(encoding="utf-8")
    commands = "".join(re.findall(r"```sh\n(.*?)```", guide, re.DOTALL))
    example = re.search(r"```sql\n(.*?)```", guide, re.DOTALL)
    assert commands
    assert example
    with sandbox() as box:
        DataRefreshService(box.settings()).overnight(start=box.first_session)
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        ended = subprocess.run(
            ["bash", "-ec", commands],
            cwd=tmp_path,
            env=bare_environment() | box.environment | {"PATH": path},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "no findings" in ended.stderr
    assert ended.stdout.count("AAPL") >= 8
    charted = (tmp_path / "my_signal.csv").read_text().splitlines()
    assert charted[0] == '"symbol","date","close","my_signal"'
    assert len(charted) > 3000
    (tmp_path / "high_distance.sql").write_text(example.group(1))
    assert check(tmp_path / "high_distance.sql") == []
