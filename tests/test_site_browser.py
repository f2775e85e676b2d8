"""The site in a real, headless Chromium: what a visitor clicks and sees. Marked `browser`.

Chromium is the system's own (`apt-get install chromium`), found by name or by the variable REPROZOO_CHROMIUM.
"""

import functools
import http.server
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import export
import pytest
import source
from helpers import fill_root, fill_with_markup, make_seeds

from benchmarks.labels import as_csv
from benchmarks.leaderboard import make_board, read

pytestmark = [pytest.mark.browser, pytest.mark.timeout(1_800)]

PAGES = {
    "leaderboard": "/?dataset=cifar10",
    "model": "/model?model=nin_dropout&dataset=cifar10",
    "run": "/run",
    "claims": "/claims",
    "cost": "/cost?dataset=cifar10",
    "compare": "/compare?dataset=cifar10&models=nin&models=nin_dropout",
    "progress": "/progress",
    "method": "/method",
}
CHROMIUM = os.environ.get("REPROZOO_CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
PATIENCE = 300_000  # ms: a machine that others use, too, is no failure

# What axe finds in Streamlit's own elements, which no page of ours can change.
STREAMLITS_OWN = {
    "scrollable-region-focusable": "code blocks, and st.dataframe's canvas on In progress, scroll in boxes of Streamlit's",
    "nested-interactive": "Streamlit's table of the grid behind the canvas, on In progress",
    "aria-required-children": "the hidden grid that the canvas of st.dataframe carries, on In progress",
    "aria-prohibited-attr": "labels that Streamlit puts on its own wrappers",
    "color-contrast": "Streamlit's faded captions, labels and placeholder text; ours is tested in test_site.py",
}


@pytest.fixture(scope="session")
def browser() -> Iterator:
    if CHROMIUM is None:
        if os.environ.get("CI"):
            pytest.fail("there is no Chromium: apt-get install chromium, or name one by REPROZOO_CHROMIUM")
        pytest.skip("there is no Chromium: apt-get install chromium, or name one by REPROZOO_CHROMIUM")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


def serve(root: Path, log: Path) -> tuple[subprocess.Popen, str]:
    """`runner site` over a root, once it answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = dict(os.environ) | {"REPROZOO_ROOT": str(root), "STREAMLIT_SERVER_HEADLESS": "true"}
    words = [sys.executable, "-m", "runner", "site", "--port", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(words, env=environment, cwd=log.parent, stdout=output, stderr=subprocess.STDOUT)
    address = f"http://127.0.0.1:{port}"
    until = time.monotonic() + PATIENCE / 1_000
    while True:
        try:
            urllib.request.urlopen(address + "/_stcore/health", timeout=5).close()
            return process, address
        except OSError:
            if process.poll() is None and time.monotonic() < until:
                time.sleep(0.2)
                continue
            process.kill()
            process.wait()
            pytest.fail(f"the site does not answer:\n{log.read_text()}")


def served(fill, factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    folder = factory.mktemp("site")
    root = folder / "root"
    root.mkdir()
    fill(root)
    process, address = serve(root, folder / "log.txt")
    yield SimpleNamespace(root=root, address=address)
    process.terminate()
    process.wait(30)
    assert "Traceback" not in (folder / "log.txt").read_text()


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    yield from served(fill_root, tmp_path_factory)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    yield from served(lambda root: None, tmp_path_factory)


@pytest.fixture(scope="module")
def markup(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    yield from served(fill_with_markup, tmp_path_factory)


@pytest.fixture(scope="session")
def context(browser):
    """What every visit shares: Streamlit's 9 MB are read once, not once a test."""
    shared = browser.new_context(accept_downloads=True)
    yield shared
    shared.close()


@pytest.fixture
def visit(browser, context):
    """Opens an address and waits until it stands; afterwards nothing may have gone wrong in any page."""
    pages, contexts, wrong = [], [], []

    def opened(address: str, width: int = 1440, scheme: str = "light", scale: float = 1):
        if scale == 1:
            page = context.new_page()
        else:
            contexts.append(browser.new_context(device_scale_factor=scale))
            page = contexts[-1].new_page()
        pages.append(page)
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)
        page.set_default_timeout(PATIENCE)
        page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        page.on("dialog", lambda dialog: wrong.append(f"dialog: {dialog.message}"))
        page.on("console", lambda line: hear(page, line))
        page.goto(address)
        settle(page)
        return page

    def hear(page, line) -> None:
        # Below a path of its own, Streamlit first asks for its server beside that path.
        probe = re.search(r"/\w+/_stcore/(health|host-config)$", line.location.get("url", ""))
        if line.type == "error" and not probe:
            wrong.append(f"{page.url}: {line.text} {line.location.get('url', '')}")

    yield opened
    for thing in (*pages, *contexts):
        thing.close()
    assert not wrong


