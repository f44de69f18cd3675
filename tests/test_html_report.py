"""`syncer report`: one picture as text, as JSON and as a page, and what the page is in a real browser.

What can be proved of the page without a browser is proved by an HTML parser; the rest wants Chromium and its driver
(Debian: apt-get install chromium chromium-driver) and is skipped without them.
"""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import stat
import tempfile
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import html5lib
import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

import syncer
from syncer import exhibit, webpage
from syncer.picture import Picture
from syncer.review import causes
from tests.api import Api, Asked, Reply, connector, record
from tests.command import PATIENCE, Project
from tests.test_review import found

EVIL = (
    "</script></pre></title><script>window.pwned=1</script><img src=x onerror=window.pwned=1>"
    "'\"><b onclick=pwned()>&amp;{{7*7}}{% raw %}"
)
"""What would be a script, a picture, a handler or a template, were it not text."""
CONTROL = "\x00\x1b[2J\u202eevil\u2066\ud800"
LATER = "l4ter-a-secret"
TOKEN = 'cAnAry/7f3+"9=&z'
BAD = [
    {**record(1, name="one"), "id": EVIL},
    {**record(2, name="one"), EVIL + "\x1b[2J\u202eevil": 1},
    {**record(3), "name": EVIL + CONTROL},
    {**record(4, name="one"), "price": {"amount": TOKEN}, TOKEN: 1},
    {**record(5, name="one"), "id": "5"},
    {**record(6, name="one"), "updated_at": TOKEN},
    {**record(7, name="one"), LATER: 1},
]
"""Hostile text as value and as name; then what is a secret, or becomes one."""
MODEL = (
    "from typing import Literal\n\n\nclass Item(BaseModel):\n    id: int\n    name: str\n    price: Decimal\n"
    "    updated_at: AwareDatetime\n"
)
STAMP = "2026-11-25T18:20:00.000Z"


