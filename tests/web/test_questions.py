"""The ten questions of docs/questions.md, answered on pages: none of them takes more than three clicks from `/`."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.bundles import at, bundle
from tests.jobs import job
from tests.playground import month
from tests.web.serving import serving
from tests.web.test_browser import browser, pytestmark
from tests.worlds import World

__all__ = ["browser", "pytestmark"]  # the browser, and where it may be missing
MOST_CLICKS = 3


class Visitor:
    """Somebody who begins at `/` and clicks; typing is no click."""

    def __init__(self, page: Page, commit: str):
        self.page, self.commit = page, commit
        self.clicks = 0
        page.goto("/")

    def click(self, name: str | Locator) -> None:
        self.clicks += 1
        assert self.clicks <= MOST_CLICKS
        link = self.page.get_by_role("link", name=name, exact=True) if isinstance(name, str) else name
        link.first.click()

    def show(self, **filters: str) -> None:
        """Fill the form of filters and send it."""
        for name, value in filters.items():
            field = self.page.locator(f"form.filters [name={name}]")
            field.select_option(value) if field.evaluate("each => each.tagName") == "SELECT" else field.fill(value)
        self.click(self.page.get_by_role("button", name="Show"))

    @property
    def main(self) -> Locator:
        return self.page.locator("main")

    def row(self, text: str) -> Locator:
        return self.page.locator("tbody tr").filter(has_text=text).first


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str, Path]]:
    world = World(tmp_path_factory.mktemp("questions"))
    month(world.local / "jobs")
    stats = {"n_running_trials": 1, "n_pending_trials": 1}
    world.write(at("jobs/goes-on", job({"fizz__aaaaaaa": ""}, finished=False, stats=stats)))
    commit = world.repo.commit(at("runs/nightly/2026-01-05T08-00-00-000Z", bundle()))
    world.sync()
    with serving(world) as server:
        yield server.address, str(commit), world.local


@pytest.fixture
def visitor(browser: Browser, places: tuple[str, str, Path]) -> Iterator[Visitor]:
    page = browser.new_page(base_url=places[0], viewport={"width": 1280, "height": 900})
    yield Visitor(page, places[1])
    page.close()


def test_what_did_a_week_cost_by_model(visitor: Visitor) -> None:
    visitor.click("Leaderboard")
    visitor.show(by="model", across="", since="2026-10-21", until="2026-10-28")
    expect(visitor.row("alpha-1")).to_contain_text("$1.65")  # as docs/questions.md has it
    expect(visitor.row("beta-2")).to_contain_text("$4.25")


def test_which_trials_timed_out_and_where_are_their_logs(visitor: Visitor) -> None:
    visitor.click("Trials")
    visitor.show(error_type="AgentTimeoutError")
    expect(visitor.row("nightly-2026-10-27")).to_contain_text("no answer after 600 s")
    visitor.click(visitor.row("nightly-2026-10-27").locator("td[data-label=Test] a"))
    expect(visitor.page.locator(".files")).to_contain_text("trial.log")


def test_which_errors_say_this(visitor: Visitor) -> None:
    visitor.click("Trials")
    visitor.show(error="RENAME-API: no answer")
    expect(visitor.page.locator("tbody tr")).to_have_count(8)
    expect(visitor.page.locator("tbody tr").first).to_contain_text("nightly-2026-10-26")


def test_which_was_the_first_bad_run_of_a_test(visitor: Visitor) -> None:
    fall = visitor.page.locator("section", has_text="What fell").locator("tr", has_text="daily/parse-csv")
    expect(fall).to_contain_text("nightly-2026-10-21", timeout=20_000)


def test_how_does_each_model_do_on_each_task(visitor: Visitor) -> None:
    visitor.click("Leaderboard")
    visitor.show(by="test", across="model")
    expect(visitor.row("daily/parse-csv")).to_contain_text(re.compile(r"91%.*53%", re.DOTALL))


def test_which_tests_are_the_flakiest(visitor: Visitor) -> None:
    visitor.click("Dashboards")
    flakiest = visitor.page.locator("section", has_text="Flakiest tests").locator("tbody tr").first
    expect(flakiest).to_contain_text("daily/unicode-paths")
    expect(flakiest).to_contain_text("29%")


def test_what_runs_now_and_how_far_is_it(visitor: Visitor) -> None:
    running = visitor.page.locator("section", has_text="Running now")
    expect(running).to_contain_text("goes-on")
    expect(running.locator("progress")).to_have_attribute("max", "2")


def test_where_is_the_folder_of_the_worst_trial(visitor: Visitor, places: tuple[str, str, Path]) -> None:
    visitor.click("nightly-2026-10-28")
    failing = visitor.page.locator("h2:has-text('Not passed') + div tbody tr")
    expect(failing.first.locator("td[data-label=Score]")).to_have_text("0.000")
    visitor.click(failing.first.locator("a"))
    folder = visitor.page.locator(".facts div", has_text="Folder").locator("dd").inner_text()
    assert Path(folder).parent == places[2] / "jobs/nightly-2026-10-28"
    assert Path(folder, "result.json").exists()


def test_which_runs_belong_to_a_commit(visitor: Visitor) -> None:
    visitor.click("Runs")
    visitor.click(visitor.page.get_by_text("More filters"))
    visitor.show(commit=visitor.commit[:8])
    expect(visitor.page.locator("td.name")).to_have_text(re.compile("2026-01-05T08-00-00-000Z"))


def test_what_changed_since_yesterday(visitor: Visitor) -> None:
    for run in ("nightly-2026-10-27", "nightly-2026-10-28"):
        visitor.click(visitor.page.get_by_label(f"Compare {run}"))
    visitor.click(visitor.page.get_by_role("button", name="Compare two chosen runs"))
    expect(visitor.main).to_contain_text("no difference shown")
    expect(visitor.main).to_contain_text("12 shared tests")
