"""A full disk and read-only folders under a whole report: one line, the previous report whole, no cleaning needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import local_server as ls
from reliability import disk, homes

TESTS = Path(__file__).parent


# One kind in the fast part; storing snapshots on bad disks is tested apart.
KINDS = [pytest.param(kind, marks=() if kind == disk.kinds()[-1] else pytest.mark.slow) for kind in disk.kinds()]


@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_disk_is_one_line_and_damages_nothing(tmp_path, kind):
    home = homes.tiny_home(tmp_path)
    (home / "notebooks" / "20-count-days.ipynb").unlink()
    command = [sys.executable, "-m", "reliability.disk", str(home), kind]
    if kind != "files limited":
        command = ["unshare", *disk.namespace(), *command]
    path = f"{TESTS}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    env = homes.environment(home, PYTHONPATH=path)
    if kind == "read-only everything":
        env["TMPDIR"] = str(tmp_path.parent)
    done = subprocess.run(command, env=env, cwd=TESTS, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Traceback" not in done.stderr, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    for item in found["tried"]:
        assert item["code"] in (1, 5), item
        homes.one_error_line(item["err"])
        assert item["whole"], "the previous report was damaged"
        assert not item["rubbish"], item
    assert any(reason in item["err"] for item in found["tried"]
               for reason in ("No space left", "Read-only file system", "File too large"))  # fmt: skip
    assert found["after"] == 0, "the next run needs no cleaning"
    assert not found["rubbish"]
    homes.no_process_left(home)
    ls.record_outcome("disk", f"{kind}, under report", len(found["tried"]), "one line, previous report whole")