def good(name: str) -> list[dict[str, Any]]:
    return [record(number, name=name) for number in range(10, 30)]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Two streams that were pulled three times, the last time in vain; in one of them hostile text was refused."""
    made = Project(tmp_path_factory.mktemp("report"))
    records = {"items": [*BAD, *good("one")], "others": [*good("two"), record(31, name="two") | {"id": None}]}
    with Api(records, size=10) as api:
        text = connector(
            api.url,
            streams=("items", "others"),
            model=MODEL.replace("name: str", 'name: Literal["one", "two"]'),
            stream='max_rejects="100%", unknown="reject", primary_key="id"',
            more='auth=Bearer(env="SHOP_TOKEN")',
        )
        made.write(text)
        env = {"SHOP_TOKEN": TOKEN}
        assert 0 == made.run("pull", "shop", env=env).code
        assert 0 == made.run("pull", "shop", "items", env=env).code
        api.misbehave = _away
        assert 4 == made.run("pull", "shop", env=env).code
    return made


def _away(asked: Asked) -> Reply | None:
    return Reply(500, body=EVIL.encode()) if asked.path == "/others" else None


@pytest.fixture(scope="module")
def page(project: Project) -> Path:
    """The page of that source."""
    done = project.run("report", "shop", "--html", "page.html", env={"SHOP_TOKEN": TOKEN})
    assert (0, "") == (done.code, done.stderr)
    return project.path / "page.html"


@pytest.fixture(scope="module")
def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def parsed(text: str) -> Any:
    """The tree that a browser would make of it."""
    return html5lib.parse(text, namespaceHTMLElements=False)


def shown(element: Any) -> str:
    return "".join(element.itertext())


def elements(text: str) -> list[tuple[str, Any]]:
    """Every element with its name, whatever language it is of."""
    return [
        (element.tag.rpartition("}")[2], element)
        for element in parsed(text).iter()
        if isinstance(element.tag, str)  # a comment has none
    ]


# One picture, three forms


def test_the_picture_is_what_runs_status_and_rejects_say(project: Project) -> None:
    (seen,) = project.run("report", "shop", "--json").json()

    assert "shop" == seen["source"]
    assert project.run("runs", "shop", "--json").json() == seen["runs"]
    assert project.run("rejects", "shop", "--json").json() == seen["causes"]
    rows = [{name: value for name, value in row.items() if name != "balance"} for row in seen["streams"]]
    assert project.run("status", "shop", "--json").json() == rows


def test_every_record_is_accounted_for_in_text_and_in_json(project: Project) -> None:
    done = project.run("report", "shop")
    (seen,) = project.run("report", "shop", "--json").json()
    balances = {row["stream"]: row["balance"] for row in seen["streams"]}

    assert 0 == done.code
    assert "\n  others  21 fetched = 20 written + 1 rejected + 0 repeated + 0 purged\n" in done.stdout
    assert (21, 20, 1, 0, 0, True) == (
        *(balances["others"]["stored"][name] for name in ("fetched", "written", "rejected", "repeated", "purged")),
        balances["others"]["balanced"],
    )


def test_the_text_has_the_last_run_the_streams_the_causes_and_what_to_type(project: Project) -> None:
    said = project.run("report", "shop").stdout
    latest = project.run("runs", "shop", "--json").json()[0]["id"]

    assert said.startswith(f"run       {latest} of shop\n")
    expected = [
        project.run("runs", "show", latest).stdout.strip(),
        project.run("status", "shop").stdout.strip(),
        "      2  items  id: int_type\n",
        "every one of them: syncer rejects shop --all, or with --json for machines",
        "all runs: syncer runs shop --all",
    ]
    assert [] == [part for part in expected if part not in said]
    assert [] == [line for line in said.splitlines() if len(line) > 90 and line[:4] != "  → "]


def test_what_keeps_the_next_pull_from_going_on_is_said_in_each_form(project: Project, tmp_path: Path) -> None:
    copied = Project(tmp_path / "copy")
    shutil.copytree(project.path, copied.path)
    os.truncate(copied.data / "shop" / "others.jsonl", 10)
    env = {"SHOP_TOKEN": TOKEN}
    rows = {row["stream"]: row for row in copied.run("status", "shop", "--json", env=env).json()}
    message = rows["others"]["error"]["message"]
    seen = copied.run("report", "shop", "--json", env=env)
    said = copied.run("report", "shop", env=env)
    made = copied.run("report", "shop", "--html", "-", env=env)

    assert (0, 0, 0) == (seen.code, said.code, made.code)
    assert [message] == [row["error"]["message"] for row in seen.json()[0]["streams"] if "error" in row]
    assert message in said.stdout
    assert message in [shown(one) for name, one in elements(made.stdout) if name == "span"]


def test_without_a_source_it_shows_all_that_have_an_output_and_says_which_cannot_be_read(
    project: Project, tmp_path: Path
) -> None:
    copied = Project(tmp_path / "copy")
    shutil.copytree(project.path, copied.path)
    shutil.copytree(copied.data / "shop", copied.data / "gone")
    both = copied.run("report", "--json")
    done = copied.run("report", "--html", "all.html")

    assert ["gone", "shop"] == [seen["source"] for seen in both.lines()[0]]
    assert "only its runs are shown: there is no connector 'gone'" in both.lines()[0][0]["notes"][0]
    assert (2, 2, True) == (both.code, done.code, "error: there is no connector 'gone'" in done.stderr)
    headings = [shown(each) for name, each in elements((copied.path / "all.html").read_text()) if name in ("h1", "h2")]
    assert ["syncer report", "gone", "shop"] == [title for title in headings if title != "Runs"][:3]


# The page, taken apart


def test_the_page_may_do_nothing_but_show_its_own_style_and_run_its_own_script(text: str) -> None:
    found = elements(text)
    (policy,) = [one.get("content") for name, one in found if one.get("http-equiv") == "Content-Security-Policy"]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    digests = {
        name: [
            f"'sha256-{b64encode(sha256(shown(one).encode()).digest()).decode()}'" for tag, one in found if tag == name
        ]
        for name in ("style", "script")
    }

    assert ["'none'"] == list({rules.pop(name) for name in ("default-src", "base-uri", "form-action")})
    assert {"style-src": digests["style"], "script-src": digests["script"], "img-src": ["data:"]} == {
        name: value.split() for name, value in rules.items()
    }
    assert (1, 1) == (len(digests["style"]), len(digests["script"]))
    before = text[: text.index("Content-Security-Policy")]
    assert not re.search("<(style|script|link|img|svg)", before)  # it counts only for what comes after it


def test_nothing_in_the_page_leads_out_of_it(text: str) -> None:
    found = elements(text)
    names = {name for name, _ in found}
    led = {
        value for _, one in found for name, value in one.attrib.items() if "href" in name or name in ("src", "action")
    }

    assert set() == names & {
        "img",
        "iframe",
        "object",
        "embed",
        "base",
        "audio",
        "video",
        "image",
        "use",
        "foreignObject",
    }
    assert {"data:,"} == {value for value in led if not value.startswith("#")}
    assert {value[1:] for value in led if value.startswith("#")} <= {one.get("id") for _, one in found}
    assert [] == [name for _, one in found for name in one.attrib if name.startswith("on") or name == "style"]
    (style,) = [shown(one) for name, one in found if name == "style"]
    assert [] == re.findall(r"@import|url\(|//", style)


def test_the_script_never_makes_elements_of_text() -> None:
    script = (Path(syncer.__file__).parent / "assets" / "report.js").read_text()
    assert [] == re.findall(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval|Function\(|fetch|XMLHttp", script)


def _dense(text: str) -> str:
    """Without white space: a long value stands on several lines."""
    return re.sub(r"\s", "", text)


def test_hostile_text_stays_text(text: str) -> None:
    found = elements(text)
    content = shown(parsed(text))

    assert _dense(json.dumps(EVIL)[1:-1]) in _dense(content)
    assert 1 == [name for name, _ in found].count("script")
    assert [] == [name for name, one in found if name in ("img", "b") or any(a.startswith("on") for a in one.attrib)]
    assert r"\u202eevil\u2066" in _dense(content)
    assert [] == re.findall("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)
    for title in (shown(one) for name, one in found if name == "title"):
        assert "syncer" in title or re.fullmatch(r"[\d :-]+: [\d,.mhs ]+", title), title


def test_hostile_text_in_the_ledger_stays_text() -> None:
    """Whatever somebody wrote into a file there."""
    fault = {"message": EVIL, "hint": EVIL, "exit_code": 4}
    stream = {"stream": EVIL, "status": EVIL, "error": fault, "rejected_by_cause": {EVIL: 3, "x": "y"}}
    run = {
        **dict.fromkeys(("id", "command", "resume", "status"), EVIL),
        **dict.fromkeys(("requests", "received", "seconds", "retries", "not_modified"), 1e299),
        "source": EVIL,
        "started": STAMP,
        "ended": STAMP,
        "exit_code": None,
        "waited": {EVIL: -1.0},
        "streams": [stream],
        "notes": [EVIL],
        "error": fault,
    }
    drift = [{"stream": EVIL, "text": EVIL, "count": 1, "first_seen": EVIL}]
    made = webpage.Page.ready().html([Picture(EVIL, [run, run], drift=drift, notes=[EVIL])], STAMP)

    assert 1 == [name for name, _ in elements(made)].count("script")
    assert [] == [name for name, _ in elements(made) if name in ("img", "b")]
    assert shown(parsed(made)).count(EVIL) > 10


def test_no_secret_is_in_any_form(project: Project) -> None:
    env = {"SHOP_TOKEN": TOKEN, "NEXT_TOKEN": LATER}
    forms = ([], ["--json"], ["--html", "-"])
    written = [project.run("report", "shop", *more, env=env).stdout for more in forms]
    text = written[-1]
    kept = project.run("rejects", "shop", "--all", "--json").stdout

    assert json.dumps(TOKEN)[1:-1] in kept  # the API wrote it into a record
    assert [[], [], []] == [re.findall("cAnAry|7f3|l4ter", each) for each in written]
    assert "***" in shown(parsed(text))


def test_the_same_picture_makes_the_same_bytes(project: Project, text: str) -> None:
    again = project.run("report", "shop", "--html", "-", env={"SHOP_TOKEN": TOKEN, "PYTHONHASHSEED": "7"})
    moment = r'made <time datetime="[^"]*">[^<]*</time>'

    assert (0, "") == (again.code, again.stderr)
    assert re.sub(moment, "", text).strip() == re.sub(moment, "", again.stdout).strip()


def test_every_chart_has_its_numbers_in_a_table(project: Project, text: str) -> None:
    found = elements(text)
    charts = [one for name, one in found if name == "svg"]
    rows = project.run("runs", "shop", "--json").json()
    cells = {shown(one) for name, one in found if name in ("td", "th")}

    assert len(charts) > 5
    assert {"true"} == {one.get("aria-hidden") for one in charts}
    for row in rows:
        counts = [stream.get("pulled") or stream["run"] for stream in row["streams"] if "run" in stream]
        for name in ("written", "rejected"):
            assert f"{sum(count[name] for count in counts):,}" in cells


def test_every_table_names_its_columns_and_rows_and_every_control_has_a_name(text: str) -> None:
    found = elements(text)
    for table in (one for name, one in found if name == "table"):
        head, body = table.find("thead"), table.find("tbody")
        assert {"col"} == {cell.get("scope") for cell in head.iter("th")}
        assert all(["row"] == [cell.get("scope") for cell in row.iter("th")] for row in body.iter("tr"))
        assert {len(list(head.iter("th")))} == {len(row) for row in body.iter("tr")}
    assert [1, 2, 2, 2, 2, 2, 3] == [int(name[1]) for name, _ in found if re.fullmatch("h[1-6]", name)]
    assert all(one.get("aria-label") for _, one in found if one.get("role") in ("region", "search"))
    controls = [one for name, one in found if name in ("input", "select")]
    labelled = [inner for name, one in found if name == "label" for inner in one if inner.tag in ("input", "select")]
    assert (3, controls) == (len(labelled), labelled)
    assert {"en"} == {one.get("lang") for name, one in found if name == "html"}
    ids = [one.get("id") for _, one in found if one.get("id") is not None]
    assert len(ids) == len(set(ids))


def _luminance(colour: str) -> float:
    digits = colour * 2 if len(colour) == 3 else colour
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(part * share for part, share in zip(linear, (0.2126, 0.7152, 0.0722), strict=True))


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_every_text_has_the_contrast_that_wcag_wants(scheme: int) -> None:
    style = (Path(syncer.__file__).parent / "assets" / "report.css").read_text()
    blocks = [
        dict(re.findall(r"--([\w-]+): #(\w+)", block)) for block in re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    ]
    colours = blocks[scheme]
    pairs = [(ink, paper) for ink in ("ink", "quiet", "accent", "good", "bad") for paper in ("paper", "raised")]

    assert (2, 11) == (len(blocks), len(colours))
    for ink, paper in [*pairs, ("mark-ink", "mark")]:
        dark, light = sorted(_luminance(colours[name]) for name in (ink, paper))
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (ink, paper)


def test_drift_has_a_section_where_there_is_some_and_none_where_there_is_none() -> None:
    page = webpage.Page.ready()
    row = {"stream": "items", "text": "price is a string", "count": 1200, "first_seen": STAMP}
    some = page.html([Picture("shop", drift=[row])], STAMP)
    none = page.html([Picture("shop")], STAMP)

    assert "Drift" in [shown(one) for name, one in elements(some) if name == "h2"]
    assert ["items", "price is a string", "1,200", "2026-11-25 18:20:00"] == [
        shown(cell) for name, table in elements(some) if name == "tbody" for cell in table[0]
    ]
    assert "Drift" not in none


def test_a_source_that_was_never_pulled_has_a_page_that_says_so(tmp_path: Path) -> None:
    empty = Project(tmp_path)
    empty.write(connector("http://127.0.0.1:9"))
    done = empty.run("report", "shop", "--html", "page.html")
    said = empty.run("report", "shop")
    everything = empty.run("report", "--html", "all.html")
    content = shown(parsed((tmp_path / "page.html").read_text()))

    assert (0, 0, 0) == (done.code, said.code, everything.code)
    assert "shop was never pulled here: no run is recorded" in content
    assert 1 == content.count("never pulled here")
    assert "there is no data" not in content
    assert "syncer pull shop" in content
    assert "shop: no runs are recorded" in said.stdout
    assert "Nothing was pulled here yet" in (tmp_path / "all.html").read_text()


def test_a_hundred_thousand_rejects_of_many_causes_make_a_page_of_two_megabytes_at_most() -> None:
    """What grows with the rejects is counted, what is shown of them is bounded: causes, samples and their lines."""
    raw = {f"field_{number}": "x" * 300 for number in range(200)}
    several = (
        found(
            f"extra_{number % 600}", raw={**raw, f"extra_{number % 600}": number % 7}, page=number // 100, index=number
        )
        for number in range(20_000)
    )
    groups = [replace(group, count=group.count * 5) for group in causes(several, {})]
    row: dict[str, Any] = {
        "stream": "items",
        "status": "complete",
        "saved": STAMP,
        "pages": 1,
        "next": "",
        "balance": None,
    }
    row |= {"records": 0, "rejects": 100_000}
    row["balance"] = {
        "stored": dict.fromkeys(("fetched", "written", "rejected", "repeated", "purged"), 0),
        "balanced": True,
    }
    commands = {"all": "", "show": "", "replay": ""}
    made = webpage.Page.ready().html([Picture("shop", (), [row], groups, commands=commands)], STAMP)

    assert 501 == len([one for name, one in elements(made) if name == "tr" and one.get("data-cause")])
    assert webpage.SAMPLED == made.count('<details class="sample"')
    assert "100,000 rejects by cause" in made
    assert len(made.encode()) < 2 * 10**6


def test_a_sample_that_is_long_shows_its_faults_and_how_much_is_left_out() -> None:
    raw = {f"field_{number}": number for number in range(300)} | {"name": 5, "last": 1}
    lines = exhibit.laid(found(raw=raw).row)
    short = exhibit.abridged(lines, 40)

    assert lines == exhibit.abridged(lines, len(lines))
    assert '>   "name": 5,' in short
    assert "!     string_type: Input should be a valid string" in short
    left_out = sum(int(line.split()[1]) for line in short if line.startswith("  …"))
    assert (len(lines), True) == (
        left_out + len([line for line in short if not line.startswith("  …")]),
        len(short) < 15,
    )
    many = exhibit.laid(found("[0]", raw=[found(raw={}).row] * 200).row)
    assert 40 >= len([line for line in exhibit.abridged(many, 40) if "…" not in line])


# The file


def test_the_page_is_its_owners_and_takes_the_place_of_an_older_one_with_its_mode(project: Project, page: Path) -> None:
    other = project.path / "other.html"
    other.write_text("old")
    other.chmod(0o640)
    done = project.run("report", "shop", "--html", "other.html")

    assert (0, "other.html: ") == (done.code, done.stdout[:12])
    assert (0o600, 0o640) == (stat.S_IMODE(page.stat().st_mode), stat.S_IMODE(other.stat().st_mode))
    assert other.read_text().startswith("<!doctype html>")
    assert [] == list(project.path.glob(".*.tmp"))


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("not/there.html", "No such file or directory"),
        ("connectors", "it is not a file"),
        ("connectors/shop.py/page.html", "Not a directory"),
    ],
)
def test_a_page_that_cannot_be_written_ends_with_6_and_says_why(project: Project, path: str, words: str) -> None:
    done = project.run("report", "shop", "--html", path)

    assert 6 == done.code
    assert done.stderr.startswith(f"error: cannot write {path}")
    assert words in done.stderr
    assert "\n  → " in done.stderr


def test_a_full_disk_ends_with_6_and_leaves_the_older_page_and_nothing_else(project: Project) -> None:
    older = project.path / "older.html"
    older.write_text("old")
    before = sorted(project.path.iterdir())
    full = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))}
    done = project.run("report", "shop", "--html", "older.html", **full)

    assert (6, True) == (done.code, done.stderr.startswith("error: cannot write older.html: File too large"))
    assert ("old", before) == (older.read_text(), sorted(project.path.iterdir()))


def test_the_page_never_takes_the_place_of_an_output(project: Project) -> None:
    before = project.output()
    done = project.run("report", "shop", "--html", "data/shop/items.jsonl")
    everything = project.run("report", "--html", "data/shop/items.jsonl")

    assert (2, 2, before) == (done.code, everything.code, project.output())
    assert "data/shop/items.jsonl lies inside the output" in done.stderr


@pytest.mark.parametrize("library", ["jinja2", "pygal"])
def test_without_the_libraries_it_says_what_to_install_and_the_other_forms_work(
    project: Project, tmp_path: Path, library: str
) -> None:
    (tmp_path / library).mkdir()
    (tmp_path / library / "__init__.py").write_text(f"raise ModuleNotFoundError('no {library}', name='{library}')\n")
    env = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{Path(syncer.__file__).parents[1]}"}
    done = project.run("report", "shop", "--html", "none.html", env=env)

    assert (2, False) == (done.code, (project.path / "none.html").exists())
    assert library in done.stderr
    assert done.stderr.endswith("is missing\n  → pip install 'syncer[report]'\n")
    assert 0 == project.run("report", "shop", env=env).code


def test_stdout_is_for_one_of_the_forms(project: Project) -> None:
    assert 2 == project.run("report", "shop", "--html", "-", "--json").code
    done = project.run("report", "shop", "--html", "beside.html", "--json")
    assert (0, "shop", "beside.html: ") == (done.code, done.json()[0]["source"], done.stderr[:13])


# In Chromium

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --window-size=1200,900"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("Chromium is not installed here: apt-get install chromium chromium-driver")
    options = Options()
    options.binary_location = chromium
    home = tempfile.mkdtemp()
    for flag in [*FLAGS.split(), f"--user-data-dir={home}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    started = webdriver.Chrome(options=options, service=Service(driver))
    started.get("about:blank")
    yield started
    started.quit()
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def opened(browser: webdriver.Chrome, page: Path) -> webdriver.Chrome:
    """The page as a reader opens it, from the disk."""
    said(browser)
    browser.get(page.as_uri())
    return browser


def said(browser: webdriver.Chrome) -> tuple[list[str], list[str]]:
    """What the console has said and which addresses were asked for since the last time."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    return [entry["message"] for entry in browser.get_log("browser")], asked


