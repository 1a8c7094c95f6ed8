"""The benchmark runs, and finds the results of this layer and its peers the same."""

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parent / "benchmarks" / "workloads.py"


@pytest.mark.slow
def test_the_workloads_run_and_agree() -> None:
    chosen = ["--symbols", "10", "--years", "3", "--runs", "1"]
    chosen += ["--workloads", "w1,w2,w3,w4", "--contenders", "alchemiser-duck|polars"]
    ended = subprocess.run([sys.executable, BENCHMARK, *chosen], capture_output=True, text=True, timeout=400)
    assert ended.returncode == 0, ended.stderr
    assert [line.split()[0] for line in ended.stdout.splitlines() if " s  x " in line] == [
        workload for workload in ("w1", "w2", "w3", "w4") for _ in range(2)
    ]