QUIET = 400  # ms for which a page must have stood still: a rerun begins a moment after what asks for it


def settle(page) -> None:
    """Until the script has ended, every part of the page is drawn, and nothing has changed for a moment."""
    page.wait_for_selector("[data-testid=stApp] h1")
    page.evaluate("window.still = 0")
    page.wait_for_function(
        """(quiet) => {
            const app = document.querySelector('[data-testid=stApp]');
            const busy = document.querySelector('[data-testid=stSkeleton]');
            const charts = [...document.querySelectorAll('[data-testid=stPlotlyChart]')];
            const done = app.dataset.testScriptState === 'notRunning' && !busy
                && charts.every(c => c.querySelector('.main-svg'));
            if (!done) window.still = 0;
            else window.still ||= performance.now();
            return done && performance.now() - window.still > quiet;
        }""",
        arg=QUIET,
    )


def wait_for_title(page, start: str) -> None:
    """Until the page of that title is there: its script sets it, after the address has changed."""
    page.wait_for_function("start => document.title.startsWith(start)", arg=start)
    settle(page)


# --- every page --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["empty", "full", "markup"])
@pytest.mark.parametrize("page", PAGES)
def test_every_page_opens_without_an_error(page, state, visit, request):
    site = request.getfixturevalue(state)
    found = visit(site.address + PAGES[page].split("?")[0] if state == "empty" else site.address + PAGES[page])
    assert found.locator("h1").count() >= 1
    assert found.locator("[data-testid=stException]").count() == 0
    assert found.title()
    if state == "markup":
        assert found.locator("main img[src=x], [data-testid=stMain] img[src=x]").count() == 0
        assert found.locator("[data-testid=stMain] a[href*=evil]").count() == 0
        assert found.locator("[data-testid=stMain] .katex").count() == 0
        assert "😄" not in found.locator("[data-testid=stMain]").inner_text()


@pytest.mark.parametrize("page", PAGES)
def test_a_phone_in_the_dark_scrolls_one_way_only(page, visit, full):
    found = visit(full.address + PAGES[page], width=390, scheme="dark")
    assert found.evaluate("document.querySelector('[data-testid=stMain]').scrollWidth") <= 390
    background = found.evaluate("getComputedStyle(document.querySelector('[data-testid=stApp]')).backgroundColor")
    assert background == "rgb(18, 23, 28)"


@pytest.mark.parametrize("page", PAGES)
def test_axe_finds_nothing_serious_of_ours(page, visit, full):
    from axe_playwright_python.sync_playwright import Axe

    found = visit(full.address + PAGES[page])
    violations = Axe().run(found).response["violations"]
    serious = {
        v["id"]: [n["html"][:200] for n in v["nodes"]] for v in violations if v["impact"] in ("serious", "critical")
    }
    assert not {rule: nodes for rule, nodes in serious.items() if rule not in STREAMLITS_OWN}


def test_figures_and_tables_have_names(visit, full):
    found = visit(full.address + PAGES["leaderboard"])
    named = found.evaluate(
        "[...document.querySelectorAll('[aria-label]')].map(e => e.getAttribute('aria-label')).join('|')"
    )
    text = found.content()
    for words in ("Leaderboard of CIFAR-10", "Printed and measured test errors on CIFAR-10"):
        assert words in named or words in text


# --- what a visitor does -----------------------------------------------------------------------------------------------


def board_rows(page) -> list[list[str]]:
    """The measured and waiting rows of the board: the name alone, then every other cell's text."""
    page.locator("table.board").wait_for()
    rows = page.locator("table.board tbody tr:not(.heading)").all()
    return [[row.locator("th a").first.inner_text(), *row.locator("td").all_inner_texts()] for row in rows]


def wait_for_rows(page, before: int) -> None:
    """Until the board has another number of rows than `before`: the address changes first, the script runs a while after."""
    rows = "document.querySelectorAll('table.board tbody tr:not(.heading)').length"
    page.wait_for_function(f"before => {rows} > 0 && {rows} !== before", arg=before)
    settle(page)