def visible(browser: webdriver.Chrome, selector: str) -> list[Any]:
    return [one for one in browser.find_elements(By.CSS_SELECTOR, selector) if one.is_displayed()]


def wait(browser: webdriver.Chrome, true: Any) -> None:
    WebDriverWait(browser, PATIENCE).until(lambda browser: true())


def test_it_is_drawn_without_a_word_on_the_console_and_without_a_request(opened: webdriver.Chrome, page: Path) -> None:
    boxes = [one.size for one in visible(opened, ".charts svg")]
    bars = visible(opened, ".charts rect.rect")
    fills = {one.value_of_css_property("fill") for one in bars}

    assert "shop" == opened.find_element(By.TAG_NAME, "h1").text
    assert ["failed, exit 4"] == [one.text for one in visible(opened, ".figures .status.bad")]
    assert (4, True) == (len(boxes), all(box["width"] > 200 and box["height"] > 50 for box in boxes))
    assert {"rgb(31, 95, 174)", "rgb(157, 187, 224)"} == fills
    assert ([], [page.as_uri()]) == said(opened)


def test_hostile_text_is_read_and_never_run(opened: webdriver.Chrome) -> None:
    for details in opened.find_elements(By.CSS_SELECTOR, "details:not([open]) > summary"):
        details.click()

    assert _dense(json.dumps(EVIL)[1:-1]) in _dense(opened.find_element(By.TAG_NAME, "body").text)
    assert opened.execute_script("return window.pwned") is None
    assert 1 == opened.execute_script("return document.scripts.length")
    assert [] == said(opened)[0]


