"""The page in a real browser: by keyboard and pointer, on a phone, in the dark, without its script, on paper."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from limner.reporting import ReportInputs, write_report
from tests.reporting.browser import CHROMIUM, Browser
from tests.reporting.made_up import MANY, RAW, write_run

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed (apt-get install chromium)")
FOCUSED = "document.activeElement"
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
CLOSED = "!document.getElementById('viewer').open"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    found = Browser(tmp_path_factory.mktemp("profile"))
    yield found
    found.close()


def written(folder: Path, raw: dict) -> Path:
    """The page alone, away from its pictures and its run."""
    made = write_run(folder / "run", raw=raw)
    (folder / "report").mkdir()
    write_report(ReportInputs(*made.arguments), folder / "report")
    (folder / "alone").mkdir()
    return shutil.copy(folder / "report" / "index.html", folder / "alone" / "page.html")


@pytest.fixture(scope="module")
def few(tmp_path_factory) -> Path:
    return written(tmp_path_factory.mktemp("few"), RAW)


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Path:
    return written(tmp_path_factory.mktemp("many"), MANY)


@pytest.fixture(params=["few", "many"])
def page(request) -> Path:
    return request.getfixturevalue(request.param)


def test_it_opens_without_an_error_and_loads_nothing_but_itself(browser, page):
    browser.open(page)
    assert browser.errors == []
    assert [url for url in browser.loaded if not url.startswith("data:")] == [page.as_uri()]
    assert browser.run("[...document.images].every(i => !i.getAttribute('src') || i.naturalWidth > 0)")


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_the_page_itself_does_not_scroll_sideways(browser, page, width):
    browser.open(page, width=width, phone=width == 360)
    assert browser.run(OVERFLOW) == 0
    browser.run("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert browser.run(OVERFLOW) == 0


def test_the_slider_moves_by_keys_and_by_pointer(browser, few):
    browser.open(few)
    shown = "getComputedStyle(document.querySelector('.side.right')).clipPath"
    half = browser.run(shown)
    assert "50%" in half
    browser.run("document.querySelector('.pair input').focus()")
    browser.press("ArrowRight", times=4)
    assert "52%" in browser.run(shown)
    assert browser.run(f"{FOCUSED}.getAttribute('aria-valuetext')") == "52% dreambooth, the rest lora-1"
    browser.press("Home")
    assert "0px" in browser.run(shown)
    box = "(b => [b.left, b.top, b.width, b.height])(document.querySelector('.pair .side').getBoundingClientRect())"
    browser.run("document.querySelector('.pair').scrollIntoView({block: 'center', behavior: 'instant'})")
    left, top, width, height = browser.run(box)
    browser.drag((left + 2, top + height / 2), (left + width * 0.7, top + height / 2))
    assert float(browser.run("document.querySelector('.pair input').value")) == pytest.approx(70, abs=4)


def test_any_two_columns_of_any_row_can_be_compared(browser, many):
    browser.open(many)
    choose = (
        "(([name, value]) => {{ const s = document.querySelector(`.choose [name=${{name}}]`); s.value = value;"
        " s.dispatchEvent(new Event('change', {{bubbles: true}})) }})({})"
    )
    options = "[...document.querySelector('.choose [name={}]').options].map(o => o.value)"
    assert "lora-128 × 0.6" in browser.run(options.format("left"))
    row = next(r for r in browser.run(options.format("row")) if "training seed 2" in r and "pencil" in r)
    for name, value in (("left", "base"), ("right", "lora-16"), ("row", row)):
        browser.run(choose.format([name, value]))
    source = "document.querySelector('.side.{} img').alt"
    assert browser.run(source.format("left")).startswith("base, pencil, seed 7")  # the base has no training seed
    assert browser.run(source.format("right")).startswith("lora-16, pencil, seed 7")
    browser.run(choose.format(["row", next(r for r in browser.run(options.format("row")) if "reference" in r)]))
    browser.run(choose.format(["left", "lora-4 × 0.6"]))
    assert "lora-4 × 0.6 has no picture here" in browser.run("document.querySelector('.told').textContent")


def test_without_its_script_two_pictures_stand_side_by_side(browser, few):
    browser.open(few, script=False)
    shot = browser.call("DOMSnapshot.captureSnapshot", computedStyles=["display"])
    assert shot["documents"]
    document = browser.call("DOM.getDocument")["root"]["nodeId"]

    def box(selector: str) -> list[float]:
        node = browser.call("DOM.querySelector", nodeId=document, selector=selector)["nodeId"]
        return browser.call("DOM.getBoxModel", nodeId=node)["model"]["content"]

    left, right = box(".side.left img"), box(".side.right img")
    assert left[1] == right[1]  # the same height on the page
    assert left[2] <= right[0]  # one ends before the other begins
    for selector in (".choose", ".pair input"):
        with pytest.raises(AssertionError, match="box model"):
            box(selector)


def test_a_picture_is_enlarged_walked_and_left_by_keys_and_gives_the_focus_back(browser, few):
    browser.open(few)
    browser.run("document.querySelector('table.plate a.print').focus()")
    before = browser.run(f"{FOCUSED}.dataset.caption")
    browser.press("Enter")
    assert not browser.run(CLOSED)
    caption = "document.querySelector('#viewer figcaption').textContent"
    assert browser.run(caption) == before
    browser.press("ArrowRight")
    second = browser.run(caption)
    assert second != before
    for _ in range(12):  # the focus stays inside
        browser.press("Tab")
        assert browser.run(f"{FOCUSED} === document.body || !!{FOCUSED}.closest('#viewer')")
    browser.press("Escape")
    assert browser.run(CLOSED)
    browser.run("new Promise(resolve => setTimeout(resolve))")  # the browser tells of the closing a task later
    assert browser.run(f"{FOCUSED}.dataset.caption") == second


def test_arrows_walk_the_grid(browser, few):
    browser.open(few)
    browser.run("document.querySelector('table.plate a.print').focus()")
    told = []
    for key in ("ArrowRight", "ArrowDown", "ArrowLeft", "End", "ArrowUp", "ArrowUp"):
        browser.press(key)
        told.append(browser.run(f"{FOCUSED}.dataset.caption"))
    assert told == [
        "dreambooth · garden · seed 42", "dreambooth · pencil · seed 42", "base · pencil · seed 42",
        "lora-16 · pencil · seed 42", "lora-16 · garden · seed 42", "lora-16 · garden · seed 42",
    ]  # fmt: skip


def test_everything_that_the_tab_key_reaches_has_a_name_and_is_seen_to_have_the_focus(browser, few):
    browser.open(few)
    reached = []
    for _ in range(80):
        browser.press("Tab")
        if browser.run(f"{FOCUSED} === document.body"):
            break
        reached.append(browser.run(
            f"(e => [e.tagName, e.textContent.trim() || e.getAttribute('aria-label') ||"
            f" (e.querySelector('img') || {{}}).alt || '',"
            f" getComputedStyle(e).outlineStyle, e.matches('.pair input')])({FOCUSED})"
        ))  # fmt: skip
    tags = {tag for tag, *_ in reached}
    assert {"A", "SELECT", "INPUT", "SUMMARY"} <= tags
    assert all(name for _, name, _, _ in reached)
    assert all(outline != "none" or slider for _, _, outline, slider in reached)  # the slider's handle has it


def test_a_fold_opens_by_key(browser, few):
    browser.open(few)
    browser.run("document.querySelector('summary').focus()")
    browser.press("Enter")
    assert browser.run("document.querySelector('details').open")


def test_in_the_dark_the_ground_is_dark_and_the_ink_light(browser, few):
    levels = (
        "['backgroundColor', 'color'].map(k => getComputedStyle(document.body)[k]"
        ".match(/\\d+/g).slice(0, 3).map(Number))"
    )
    browser.media(prefers_color_scheme="dark")
    browser.open(few)
    ground, ink = browser.run(levels)
    browser.media()
    assert max(ground) < 60
    assert min(ink) > 200


def test_on_paper_folds_are_open_and_controls_are_away(browser, few):
    browser.open(few)
    assert browser.pdf().startswith(b"%PDF")
    assert browser.run("document.querySelectorAll('details[open]').length") == 0  # folded again afterwards
    browser.run("dispatchEvent(new Event('beforeprint'))")
    browser.media("print")
    seen = "[...document.querySelectorAll('{}')].filter(e => e.checkVisibility()).length"
    assert browser.run(seen.format("nav, .choose, .pair input, dialog")) == 0
    assert browser.run(seen.format("details table")) > 0
    sides = browser.run("[...document.querySelectorAll('.pair .side')].map(e => e.getBoundingClientRect().left)")
    browser.media()
    browser.run("dispatchEvent(new Event('afterprint'))")
    assert len(set(sides)) == 2


def test_many_further_comparisons_stay_folded_on_paper(browser, many):
    browser.open(many)
    browser.run("dispatchEvent(new Event('beforeprint'))")
    opened = browser.run("[...document.querySelectorAll('details')].map(e => [e.className, e.open])")
    browser.run("dispatchEvent(new Event('afterprint'))")
    assert {is_open for name, is_open in opened if name == "further"} == {False}
    assert {is_open for name, is_open in opened if name != "further"} == {True}


def test_the_tables_of_scores_fit_a_laptop(browser, many):
    browser.open(many, width=1280)
    over = "[...document.querySelectorAll('[aria-label^=Scores]')].map(e => e.scrollWidth - e.clientWidth)"
    assert max(browser.run(over)) <= 0


def test_the_source_names_no_outside_resource(few):
    source = few.read_text()
    assert re.findall(r"(?:src|href)=\"(?:https?:)?//", source) == []
    assert "@import" not in source
