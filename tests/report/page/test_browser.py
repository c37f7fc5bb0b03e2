"""The page in a browser: it draws, sorts, changes its colours, fits a phone, and asks a network for nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import Chromium, find_chromium
from page_reports import HOSTILE, bench_report, full_report, source

from edgebert.report.page.page import render

pytestmark = pytest.mark.slow
DRAWN = "document.documentElement.dataset.pictures"
WIDTH = "document.documentElement.scrollWidth"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two reports, one of them hostile by name."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render([source(full_report(), HOSTILE), source(bench_report(), "bench")]), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    program = find_chromium()
    if program is None:
        pytest.skip("no Chromium is on PATH")
    with Chromium(program) as found:
        yield found


@pytest.fixture
def opened(browser: Chromium, page: Path) -> Chromium:
    browser.size(1280, 900)
    browser.prefer("light")
    browser.open(page, until=DRAWN)
    return browser


def test_page_draws_every_picture_without_a_complaint_and_without_a_request(opened: Chromium, page: Path) -> None:
    assert opened.run(DRAWN) == "drawn"
    marks = "path.point, path.js-line, .points path, g.bars path"
    drawn = opened.run(
        f"[...document.querySelectorAll('.plot')].map(plot => [plot.id, plot.querySelectorAll('svg.main-svg').length, "
        f"plot.querySelectorAll('.trace').length, plot.querySelectorAll('{marks}').length])"
    )
    assert len(drawn) > 15
    assert not [plot for plot in drawn if min(plot[1:]) < 1]
    assert opened.complaints() == []
    assert opened.requests() == [page.as_uri()]


def test_a_request_would_be_refused_and_seen(browser: Chromium, page: Path, tmp_path: Path) -> None:
    leaky = tmp_path / "leaky.html"
    leaky.write_text(page.read_text(encoding="utf-8").replace("<footer>", '<img src="https://x.example/y.png"><footer>'))
    browser.open(leaky, until=DRAWN)
    assert any("Content Security Policy" in complaint for complaint in browser.complaints())


def test_nothing_of_a_hostile_name_runs_or_becomes_an_element(opened: Chromium) -> None:
    assert opened.run("document.querySelectorAll('img, main b, main script, svg a').length") == 0
    assert opened.run("document.querySelector('.chapter h2').textContent") == HOSTILE
    assert "<img" in opened.run("[...document.querySelectorAll('svg text')].map(text => text.textContent).join('\\n')")


COLUMN = """(() => {
  const table = document.querySelector('#r1-models table');
  const header = [...table.tHead.rows[0].cells].find(cell => cell.textContent === 'p50 ms');
  const values = [...table.tBodies[0].rows].map(row => Number(row.cells[header.cellIndex].dataset.value));
  const sorted = table.querySelectorAll('[aria-sort=ascending], [aria-sort=descending]').length;
  return [header.getAttribute('aria-sort'), values, sorted];
})()"""
MARK = """(() => {
  const headers = [...document.querySelectorAll('#r1-models thead th')];
  headers.find(cell => cell.textContent === 'p50 ms').querySelector('button').id = 'sorter';
})()"""


def test_table_sorts_by_a_click_and_by_the_keyboard(opened: Chromium) -> None:
    direction, values, _ = opened.run(COLUMN)
    assert direction == "none" and values != sorted(values)
    opened.run(MARK)
    opened.click("#sorter")
    assert opened.run(COLUMN) == ["ascending", sorted(values), 1]
    opened.run("document.getElementById('sorter').focus()")
    opened.press("Enter", 13)
    assert opened.run(COLUMN) == ["descending", sorted(values, reverse=True), 1]
    assert opened.run("document.activeElement.id") == "sorter"


def test_what_was_not_measured_is_last_in_both_directions(opened: Chromium) -> None:
    script = """(() => {
      const table = document.querySelector('#r2-models table');
      const header = [...table.tHead.rows[0].cells].find(cell => cell.textContent === 'faster');
      const seen = [];
      for (const turn of [1, 2]) {
        header.querySelector('button').click();
        const texts = [...table.tBodies[0].rows].map(row => row.cells[header.cellIndex].textContent);
        seen.push(texts.indexOf('n/a') > 0 && texts.slice(texts.indexOf('n/a')).every(text => text === 'n/a'));
      }
      return seen;
    })()"""
    assert opened.run(script) == [True, True]


GROUND = "getComputedStyle(document.body).backgroundColor"
TICK = "document.querySelector('.plot .xtick text').style.fill"


def test_theme_follows_the_system_and_then_the_reader(browser: Chromium, page: Path) -> None:
    browser.size(1280, 900)
    seen = {}
    for scheme in ("light", "dark"):
        browser.prefer(scheme)
        browser.open(page, until=DRAWN)
        seen[scheme] = browser.run(GROUND), browser.run(TICK)
        assert browser.run("document.getElementById('theme').getAttribute('aria-pressed')") == json.dumps(scheme == "dark")
    assert seen["light"][0] != seen["dark"][0] and seen["light"][1] != seen["dark"][1]
    browser.click("#theme")
    browser.wait(f"{TICK} === {json.dumps(seen['light'][1])}")
    assert browser.run(GROUND) == seen["light"][0]
    browser.run("localStorage.clear()")


def test_axis_becomes_logarithmic_and_linear_again(opened: Chromium) -> None:
    box = opened.run("document.querySelector('.tools input').dataset.figure")
    axis = f"document.getElementById('{box}')._fullLayout.xaxis.type"
    assert opened.run(axis) == "linear"
    for expected in ("log", "linear"):
        opened.click(".tools input")
        opened.wait(f"{axis} === '{expected}'")


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_page_never_scrolls_sideways(browser: Chromium, page: Path, width: int) -> None:
    browser.size(width, 800, phone=width < 500)
    browser.open(page, until=DRAWN)
    assert browser.run(DRAWN) == "drawn"
    browser.run("document.querySelectorAll('details').forEach(details => { details.open = true; })")
    assert browser.run(WIDTH) == width
    right = "[...document.querySelectorAll('.plot svg.main-svg')].map(picture => picture.getBoundingClientRect().right)"
    assert max(browser.run(right)) <= width


def test_pictures_change_their_width_with_the_window(opened: Chromium) -> None:
    width = "document.querySelector('.plot svg.main-svg').getBoundingClientRect().width"
    before = opened.run(width)
    opened.size(700, 900)
    opened.wait(f"{width} < {before} - 300")
    assert opened.run(WIDTH) == 700


def test_tables_open_when_the_browser_cannot_inflate(browser: Chromium, page: Path) -> None:
    done = browser.send("Page.addScriptToEvaluateOnNewDocument", source="delete window.DecompressionStream")
    try:
        browser.open(page, until=DRAWN)
        assert browser.run(DRAWN) == "failed"
        assert browser.run("document.getElementById('no-pictures').hidden") is False
        assert browser.run("document.querySelectorAll('details.numbers:not([open])').length") == 0
        assert browser.run("[...document.querySelectorAll('.plot')].every(plot => !plot.offsetHeight)")
    finally:
        browser.send("Page.removeScriptToEvaluateOnNewDocument", identifier=done["identifier"])


def test_page_says_so_when_there_is_no_javascript(browser: Chromium, page: Path) -> None:
    browser.send("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.events.clear()
        browser.send("Page.navigate", url=page.as_uri())
        browser.wait("document.readyState === 'complete' && document.querySelector('footer')")
        assert "need JavaScript" in browser.run("document.querySelector('noscript').innerText")
        assert browser.run("document.querySelectorAll('.needs-script').length") > 0
        assert browser.run("[...document.querySelectorAll('.needs-script')].every(part => !part.offsetHeight)")
        assert browser.run("document.querySelectorAll('tbody tr').length") > 50
    finally:
        browser.send("Emulation.setScriptExecutionDisabled", value=False)


def test_first_tab_stop_skips_to_the_report(opened: Chromium) -> None:
    opened.press("Tab", 9)
    assert opened.run("document.activeElement.textContent") == "Skip to the report"
    opened.press("Enter", 13)
    opened.wait("document.activeElement.id === 'main'")
