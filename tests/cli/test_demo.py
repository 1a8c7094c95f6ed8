"""`make demo` shows the main job end to end, in well under a minute, with nothing in the environment."""

import os
import re
import subprocess
import sys
from pathlib import Path


def test_the_demo_shows_bars_indicators_and_sql_from_s3(tmp_path: Path) -> None:
    bare = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"]}
    program = Path(sys.executable).parent / "alchemiser-duck"
    ended = subprocess.run(
        [program, "demo"], cwd=tmp_path, env=bare, capture_output=True, text=True, timeout=240, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert "8,884 bars of 4 symbols" in ended.stdout
    count = re.search(r"^(\d+) bars$", ended.stdout, re.MULTILINE)
    assert count
    assert 248 <= int(count.group(1)) <= 253
    for symbol in ("AAPL", "GOOG", "IBM"):
        assert re.search(rf"^{symbol} +\d{{4}}-\d\d-\d\d( +[\d.]+){{5}}$", ended.stdout, re.MULTILINE), symbol
    assert "dates are shifted" in ended.stderr
    assert "select symbol, year(date)" in ended.stdout
