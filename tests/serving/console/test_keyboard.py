"""The console by keyboard alone, in a browser whose reader writes numbers the German way."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from adclick.models.extension import pixels_as_png
from adclick.pipeline.prediction.runs_at_hand import RunsAtHand
from adclick.serving.gateway.security import create_api_key
from tests.end_to_end.browser import needs_browser
from tests.models.tiny_model import TinyModel
from tests.serving.console.conftest import JUDGED
from tests.serving.console.test_models_and_runs import output
from tests.serving.console.test_page import AXE, MILLISECONDS, browser, open_page

__all__ = ["browser", "output"]

pytestmark = needs_browser
expect.set_options(timeout=MILLISECONDS)
Start = Callable[..., httpx.Client]
MOST_STOPS = 120

#: What has the focus: its name as a person knows it, whether it is within the window, and whether the focus is shown
#: by itself or by what stands around it; null where nothing has it.
_FOCUS = """
() => {
  const element = document.activeElement;
  if (!element || element === document.body) return null;
  const box = element.getBoundingClientRect();
  const isWithin = box.width > 0 && box.height > 0 && box.bottom > 0 && box.top < innerHeight
    && box.right > 0 && box.left < innerWidth;
  const shows = one => {
    const style = getComputedStyle(one);
    return style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0;
  };
  const labels = [...(element.labels ?? [])].map(label => label.innerText);
  const name = element.getAttribute("aria-label") || labels.join(" ") || element.innerText || element.id;
  return {
    name: name.trim().replace(/\\s+/g, " "),
    tag: element.localName,
    isWithin,
    isShown: shows(element) || (element.parentElement.matches(".drop") && shows(element.parentElement)),
  };
}
"""


@pytest.fixture
def page(browser: Browser, console: Start, output: Path, tmp_path: Path) -> Iterator[tuple[Page, list[str], str]]:
    """A page of a gateway that asks for keys and has runs at hand; what it complains of; a key."""
    key, line = create_api_key("ann")
    (tmp_path / "keys").write_text(line + "\n")
    security = {"api_keys_file": str(tmp_path / "keys")}
    client = console(is_open=False, security=security, runs=RunsAtHand(str(output)))
    page, complaints = open_page(
        browser, str(client.base_url), viewport={"width": 1280, "height": 900}, locale="de-DE", bypass_csp=True
    )
    # From here on files are asked for by Playwright: told when a file is first asked for, the browser may be too late.
    page.on("filechooser", lambda chooser: None)
    yield page, complaints, key
    page.close()


def tab(page: Page, name: str, *, key: str = "Tab") -> list[str]:
    """Goes on by the tabulator until what bears a name has the focus; the names of all stops, each of them visible."""
    stops: list[str] = []
    while len(stops) < MOST_STOPS:
        page.keyboard.press(key)
        focus: dict[str, Any] | None = page.evaluate(_FOCUS)
        if focus is None:
            continue
        assert focus["isWithin"], f"{focus} has the focus, and is out of sight"
        assert focus["isShown"], f"{focus} does not show that it has the focus"
        # A time has a stop for its day, its month, and so on.
        if focus["name"] not in stops[-1:]:
            stops.append(focus["name"])
        if focus["name"].startswith(name):
            return stops
    raise AssertionError(f"{name} is not reached by {key}: {stops}")


def choose(page: Page, name: str) -> None:
    """A page of the console, from wherever the keyboard is: around the document's end to its navigation."""
    tab(page, name)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text(name)
    # Who goes on from here is in the page, not in the navigation again.
    expect(page.locator("main")).to_be_focused()


def add_files(page: Page, files: list[Any], name: str) -> None:
    tab(page, name)
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files(files)


def assert_axe_is_clean(page: Page) -> None:
    if AXE.exists():
        page.evaluate(AXE.read_text(encoding="utf-8"))
        # A report in a frame of its own runs no scripts, axe's neither.
        found = page.evaluate("axe.run(document, {iframes: false}).then(found => found.violations.map(one => one.id))")
        assert found == []