def click_point(page, figure: int = 0, place: int = -1) -> None:
    """Click a point of a figure once it stands still and once the figure says that the mouse is on it."""
    chart = page.locator("[data-testid=stPlotlyChart]").nth(figure)
    point = chart.locator(".scatterlayer path.point").nth(place)
    point.scroll_into_view_if_needed()
    before = None
    while (box := point.bounding_box()) != before:
        before = box
        page.wait_for_timeout(200)
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x - 3, y - 3)
    page.mouse.move(x, y)
    chart.locator(".hoverlayer .hovertext").first.wait_for()
    page.mouse.click(x, y)


@pytest.mark.parametrize(
    ("address", "figure", "place", "leads_to"),
    [
        ("/?dataset=cifar10", 0, -1, r"/model\?model=\w+&dataset=cifar10$"),
        ("/cost?dataset=cifar10", 0, -1, r"/model\?model=\w+&dataset=cifar10$"),
        ("/cost?dataset=cifar10&cost=minutes", 0, -1, r"/model\?model=\w+&dataset=cifar10$"),
        (PAGES["model"], 0, -1, r"/run\?run=[0-9a-f]{8}$"),
        (PAGES["compare"], 0, 0, r"/run\?run=[0-9a-f]{8}$"),
        (PAGES["compare"], 0, -1, r"/model\?model=\w+&dataset=cifar10$"),
        ("/claims?dataset=all", 0, None, None),  # a claim has no page of its own
        (PAGES["model"], 1, None, None),  # nor has an epoch
    ],
)
def test_a_click_on_any_figure_leads_on_and_back(address, figure, place, leads_to, visit, full):
    page = visit(full.address + address)
    before = page.url
    if leads_to is None:
        page.locator("[data-testid=stPlotlyChart]").nth(figure).click()
    else:
        click_point(page, figure, place)
        page.wait_for_url(re.compile(leads_to))
    settle(page)
    assert page.locator("[data-testid=stException]").count() == 0
    if leads_to is None:
        assert page.url == before
    else:
        page.go_back()
        page.wait_for_url(lambda url: url.endswith(address))
        page.locator("[data-testid=stPlotlyChart] .main-svg").first.wait_for()
        settle(page)
        assert page.url.endswith(address)  # were the point still chosen, it would have led away again


def test_a_choice_comes_along_and_back_returns(visit, full):
    page = visit(full.address + "/?dataset=svhn")
    for title, path in (("Cost", "cost"), ("Compare", "compare"), ("Leaderboard", "")):
        page.locator("nav.menu a", has_text=title).click()
        page.wait_for_url(re.compile(rf"/{path}\?(.*&)?dataset=svhn"))
        wait_for_title(page, title)
    page.go_back()
    page.wait_for_url(re.compile(r"/compare\?.*dataset=svhn"))
    page.go_back()
    page.wait_for_url(re.compile(r"/cost\?.*dataset=svhn"))
    page.go_back()
    page.wait_for_url(re.compile(r"/\?dataset=svhn$"))
    page.get_by_text("SVHN, 26,032 test images").wait_for()


@pytest.mark.parametrize("bare", ["/", "/model", "/cost", "/compare", "/claims"])
def test_an_address_always_names_what_the_page_shows(bare, visit, full):
    page = visit(full.address + bare)
    page.wait_for_url(re.compile("[?&]dataset="))
    if bare == "/model":
        assert re.search(r"[?&]model=\w+", page.url)
    settle(page)
    heading, address = page.locator("h1").inner_text(), page.url
    assert visit(address).locator("h1").inner_text() == heading


def test_a_search_by_address_is_seen_and_cleared(visit, full):
    page = visit(full.address + "/?dataset=cifar10&search=1312.4400")
    line = page.get_by_text("Filter: search:")
    assert re.match(r"\d+ of \d+ rows", line.inner_text())
    names = [row[0] for row in board_rows(page)]
    assert "NiN + dropout" in names
    page.get_by_role("button", name="Clear the filter").click()
    page.wait_for_url(lambda url: "search" not in url)
    line.wait_for(state="detached")
    wait_for_rows(page, len(names))
    assert len(board_rows(page)) > len(names)