def test_what_would_get_into_the_page_all_the_same_could_not_run_or_ask(
    browser: webdriver.Chrome, text: str, tmp_path: Path
) -> None:
    """The second wall: a script, a handler and a picture put into the file are refused by its own policy."""
    with Api() as api:
        harm = (
            f'<script>window.pwned=1</script><img src="{api.url}/x" onerror="window.pwned=1"><p style="color:red">x</p>'
        )
        (tmp_path / "harmed.html").write_text(text.replace("</main>", harm + "</main>"))
        browser.get((tmp_path / "harmed.html").as_uri())
        console = said(browser)[0]

        assert browser.execute_script("return window.pwned") is None
        assert [] == api.seen
    assert 4 <= len([line for line in console if "Content Security Policy" in line])


def test_words_find_causes_and_samples_and_a_stream_and_new_ones_are_picked(opened: webdriver.Chrome) -> None:
    everything = len(visible(opened, "tr[data-cause]"))
    words = opened.find_element(By.NAME, "words")
    words.send_keys("int_type")
    found = [row.text for row in visible(opened, "tr[data-cause]")]

    assert 2 == len(found) < everything
    assert all("int_type" in row for row in found)
    assert 2 == len(visible(opened, "details.sample"))
    assert f"2 of {everything} causes" == opened.find_element(By.TAG_NAME, "output").text
    Select(opened.find_element(By.NAME, "stream")).select_by_value("others")
    assert ["others"] == [row.get_attribute("data-stream") for row in visible(opened, "tr[data-cause]")]
    opened.find_element(By.NAME, "new").click()
    assert [] == visible(opened, "tr[data-cause]")
    opened.find_element(By.CSS_SELECTOR, "button[type=reset]").click()
    wait(opened, lambda: len(visible(opened, "tr[data-cause]")) == everything)
    assert "" == opened.find_element(By.TAG_NAME, "output").text
    words.send_keys("window.pwned onclick")  # a record's own text; both words
    assert 0 < len(visible(opened, "tr[data-cause]")) < everything
    words.send_keys(Keys.ENTER)  # there is nowhere to send a form to
    assert [] == said(opened)[0]


