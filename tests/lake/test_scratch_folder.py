"""What a process keeps in the temporary folder: its own, and gone with it, however it ends."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from alchemiser_duck.lake.scratch import ScratchFolder, remove_abandoned

HOLDS_ONE = """
import sys
from alchemiser_duck.lake.scratch import ScratchFolder
scratch = ScratchFolder()
(scratch.path / "rows").write_text("rows")
print(scratch.path, flush=True)
sys.stdin.read()
scratch.remove()
"""


@contextmanager
def holder(folder: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A process with a folder of its own, and that folder; the process goes on until its input ends."""
    command = [sys.executable, "-c", HOLDS_ONE]
    environment = os.environ | {"TMPDIR": str(folder)}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        yield process, Path(process.stdout.readline().strip())


def run_another(folder: Path) -> None:
    code = "from alchemiser_duck.lake.scratch import remove_abandoned; remove_abandoned()"
    subprocess.run([sys.executable, "-c", code], env=os.environ | {"TMPDIR": str(folder)}, check=True)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_the_next_process_removes_what_a_killed_one_left(tmp_path: Path, end: signal.Signals) -> None:
    with holder(tmp_path) as (_, living):
        with holder(tmp_path) as (killed, abandoned):
            run_another(tmp_path)
            assert (living / "rows").exists()
            assert (abandoned / "rows").exists()
            killed.send_signal(end)
            killed.wait(20)
        assert (abandoned / "rows").exists()
        run_another(tmp_path)
        assert not abandoned.exists()
        assert (living / "rows").read_text() == "rows"
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_of_this_package_stays(tmp_path: Path) -> None:
    """Folders with a like name, and links out of the temporary folder."""
    elsewhere, temporary = tmp_path / "elsewhere", tmp_path / "temporary"
    for folder in (elsewhere, temporary / "alchemiser-duck-notes", temporary / "another"):
        folder.mkdir(parents=True)
        (folder / "kept").write_text("kept")
    (elsewhere / "in-use").touch()
    (temporary / "another" / "in-use").touch()
    (temporary / "alchemiser-duck-link").symlink_to(elsewhere)
    linked = temporary / "alchemiser-duck-linked"
    linked.mkdir()
    (linked / "in-use").symlink_to(elsewhere / "in-use")
    run_another(temporary)
    assert (elsewhere / "kept").exists()
    assert sorted(path.name for path in temporary.iterdir()) == [
        "alchemiser-duck-link",
        "alchemiser-duck-linked",
        "alchemiser-duck-notes",
        "another",
    ]


def test_where_there_are_no_locks_a_process_still_has_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some network file systems have none: nobody can tell then whether it is in use."""

    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("fcntl.flock", no_locks)
    scratch = ScratchFolder()
    remove_abandoned()
    run_another(tmp_path)
    assert scratch.path.exists()
    scratch.remove()
    assert list(tmp_path.iterdir()) == []


def test_readers_and_writers_remove_them(tmp_path: Path) -> None:
    """A reader when it begins to read, a writer when it merges."""
    for begin in (
        "from alchemiser_duck.lake.mirror import ObjectMirror; from alchemiser_duck import Settings; "
        "ObjectMirror(Settings.from_environment(MARKET_DATA_BUCKET='bucket'))._copying.shutdown()",
        "from alchemiser_duck.ingest.merge import INCOMING_SCHEMA, check_bars; "
        "check_bars(INCOMING_SCHEMA.empty_table())",
    ):
        with holder(tmp_path) as (killed, abandoned):
            killed.kill()
        assert abandoned.exists()
        subprocess.run([sys.executable, "-c", begin], env=os.environ | {"TMPDIR": str(tmp_path)}, check=True)
        assert list(tmp_path.iterdir()) == []
