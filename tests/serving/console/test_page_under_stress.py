"""The console's page in a real browser where things are not as one would like them: names and values that look like
markup or formulas, columns of a thousand values, another version while the page is open."""

from __future__ import annotations

import ast
import csv
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from playwright.sync_api import Browser, Page, expect

from adclick.models.extension import pixels_as_png
from adclick.models.held_out import HELD_OUT_FILE, Estimate, HeldOut
from adclick.serving.gateway.server import running_gateway
from adclick.serving.model_server.server import RunningServer, running_server
from tests.end_to_end.browser import needs_browser
from tests.models.tiny_model import ODD_NAMES, TinyModel
from tests.serving.console.test_page import AXE, MILLISECONDS, browser, open_page
from tests.serving.gateway.conftest import FIRST, SECOND, settings_for

__all__ = ["browser"]

pytestmark = needs_browser
expect.set_options(timeout=MILLISECONDS)

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "';alert(1);//",
    "{{constructor.constructor('alert(1)')()}}",
    "javascript:alert(1)",
    "=1+1",
    "+1",
    "-1+1",
    "@SUM(A1)",
    "\t=1+1",
    " \N{RIGHT-TO-LEFT MARK}=1+1",
    "\N{FULLWIDTH EQUALS SIGN}1",
    "\N{RIGHT-TO-LEFT OVERRIDE}gnp.evil",
    "\N{ARABIC LETTER ALEF}\N{HEBREW LETTER BET}\N{GRINNING FACE}e\N{COMBINING ACUTE ACCENT}",
    'one "two", three;\r\nfour',
    "$(touch /tmp/x)`id`' \\n REQUEST",
    "__proto__",
    "wide" * 2_500,
]
VALUES = 1_000


def common_value(number: int) -> str:
    return f"value {number:04}"


@contextmanager
def gateway_of(base: Path, models: RunningServer, **sections: Any) -> Iterator[str]:
    chosen = settings_for("in_process", models, base, **sections)
    with running_gateway(chosen, model_server=models.model_server, is_open=True) as running:
        yield running.url


def keep_audience(version: Path, rows: list[dict[str, Any]]) -> None:
    held_out = HeldOut(span=202610, metrics={"auc": Estimate(value=0.7, lower=0.6, upper=0.8)}, audience=tuple(rows))
    (version / "assets.extra" / HELD_OUT_FILE).write_bytes(held_out.to_bytes())