def column(browser: webdriver.Chrome, number: int) -> list[str]:
    return [cell.text for cell in browser.find_elements(By.CSS_SELECTOR, f".causes tbody tr > :nth-child({number})")]


def test_tables_are_sorted_with_the_mouse_and_with_the_keyboard_and_say_so(opened: webdriver.Chrome) -> None:
    heads = opened.find_elements(By.CSS_SELECTOR, ".causes thead th")
    buttons = opened.find_elements(By.CSS_SELECTOR, ".causes thead th button")
    counts = [int(text) for text in column(opened, 1)]

    assert (8, "descending") == (len(buttons), heads[0].get_attribute("aria-sort"))
    assert sorted(counts, reverse=True) == counts
    buttons[0].click()
    assert (sorted(counts), "ascending") == ([int(t) for t in column(opened, 1)], heads[0].get_attribute("aria-sort"))
    buttons[2].send_keys(Keys.ENTER)
    streams = column(opened, 3)
    assert (sorted(streams), "ascending") == (streams, heads[2].get_attribute("aria-sort"))
    assert heads[0].get_attribute("aria-sort") is None
    buttons[2].send_keys(Keys.SPACE)
    assert (sorted(streams, reverse=True), "descending") == (column(opened, 3), heads[2].get_attribute("aria-sort"))
    assert len({*streams}) == 2


