"""What the papers for developers name is there."""

import json
import re
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

from alchemiser_duck.query.catalogue import sql_root

PAPERS = sorted((ROOT / ".github").glob("*.md"))
PACKAGE = ROOT / "alchemiser_duck"


@pytest.mark.parametrize("paper", PAPERS, ids=lambda paper: paper.name)
def test_every_path_that_a_paper_names_exists(paper: Path) -> None:
    text = paper.read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:[\w.-]+/)*[\w.-]+\.(?:py|sql|toml)|(?:[\w-]+/)+)`", text))
    roots = (ROOT, PACKAGE, sql_root(), PACKAGE / "lake", PACKAGE / "query", PACKAGE / "panel", PACKAGE / "cli")
    missing = {name for name in named if "NAME" not in name and not any((root / name).exists() for root in roots)}
    assert missing == set()


def test_every_folder_has_its_paragraph() -> None:
    text = (ROOT / ".github/ARCHITECTURE.md").read_text(encoding="utf-8")
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and any(path.glob("*.py"))} | {"deploy"}
    assert {folder for folder in folders if f"**`{folder}/`**" not in text} == set()


@pytest.mark.parametrize("paper", PAPERS, ids=lambda paper: paper.name)
def test_every_make_target_that_a_paper_names_exists(paper: Path) -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z0-9-]+)(?=`| )", paper.read_text(encoding="utf-8")))
    assert named - {"help"} <= targets


def test_hooks_and_container_run_what_there_is() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    assert {hook["id"] for hook in hooks} == {"ruff", "format", "mypy", "layers"}
    assert json.loads((ROOT / ".devcontainer/devcontainer.json").read_text())["postCreateCommand"] == "make demo"
