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
from alchemiser_duck.indicator_check import check
from alchemiser_duck.sandbox import sandbox

README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(heading: str, language: str) -> str:
    section = README.split(heading, 1)[1]
    found = re.search(rf"```{language}\n(.*?)```", section, re.DOTALL)
    assert found, heading
    return found.group(1)


def bare_environment() -> dict[str, str]:
    return {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}


def test_the_shell_session_runs_as_printed(tmp_path: Path) -> None:
    """In a copy of the checkout, with none of the project's variables set; `make install` finds what is installed."""
    for name in ("Makefile", "pyproject.toml", "sql"):
        (tmp_path / name).symlink_to(ROOT / name)
    virtual = Path(sys.executable).parent.parent
    (tmp_path / ".venv").symlink_to(virtual)
    ended = subprocess.run(
        ["bash", "-mec", block("## Try it in a shell", "sh")],
        cwd=tmp_path,
        env=bare_environment(),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "AAPL" in ended.stdout
    assert "dates are shifted" in ended.stderr
    assert ended.stdout.count("overnight") >= 1
    assert re.search(r"│ IBM\s+│\s+\d+ │", ended.stdout), "the duckdb shell showed no count"


def test_the_python_block_runs_as_printed() -> None:
    """Against a sandbox of today, as the reader's would be."""
    with sandbox() as box:
        DataRefreshService(box.settings()).overnight(start=box.first_session)
        run_python_block(box.environment)


def run_python_block(environment: dict[str, str]) -> None:
    code = block("no account, no keys, no Docker.", "python").replace("\nadapter.", "\nprint(end='.'); assert adapter.")
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env=bare_environment() | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count(".") == 6


def test_the_table_names_every_variable() -> None:
    named = set(re.findall(r"`((?:MARKET|AWS|APCA|ALPACA|ALCHEMISER)_[A-Z0-9_]+)`", README))
    aliases = {
        str(choice)
        for field in Settings.model_fields.values()
        for choice in getattr(field.validation_alias, "choices", [field.validation_alias])
    }
    assert named <= aliases
    assert aliases - named <= {"AWS_DEFAULT_REGION", "ALCHEMISER_STRATEGIES"}


def test_the_commands_of_the_usage_block_exist() -> None:
    from typer.testing import CliRunner

    from alchemiser_duck.cli import app

    for command in re.findall(r"^alchemiser-duck (\w+)", README, re.MULTILINE):
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
    commands = re.search(r"```sh\n(.*?)```", guide, re.DOTALL)
    example = re.search(r"```sql\n(.*?)```", guide, re.DOTALL)
    assert commands
    assert example
    with sandbox() as box:
        DataRefreshService(box.settings()).overnight(start=box.first_session)
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        ended = subprocess.run(
            ["bash", "-ec", commands.group(1)],
            cwd=tmp_path,
            env=bare_environment() | box.environment | {"PATH": path},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "no findings" in ended.stderr
    assert ended.stdout.count("AAPL") >= 4
    (tmp_path / "high_distance.sql").write_text(example.group(1))
    assert check(tmp_path / "high_distance.sql") == []