def test_numbers_are_sorted_as_numbers(browser: webdriver.Chrome, tmp_path: Path) -> None:
    drift = [{"stream": "s", "text": str(n), "count": n, "first_seen": ""} for n in (9, 1200, 30)]
    (tmp_path / "page.html").write_text(webpage.Page.ready().html([Picture("shop", drift=drift)], STAMP))
    browser.get((tmp_path / "page.html").as_uri())
    browser.find_elements(By.CSS_SELECTOR, "thead button")[2].click()
    assert ["1,200", "30", "9"] == [one.text for one in browser.find_elements(By.CSS_SELECTOR, "td.number")]


def test_everything_is_reached_with_the_tab_key_and_shows_where_it_is(opened: webdriver.Chrome) -> None:
    reached: list[str] = []
    for _ in range(300):
        opened.switch_to.active_element.send_keys(Keys.TAB)
        place = opened.execute_script(
            "const one = document.activeElement;"
            "return [one.tagName, one.className, one.name || '', getComputedStyle(one).outlineStyle]"
        )
        if place[0] == "BODY":
            break
        assert "none" != place[3], place
        reached.append(" ".join(place[:3]).strip())
    expected = {"A skip", "BUTTON", "INPUT  words", "SELECT  stream", "INPUT  new", "SUMMARY", "PRE", "DIV scroll", "A"}

    assert "A skip" == reached[0]
    assert set() == expected - set(reached)


