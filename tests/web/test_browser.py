"""The pages in a real Chromium: what a reader sees at usual widths, with and without a script, by keyboard, and by the
rules of axe-core."""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from exporter.core.outcome import Reason, SweepStatus
from exporter.web import pages
from tests.builders import make_probe, make_target
from tests.metrics.results import make_result
from tests.programs import need
from tests.waiting import becomes_true
from tests.web.browser import TOKEN, Browser, LiveSite, open_browser
from tests.web.fleet import NOW, Fleet

WIDTHS = (1400, 1280, 1024, 700, 390)
LONG = "a-name-without-a-place-to-break-it" * 3
AXE = importlib.resources.files("axe_core_python").joinpath("axe.min.js").read_text(encoding="utf-8")
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def wait_for(condition: Callable[[], bool]) -> None:
    assert becomes_true(condition)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    need("chromium", "chromedriver")
    with open_browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def refreshing() -> Iterator[None]:
    """Ten times as often as it does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pages, "REFRESH_SECONDS", 1)
        yield


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, refreshing: None) -> Iterator[LiveSite]:
    fleet = Fleet(60)
    long_one = make_probe(name=LONG, model=LONG, target=make_target(name=LONG))
    fleet.probes.append(long_one)
    fleet.board.configure(fleet.probes)
    reason = "x" * 290
    result = make_result(
        long_one, SweepStatus.FAILED, reason=Reason.PROTOCOL, reason_text=reason, started_unix_s=NOW - 60
    )
    fleet.board.sweep_ended(result)
    fleet.history.sweep_ended(result)
    live = LiveSite(fleet, tmp_path_factory.mktemp("site"))
    yield live
    live.stop()


PATHS = ("/", "/probes/asr-streaming", f"/probes/{LONG}")


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("path", PATHS)
def test_every_figure_is_in_sight_and_nothing_scrolls_sideways(
    path: str, width: int, browser: Browser, site: LiveSite
) -> None:
    browser.open(site.address + path, width)
    assert browser.js("return document.documentElement.scrollWidth") <= width
    outside = browser.js(
        """return [...document.querySelectorAll('.cards tbody td, .cards tbody th, .facts dd, .badge, .tile')]
            .filter((e) => { const box = e.getBoundingClientRect();
              return box.width && (box.left < 0 || box.right > innerWidth || e.scrollWidth > e.clientWidth + 1
                && getComputedStyle(e).display !== 'inline'); })
            .map((e) => e.outerHTML.slice(0, 200))"""
    )
    assert outside == []
    if path == "/":
        p99 = browser.texts("td[data-label=p99]")
        assert len(p99) == 61
        assert sum("ms" in text for text in p99) > 50
    assert browser.problems() == []


def test_what_is_typed_filters_without_a_reload_and_can_be_sent_to_a_colleague(
    browser: Browser, site: LiveSite
) -> None:
    browser.open(site.address + "/")
    browser.js("window.kept = true")
    browser.driver.find_element(By.NAME, "q").send_keys("asr")

    def names() -> list[str]:
        return browser.texts("tbody th a")

    wait_for(lambda: len(names()) > 0 and all("asr" in name for name in names()))
    wait_for(lambda: browser.driver.current_url.endswith("/?q=asr"))
    assert browser.js("return window.kept && document.activeElement.name") == "q"
    found = names()
    browser.open(browser.driver.current_url)
    assert names() == found
    browser.driver.find_element(By.NAME, "q").send_keys(Keys.BACKSPACE * 3)
    wait_for(lambda: len(names()) == 61)


def test_a_tile_selects_and_a_second_click_takes_it_back(browser: Browser, site: LiveSite) -> None:
    browser.open(site.address + "/")
    browser.driver.find_element(By.CSS_SELECTOR, "a.tile.regressed").click()
    wait_for(lambda: set(browser.texts("tbody tr:first-child .badge:first-child")) == {"▲ regressed"})
    wait_for(lambda: browser.js("return document.querySelector('.tile.regressed').ariaCurrent") == "true")
    assert browser.js("return document.getElementById('filter').elements.state.value") == "regressed"
    browser.js("document.querySelector('a.tile.regressed').click()")
    wait_for(lambda: len(browser.texts("tbody th a")) == 61)


def test_a_refresh_keeps_place_focus_and_what_was_typed(browser: Browser, site: LiveSite) -> None:
    browser.open(site.address + "/", 1280)
    browser.js("window.kept = true; window.scrollTo(0, 900); document.querySelectorAll('tbody th a')[9].focus()")
    focused = browser.js("return document.activeElement.getAttribute('href')")
    before = browser.js("return [scrollX, scrollY]")
    site.change(lambda: setattr(site.fleet.clock, "at_s", site.fleet.clock.at_s + 7))
    first = browser.texts("#updated")
    wait_for(lambda: browser.texts("#updated") != first)
    assert browser.js("return [scrollX, scrollY]") == before
    assert browser.js("return document.activeElement.getAttribute('href')") == focused
    assert browser.js("return window.kept")


def test_a_new_result_shows_by_itself(browser: Browser, site: LiveSite) -> None:
    probe = next(probe for probe in site.fleet.probes if probe.name == "resnet50")
    browser.open(f"{site.address}/probes/resnet50")
    assert browser.texts(".title .badge") == ["✓ ok"]
    site.change(lambda: site.fleet.board.sweep_started(probe, NOW))
    wait_for(lambda: browser.texts(".title .badge") == ["✓ ok", "▶ running"])
    assert "resnet50: ok" in browser.driver.title


def test_without_a_script_the_page_filters_refreshes_and_acts(browser: Browser, site: LiveSite) -> None:
    browser.open(site.address + "/", script=False)
    refresh = browser.driver.find_element(By.CSS_SELECTOR, "meta[http-equiv=refresh]")
    assert refresh.get_attribute("content") == "1"
    browser.command("Emulation.setScriptExecutionDisabled", value=False)
    browser.open(site.address + "/?q=bert&state=ok", script=False)
    button = browser.driver.find_element(By.CSS_SELECTOR, "#filter button")
    assert button.is_displayed()
    names = [element.text for element in browser.driver.find_elements(By.CSS_SELECTOR, "tbody th a")]
    assert names
    assert all(name.startswith("bert") for name in names)
    browser.open(site.address + "/probes/ranker", script=False)
    browser.driver.find_element(By.NAME, "token").send_keys("wrong")
    browser.driver.find_element(By.CSS_SELECTOR, "button[value=pause]").click()
    lines = (By.ID, "done-lines")  # of the page that is loaded next
    wait_for(lambda: any("no valid token" in each.text for each in browser.driver.find_elements(*lines)))
    browser.command("Emulation.setScriptExecutionDisabled", value=False)


def test_an_action_asks_for_the_token_and_reports_in_place(browser: Browser, site: LiveSite) -> None:
    browser.open(f"{site.address}/probes/tts-german")
    field = browser.driver.find_element(By.NAME, "token")
    field.send_keys("wrong")
    browser.driver.find_element(By.CSS_SELECTOR, "button[value=pause]").click()
    wait_for(lambda: "no valid token" in browser.texts("#done")[0])
    assert "paused" not in " ".join(browser.texts(".title .badge"))
    field.clear()
    field.send_keys(TOKEN)
    browser.driver.find_element(By.CSS_SELECTOR, "button[value=pause]").click()
    wait_for(lambda: browser.texts(".title .badge")[-1] == "‖ paused")
    browser.driver.find_element(By.CSS_SELECTOR, "button[value=pin-preview]").click()
    wait_for(lambda: "has no sweeps yet" in browser.texts("#done")[0])
    browser.driver.find_element(By.CSS_SELECTOR, "button[value=resume]").click()
    wait_for(lambda: "paused" not in " ".join(browser.texts(".title .badge")))
    assert browser.driver.current_url == f"{site.address}/probes/tts-german"


def test_by_keyboard_alone(browser: Browser, site: LiveSite) -> None:
    browser.open(site.address + "/")
    body = browser.driver.find_element(By.TAG_NAME, "body")
    reached = []
    for _ in range(20):
        body.send_keys(Keys.TAB)
        reached.append(browser.js("const e = document.activeElement; return e.name || e.className || e.innerText"))
        outline = browser.js("return getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", reached
    order = ["skip", "brand", "Metrics", "q", "state", "target", "sort", "tile failing"]
    assert [name for name in reached if name in order] == order
    assert len(set(reached)) >= 15


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_colours_of_the_scheme(scheme: str, browser: Browser, site: LiveSite) -> None:
    browser.open(site.address + "/", scheme=scheme)
    colours = browser.js(
        "return [getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
    )
    background, text = ([int(part) for part in colour[4:-1].split(",")] for colour in colours)
    assert (sum(background) < sum(text)) == (scheme == "dark")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("path", ["/?q=-a", "/probes/asr-streaming", "/probes/bert-qa"])
def test_axe_finds_nothing(path: str, width: int, scheme: str, browser: Browser, site: LiveSite) -> None:
    """Contrast of AA, landmarks, names, headings and tables."""
    browser.open(site.address + path, width, scheme)
    browser.js(AXE)
    run = (
        "const done = arguments[1]; axe.run(document, {runOnly: arguments[0]}).then(done, (e) => done({error: `${e}`}))"
    )
    found = browser.driver.execute_async_script(run, RULES)
    reported = [
        f"{each['id']}: {each['help']}: {node['html'][:150]} {json.dumps(node['any'][:1])[:300]}"
        for each in found["violations"]
        for node in each["nodes"][:3]
    ]
    assert reported == []
    assert len(found["passes"]) > 20


def test_a_daemon_that_is_gone_is_reported(browser: Browser, tmp_path: Path, refreshing: None) -> None:
    live = LiveSite(Fleet(1, days=False), tmp_path)
    browser.open(live.address + "/")
    assert browser.texts("#updated")[0].startswith("Updated ")
    live.stop()
    wait_for(lambda: browser.texts("#updated")[0].startswith("Not updated since 22:1"))
    assert browser.texts("tbody th a") == ["resnet50"]
    browser.problems()