@pytest.fixture(scope="module")
def hostile_page(
    browser: Browser, oddly_named_model: TinyModel, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Page, list[str]]]:
    """A page of a gateway whose columns, values, descriptions and routes are hostile; and what it complains of."""
    base = tmp_path_factory.mktemp("hostile") / "versions"
    version = base / str(FIRST)
    shutil.copytree(oddly_named_model.folder, version)
    description = json.loads((version / "assets.extra" / "adclick.json").read_text())
    for number, column in enumerate(description["features"].values()):
        column["description"] = HOSTILE[number % len(HOSTILE)]
    (version / "assets.extra" / "adclick.json").write_text(json.dumps(description))
    ads = [*HOSTILE, *map(common_value, range(VALUES - len(HOSTILE)))]
    sites = HOSTILE[:12]
    keep_audience(
        version,
        [
            {ODD_NAMES["ad"]: ad, ODD_NAMES["site"]: sites[number % len(sites)], ODD_NAMES["topics"]: [ad]}
            for number, ad in enumerate(ads)
        ],
    )
    routes = [
        {"name": HOSTILE[0], "percent": 60},
        {"name": HOSTILE[15], "percent": 30},
        {"name": HOSTILE[17], "percent": 10},
    ]
    with running_server(base, grpc_port=0) as models, gateway_of(base, models, routing={"routes": routes}) as url:
        page, complaints = open_page(browser, url, viewport={"width": 1280, "height": 900}, locale="de-DE")
        page.on("dialog", lambda dialog: (complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        yield page, complaints
        page.close()


def goto(page: Page, name: str) -> None:
    page.get_by_role("link", name=name).click()
    expect(page.get_by_role("heading", level=1)).to_have_text(name)


def assert_fits(page: Page, folder: Path, name: str, most_pixels: int = 5_000) -> None:
    """From phone to desktop, in both themes, with all that is shown now; no name takes a page for itself."""
    for width in (390, 1280):
        page.set_viewport_size({"width": width, "height": 900})
        for scheme in ("dark", "light"):
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            page.screenshot(path=folder / f"{name} {width} {scheme}.png", full_page=True)
            assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, (name, width)
            if AXE.exists():
                page.evaluate(AXE.read_text(encoding="utf-8"))
                violations = page.evaluate("axe.run().then(found => found.violations.map(one => one.id))")
                assert violations == [], (name, width, scheme)
        assert page.evaluate("document.documentElement.scrollHeight") < most_pixels, (name, width)


def combobox(page: Page, name: str) -> Any:
    return page.get_by_role("combobox", name=re.compile("^" + re.escape(name) + " "))


def test_a_value_of_a_thousand_is_chosen_by_keyboard(
    hostile_page: tuple[Page, list[str]], record_property: Callable[[str, object], None]
) -> None:
    page, _ = hostile_page
    goto(page, "Try an ad")
    field = combobox(page, ODD_NAMES["ad"])
    options = page.locator("[role=option]")
    field.focus()
    expect(options).to_have_count(51)
    expect(options.last).to_contain_text("950 more")
    record_property(
        "milliseconds_to_filter",
        page.evaluate(
            """async () => {
             const input = document.activeElement, begin = performance.now();
             input.value = "value";
             input.dispatchEvent(new Event("input", {bubbles: true}));
             await new Promise(requestAnimationFrame);
             return performance.now() - begin;
           }"""
        ),
    )
    field.fill("VALUE 077")
    expect(options).to_have_count(10)
    field.fill("value 07")
    expect(options.first).to_have_text(common_value(700))
    for key, chosen in (("ArrowUp", 749), ("ArrowDown", 700), ("PageDown", 708), ("ArrowDown", 709), ("PageUp", 701)):
        field.press(key)
        expect(page.locator("[role=option][aria-selected=true]")).to_have_text(common_value(chosen))
        assert field.get_attribute("aria-activedescendant") == options.nth(chosen - 700).get_attribute("id")
    field.press("Escape")
    expect(options).to_have_count(0)
    field.press("ArrowDown")
    field.press("Enter")
    expect(field).to_have_value(common_value(700))
    expect(options).to_have_count(0)
    # What is typed whole stands before what only holds it.
    field.fill("+1")
    expect(options.first).to_have_text("+1")
    # From an open list the next stop is the next field.
    field.fill("value")
    expect(options).to_have_count(51)
    field.press("Tab")
    assert page.evaluate("document.activeElement.matches('form input, form button')")
    # What is not known is taken, too.
    field.fill("never seen")
    field.press("Tab")
    expect(field).to_have_value("never seen")


def test_hostile_names_are_shown_and_sent_as_they_are(
    hostile_page: tuple[Page, list[str]], oddly_named_model: TinyModel, tmp_path: Path
) -> None:
    page, complaints = hostile_page
    goto(page, "Try an ad")
    page.locator("form select").select_option(HOSTILE[15])
    expect(page.locator("form select")).to_have_value(HOSTILE[15])
    combobox(page, ODD_NAMES["ad"]).fill(HOSTILE[15])
    combobox(page, ODD_NAMES["site"]).fill(HOSTILE[0])
    topics = combobox(page, ODD_NAMES["topics"])
    for value in (HOSTILE[1], HOSTILE[12], HOSTILE[16]):
        topics.fill(value)
        topics.press("Enter")
    page.get_by_role("button", name="Ask", exact=True).click()
    expect(page.locator(".figure")).to_contain_text("%")
    expect(page.locator(".bars")).to_contain_text(ODD_NAMES["price"][:20])
    expect(page.locator("main")).to_contain_text(f"route {HOSTILE[15]}")
    sent: dict[str, Any] = {}
    for title in ("JSON", "Python", "curl"):
        page.get_by_role("button", name=title, exact=True).click()
        text = page.locator("pre").text_content() or ""
        if title == "JSON":
            sent = json.loads(text)
        else:
            command = [sys.executable, "-c", text] if title == "Python" else ["bash", "-c", text]
            answered = subprocess.run(command, capture_output=True, text=True, timeout=120)
            assert answered.returncode == 0, answered.stderr
            answer = ast.literal_eval(answered.stdout) if title == "Python" else json.loads(answered.stdout)
            assert answer["model"]["route"] == HOSTILE[15] and 0 < answer["ads"][0]["click_probability"] < 1
    assert sent["ads"][0] == {
        ODD_NAMES["ad"]: HOSTILE[15],
        ODD_NAMES["site"]: HOSTILE[0],
        ODD_NAMES["topics"]: [HOSTILE[1], HOSTILE[12], HOSTILE[16]],
    }
    topics.fill(HOSTILE[17])
    topics.press("Enter")
    page.locator("input[type=file]").set_input_files(png(oddly_named_model, HOSTILE[17]))
    page.get_by_role("button", name="Ask", exact=True).click()
    expect(page.get_by_text("Red adds, blue takes")).to_be_visible(timeout=MILLISECONDS)
    assert_fits(page, tmp_path, "try")
    for name in ("Models", "Runs", "Traffic"):
        goto(page, name)
        assert_fits(page, tmp_path, name)
    assert complaints == []


def test_hostile_files_are_compared_and_exported(
    hostile_page: tuple[Page, list[str]], oddly_named_model: TinyModel, tmp_path: Path
) -> None:
    page, complaints = hostile_page
    goto(page, "Compare creatives")
    page.locator("form select").select_option(HOSTILE[0])
    page.locator("input[type=file]").set_input_files([png(oddly_named_model, name) for name in HOSTILE])
    page.get_by_role("button", name=f"Compare {len(HOSTILE)} images").click()
    expect(page.locator(".ranking li")).to_have_count(len(HOSTILE))
    assert sorted(page.locator(".ranking .file").all_text_contents()) == sorted(HOSTILE)
    with page.expect_download() as download:
        page.get_by_role("button", name="Save as CSV").click()
    content = download.value.path().read_bytes()
    assert content.startswith(b"\xef\xbb\xbf")
    rows = list(csv.DictReader(content.decode("utf-8-sig").splitlines(keepends=True)))
    overall = [row for row in rows if not row["column"]]
    assert {row["image"].removeprefix("'") for row in overall} >= {name.removeprefix("'") for name in HOSTILE}
    # A thousand values part nothing.
    assert {row["column"] for row in rows} == {"", ODD_NAMES["site"]}
    assert {row["value"].removeprefix("'") for row in rows} >= {value.removeprefix("'") for value in HOSTILE[:8]}
    assert {row["route"] for row in rows} == {HOSTILE[0]}
    texts = [row[name] for row in rows for name in ("column", "value", "image", "route")]
    assert [text for text in texts if re.match(r"[\s\u200e\u200f]*[=+\-@\uff1d]", text)] == []
    expect(page.get_by_role("img", name="Heat map of")).to_have_count(len(HOSTILE))
    assert_fits(page, tmp_path, "compare", most_pixels=10_000)
    # A sheet of A4.
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 794, "height": 1123})
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    page.screenshot(path=tmp_path / "print.png", full_page=True)
    expect(page.get_by_role("button", name="Save as CSV")).to_be_hidden()
    page.emulate_media(media="screen")
    assert complaints == []