def test_a_link_to_a_sample_opens_it(opened: webdriver.Chrome) -> None:
    closed = opened.find_element(By.CSS_SELECTOR, "details.sample:not([open])")
    name = closed.get_attribute("id")
    opened.find_element(By.CSS_SELECTOR, f'a[href="#{name}"]').click()
    wait(opened, lambda: closed.get_attribute("open"))
    assert closed.find_element(By.TAG_NAME, "pre").is_displayed()


def test_it_is_dark_where_the_reader_wants_that_and_light_on_paper(opened: webdriver.Chrome) -> None:
    def paper() -> str:
        return str(opened.execute_script("return getComputedStyle(document.body).backgroundColor"))

    def seen(media: str, scheme: str) -> str:
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})
        return paper()

    light, dark, printed = seen("screen", "light"), seen("screen", "dark"), seen("print", "dark")
    hidden = not visible(opened, "form.filter")
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})

    assert ("rgb(255, 255, 255)", "rgb(20, 23, 27)", "rgb(255, 255, 255)", True) == (light, dark, printed, hidden)


def test_nothing_is_wider_than_a_telephone(opened: webdriver.Chrome) -> None:
    size = {"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    width = opened.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
    opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert [400, 400] == width


def test_it_is_readable_where_scripts_are_not_allowed(browser: webdriver.Chrome, page: Path) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    browser.get(page.as_uri())
    rows, forms, drawn = (visible(browser, one) for one in ("tr[data-cause]", "form", ".charts svg"))
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})

    assert (True, [], 4) == (len(rows) > 3, forms, len(drawn))
