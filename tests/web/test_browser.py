"""The pages in a real browser, while a watcher runs."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlencode

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from tests.bundles import Changes, at, bundle, row
from tests.commands import COMMAND
from tests.jobs import job, result, trial
from tests.playground import month
from tests.test_daemon import until
from tests.web.serving import Server, configured, serving
from tests.worlds import World

CHROMIUM = shutil.which("chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]
RUNS = 1_000
Scheme = Literal["light", "dark"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        CHROMIUM is None and "CI" not in os.environ, reason="chromium is not installed: apt-get install chromium"
    ),
]


def name(number: int) -> str:
    return f"2026-01-{number // 1440 + 5:02}T{number // 60 % 24:02}-{number % 60:02}-00-000Z"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = World(tmp_path_factory.mktemp("browser"))
    files: Changes = {}
    for number in range(RUNS):
        rows = [row("t1", 1.0 if number % 3 else 0.1, cost_usd=0.25), row("t2", 0.0 if number % 2 else 1.0)]
        run = bundle(rows=rows, experiment="nightly" if number % 4 else "weekly", name=name(number))
        files |= at(f"runs/{'nightly' if number % 4 else 'weekly'}/{name(number)}", run)
    world.repo.commit(files)
    world.sync()
    return world


@pytest.fixture(scope="module")
def server(world: World) -> Iterator[Server]:
    watcher = subprocess.Popen([COMMAND, "watch", "--config", configured(world)], stdout=subprocess.DEVNULL)
    try:
        with serving(world) as server:
            yield server
    finally:
        watcher.send_signal(signal.SIGTERM)
        assert watcher.wait(20) == 0


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert CHROMIUM, "continuous integration installs chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def scheme() -> Scheme:
    return "light"


@pytest.fixture
def page(scheme: Scheme, browser: Browser, server: Server) -> Iterator[Page]:
    """A page that must neither complain nor ask another host for anything."""
    context = browser.new_context(color_scheme=scheme, base_url=server.address)
    page = context.new_page()
    wrong: list[str] = []
    page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "request", lambda asked: None if asked.url.startswith((server.address, "data:")) else wrong.append(asked.url)
    )
    yield page
    context.close()
    assert wrong == []


def every_page(server: Server) -> list[str]:
    one = server.get("/api/trials?trial_status=failed&limit=1").json["trials"][0]
    of_run = {"key": one["run_key"]}
    return [
        "/", "/runs", "/trials", "/drift", "/failures", "/leaderboard", "/leaderboard?by=target", "/dashboards",
        f"/run?{urlencode(of_run)}", f"/trial?{urlencode(of_run | {'trial': one['trial']})}",
        f"/view?{urlencode(of_run | {'path': 'index.jsonl'})}", "/compare?a=latest~1&b=latest",
        "/compare?a=latest~1&b=latest&test=t1", "/history?test=t1",
    ]  # fmt: skip


def test_scroll_filter_open_and_compare(page: Page) -> None:
    page.goto("/runs")
    rows = page.locator("table.runs tbody tr")
    expect(rows).to_have_count(50)
    expect(page.locator("#count")).to_have_text(f"{RUNS:,}")
    seen: dict[str, str] = {}
    while len(seen) < RUNS:
        page.mouse.wheel(0, 1_500)
        there = "rows => rows.filter(row => row.dataset.key).map(row => [row.dataset.key, row.dataset.timestamp])"
        seen |= dict(rows.evaluate_all(there))
        assert page.evaluate("document.querySelectorAll('*').length") < 5_000
    assert list(seen.values()) == sorted(seen.values(), reverse=True)
    page.evaluate("scrollTo(0, 0)")
    expect(rows.first).to_have_attribute("data-key", next(iter(seen)))  # what was taken out came back

    page.get_by_label("Experiment").first.fill("weekly")
    page.get_by_role("button", name="Show").click()
    page.wait_for_url("**/runs?*experiment=weekly*")
    expect(rows.first).to_contain_text("weekly")
    assert rows.count() == rows.filter(has_text="weekly").count() > 0

    boxes = page.get_by_role("checkbox")
    boxes.nth(0).check()
    boxes.nth(1).check()
    page.get_by_role("button", name="Compare two chosen runs").click()
    expect(page.get_by_role("heading", name="Compare")).to_be_visible()
    expect(page.locator("main")).to_contain_text("2 shared tests")

    page.goto("/runs")
    rows.nth(3).get_by_role("link").first.click()
    expect(page.get_by_role("heading", name="Trials")).to_be_visible()
    expect(page.locator("main")).to_contain_text("refund/t1")
    page.get_by_role("link", name="History of t1").first.click()
    expect(page.locator("main")).to_contain_text("passed,")
    page.get_by_role("link", name="Dashboards").click()
    expect(page.locator("svg.chart")).to_have_count(3)


def test_runs_arrive_change_and_go_while_the_page_is_open(page: Page, world: World) -> None:
    folder, identity = "jobs/live", "23b29240-0000-4000-8000-000000000001"
    page.goto("/runs")
    first = page.locator("table.runs tbody tr").first
    began: dict[str, Any] = {"started_at": "2027-01-05T09:00:00", "id": identity}
    stats = {"n_running_trials": 1, "n_pending_trials": 1}
    files = job({"fizz__aaaaaaa": ""}, finished=False, stats=stats, **began)
    files["lock.json"] = files["lock.json"].replace("2026-01-05", "2027-01-05") if "lock.json" in files else "{}"
    world.write(at(folder, files))
    live = page.locator(f'tr[data-key="pier:{identity}"]')
    expect(live).to_contain_text("stopped?", timeout=20_000)  # it began long ago
    expect(first).to_have_attribute("data-key", f"pier:{identity}")
    expect(live.locator("progress")).to_have_count(1)
    live.get_by_role("checkbox").check()  # and stay there
    world.write({f"{folder}/fizz__aaaaaaa/result.json": trial()})
    expect(live).to_contain_text("1/1", timeout=20_000)
    world.write({f"{folder}/result.json": result(**began)})
    expect(live).to_contain_text("completed", timeout=20_000)
    expect(live.get_by_role("checkbox")).to_be_checked()
    expect(live.get_by_role("checkbox")).to_be_focused()
    shutil.rmtree(world.local / folder)
    expect(live).to_have_count(0, timeout=20_000)


def test_the_page_of_a_run_follows_it(page: Page, world: World) -> None:
    folder, identity = "jobs/followed", "23b29240-0000-4000-8001-000000000001"
    stats = {"n_running_trials": 1, "n_pending_trials": 1}
    world.write(at(folder, job({"fizz__aaaaaaa": ""}, finished=False, stats=stats, id=identity)))
    key = f"pier:{identity}"
    until(lambda: world.column("SELECT count(*) FROM runs WHERE key = ?", key) == [1])
    page.goto(f"/run?key={key}")
    run = page.locator("#run")
    expect(run).to_contain_text("0/2")
    page.get_by_role("link", name="job.log", exact=True).focus()
    world.write({f"{folder}/fizz__aaaaaaa/result.json": trial()})
    expect(run).to_contain_text("1/2", timeout=20_000)
    expect(page.get_by_role("link", name="job.log", exact=True)).to_be_focused()
    world.write({f"{folder}/result.json": result(id=identity)})
    expect(run.locator(".status").first).to_have_text("completed", timeout=20_000)
    shutil.rmtree(world.local / folder)
    expect(page.get_by_role("status")).to_have_text("This run is gone.", timeout=20_000)


@pytest.mark.parametrize(("scheme", "width"), [("light", 1440), ("dark", 1024), ("light", 390)])
def test_pages_fit_and_can_be_used_by_keyboard(page: Page, server: Server, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    for path in every_page(server):
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        unlabelled = "input:not([aria-label], [type=hidden]), select, textarea"
        assert page.eval_on_selector_all(unlabelled, "all => all.filter(each => !each.labels.length).length") == 0


@pytest.mark.parametrize(("scheme", "width"), [("dark", 1280), ("light", 390)])
def test_axe_finds_no_violation(browser: Browser, server: Server, scheme: Scheme, width: int) -> None:
    context = browser.new_context(
        color_scheme=scheme, base_url=server.address, viewport={"width": width, "height": 800}, bypass_csp=True
    )
    page = context.new_page()
    for path in every_page(server):
        page.goto(path)
        found = Axe().run(page)
        assert found.violations_count == 0, f"{path}: {found.generate_report()}"
    context.close()


def test_runs_are_chosen_by_keys(page: Page) -> None:
    page.goto("/runs")
    for key in ("j", "j", "k", "x", "j", "x"):
        page.keyboard.press(key)
    assert page.locator("input[type=checkbox]").evaluate_all("all => all.map(each => each.checked)")[:3] == [
        True, True, False,
    ]  # fmt: skip
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.name") == "search"
    page.keyboard.press("Tab")
    expect(page.locator("#values-experiment option")).to_have_count(2)
    page.keyboard.press("Shift+Tab")
    page.keyboard.type("NIGHT")
    page.keyboard.press("Enter")
    page.wait_for_url("**/runs?*search=NIGHT*")
    expect(page.locator("table.runs td[data-label=Experiment]").first).to_have_text("nightly")
    assert set(page.locator("table.runs td[data-label=Experiment]").all_inner_texts()) == {"nightly"}


def test_headers_sort_and_a_wrong_filter_keeps_the_form(page: Page) -> None:
    page.goto("/runs?experiment=weekly")
    page.get_by_role("link", name="Score").click()
    page.wait_for_url("**/runs?experiment=weekly&sort=-avg_score")
    expect(page.locator("th[aria-sort=descending]")).to_have_text("Score")
    page.get_by_role("link", name="Score").click()
    page.wait_for_url("**&sort=avg_score")


@pytest.fixture(scope="module")
def fallen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A month of nightly jobs in which one agent fell on one task, served."""
    world = World(tmp_path_factory.mktemp("month"))
    month(world.local / "jobs")
    world.sync()
    with serving(world) as server:
        yield server


