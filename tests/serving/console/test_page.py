"""The console's page in a real browser, over a real socket."""

from __future__ import annotations

import csv
import gzip
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from adclick.models.extension import pixels_as_png
from adclick.serving.gateway.security import create_api_key
from tests.end_to_end.browser import CHROMIUM, needs_browser
from tests.models.tiny_model import TinyModel

pytestmark = needs_browser
Start = Callable[..., httpx.Client]
MILLISECONDS = 120_000
CONSOLE = Path(__file__).resolve().parents[3] / "serving" / "console"
STATIC = CONSOLE / "static"
#: Of `npm ci` in `serving/console/web`; where that was not run, the widths and themes alone are looked at.
AXE = CONSOLE / "web" / "node_modules" / "axe-core" / "axe.min.js"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # Chromium's sandbox needs what containers do not give to root.
        flags = ["--no-sandbox"] if os.geteuid() == 0 else []
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=flags)


def open_page(browser: Browser, url: str, **options: Any) -> tuple[Page, list[str]]:
    page = browser.new_page(**options)
    page.set_default_timeout(MILLISECONDS)
    complaints: list[str] = []
    own = ("/".join(url.split("/")[:3]), "blob:", "data:")
    page.on("console", lambda message: complaints.append(message.text) if message.type != "log" else None)
    page.on("pageerror", lambda error: complaints.append(f"script: {error}"))
    page.on(
        "request",
        lambda request: None if request.url.startswith(own) else complaints.append(request.url),
    )
    page.goto(url)
    return page, complaints


def test_five_images_are_compared_and_exported(
    browser: Browser, console: Start, tiny_model: TinyModel, tmp_path: Path
) -> None:
    """The journey of an agency; a file's name is markup and a formula."""
    names = ["=1+1<img src=x onerror=alert(1)>.png", *(f"image {number}.png" for number in range(4))]
    files = []
    for name, creative in zip(names, tiny_model.creatives, strict=False):
        files.append({"name": name, "mimeType": "image/png", "buffer": pixels_as_png(creative.image or b"")})
    url = str(console().base_url)
    page, complaints = open_page(browser, url, viewport={"width": 1280, "height": 900})
    page.get_by_role("link", name="Compare creatives").click()
    page.locator("input[type=file]").set_input_files(files)
    page.get_by_role("button", name="Compare 5 images").click()
    ranking = page.locator(".ranking li")
    expect(ranking).to_have_count(5, timeout=MILLISECONDS)
    expect(page.get_by_role("img", name="Heat map of")).to_have_count(5, timeout=MILLISECONDS)
    expect(page.locator(".ranking")).to_contain_text(names[0])
    with page.expect_download() as download:
        page.get_by_role("button", name="Save as CSV").click()
    rows = list(csv.DictReader(download.value.path().read_text(encoding="utf-8-sig").splitlines()))
    overall = [row for row in rows if not row["column"]]
    assert [row["rank"] for row in overall] == sorted(row["rank"] for row in overall) and len(overall) == 5
    assert all(float(row["lower"]) <= float(row["click_rate"]) <= float(row["upper"]) for row in overall)
    assert {row["image"] for row in overall} == {"'" + names[0], *names[1:]}
    page.screenshot(path=tmp_path / "compare.png", full_page=True)
    page.get_by_role("link", name="Try an ad").click()
    page.get_by_role("button", name="Fill in one of").click()
    page.locator("input[type=file]").set_input_files(files[1])
    page.get_by_role("button", name="Ask", exact=True).click()
    expect(page.locator(".figure")).to_contain_text("%")
    expect(page.locator("body")).to_contain_text("Higher than")
    page.screenshot(path=tmp_path / "try.png", full_page=True)
    assert complaints == []
    page.close()