def test_each_page_has_a_title_of_its_own(visit, full):
    titles = [visit(full.address + address).title() for address in PAGES.values()]
    assert len(set(titles)) == len(PAGES)
    assert "NiN + dropout on CIFAR-10 · reprozoo" in titles


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)])
def test_the_first_screen_has_the_answer_a_verdict_and_its_reason(width, height, visit, full):
    page = visit(full.address + "/?dataset=cifar10", width=width)
    page.set_viewport_size({"width": width, "height": height})
    settle(page)
    assert re.match(r"Of \d+ printed numbers", page.locator(".lead").inner_text())
    cell = page.locator("table.board tbody tr.measured td.verdict").first
    for part in (cell.locator("b"), cell.locator("small")):
        box = part.bounding_box()
        assert box["y"] + box["height"] <= height
        assert box["x"] + box["width"] <= width


def test_a_click_on_a_link_reloads_no_page(visit, full):
    page = visit(full.address + "/?dataset=cifar10")
    page.evaluate("window.here = true")
    before = len(page.context.pages)
    page.locator("table.board a.inside", has_text="NiN + dropout").first.click()
    page.wait_for_url(re.compile("/model"))
    settle(page)
    assert page.evaluate("window.here") is True
    assert len(page.context.pages) == before


def test_a_deep_link_holds_the_whole_filter(visit, full):
    page = visit(full.address + "/?dataset=cifar10&family=NiN&verdict=reproduced&search=10.41")
    assert [row[0] for row in board_rows(page)] == ["NiN + dropout"]


def test_a_filter_goes_into_the_address_and_back(visit, full):
    page = visit(full.address + "/?dataset=cifar10")
    before = len(board_rows(page))
    page.locator("[data-testid=stExpander] summary", has_text="Search and filter").click()
    page.get_by_role("textbox", name="Search").fill("dropout")
    page.get_by_role("textbox", name="Search").press("Enter")
    page.wait_for_url(re.compile("search=dropout"))
    wait_for_rows(page, before)
    after = board_rows(page)
    assert 0 < len(after) < before
    again = visit(page.url)
    assert board_rows(again) == after
    page.go_back()
    page.wait_for_url(lambda url: "search" not in url)


def test_the_board_sorts_by_a_click_and_what_has_no_value_stays_last(visit, full):
    page = visit(full.address + "/?dataset=cifar10")

    def column(name: str, rows: str = "tr.measured") -> list[float | None]:
        cells = page.locator(f"table.board tbody {rows} td.{name}").all()
        return [float(value) if (value := cell.get_attribute("data-v")) else None for cell in cells]

    for name, title in (("gap", "Gap"), ("measured", "Measured %")):
        for down in (False, True):
            page.locator("button.sort", has_text=title).click()
            order = "descending" if down else "ascending"
            page.locator(f"table.board th[aria-sort={order}]", has_text=title).wait_for()
            numbers = column(name, "tr.measured:not(tr.heading ~ tr)")
            assert len(numbers) > 2
            assert numbers == sorted(numbers, reverse=down)
            assert column("gap")[len(numbers) :] == [None]  # a row with no printed error, below a heading of its own


@pytest.mark.parametrize("kind", ["CSV", "JSON"])
def test_downloads_are_the_reports(kind, visit, full, tmp_path):
    page = visit(full.address + "/?dataset=cifar10")
    with page.expect_download() as started:
        page.get_by_role("button", name=kind, exact=True).click()
    text = Path(started.value.path()).read_text()
    board = make_board(read(full.root / "results", full.root / ".runs"))
    rows = board[board["dataset"] == "cifar10"]
    assert text == as_csv(rows) if kind == "CSV" else len(json.loads(text)) == len(rows)


def test_a_point_leads_to_its_run_and_that_to_its_model(visit, full):
    page = visit(full.address + PAGES["model"])
    click_point(page)
    page.wait_for_url(re.compile(r"/run\?run=[0-9a-f]{8}$"))
    settle(page)
    run8 = page.url[-8:]
    runs = read(full.root / "results", full.root / ".runs").runs
    [key] = runs.loc[runs["run"].str.startswith(run8), "key"]
    assert key in page.locator("[data-testid=stMain]").inner_text().replace("\u2060", "")
    page.get_by_role("link", name="NiN + dropout on CIFAR-10").click()
    page.wait_for_url(re.compile(r"/model\?model=nin_dropout&dataset=cifar10$"))


