"""The site in a real browser, opened from disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from qk_leaderboard import build
from simulated import simulate

from tests.leaderboard.browser import axe_source, complaints, open_browser, requests
from tests.leaderboard.conftest import simulated

PAGES = (
    "index.html", "pairs.html", "pairs/scenes-1-test-64/weak_vs_strong.html", "gallery.html", "models/index.html",
    "models/strong.html", "tasks/index.html", "tasks/scenes-1-test-64-layout.html", "compute.html", "provenance.html",
    "downloads.html",
)  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_browser() as page:
        yield page


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    return axe_source(tmp_path_factory.mktemp("axe"))


def visit(page: Any, site: Path, name: str) -> None:
    page.get("about:blank")
    page.get(f"{site.as_uri()}/{name}")


def wait(page: Any, script: str, seconds: float = 20) -> Any:
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(page, seconds, 0.05).until(lambda p: p.execute_script(f"return {script}"))


def keys(page: Any, *pressed: str) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    for key in pressed:
        ActionChains(page).send_keys(key).perform()


def models_shown(page: Any) -> list[str]:
    found: list[str] = page.execute_script(
        "return [...document.querySelectorAll('#board tbody tr:not([hidden])')].map(row => row.dataset.model)"
    )
    return found


def choose(page: Any, name: str, value: str) -> None:
    page.execute_script(
        "const field = document.getElementById('filters')[arguments[0]];"
        "field.value = arguments[1]; field.dispatchEvent(new Event('input', {bubbles: true}))",
        name,
        value,
    )


def test_no_page_complains_or_asks_the_network_for_anything(browser: Any, site: Path) -> None:
    for name in PAGES:
        visit(browser, site, name)
        wait(browser, "document.readyState === 'complete'")
        assert browser.execute_script("return document.querySelector('h1').textContent.length > 0")
    assert complaints(browser) == []
    assert requests(browser) == []


def test_clicking_a_heading_sorts_and_the_address_keeps_it(browser: Any, site: Path) -> None:
    visit(browser, site, "index.html")
    assert models_shown(browser) == ["oracle", "strong", "weak", "no-op"]
    browser.find_element("css selector", "[data-sort=model] button").click()
    assert models_shown(browser) == ["no-op", "oracle", "strong", "weak"]
    browser.find_element("css selector", "[data-sort=model] button").click()
    assert models_shown(browser) == ["weak", "strong", "oracle", "no-op"]
    browser.refresh()
    assert models_shown(browser) == ["weak", "strong", "oracle", "no-op"]
    assert browser.find_element("css selector", "[data-sort=model]").get_attribute("aria-sort") == "descending"


def test_filters_change_the_table_and_the_address_keeps_them(browser: Any, site: Path) -> None:
    visit(browser, site, "index.html")
    choose(browser, "task", "removal")
    choose(browser, "metric", "cie76")
    choose(browser, "model", "o")
    browser.find_element("css selector", "[name=controls]").click()
    expected = {"rows": models_shown(browser), "caption": browser.find_element("id", "caption").text}
    assert expected["rows"] == ["strong"]
    assert expected["caption"].startswith("removal;")
    address = browser.current_url
    visit(browser, site, address.rpartition("/")[2])
    assert {"rows": models_shown(browser), "caption": browser.find_element("id", "caption").text} == expected
    assert browser.find_element("id", "unit").text == ", ΔE"


def test_gallery_shows_what_one_model_got_right_and_another_wrong(browser: Any, site: Path) -> None:
    visit(browser, site, "gallery.html#a=3&is=right&b=2&isb=wrong")
    wait(browser, "document.querySelectorAll('.sample[data-sample]').length > 0")
    marks = browser.execute_script(
        "return [...document.querySelectorAll('.sample')].map(card => Object.fromEntries("
        "[...card.querySelectorAll('.strip figure:not(.given)')].map(shot =>"
        " [shot.querySelector('.who').textContent, shot.querySelector('.verdict').textContent])))"
    )
    assert marks
    assert all("right" in mark["strong"] and "wrong" in mark["weak"] for mark in marks)


def test_what_is_not_right_is_wrong_or_without_output(browser: Any, site: Path) -> None:
    shown = []
    for kind in ("not-right", "wrong", "failed", "right", "unverified"):
        visit(browser, site, f"gallery.html#a=2&is={kind}")
        text = wait(browser, "document.getElementById('status').textContent")
        shown.append(int(text.split()[0]))
    assert shown[0] == shown[1] + shown[2]
    assert shown[2] > 0
    assert shown[0] + shown[3] == 48
    assert shown[4] == 0


def test_gallery_finds_samples_on_which_seeds_disagree(browser: Any, site: Path) -> None:
    visit(browser, site, "gallery.html#a=2&is=split")
    text = wait(browser, "document.getElementById('status').textContent")
    some, total = (int(word) for word in text.split() if word.isdigit())
    assert 0 < some < total == 48


def test_deep_link_opens_its_sample_and_the_slider_uncovers_it(browser: Any, site: Path) -> None:
    visit(browser, site, "gallery.html#sample=layout-test-000003&model=strong&of=1")
    wait(browser, "document.getElementById('detail').open")
    assert "layout-test-000003" in browser.find_element("id", "detail-about").text
    current = browser.find_element("css selector", "#outputs tr[aria-current]").text
    assert current.startswith("strong 1")
    browser.execute_script(
        "const cut = document.getElementById('cut'); cut.value = 80; cut.dispatchEvent(new Event('input'))"
    )
    clip = browser.execute_script("return getComputedStyle(document.getElementById('after')).clipPath")
    assert "80%" in clip
    loaded = (
        "[...document.querySelectorAll('.layers img:not([hidden])')].every(i => i.complete && i.naturalWidth === 64)"
    )
    assert wait(browser, loaded)


def test_keys_walk_through_the_gallery(browser: Any, site: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    visit(browser, site, "gallery.html")
    wait(browser, "document.querySelectorAll('.sample[data-sample]').length > 0")
    keys(browser, "j", "j")
    current = browser.execute_script("return document.querySelector('.sample.current').dataset.sample")
    assert current == "color_swap-test-000001"
    keys(browser, Keys.ENTER)
    wait(browser, "document.getElementById('detail').open")
    keys(browser, Keys.ARROW_RIGHT)
    wait(browser, "document.getElementById('detail-about').textContent.includes('000002')")
    before = browser.find_element("id", "right-name").text
    keys(browser, Keys.ARROW_DOWN)
    assert browser.find_element("id", "right-name").text != before
    keys(browser, "d")
    assert browser.find_element("id", "detail-diff").is_selected()
    assert "sample=color_swap-test-000002" in browser.current_url
    keys(browser, Keys.ESCAPE)
    assert not browser.execute_script("return document.getElementById('detail').open")
    wait(browser, "!location.hash.includes('sample=')")  # the dialog tells of its closing a moment later


def test_matrix_follows_task_and_metric(browser: Any, site: Path) -> None:
    visit(browser, site, "pairs.html#task=removal&metric=cie76")
    assert browser.find_element("id", "caption").text == "cie76, ΔE; removal"
    cell = browser.find_element("css selector", "a[data-row=weak][data-column=oracle]")
    assert cell.text.startswith("+")
    cell.click()
    assert "weak" in browser.find_element("tag name", "h1").text


def test_matrix_shows_the_models_of_the_chosen_task_each_value_below_its_name(browser: Any, tmp_path: Path) -> None:
    both = {task: simulate(30, {"m": 0.5, "n": 0.4}) for task in ("removal", "insertion")}
    first = simulated(tmp_path / "a", both)
    second = simulated(tmp_path / "b", {"removal": simulate(30, {"late": 0.9})}, started="2026-02-01T00:00:00Z")
    build([first, second], tmp_path / "site")
    names = (
        "return [...document.querySelectorAll('#duels tr:not([hidden])')].map(row => [...row.cells].slice(1)"
        ".filter(cell => !cell.hidden).map(cell => cell.dataset.model || (cell.firstElementChild || row).dataset.column"
        " || row.dataset.model))"
    )
    for task, models in (("all", {"m", "n"}), ("removal", {"late", "m", "n"}), ("insertion", {"m", "n"})):
        visit(browser, tmp_path / "site", f"pairs.html#task={task}")
        head, *rows = browser.execute_script(names)
        assert set(head) == models, task
        assert rows == [head] * len(models), task


def test_everything_reads_without_scripts(site: Path) -> None:
    with open_browser(scripts=False) as page:
        visit(page, site, "index.html")
        rows = page.find_elements("css selector", "#board tbody tr:not([hidden])")
        assert [row.find_element("tag name", "th").text.split()[0] for row in rows] == [
            "oracle",
            "strong",
            "weak",
            "no-op",
        ]
        assert not any(form.is_displayed() for form in page.find_elements("css selector", ".needs-script"))
        visit(page, site, "gallery.html")
        assert len(page.find_elements("css selector", ".sample")) == 16
        visit(page, site, "compute.html")
        assert page.find_element("css selector", "svg.chart").is_displayed()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_axe_finds_nothing_serious(site: Path, versions_site: Path, axe: str, width: int, dark: bool) -> None:
    with open_browser(width=width, dark=dark) as page:
        for folder, name in [*((site, name) for name in PAGES), (versions_site, "versions.html")]:
            visit(page, folder, name)
            wait(page, "document.readyState === 'complete'")
            assert page.execute_script("return document.documentElement.scrollWidth <= innerWidth"), name
            page.execute_script(axe)
            found = page.execute_async_script("axe.run().then(arguments[arguments.length - 1])")
            serious = [
                (v["id"], [node["html"][:150] for node in v["nodes"][:3]])
                for v in found["violations"]
                if v["impact"] in ("serious", "critical")
            ]
            assert serious == [], name


def test_nothing_of_a_hostile_run_runs(hostile_site: Path) -> None:
    with open_browser() as page:
        for path in sorted(hostile_site.rglob("*.html")):
            visit(page, hostile_site, str(path.relative_to(hostile_site)))
            wait(page, "document.readyState === 'complete'")
            assert page.execute_script("return window.broken") is None, path
        visit(page, hostile_site, "gallery.html#sample=hostile-001")
        wait(page, "document.getElementById('detail').open")
        assert "onerror" in page.find_element("id", "detail-title").text
        assert page.execute_script("return window.broken") is None
        assert complaints(page) == []
        assert requests(page) == []


def test_policy_stops_scripts_that_escaping_would_have_let_through(site: Path, tmp_path: Path) -> None:
    page_text = (site / "index.html").read_text()
    attack = "<script>window.broken=1</script><img src=x onerror='window.broken=1'>"
    (site / "attacked.html").write_text(page_text.replace("<h1>", f"{attack}<h1>"))
    try:
        with open_browser() as page:
            visit(page, site, "attacked.html")
            wait(page, "document.readyState === 'complete'")
            assert page.execute_script("return window.broken") is None
            assert any("Content Security Policy" in text for text in complaints(page))
    finally:
        (site / "attacked.html").unlink()