def test_all_is_done_by_keyboard(page: tuple[Page, list[str], str], tiny_model: TinyModel) -> None:
    shown, complaints, key = page
    keyboard = shown.keyboard

    # Signing in: the field has the focus.
    expect(shown.get_by_label("API key")).to_be_focused()
    keyboard.type(key[:-1])
    keyboard.press("Enter")
    expect(shown.get_by_role("alert")).to_contain_text("not known here")
    expect(shown.get_by_label("API key")).to_be_focused()
    keyboard.type(key[-1])
    keyboard.press("Enter")
    expect(shown.get_by_role("heading", level=1)).to_have_text("Try an ad")
    expect(shown.locator("main")).to_be_focused()

    # The order from the top, once around: nothing traps, nothing comes twice.
    tab(shown, "Skip to the content", key="Shift+Tab")
    stops = ["Skip to the content", *tab(shown, "Skip to the content")]
    assert stops[:8] == [
        "Skip to the content",
        "adclick",
        "Try an ad",
        "Compare creatives",
        "Models",
        "Runs",
        "Traffic",
        "API",
    ]
    assert stops[8] == "Sign out" and stops[-2] == "Ask"
    assert len(stops) == len(set(stops)) + 1
    keyboard.press("Enter")
    expect(shown.locator("main")).to_be_focused()

    # A value of a long list, looked for; then the answer, which is told.
    stops = tab(shown, "ad string")
    assert stops[0] == "Fill in one of October 2026"
    wanted = shown.get_by_role("listbox", name="Known values").locator("visible=true")
    keyboard.type("1")
    keyboard.press("ArrowDown")
    chosen = wanted.get_by_role("option", selected=True).inner_text()
    keyboard.press("Enter")
    expect(shown.get_by_label("ad string")).to_have_value(chosen)
    add_files(shown, [image(tiny_model, 0)], "Choose an image")
    tab(shown, "Ask")
    keyboard.press("Enter")
    said = shown.get_by_role("status").filter(has_text="Click probability")
    expect(said).to_have_text(re.compile(rf"Click probability: \d+,\d+\s%, by version {JUDGED}"))
    # The button has kept the focus: what comes next is the answer.
    expect(shown.get_by_role("button", name="Ask", exact=True)).to_be_focused()
    assert_axe_is_clean(shown)
    assert tab(shown, "The request as curl")[-5:-1] == ["curl", "Python", "JSON", "Copy"]

    # Two images compared, one of three removed first.
    choose(shown, "Compare creatives")
    add_files(shown, [image(tiny_model, number) for number in range(3)], "Choose images")
    expect(shown.locator(".thumbs li")).to_have_count(3)
    tab(shown, "Remove image 2.png")
    keyboard.press("Enter")
    expect(shown.get_by_role("button", name="Remove image 1.png")).to_be_focused()
    tab(shown, "Compare 2 images")
    keyboard.press("Enter")
    expect(shown.get_by_role("status").filter(has_text="Compared. First of 2 is image")).to_have_count(1)
    expect(shown.get_by_role("img", name="Heat map of")).to_have_count(2)
    expect(shown.locator(".results")).to_contain_text(
        "95 % percentile bootstrap over the audience's rows, 1.000 resamples"
    )
    expect(shown.locator(".ranking")).to_contain_text(re.compile(r"-\d+,\d+ percentage points against the first, -?\d"))
    assert_axe_is_clean(shown)
    tab(shown, "Save as CSV")
    with shown.expect_download() as download:
        keyboard.press("Enter")
    # A file is for programs: its numbers are theirs.
    assert re.search(r",0\.\d+,0\.\d+,", download.value.path().read_text(encoding="utf-8-sig"))
    assert tab(shown, "Click rates by")[-2] == "Column site"

    # What was judged, what ran, and what is asked now.
    choose(shown, "Models")
    expect(shown.get_by_role("columnheader", name="95 % interval").first).to_be_visible()
    expect(shown.get_by_text("0,6 to 0,8").first).to_be_visible()
    tab(shown, "Report of run")
    keyboard.press("Enter")
    expect(shown.frame_locator("iframe").get_by_text("report", exact=True)).to_be_visible()
    assert_axe_is_clean(shown)
    choose(shown, "Runs")
    tab(shown, "Steps")
    keyboard.press("Enter")
    expect(shown.get_by_role("cell", name="2,5 s").first).to_be_visible()
    assert_axe_is_clean(shown)
    choose(shown, "Traffic")
    tab(shown, "24 hours")
    keyboard.press("Space")
    expect(shown.get_by_role("button", name="24 hours", pressed=True)).to_be_focused()
    tab(shown, "Live", key="Shift+Tab")
    keyboard.press("Space")
    expect(shown.get_by_text("99 % within").first).to_be_visible()
    assert_axe_is_clean(shown)

    tab(shown, "Sign out")
    keyboard.press("Enter")
    expect(shown.get_by_label("API key")).to_be_focused()
    # A wrong key and the end of a session are answered by 401, which a browser notes; a report's script by its frame.
    assert [text for text in complaints if "401" not in text and "sandboxed" not in text] == []


def image(tiny_model: TinyModel, number: int) -> dict[str, Any]:
    content = pixels_as_png(tiny_model.creatives[number].image or b"")
    return {"name": f"image {number}.png", "mimeType": "image/png", "buffer": content}