def test_an_image_that_cannot_be_used_is_called_by_its_file(
    browser: Browser, console: Start, tiny_model: TinyModel
) -> None:
    page, _ = open_page(browser, str(console().base_url))
    page.get_by_role("link", name="Compare creatives").click()
    image = pixels_as_png(tiny_model.creatives[0].image or b"")
    files = {"whole.png": image, "cut off.png": image[: len(image) // 2]}
    page.locator("input[type=file]").set_input_files(
        [{"name": name, "mimeType": "image/png", "buffer": content} for name, content in files.items()]
    )
    page.get_by_role("button", name="Compare 2 images").click()
    expect(page.locator(".failure")).to_contain_text("cut off.png: The image's bytes cannot be used")
    page.close()


def test_images_that_nothing_tells_apart_are_called_level(
    browser: Browser, console: Start, tiny_model: TinyModel
) -> None:
    page, complaints = open_page(browser, str(console().base_url))
    page.get_by_role("link", name="Compare creatives").click()
    content = pixels_as_png(tiny_model.creatives[0].image or b"")
    page.locator("input[type=file]").set_input_files(
        [{"name": name, "mimeType": "image/png", "buffer": content} for name in ("one.png", "again.png")]
    )
    page.get_by_role("button", name="Compare 2 images").click()
    expect(page.locator(".results .warning")).to_contain_text("All images are level", timeout=MILLISECONDS)
    expect(page.get_by_role("status").filter(has_text="Compared. All images are level")).to_have_count(1)
    expect(page.get_by_role("img", name="Heat map of")).to_have_count(2, timeout=MILLISECONDS)
    assert complaints == []
    page.close()


def test_images_come_by_drop_and_paste(browser: Browser, console: Start, tiny_model: TinyModel) -> None:
    page, complaints = open_page(browser, str(console().base_url))
    page.get_by_role("link", name="Compare creatives").click()
    image = list(pixels_as_png(tiny_model.creatives[0].image or b""))

    def transfer(*names: str) -> Any:
        return page.evaluate_handle(
            """([image, names]) => {
                 const transfer = new DataTransfer();
                 const type = name => name.endsWith(".png") ? "image/png" : "text/plain";
                 const bytes = [new Uint8Array(image)];
                 for (const name of names) transfer.items.add(new File(bytes, name, {type: type(name)}));
                 return transfer;
               }""",
            [image, names],
        )

    page.dispatch_event(".drop", "drop", {"dataTransfer": transfer("one.png", "two.png", "notes.txt")})
    expect(page.locator(".thumbs .file")).to_have_text(["one.png", "two.png"])
    expect(page.get_by_text("notes.txt is not an image")).to_be_visible()
    # What misses the place does not take the browser away from the page.
    address = page.url
    missed = page.evaluate(
        """transfer => !document.body.dispatchEvent(
             new DragEvent("drop", {dataTransfer: transfer, bubbles: true, cancelable: true}))""",
        transfer("missed.png"),
    )
    assert missed and page.url == address
    page.evaluate(
        """transfer => document.dispatchEvent(new ClipboardEvent("paste", {clipboardData: transfer, bubbles: true}))""",
        transfer("three.png"),
    )
    expect(page.locator(".thumbs .file")).to_have_text(["one.png", "two.png", "three.png"])
    page.dispatch_event(".drop", "drop", {"dataTransfer": transfer(*(f"{number}.png" for number in range(30)))})
    expect(page.locator(".thumbs li")).to_have_count(20)
    expect(page.get_by_text("13 left out")).to_be_visible()
    assert complaints == []
    page.close()


def test_a_wrong_key_says_so_and_the_right_one_opens(browser: Browser, console: Start, tmp_path: Path) -> None:
    key, line = create_api_key("ann")
    (tmp_path / "keys").write_text(line + "\n")
    url = str(console(is_open=False, security={"api_keys_file": str(tmp_path / "keys")}).base_url)
    page, _ = open_page(browser, url)
    page.get_by_label("API key").fill(key[:-1])
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("not known here")
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Try an ad")
    page.get_by_role("button", name="Ask", exact=True).click()
    expect(page.locator(".figure")).to_contain_text("%")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in to adclick")
    page.close()


def test_it_fits_from_phone_to_desktop_in_both_themes_and_axe_finds_nothing(
    browser: Browser, console: Start, tmp_path: Path
) -> None:
    url = str(console().base_url)
    for width in (390, 820, 1440):
        for scheme in ("light", "dark"):
            options = {"viewport": {"width": width, "height": 900}, "color_scheme": scheme, "bypass_csp": True}
            page, complaints = open_page(browser, url, **options)
            for name in ("Try an ad", "Compare creatives"):
                page.get_by_role("link", name=name).click()
                expect(page.get_by_role("heading", level=1)).to_have_text(name)
                assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, (name, width)
                if AXE.exists():
                    page.add_script_tag(path=AXE)
                    violations = page.evaluate("axe.run().then(found => found.violations.map(one => one.id))")
                    assert violations == [], (name, width, scheme)
                page.screenshot(path=tmp_path / f"{name} {width} {scheme}.png")
            assert complaints == [], (width, scheme)
            page.close()


def test_what_is_sent_is_small() -> None:
    files = [*STATIC.glob("app.*"), STATIC / "index.html"]
    assert 0 < sum(len(gzip.compress(file.read_bytes())) for file in files) < 150_000
