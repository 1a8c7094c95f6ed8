"""The command line in a process of its own, for every test that types a command."""

import subprocess
import sys
from pathlib import Path

Ended = subprocess.CompletedProcess[str]


def run(variables: dict[str, str], *arguments: str, stdin: str | None = None, cwd: Path | None = None) -> Ended:
    """Run `alchemiser-duck` with these variables and no others."""
    return subprocess.run(
        [sys.executable, "-m", "alchemiser_duck", *arguments],
        env=variables,
        cwd=cwd,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
