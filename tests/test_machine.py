"""The machine that a report is made on: environments, home folders, settings of Python, matplotlib and the terminal."""

from __future__ import annotations

import io
import json
import os
import pwd
import re
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import pytest

import homes
from capitulation import cli
from homes import OPEN, contents, report, write_notebook

ROOT = Path(__file__).resolve().parents[1]
BARE = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "CONDA_PREFIX", "CONDA")}
UV = """#!/bin/sh
echo "$1" >> asked
mkdir -p .venv/bin && ln -sf {python} .venv/bin/python && touch .venv/pyvenv.cfg
sleep 0.3
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("CAPITULATION_HOME", str(homes.make_home(tmp_path / "home")))
    monkeypatch.chdir(tmp_path / "home")
    return tmp_path / "home"


# --- the environment ------------------------------------------------------------------------------------------------


@pytest.fixture
def checkout(tmp_path):
    """The set-up's own files beside an environment that they take for good; its interpreter is this one."""
    folder = tmp_path / "a checkout"
    (folder / ".venv" / "bin").mkdir(parents=True)
    shutil.copytree(ROOT / "lib", folder / "lib", ignore=lambda _folder, names: {n for n in names if n[-3:] != ".sh"})
    for name in ("pyproject.toml", "constraints.txt", "environment.yml"):
        shutil.copy(ROOT / name, folder)
    (folder / ".venv" / "bin" / "python").symlink_to(sys.executable)
    (folder / ".venv" / ".made").write_text(found(folder, "record", ".venv"))
    return folder


def found(folder: Path, *arguments: str) -> str:
    command = ["bash", "lib/find-environment.sh", *arguments]
    return subprocess.run(command, cwd=folder, env=BARE, capture_output=True, text=True, check=True).stdout


def gone(folder: Path) -> None:
    (folder / ".venv" / "bin" / "python").unlink()
    (folder / ".venv" / "bin" / "python").symlink_to("/nowhere/python3")


SPOILT = {
    "good": (lambda folder: os.utime(folder / "pyproject.toml"), ""),
    "none": (lambda folder: shutil.rmtree(folder / ".venv"), "there is none yet"),
    "set-up killed": (lambda folder: (folder / ".venv" / ".making").touch(), "its set-up was cut off"),
    "interpreter away": (gone, "its Python is gone"),
    "renamed or copied": (lambda folder: folder.rename(folder.with_name("b")), "it was made for .*/a checkout"),
    "declaration changed": (lambda folder: (folder / "constraints.txt").write_text(""), "what it must hold changed"),
    "another's": (lambda folder: (folder / ".venv" / ".made").unlink(), "it was not made by make: .*"),
}


@pytest.mark.parametrize("case", SPOILT)
def test_an_environment_that_is_good_no_more_is_made_again_and_the_reason_said(checkout, case):
    spoil, reason = SPOILT[case]
    spoil(checkout)
    (folder,) = (path for path in checkout.parent.iterdir() if path.is_dir())
    assert re.fullmatch(f"venv .venv/bin/python {reason}\n", found(folder))


