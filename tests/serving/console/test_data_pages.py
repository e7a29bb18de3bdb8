"""The pages Models, Runs and Traffic in a real browser: three widths, two themes, nothing that a person runs into."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Page, sync_playwright

from adclick.pipeline.prediction.runs_at_hand import RunsAtHand
from tests.end_to_end.browser import CHROMIUM, needs_browser
from tests.serving.console.conftest import BEFORE, JUDGED
from tests.serving.console.test_models_and_runs import output

__all__ = ["output"]

AXE = Path(__file__).resolve().parents[3] / "serving" / "console" / "web" / "node_modules" / "axe-core" / "axe.min.js"
WIDTHS = (390, 820, 1440)
THEMES = ("light", "dark")
MILLISECONDS = 120_000
Start = Callable[..., httpx.Client]


@contextmanager
def pages(address: str) -> Iterator[tuple[Page, list[str]]]:
    """A page of a browser, and what it complained of."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(base_url=address)
        page.set_default_timeout(MILLISECONDS)
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text) if message.type != "log" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        yield page, complaints
        browser.close()


def violations(page: Page) -> list[str]:
    """What axe finds; nothing where it is not installed."""
    if not AXE.exists():
        return []
    page.evaluate(AXE.read_text(encoding="utf-8"))
    # A report in a frame of its own runs no scripts, axe's neither.
    found: dict[str, Any] = page.evaluate("axe.run(document, {iframes: false})")
    return [f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in found["violations"]]


@needs_browser
def test_what_is_told_is_shown(console: Start, output: Path, tmp_path: Path, record_property: Any) -> None:
    client = console(
        runs=RunsAtHand(str(output)), routing={"routes": [{"name": "everyone", "percent": 100, "version": BEFORE}]}
    )
    for _ in range(5):
        assert client.post("/v1/score", json={"ads": [{"image": "0" * 32}, {}]}).status_code == 200
    shown = {
        "models": [
            f"Version {JUDGED}",
            f"Version {BEFORE}",
            "everyone: 100% of users",
            "price has moved",
            "0.6 to 0.8",
        ],
        # What names hold is text, whatever it looks like.
        "runs": ["Data refused: 2026-10", "too few <b>rows</b>", "Ended in DataGate.", f"Version {JUDGED}"],
        "traffic": ["5 requests, 10 ads scored", "5 of 5 images unknown", "Time to answer"],
    }
    with pages(str(client.base_url)) as (page, complaints):
        for name, texts in shown.items():
            page.goto(f"/#/{name}")
            for text in texts:
                page.get_by_text(text).first.wait_for()
            for theme in THEMES:
                page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
                for width in WIDTHS:
                    page.set_viewport_size({"width": width, "height": 900})
                    page.wait_for_timeout(100)
                    page.screenshot(path=str(tmp_path / f"{name}-{theme}-{width}.png"), full_page=True)
                    overflow = page.evaluate("document.documentElement.scrollWidth - innerWidth")
                    assert overflow <= 0, (name, theme, width)
                assert violations(page) == [], (name, theme)
        page.goto("/#/models")
        page.get_by_text("Report of run 20261101T000000Z").first.click()
        page.frame_locator("iframe").get_by_text("report", exact=True).wait_for()
        # The report's script is refused by its frame, and says so.
        assert [text for text in complaints if "sandboxed" not in text] == []
    if not AXE.exists():
        record_property(
            "console", "axe-core is not installed (npm ci in serving/console/web): accessibility not judged"
        )