@pytest.mark.parametrize(
    ("scheme", "width", "script"),
    [("light", 1440, False), ("dark", 1024, True), ("light", 390, True), ("dark", 390, False)],
)
def test_from_a_fall_to_the_log_in_four_clicks(
    browser: Browser, fallen: Server, scheme: Scheme, width: int, *, script: bool
) -> None:
    context = browser.new_context(
        color_scheme=scheme,
        java_script_enabled=script,
        base_url=fallen.address,
        viewport={"width": width, "height": 900},
    )
    page = context.new_page()

    def follow(link: Locator) -> None:
        link.first.focus()
        page.keyboard.press("Enter")

    page.goto("/")
    follow(page.get_by_role("link", name="Compare before and after"))
    expect(page.get_by_role("heading", name="Compare")).to_be_visible()
    follow(page.locator("h2:has-text('Changed') + div a"))
    follow(page.locator("a.status.failed"))
    expect(page.get_by_role("heading", name="Graders")).to_be_visible()
    follow(page.locator(".files a"))
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    if script:
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    context.close()


def test_both_outputs_of_a_flipped_test_are_side_by_side(browser: Browser, fallen: Server) -> None:
    page = browser.new_page(base_url=fallen.address, viewport={"width": 1280, "height": 900})
    page.goto("/compare?a=nightly-2026-10-20&b=nightly-2026-10-21")
    page.get_by_role("link", name="Outputs of rename-api").click()
    sides = page.locator(".sides section")
    expect(sides).to_have_count(2)
    expect(sides.nth(0)).to_contain_text("nightly-2026-10-20")
    expect(sides.nth(1)).to_contain_text("nightly-2026-10-21")
    expect(sides.nth(0).locator("p .status")).to_have_text("failed")  # it got better: what failed is in A
    expect(sides.nth(1).locator("p .status")).to_have_text("passed")
    left, right = sides.nth(0).bounding_box(), sides.nth(1).bounding_box()
    assert left and right and left["y"] == right["y"] and left["x"] + left["width"] <= right["x"]
    sides.nth(0).locator("a").last.click()
    expect(page.get_by_label("Search this file")).to_be_visible()
    page.close()


