"""Opens a page in a real headless browser and says what a person would run into."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Page, sync_playwright

PHONE, DESKTOP = 390, 1440
CHROMIUM = shutil.which("chromium")

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: apt-get install chromium")

#: The contrast of every element that holds text of its own with the first opaque background behind it, by WCAG 2.1.
_CONTRASTS = """
() => {
  const channels = text => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(value => value / 255)
    .map(value => value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
    .reduce((sum, value, index) => sum + value * [0.2126, 0.7152, 0.0722][index], 0);
  const behind = element => {
    for (let one = element; one; one = one.parentElement) {
      const color = channels(getComputedStyle(one).backgroundColor);
      if (color.length < 4 || color[3] === 1) return color;
    }
    return [255, 255, 255];
  };
  return [...document.body.querySelectorAll('*')]
    .filter(element => !element.closest('svg') && element.checkVisibility()
      && [...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim()))
    .map(element => {
      const [one, other] = [light(channels(getComputedStyle(element).color)), light(behind(element))];
      return [(Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05), element.tagName + '.' + element.className];
    });
}
"""


@dataclass(frozen=True)
class Seen:
    """How a page came out at one width and colour scheme.

    Attributes:
        complaints: Console errors and warnings, script errors, failed requests, and requests for anything else.
        overflow: By how many pixels the page is wider than the window.
        headings: Texts of the first and second level.
        least_contrast: The smallest contrast ratio of text, and where.
        smallest_text: The smallest font in pixels as it is shown, text in plots included.
        broken_images: Addresses of images that are not shown.
        background: The page's colour.
    """

    complaints: list[str]
    overflow: int
    headings: list[str]
    least_contrast: tuple[float, str]
    smallest_text: float
    broken_images: list[str]
    background: str


def look_at(file: Path, width: int, scheme: Literal["light", "dark"]) -> Seen:
    """Opens a page without a network."""
    with sync_playwright() as playwright:
        # Chromium's sandbox needs what containers do not give to root.
        flags = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(f"script: {error}"))
        page.on("requestfailed", lambda request: complaints.append(f"failed: {request.url[:200]}"))
        requests: list[str] = []
        page.on("request", lambda request: requests.append(request.url))
        page.goto(file.as_uri())
        complaints += [f"asked for {url[:200]}" for url in requests if not url.startswith(("data:", file.as_uri()))]
        seen = _see(page, complaints)
        browser.close()
    return seen


def _see(page: Page, complaints: list[str]) -> Seen:
    contrast, where = min(page.evaluate(_CONTRASTS))
    return Seen(
        complaints=complaints,
        overflow=page.evaluate("document.documentElement.scrollWidth - window.innerWidth"),
        headings=page.locator("h1, h2").all_inner_texts(),
        least_contrast=(contrast, where),
        smallest_text=page.evaluate(
            """() => Math.min(...[...document.querySelectorAll('p, td, th, dd, figcaption, svg text')].map(element => {
                 const svg = element.closest('svg');
                 const scale = svg ? svg.getBoundingClientRect().width / svg.viewBox.baseVal.width : 1;
                 return scale * parseFloat(getComputedStyle(element).fontSize);
               }))"""
        ),
        broken_images=page.evaluate(
            "[...document.images].filter(image => !image.naturalWidth).map(image => image.src.slice(0, 80))"
        ),
        background=page.evaluate("getComputedStyle(document.body).backgroundColor"),
    )


def assert_readable(file: Path) -> None:
    """Holds a report to what it promises on a phone and a desktop, light and dark."""
    seen = {(width, scheme): look_at(file, width, scheme) for width in (PHONE, DESKTOP) for scheme in ("light", "dark")}
    for how, one in seen.items():
        assert one.complaints == [], how
        assert one.overflow <= 0, how
        assert one.least_contrast[0] >= 4.5, (how, one.least_contrast)
        assert one.smallest_text >= 10, how
        assert one.broken_images == [], how
        assert len(one.headings) == 13 and one.headings[1:3] == ["Outcome", "Data"], how
    assert seen[PHONE, "light"].background != seen[PHONE, "dark"].background