def test_progress_refreshes_by_itself(visit, full):
    page = visit(full.address + "/progress")
    record = make_seeds([12.0], model="nin_fc")[0]
    folder = full.root / ".runs" / f"{record.key}-{record.fingerprint[:8]}"
    before = page.locator("[data-testid=stMain]").inner_text()
    folder.mkdir(parents=True)
    (folder / "job.json").write_text(record.job.canonical())
    page.get_by_text("1 pending").wait_for()
    assert "1 pending" not in before


# --- the export, and the README's picture ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("exported")
    fill_root(root)
    folder = tmp_path_factory.mktemp("www") / "owner" / "repository"
    reading = source.make_reading(read(root / "results", root / ".runs"), root)
    export.export(reading, folder, export.Site(base_url="http://127.0.0.1/owner/repository"))
    return folder


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("how", ["from a file", "below a path"])
def test_the_export_works(how, scheme, browser, exported):
    server = None
    start = (exported / "index.html").as_uri()
    if how == "below a path":
        handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=exported.parents[1])
        handler.log_message = lambda *_: None
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        start = f"http://127.0.0.1:{server.server_address[1]}/owner/repository/"
    base = start.removesuffix("index.html")
    wrong = []
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme=scheme)
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda line: wrong.append(line.text) if line.type == "error" else None)
    page.on("request", lambda sent: wrong.append(sent.url) if not sent.url.startswith((base, "data", "blob")) else None)
    page.goto(start)
    assert re.match(r"Of \d+ printed numbers", page.locator(".lead").inner_text())
    page.wait_for_selector("#gaps .main-svg")
    shown = page.locator("table.board tr[data-search]:visible")
    all_rows = shown.count()
    page.get_by_role("searchbox").fill("1312.4400")  # the arXiv number stands in no cell
    page.locator("output", has_text=re.compile(r"^\d+ of \d+ rows$")).wait_for()
    assert 0 < shown.count() < all_rows
    assert page.locator("table.board tr:visible", has_text="NiN + dropout").count()
    page.get_by_role("searchbox").fill("")
    assert shown.count() == all_rows
    page.locator("table.board").get_by_role("link", name="NiN + dropout", exact=True).click()
    page.wait_for_selector("#seeds .main-svg")
    assert "10.41" in page.locator("main").inner_text()
    ink = page.evaluate("getComputedStyle(document.querySelector('.js-plotly-plot .xtick text')).fill")
    assert ink == page.evaluate("getComputedStyle(document.body).color")
    page.locator("table.plain a", has_text=re.compile("^[0-9a-f]{8}$")).first.click()
    page.get_by_text("Reproducibility checklist").wait_for()
    assert page.locator("[data-for]").count() == 1
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(start)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    context.close()
    if server:
        server.shutdown()
        server.server_close()
    assert not wrong


@pytest.mark.parametrize(
    "name", ["index.html", "model-cifar10-nin_dropout.html", "claims.html", "method.html", "runs.html"]
)
def test_axe_finds_nothing_in_the_export(name, browser, exported):
    from axe_playwright_python.sync_playwright import Axe

    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto((exported / name).as_uri())
    page.wait_for_function("[...document.querySelectorAll('figure.figure')].every(f => f.querySelector('.main-svg'))")
    violations = Axe().run(page).response["violations"]
    page.close()
    assert not {v["id"]: [n["html"][:200] for n in v["nodes"]] for v in violations}


def test_the_readmes_picture(browser, visit, checkout, tmp_path_factory):
    """The board from this checkout's published records. REPROZOO_PICTURE=FILE keeps it (`make picture`)."""

    def fill(root: Path) -> None:
        shutil.copytree(checkout / "results", root / "results")

    for site in served(fill, tmp_path_factory):
        page = visit(site.address + "/", width=1000, scale=2)  # GitHub shows it some 900 pixels wide
        ends = page.evaluate(
            "[...document.querySelectorAll('table.board tr')].map(r => r.getBoundingClientRect().bottom)"
        )
        height = max(end for end in ends if end <= 880)  # whole rows alone
        picture = page.screenshot(clip={"x": 0, "y": 0, "width": 1000, "height": height + 8})
        page.close()  # before its server goes
    assert picture.startswith(b"\x89PNG")
    assert len(picture) < 400_000
    if wanted := os.environ.get("REPROZOO_PICTURE"):
        Path(wanted).write_bytes(picture)
