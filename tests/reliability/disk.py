"""A disk that is full or read-only, for the real program: run in a mount namespace of its own where that is allowed.

As a program: `python -m reliability.disk HOME KIND`. Prints one JSON line per report tried.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

from capitulation import cli
from reliability import homes

FREE_BYTES = (0, 34_000, 60_000)
"""Room left on the full disk: the run then fails early, or late."""
LIMITS = (2_000, 20_000)
"""Largest file that the system lets a process write: another way for any write to fail."""


@functools.cache
def can_mount() -> bool:
    """Whether this user may mount something in a namespace of its own."""
    if not shutil.which("unshare"):
        return False
    probe = ["unshare", *namespace(), "sh", "-c", "mount -t tmpfs none /mnt && mount -o remount,ro /mnt"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


def namespace() -> list[str]:
    return ["--mount"] if os.geteuid() == 0 else ["--map-root-user", "--mount"]


def kinds() -> list[str]:
    """The kinds of bad disks that can be had here; a limit on the size of files always."""
    return ["files limited", *(["read-only reports", "read-only everything", "disk full"] if can_mount() else [])]


def attempt(home: Path, variant: str) -> dict:
    """One report, in this process: its exit code, what it said, whether the previous report is whole."""
    before = homes.digests(home / "reports" / "t")
    err = io.StringIO()
    with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
        code = cli.main(homes.report_arguments(home, variant=variant))
    whole = homes.digests(home / "reports" / "t") == before
    return {"code": code, "err": err.getvalue(), "whole": whole, "rubbish": homes.rubbish(home)}


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def fill(folder: Path, leave: int) -> None:
    """Fill the disk under `folder` but for `leave` bytes."""
    status = os.statvfs(folder)
    size = max(0, status.f_bavail * status.f_frsize - leave)
    (folder / "fill").write_bytes(b"x" * size)


def full(home: Path) -> list[dict]:
    mount("-t", "tmpfs", "-o", "size=3m", "none", str(home / "reports"))
    assert cli.main(homes.report_arguments(home)) == 0
    tried = []
    for leave in FREE_BYTES:
        fill(home / "reports", leave)
        tried.append(attempt(home, homes.VARIANTS[1]))
        (home / "reports" / "fill").unlink()
    return tried


def limited(home: Path) -> list[dict]:
    assert cli.main(homes.report_arguments(home)) == 0
    tried = []
    _soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in LIMITS:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        tried.append(attempt(home, homes.VARIANTS[1]))
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    return tried


def read_only(home: Path, folder: Path) -> list[dict]:
    assert cli.main(homes.report_arguments(home)) == 0
    mount("--bind", str(folder), str(folder))
    mount("-o", "remount,ro,bind", str(folder))
    tried = [attempt(home, homes.VARIANTS[1])]
    subprocess.run(["umount", str(folder)], check=True)
    return tried


def main(home: Path, kind: str) -> None:
    steps = {
        "files limited": lambda: limited(home),
        "disk full": lambda: full(home),
        "read-only reports": lambda: read_only(home, home / "reports"),
        "read-only everything": lambda: read_only(home, home),
    }
    tried = steps[kind]()
    after = cli.main(homes.report_arguments(home, variant=homes.VARIANTS[1]))
    print(json.dumps({"tried": tried, "after": after, "rubbish": homes.rubbish(home)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
