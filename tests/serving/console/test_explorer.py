"""Swagger UI at `/docs`, in a real browser: it shows the gateway's own document and tries it."""

from __future__ import annotations

from pathlib import Path

import httpx
from playwright.sync_api import Browser, expect

from adclick.serving.gateway.security import create_api_key
from tests.end_to_end.browser import needs_browser
from tests.serving.console.test_page import MILLISECONDS, Start, browser, open_page

__all__ = ["browser"]


def test_its_files_are_sent_compressed_and_plain(console: Start) -> None:
    client = console(console={"enabled": False})
    for path in ("/docs", "/docs/start.js", "/docs/swagger-ui-bundle.js", "/docs/swagger-ui.css"):
        compressed = client.get(path)
        plain = httpx.get(client.base_url.join(path), headers={"accept-encoding": "identity"}, trust_env=False)
        assert compressed.headers["content-encoding"] == "gzip" and "content-encoding" not in plain.headers
        assert compressed.text == plain.text and "unsafe" not in plain.headers["content-security-policy"]
    assert client.get("/").status_code == 404


@needs_browser
def test_a_request_is_tried_with_a_key(browser: Browser, console: Start, tmp_path: Path) -> None:
    key, line = create_api_key("ann")
    (tmp_path / "keys").write_text(line + "\n")
    url = str(console(is_open=False, security={"api_keys_file": str(tmp_path / "keys")}).base_url)
    page, complaints = open_page(browser, f"{url}/docs", viewport={"width": 1280, "height": 1000})
    page.get_by_role("button", name="Authorize").first.click()
    page.locator("input[type=text], input[type=password]").first.fill(key)
    page.locator(".auth-btn-wrapper").get_by_role("button", name="Apply credentials").click()
    page.get_by_role("button", name="Close").first.click()
    score = page.locator(".opblock", has_text="/v1/score").first
    score.get_by_role("button").first.click()
    score.get_by_role("button", name="Execute").click()
    answer = score.locator(".live-responses-table")
    expect(answer).to_contain_text("click_probability", timeout=MILLISECONDS)
    expect(answer).to_contain_text("200")
    page.screenshot(path=tmp_path / "explorer.png")
    assert complaints == []
    page.close()