def test_back_leads_to_the_place(page: Page) -> None:
    page.goto("/runs")
    rows = page.locator("table.runs tbody tr[data-key]")
    while page.locator("table.runs tbody").count() < 4:
        page.mouse.wheel(0, 3_000)
    row = page.locator(f'tr[data-key="{rows.last.get_attribute("data-key")}"]')
    row.get_by_role("link").first.click()
    page.wait_for_url("**/run?*")
    page.go_back()
    expect(row).to_be_in_viewport(timeout=10_000)
    page.goto("/runs")
    expect(rows).to_have_count(50)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast(page: Page) -> None:
    page.goto("/runs")
    worst = page.evaluate(
        """() => {
          const luminance = colour => {
            const [r, g, b] = colour.match(/[\\d.]+/g).map(Number).map(c => c / 255)
              .map(c => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
          };
          const behind = each => {
            const colour = getComputedStyle(each).backgroundColor;
            return /, 0\\)$/.test(colour) && each.parentElement ? behind(each.parentElement) : colour;
          };
          let worst = 21;
          for (const each of document.querySelectorAll("a, td, th, label, button, .status, .tag, h1, small")) {
            if (!each.textContent.trim()) continue;
            const [one, two] = [getComputedStyle(each).color, behind(each)].map(luminance);
            worst = Math.min(worst, (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05));
          }
          return worst;
        }"""
    )
    assert worst >= 4.5  # WCAG 2.1, level AA


def test_without_a_script_pages_work_too(browser: Browser, server: Server) -> None:
    context = browser.new_context(java_script_enabled=False, base_url=server.address)
    page = context.new_page()
    page.goto("/runs?sort=pass_rate")
    page.get_by_role("link", name="More runs").click()
    assert page.locator("table.runs tbody tr").count() == 50
    assert "cursor=" in page.url
    context.close()


def test_screenshots(browser: Browser, server: Server, tmp_path: Path) -> None:
    """Of all pages, in light and dark; pytest keeps them in its temporary folder, to be looked at."""
    pages = {
        "home": "/",
        "runs": "/runs",
        "dashboards": "/dashboards",
        "compare": "/compare?a=latest~1&b=latest",
        "tables": "/index/runs",
    }
    for scheme in ("light", "dark"):
        context = browser.new_context(
            color_scheme=scheme,
            base_url=server.address,
            viewport={"width": 1280, "height": 800},
        )
        page = context.new_page()
        for title, path in pages.items():
            page.goto(path)
            picture = page.screenshot(path=tmp_path / f"{title}-{scheme}.png")
            assert len(picture) > 10_000
        context.close()