def test_any_file_name_is_shown_as_it_is(hostile_page: tuple[Page, list[str]], oddly_named_model: TinyModel) -> None:
    page, complaints = hostile_page
    goto(page, "Compare creatives")

    @settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0/"), min_size=1, max_size=300))
    def shown_as_it_is(name: str) -> None:
        page.locator("input[type=file]").set_input_files(png(oddly_named_model, name))
        expect(page.locator(".thumbs li")).to_have_count(1)
        assert page.locator(".thumbs .file").text_content() == name
        page.locator(".thumbs button").click()
        expect(page.locator(".thumbs li")).to_have_count(0)

    while page.locator(".thumbs button").count():
        page.locator(".thumbs button").first.click()
    shown_as_it_is()
    assert complaints == []


def png(model: TinyModel, name: str) -> Any:
    return {"name": name, "mimeType": "image/png", "buffer": pixels_as_png(model.creatives[0].image or b"")}


def test_another_version_takes_over_while_the_page_is_open(
    browser: Browser, tiny_model: TinyModel, oddly_named_model: TinyModel, tmp_path: Path
) -> None:
    base = tmp_path / "versions"
    shutil.copytree(tiny_model.folder, base / str(FIRST))
    keep_audience(base / str(FIRST), [{"ad": "ad1", "site": "site1"}] * 60)
    with ExitStack() as stack:
        models = stack.enter_context(running_server(base, grpc_port=0, poll_seconds=0.1))
        url = stack.enter_context(gateway_of(base, models))
        client = stack.enter_context(httpx.Client(base_url=url, trust_env=False, timeout=120))
        page, complaints = open_page(browser, url, viewport={"width": 1280, "height": 900})
        compare, _ = open_page(browser, f"{url}/#/compare")
        compare.locator("input[type=file]").set_input_files(png(tiny_model, "a.png"))
        compare.get_by_role("button", name="Compare 1 image").click()
        expect(compare.locator(".results")).to_contain_text(f"by version {FIRST}")
        combobox(page, "ad").fill("ad1")
        combobox(page, "site").fill("site1")
        page.get_by_label("price").fill("3")
        expect(page.locator(".heading")).to_contain_text(f"Version {FIRST} answers")

        # In a window behind others, which looks for no new version.
        page.evaluate("Object.defineProperty(document, 'visibilityState', {get: () => 'hidden'})")
        shutil.copytree(oddly_named_model.folder, tmp_path / "new")
        keep_audience(tmp_path / "new", [{"AD": "other", "ad": "another"}] * 60)
        (tmp_path / "new").rename(base / str(SECOND))
        deadline = time.monotonic() + MILLISECONDS / 1000
        while client.get("/v1/fields").json()["model"]["version"] != SECOND:
            assert time.monotonic() < deadline, "the new version is not served"
            time.sleep(0.2)
        # The form is the old one yet: what it sends is refused rather than taken for something else.
        page.get_by_role("button", name="Ask", exact=True).click()
        expect(page.get_by_role("alert")).to_contain_text("unknown field")
        notice = page.locator(".notice")
        expect(notice).to_contain_text(f"Version {SECOND} is served now, in place of {FIRST}")
        expect(notice).to_contain_text("takes them in another way or not at all: site, price")
        expect(page.locator(".figure")).to_have_count(0)
        expect(combobox(page, "AD")).to_have_value("")
        expect(combobox(page, "ad")).to_have_value("ad1")
        page.get_by_role("button", name="Ask", exact=True).click()
        expect(page.locator(".figure")).to_contain_text("%")
        expect(page.locator(".columns")).to_contain_text(f"Version {SECOND}, route default")
        # What was compared before stays that version's, and says so; what is compared now is of the new one.
        expect(compare.locator(".results")).to_contain_text(f"by version {FIRST}")
        compare.get_by_role("button", name="Compare 1 image").click()
        expect(compare.locator(".notice")).to_contain_text(f"Version {SECOND} is served now")
        compare.get_by_role("button", name="Compare 1 image").click()
        expect(compare.locator(".results")).to_contain_text(f"by version {SECOND}")
        expect(compare.get_by_role("img", name="Heat map of")).to_have_count(1)
        assert client.get("/readyz").status_code == 200
        # The browser tells of the refusal, and of nothing else.
        assert [text for text in complaints if "422" not in text] == []
        compare.close()
        page.close()