def test_two_set_ups_at_once_are_one(checkout, tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "uv").write_text(UV.format(python=sys.executable))
    (tmp_path / "bin" / "uv").chmod(0o755)
    gone(checkout)
    (checkout / ".venv" / "half-made").touch()
    environment = BARE | {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    command = ["bash", "lib/make-environment.sh"]
    options = {"cwd": checkout, "env": environment, "stderr": subprocess.PIPE, "text": True}
    both = [subprocess.Popen(command, **options) for _ in range(2)]
    said = "".join(process.communicate(timeout=60)[1] for process in both)
    assert [process.returncode for process in both] == [0, 0]
    assert said.count("Setting up the environment in .venv (its Python is gone) ...\n") == 1
    assert (checkout / "asked").read_text().split() == ["venv", "pip"], "the second finds all done"
    assert found(checkout) == "venv .venv/bin/python \n" and not (checkout / ".venv" / "half-made").exists()


def test_make_leaves_out_settings_of_python_that_break_it(tmp_path):
    program = tmp_path / "python"
    program.write_text(
        '#!/bin/sh\nprintf %s "$PYTHONOPTIMIZE$PYTHONHOME$PYTHONWARNINGS$PYTHONSAFEPATH|$MPLCONFIGDIR"\n'
    )
    program.chmod(0o755)
    broken = {"PYTHONOPTIMIZE": "2", "PYTHONHOME": "/nowhere", "PYTHONWARNINGS": "error", "PYTHONSAFEPATH": "1"}
    kept = {name: value for name, value in os.environ.items() if name != "MPLCONFIGDIR"}
    command = ["make", "--silent", "report", f"PYTHON={program}", "STAMP="]
    options = {"cwd": ROOT, "env": kept | broken | {"HOME": "/"}, "capture_output": True, "text": True, "check": True}
    assert subprocess.run(command, **options).stdout == f"|{ROOT}/.cache/matplotlib"


@pytest.mark.parametrize("level", ["-O", "-OO"])
def test_python_without_asserts_is_refused(home, level):
    command = [sys.executable, level, "-m", "capitulation", "status", "--data", "btc.csv"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "") and "PYTHONOPTIMIZE" in homes.one_error_line(done.stderr)


# --- the user's folders and settings --------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["/", "", None, "/nowhere", "relative", "/home/me"])
def test_paths_are_hidden_and_nothing_else_whatever_the_home_folder(home, monkeypatch, where):
    def no_entry(_user):
        raise KeyError("no such user")

    monkeypatch.setattr(pwd, "getpwuid", no_entry)  # as in a container that runs as any user
    monkeypatch.delenv("HOME") if where is None else monkeypatch.setenv("HOME", where)
    shown = "1/2 a/b relative /home/me /home/me/x /home/me2 /home/me-2"
    write_notebook(home, "30-show-paths", f"import os\nprint('{shown}', os.getcwd())")
    cells = json.loads((report() / "notebooks" / "30-show-paths.ipynb").read_text())["cells"]
    shown = shown.replace("/home/me", "~").replace("~2", "/home/me2").replace("~-2", "/home/me-2")
    expected = shown if where == "/home/me" else shown.replace("~", "/home/me")
    assert "".join(cells[-1]["outputs"][0]["text"]) == f"{expected} ./notebooks\n"


def test_a_users_matplotlibrc_changes_no_picture(home, monkeypatch):
    draw = OPEN + "import matplotlib.pyplot as plt\nfigure, axes = plt.subplots()\naxes.plot(page.panel['price_usd'])\n"
    write_notebook(home, "30-draw-it", draw + "page.figure(figure, 'price', 'Price')\nplt.plot([1, 2])\nplt.show()")
    first = contents(report())
    settings = {"font.size": 20.0, "axes.facecolor": "black", "savefig.dpi": 30.0, "timezone": "US/Pacific"}
    lines = [f"{name}: {value}" for name, value in settings.items()]
    (home / "matplotlibrc").write_text("\n".join([*lines, "no.such.key: 1"]))
    monkeypatch.setenv("MATPLOTLIBRC", str(home / "matplotlibrc"))
    pictures = ("figures/price.png", "notebooks/30-draw-it.ipynb")
    with mpl.rc_context(settings):  # as if this process had read it
        assert contents(report(force=True)) == first
        other = contents(report(force=True, engine="kernel"))  # both engines give the same files
    assert [other[name] for name in pictures] == [first[name] for name in pictures]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_without_the_signs_gets_plain_ones_and_every_number(home, monkeypatch, encoding):
    texts = []
    for one in ("utf-8", encoding):
        stream = io.TextIOWrapper(io.BytesIO(), encoding=one)
        monkeypatch.setattr(sys, "stdout", stream)
        assert cli.main(["status", "--source", "simulated"]) == 0
        stream.flush()
        texts.append(stream.buffer.getvalue().decode(one))
    assert "−" in texts[0] and "▁" in texts[0] and "−" not in texts[1] and "\\u" not in texts[1]
    numbers = [re.findall(r"[-+]?\d[\d,.]*", text.replace("−", "-")) for text in texts]
    assert numbers[0] == numbers[1] and len(numbers[0]) > 20 and "?" not in texts[1]
