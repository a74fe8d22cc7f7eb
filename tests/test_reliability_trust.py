"""A key that must stay secret, text that must stay text, data that must stay what they were: over real runs."""

from __future__ import annotations

import ast
import base64
import hashlib
import html.parser
import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

import local_server as ls
from capitulation import cli
from capitulation.data import store
from reliability import homes

ROOT = Path(__file__).resolve().parents[1]
KEY = "m4rker+of/a=key0123456789"
SCRIPT = "</title></script><script>alert(1)</script><img src=x onerror=alert(1)>"
FORMULA = "=cmd|' /C calc'!A0"
MARKDOWN = "[x](javascript:alert(1)) ![x](http://tracker.example/p.png) $\\href{javascript:alert(1)}{x}$"
HOSTILE = f"{FORMULA} {SCRIPT} {MARKDOWN} ../../etc {{{{7*7}}}} {{%x%}}"
FINDING = {"check": "gap", "severity": "warning", "column": "price_usd", "days": 1, "value": None, "limit": 1.0}
SHOW = """
import pandas as pd
import capitulation as cap
run = cap.open_run("30-show-source", globals())
facts = {"attribution": run.market.attribution, "licence": run.market.licence, **dict(enumerate(run.market.notes))}
frame = pd.DataFrame({"what": [str(name) for name in facts], "text": list(facts.values())})
run.table(frame, "source", f"From {run.market.attribution}.")
run.table(run.market.findings_table(), "remarks", "Remarks.")
run.note(run.market.attribution)
print(run.market.licence)
run.finding(f"{data!r} by {run.market.attribution}")
"""
pytestmark = pytest.mark.xdist_group("trust")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A home with a fetched snapshot and a report made from it, all with a key in the environment."""
    folder = homes.tiny_home(tmp_path_factory.mktemp("home"))
    book = homes.rh.cells_notebook("# Show", SHOW, parameters="data: str = ''  # path")
    homes.rh.write_notebook(folder / "notebooks", "30-show-source", book)
    return folder


@pytest.fixture(scope="module")
def said(home):
    """Everything that fetch and report printed, in good times and bad."""
    end = pd.Timestamp(store.utc_now().date()) - pd.Timedelta(days=1)
    panel = ls.made_panel(200, end=str(end.date()))
    page = json.loads(ls.coinmetrics_page(ls.coinmetrics_rows(panel)))
    page["next_page_url"] = f"https://api.example/v4?api_key={KEY}"
    with ls.LocalServer() as server:
        server.serve_all(panel)
        server.serve(ls.API, ls.status(500), ls.ok(json.dumps(page).encode()))
        env = server.environment() | {"COINMETRICS_API_KEY": KEY}
        fetched = homes.cli(home, "fetch", "--source", "coinmetrics", **env)
        reported = homes.cli(home, "report", "--run", "t", "--source", "coinmetrics", "--jobs", "2", **env)
        asked = [query.get("api_key") for path, query in server.requests if path == ls.API]
        server.serve(ls.API, ls.status(403))
        server.serve(ls.CSV, ls.ok(f"<p>{KEY}</p>".encode()))
        refused = homes.cli(home, "fetch", "--source", "coinmetrics", **env)
    assert asked == [KEY, KEY], "the service must see the key"
    assert [code for code, _out, _err in (fetched, reported)] == [0, 0], (fetched, reported)
    assert refused[0] != 0
    return "".join(out + err for _code, out, err in (fetched, reported, refused))


def test_a_key_in_the_environment_is_in_no_file_and_no_output(home, said):
    assert KEY not in said
    files = [path for path in home.rglob("*") if path.is_file()]
    assert len(files) > 20
    for path in files:
        content = path.read_bytes()
        assert KEY.encode() not in content, path
        assert KEY[:12].encode() not in content, path
    outcome = "reached the service; in no file, page or line of output"
    ls.record_outcome("tampering", "API key in the environment of fetch and report", len(files), outcome)


def snapshot_folder(home):
    (folder,) = (path for path in (home / "data" / "raw" / "coinmetrics").iterdir() if path.is_dir())
    return folder


def tamper(path, change):
    path.chmod(0o644)
    path.write_bytes(change(path.read_bytes()))


def test_reproducing_is_identical_until_the_raw_data_are_tampered_with(home, said):
    code, out, err = homes.cli(home, "reproduce", "--run", "t")
    assert code == 0, err
    assert out.startswith(f"t: 4 tables, all identical; data from coinmetrics/{snapshot_folder(home).name}"), out
    assert homes.cli(home, "check-data")[0] == 0
    raw = snapshot_folder(home) / "page-01.json"
    good = raw.read_bytes()
    tamper(raw, lambda data: data.replace(b'"BlkCnt"', b'"BlkCnX"', 1))
    before = homes.digests(home / "reports" / "t")
    try:
        code, _out, err = homes.cli(home, "reproduce", "--run", "t")
        assert code == 3
        line = homes.one_error_line(err)
        assert "page-01.json no longer matches its SHA-256" in line
        code, out, err = homes.cli(home, "check-data")
        assert code == 1
        assert out.startswith("refused") and "page-01.json" in out
    finally:
        tamper(raw, lambda data: good)
    assert homes.digests(home / "reports" / "t") == before
    assert not homes.rubbish(home)
    ls.record_outcome("tampering", "reproduce: all as recorded", 1, "every table identical")
    ls.record_outcome("tampering", "reproduce: raw file changed since", 1, "refused, file named, report untouched")


def test_reproducing_without_the_snapshot_uses_the_verified_copy(home, said, tmp_path):
    moved = tmp_path / "moved"
    folder = snapshot_folder(home)
    shutil.move(folder, moved)
    panel = home / "reports" / "t" / "market" / "panel.csv"
    good = panel.read_bytes()
    try:
        code, out, _err = homes.cli(home, "reproduce", "--run", "t")
        assert code == 0
        assert "all identical; data from the copy in the report" in out
        tamper(panel, lambda data: data.replace(b"144", b"145"))
        code, _out, err = homes.cli(home, "reproduce", "--run", "t")
        assert code == 3
        assert "panel.csv" in homes.one_error_line(err)
    finally:
        shutil.move(moved, folder)
        panel.write_bytes(good)
    ls.record_outcome("tampering", "reproduce: snapshot gone", 1, "identical from the verified copy, which is said")
    ls.record_outcome("tampering", "reproduce: snapshot gone, copy changed", 1, "refused")


def report_again(home):
    return homes.cli(home, "report", "--run", "t", "--source", "coinmetrics", "--jobs", "2")


BROKEN_RECORDS = [
    b"", b"[]", b"{}", b"\xff\xfe", b'{"tables": 3}', b"[" * 50_000,
    b'{"parameters": {}, "market": {}, "versions": {}, "tables": {}, "notebooks": [3]}',
]  # fmt: skip


def test_a_damaged_report_is_made_again_and_never_trusted(home, said):
    """A record that is none, and a table that someone edited: the next run notices and makes them anew."""
    folder = home / "reports" / "t"
    good = homes.digests(folder)
    tamper(folder / "tables" / "tail.csv", lambda data: data.replace(b"2", b"3"))
    assert report_again(home)[0] == 0
    assert homes.digests(folder) == good, "an edited table must not be passed on"
    escaping = json.loads((folder / "run.json").read_text())
    escaping["notebooks"][0]["files"].append("../../btc.csv")
    for number, content in enumerate([*BROKEN_RECORDS, json.dumps(escaping).encode()]):
        tamper(folder / "run.json", lambda data, new=content: new)
        for command in (["reproduce", "--run", "t"], ["compare", "--a", "t", "--b", "t"]):
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("CAPITULATION_HOME", str(home))
                assert cli.main(command) in (2, 3), (number, command)
    assert report_again(home)[0] == 0
    assert homes.digests(folder) == good
    ls.record_outcome("tampering", "table of a report edited", 1, "made again as it was")
    outcome = "refused by reproduce and compare; the next report is whole again"
    ls.record_outcome("tampering", "run.json damaged, or naming files outside", len(BROKEN_RECORDS) + 1, outcome)


# --- hostile text ----------------------------------------------------------------------------------------------------


class Page(html.parser.HTMLParser):
    """What a browser would act on."""

    def __init__(self, text):
        super().__init__()
        self.scripts, self.policies, self.active, self._in_script = [], [], [], False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self._in_script = tag == "script"
        if self._in_script:
            self.scripts.append("")
        if (values.get("http-equiv") or "").lower() == "content-security-policy":
            self.policies.append(values["content"])
        if tag in ("iframe", "object", "embed", "base", "form", "link", "video", "audio"):
            self.active.append(tag)
        self.active += [f"{tag} {name}" for name in values if name.startswith("on")]
        target = (values.get("href") or values.get("src") or "").strip().lower()
        if tag != "a" and target and not target.startswith(("data:image/", "#")):
            self.active.append(f"{tag} {target}")
        if target.startswith(("javascript:", "vbscript:", "data:text")):
            self.active.append(target)

    def handle_data(self, data):
        if self._in_script:
            self.scripts[-1] += data

    def handle_endtag(self, tag):
        self._in_script = self._in_script and tag != "script"


def assert_harmless(folder, *texts):
    """Every page of a report: one script, allowed by its digest, nothing else that acts; the text shown as text."""
    pages = sorted(folder.glob("*.html"))
    assert len(pages) >= 5
    for path in pages:
        content = path.read_text()
        page = Page(content)
        assert page.active == [], path.name
        assert len(page.scripts) == 1, path.name
        (policy,) = page.policies
        assert "default-src 'none'" in policy
        digest = base64.b64encode(hashlib.sha256(page.scripts[0].encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
        assert "unsafe" not in policy
    shown = (folder / "30-show-source.html").read_text()
    assert all(text in shown for text in texts)
    for path in folder.glob("tables/*.csv"):
        for cell in pd.read_csv(path, dtype=str, keep_default_na=False).to_numpy().ravel():
            number = re.fullmatch(r"[+-]?[\d.]+(e[+-]?\d+)?", cell)
            assert number or not cell.lstrip().startswith(("=", "+", "-", "@")), (path.name, cell)


def test_hostile_provenance_does_no_harm_in_a_real_run(home, said):
    """The texts of a manifest are no measurement and carry no digest: whatever they say stays text."""
    manifest = snapshot_folder(home) / "manifest.json"
    good = manifest.read_bytes()
    hostile = {"attribution": HOSTILE, "licence": HOSTILE, "notes": [HOSTILE, FORMULA, "-2+3", "@x"]}
    finding = FINDING | {"first_day": "2022-01-01", "last_day": "2022-01-01", "message": HOSTILE}
    tamper(manifest, lambda data: json.dumps(json.loads(data) | hostile | {"findings": [finding]}).encode())
    try:
        code, _out, err = homes.cli(home, "report", "--run", "hostile", "--source", "coinmetrics", "--jobs", "2")
    finally:
        tamper(manifest, lambda data: good)
    assert code == 0, err
    assert_harmless(home / "reports" / "hostile", "&lt;script&gt;alert(1)")
    assert sorted(path.name for path in home.iterdir()) == [
        "btc.csv", "data", "notebooks", "params", "reports", "tmp",
    ]  # fmt: skip
    ls.record_outcome("tampering", "HTML, script, Markdown, formulas, paths in a manifest's texts", 1, "shown as text")


NAMES = {
    "breaks out of a string": "x'''\"\"\"; import os; os.mkdir('pwned') #{x}\\n.csv",
    "HTML and a formula": "=1+1<script>alert(1)<img src=x onerror=alert(1)>.csv",
}


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.slow if "HTML" in kind else ()) for kind in NAMES]
)
def test_a_hostile_file_name_is_only_a_name(home, said, kind):
    path = home / "tmp" / NAMES[kind]
    shutil.copy(home / "btc.csv", path)
    code, _out, err = homes.cli(home, "report", "--run", "named", "--data", str(path), "--jobs", "2", "--force", "1")
    assert code == 0, err
    assert not list(home.rglob("pwned"))
    assert_harmless(home / "reports" / "named")
    finding = json.loads((home / "reports" / "named" / "findings" / "30-show-source.json").read_text())["finding"]
    assert finding.startswith(repr(NAMES[kind])), "the notebook must see exactly the name"
    path.unlink()
    ls.record_outcome("tampering", f"DATA file whose name {kind}", 1, "read; its name shown as text")


# --- the code itself -------------------------------------------------------------------------------------------------

FORBIDDEN_MODULES = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "code", "pty"}
FORBIDDEN_CALLS = {"eval", "exec", "__import__", "system", "popen", "read_pickle", "to_pickle", "getoutput"}
STRICT_LOADERS = {"_PlainLoader"}


def sources():
    yield from ((path.name, path.read_text()) for path in sorted((ROOT / "lib").rglob("*.py")))
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = json.loads(path.read_text())["cells"]
        code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        yield path.name, "\n".join(line for line in "\n".join(code).splitlines() if not line.startswith(("%", "!")))


def dangers(source: str) -> list[str]:
    """What in `source` could run text that came from outside."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] in FORBIDDEN_MODULES]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in FORBIDDEN_MODULES:
            found.append(node.module)
        elif isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            own = isinstance(node.func, ast.Name) or name not in ("eval", "exec")
            if own and name in FORBIDDEN_CALLS:
                found.append(name)
            keywords = {item.arg: item.value for item in node.keywords}
            if any(_true(keywords.get(word)) for word in ("shell", "allow_pickle")):
                found.append(f"{name}(shell or allow_pickle)")
            if ast.unparse(node.func) == "yaml.load" and ast.unparse(node.args[1]) not in STRICT_LOADERS:
                found.append("yaml.load")
    return found


def _true(value) -> bool:
    return value is not None and not (isinstance(value, ast.Constant) and value.value in (False, None))


def test_no_pickle_no_eval_no_shell():
    checked = dict(sources())
    assert len(checked) > 80
    assert {name: dangers(source) for name, source in checked.items() if dangers(source)} == {}


@pytest.mark.parametrize(
    "source",
    ["import pickle", "from pickle import loads", "eval('1')", "import os; os.system('x')", "exec(x)",
     "subprocess.run(x, shell=True)", "np.load(x, allow_pickle=y)", "yaml.load(x, yaml.Loader)", "pd.read_pickle(x)"],
)  # fmt: skip
def test_the_search_for_dangers_finds_them(source):
    assert dangers(source)


def test_jupyterlab_keeps_its_token_and_stays_on_this_machine(monkeypatch):
    started = []
    monkeypatch.setattr(cli.os, "execv", lambda program, words: started.append(words))
    cli.main(["lab"])
    (words,) = started
    assert "--ip=127.0.0.1" in words
    assert not [word for word in words if re.search(r"token|password|allow_origin|disable_check", word, re.IGNORECASE)]
