"""The site in a real, headless Chromium: what a visitor clicks and sees. Marked `browser`.

Chromium is the system's own (`apt-get install chromium`), found by name or by the variable REPROZOO_CHROMIUM.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import export
import pytest
import source
from helpers import fill_root, fill_with_markup, make_seeds

from benchmarks.leaderboard import make_board, read
from benchmarks.wording import as_csv

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

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
PATIENCE = 90_000  # ms

# What axe finds in Streamlit's own elements, which no page of ours can change.
STREAMLITS_OWN = {
    "scrollable-region-focusable": "st.dataframe's canvas and code blocks scroll in boxes of Streamlit's",
    "nested-interactive": "Streamlit's table of the grid behind the canvas",
    "aria-required-children": "the hidden grid that the canvas of st.dataframe carries",
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
    until = time.monotonic() + 120
    while True:
        try:
            urllib.request.urlopen(address + "/_stcore/health", timeout=5).close()
            return process, address
        except OSError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.2)


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


@pytest.fixture
def visit(browser):
    """Opens an address and waits until it stands; afterwards nothing may have gone wrong in any page."""
    contexts, wrong = [], []

    def opened(address: str, width: int = 1440, scheme: str = "light", scale: float = 1):
        context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme=scheme,
            accept_downloads=True,
            device_scale_factor=scale,
        )
        context.set_default_timeout(PATIENCE)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        page.on("dialog", lambda dialog: wrong.append(f"dialog: {dialog.message}"))
        page.on("console", lambda line: said(page, line))
        page.goto(address)
        settle(page)
        return page

    def said(page, line) -> None:
        # Below a path of its own, Streamlit first asks for its server beside that path.
        probe = re.search(r"/\w+/_stcore/(health|host-config)$", line.location.get("url", ""))
        if line.type == "error" and not probe:
            wrong.append(f"{page.url}: {line.text} {line.location.get('url', '')}")

    yield opened
    for context in contexts:
        context.close()
    assert not wrong


def settle(page) -> None:
    """Until the script has ended and every part of the page is drawn."""
    page.wait_for_selector("[data-testid=stApp] h1")
    page.wait_for_function(
        """() => {
            const app = document.querySelector('[data-testid=stApp]');
            const busy = document.querySelector('[data-testid=stSkeleton]');
            const charts = [...document.querySelectorAll('[data-testid=stPlotlyChart]')];
            return app.dataset.testScriptState === 'notRunning' && !busy
                && charts.every(c => c.querySelector('.main-svg'));
        }"""
    )
    page.wait_for_timeout(400)


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
    for words in ("Leaderboard of CIFAR-10", "Reported and measured test errors on CIFAR-10"):
        assert words in named or words in text


# --- what a visitor does -----------------------------------------------------------------------------------------------


def plain_rows(page) -> list[list[str]]:
    """The board as its table of plain text has it."""
    box = page.locator("[data-testid=stExpander]", has_text="As plain text").last
    if not box.locator("table").is_visible():
        box.locator("summary").click()
    box.locator("table").wait_for()
    return [row.locator("td").all_inner_texts() for row in box.locator("tbody tr").all()]


def test_a_deep_link_holds_the_whole_filter(visit, full):
    page = visit(full.address + "/?dataset=cifar10&family=NiN&verdict=reproduced&search=dropout")
    rows = plain_rows(page)
    assert len(rows) == 1
    assert rows[0][1] == "NiN + dropout"


def test_a_filter_goes_into_the_address_and_back(visit, full):
    page = visit(full.address + "/?dataset=cifar10")
    before = len(plain_rows(page))
    page.locator("[data-testid=stExpander] summary", has_text="Filter").click()
    page.get_by_role("textbox", name="Search").fill("dropout")
    page.get_by_role("textbox", name="Search").press("Enter")
    page.wait_for_url(re.compile("search=dropout"))
    until = time.monotonic() + 120  # the address comes first; on a busy machine the script begins a while after it
    while len(after := plain_rows(page)) == before and time.monotonic() < until:
        page.wait_for_timeout(200)
    assert 0 < len(after) < before
    assert all("dropout" in " ".join(row).lower() for row in after)
    again = visit(page.url)
    assert plain_rows(again) == after


def test_the_board_sorts_by_a_click(visit, full):
    page = visit(full.address + "/?dataset=cifar10&verdict=reproduced&verdict=worse&verdict=better")
    grid = page.locator("[data-testid=stDataFrame]").first
    grid.locator("[role=columnheader]", has_text="Measured %").wait_for(state="attached")  # drawn after the page is
    headers = grid.locator("[role=columnheader]").all_text_contents()
    column = headers.index("Measured %")

    def measured() -> list[float]:
        cells = grid.locator(f"[role=row] [role=gridcell]:nth-child({column + 1})").all_text_contents()
        return [float(text) for text in cells if re.fullmatch(r"[\d.]+", text)]

    def click_until(wanted: list[float]) -> None:
        """A click on the header; once more where a busy machine has swallowed it (each click goes one order further)."""
        for _ in range(4):
            page.mouse.click(x, y)
            until = time.monotonic() + 5
            while time.monotonic() < until:
                if measured() == wanted:
                    return
                page.wait_for_timeout(100)
        assert measured() == wanted

    errors = sorted(measured())
    assert len(errors) > 2
    x = page.evaluate("(g) => g.getBoundingClientRect().x", grid.element_handle()) + 40 + 190 + 30  # after # and Model
    y = page.evaluate("(g) => g.getBoundingClientRect().y", grid.element_handle()) + 18
    click_until(errors[::-1])
    click_until(errors)


@pytest.mark.parametrize("kind", ["CSV", "JSON"])
def test_downloads_are_the_reports(kind, visit, full, tmp_path):
    page = visit(full.address + "/?dataset=cifar10")
    with page.expect_download() as started:
        page.get_by_role("button", name=kind, exact=True).click()
    text = Path(started.value.path()).read_text()
    board = make_board(read(full.root / "results", full.root / ".runs"))
    rows = board[board["dataset"] == "cifar10"]
    assert text == as_csv(rows) if kind == "CSV" else len(json.loads(text)) == len(rows)


def test_a_point_leads_to_its_run_and_back_to_its_model(visit, full):
    page = visit(full.address + PAGES["model"])
    points = page.locator("[data-testid=stPlotlyChart]").first.locator(".scatterlayer path.point")
    points.first.scroll_into_view_if_needed()
    page.wait_for_timeout(500)
    box = points.last.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_timeout(300)
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_url(re.compile(r"/run\?run=[0-9a-f]{8}$"))
    settle(page)
    run8 = page.url[-8:]
    runs = read(full.root / "results", full.root / ".runs").runs
    [key] = runs.loc[runs["run"].str.startswith(run8), "key"]
    assert key in page.locator("[data-testid=stMain]").inner_text().replace("\u2060", "")
    page.get_by_text("To its model's page").click()
    page.wait_for_url(re.compile(r"/model\?.*model=nin_dropout"))


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


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_export_works_from_a_file(scheme, browser, full, tmp_path):
    reading = source.make_reading(read(full.root / "results", full.root / ".runs"), full.root)
    export.export(reading, tmp_path / "out")
    wrong = []
    context = browser.new_context(viewport={"width": 1440, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda line: wrong.append(line.text) if line.type == "error" else None)
    page.on(
        "request",
        lambda request: wrong.append(request.url) if not request.url.startswith(("file", "data", "blob")) else None,
    )
    page.goto((tmp_path / "out" / "index.html").as_uri())
    page.get_by_role("link", name="CIFAR-10").first.click()
    page.wait_for_selector(".js-plotly-plot .main-svg")
    page.get_by_role("link", name="NiN + dropout", exact=True).click()
    page.wait_for_selector(".js-plotly-plot .main-svg")
    assert "10.41" in page.locator("main").inner_text()
    ink = page.evaluate("getComputedStyle(document.querySelector('.js-plotly-plot .xtick text')).fill")
    assert ink == page.evaluate("getComputedStyle(document.body).color")
    context.close()
    assert not wrong


def test_the_readmes_picture(browser, visit, checkout, tmp_path_factory):
    """The board from this checkout's published records. REPROZOO_PICTURE=FILE keeps it (`make picture`)."""

    def fill(root: Path) -> None:
        shutil.copytree(checkout / "results", root / "results")

    for site in served(fill, tmp_path_factory):
        page = visit(site.address + "/", width=1200, scale=1.5)  # GitHub shows it some 900 pixels wide
        page.wait_for_timeout(800)
        boxes = [
            page.locator(f"[data-testid={part}]").first.bounding_box() for part in ("stDataFrame", "stPlotlyChart")
        ]
        end = max(box["y"] + box["height"] for box in boxes) + 20
        picture = page.screenshot(clip={"x": 0, "y": 0, "width": 1200, "height": min(end, 900)})
        page.close()  # before its server goes
    assert picture.startswith(b"\x89PNG")
    assert len(picture) < 300_000
    if wanted := os.environ.get("REPROZOO_PICTURE"):
        Path(wanted).write_bytes(picture)
