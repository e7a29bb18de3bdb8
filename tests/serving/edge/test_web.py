"""The page for browsers: the device's decisions on the same frames, by a bundle that it has verified itself."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import ConsoleMessage, Page, expect, sync_playwright

from adclick.pipeline.edge.template import template_recogniser
from adclick.serving.edge.bundle import read_bundle
from adclick.serving.edge.catalogue import ApprovedCreative, Catalogue, quantise
from adclick.serving.edge.errors import BrokenFrame, BundleRefused
from adclick.serving.edge.frame import open_frame, prepare
from adclick.serving.edge.keys import create_keys, read_public_key
from adclick.serving.edge.recogniser import Recogniser
from adclick.serving.edge.watch import Eye
from tests.end_to_end.browser import CHROMIUM, needs_browser
from tests.serving.edge.pictures import encoded, frames, picture
from tests.serving.edge.test_bundle import changed

pytestmark = needs_browser

SOURCES = Path(__file__).resolve().parents[3] / "deploy/edge/web"
TOLERANCE = 1e-3
DEADLINE = 120.0


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page as `npm ci && npm run build` makes it, at an address."""
    if shutil.which("npm") is None:
        pytest.skip("needs npm: apt-get install npm")
    folder = tmp_path_factory.mktemp("web") / "web"
    shutil.copytree(SOURCES, folder, ignore=shutil.ignore_patterns("node_modules", "dist"))
    install = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
    installed = subprocess.run(install, cwd=folder, capture_output=True, text=True, timeout=DEADLINE)
    if installed.returncode:
        pytest.skip(f"npm cannot fetch @litertjs/core: {installed.stderr[-300:]}")
    subprocess.run(["npm", "run", "build"], cwd=folder, check=True, capture_output=True, timeout=DEADLINE)
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=folder / "dist"))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def page(site: str) -> Iterator[Page]:
    """The page in Chromium, which must ask nobody else and complain of nothing."""
    with sync_playwright() as playwright:
        # Chromium's sandbox needs what containers do not give to root.
        flags = ["--no-sandbox"] if os.geteuid() == 0 else []
        flags += ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        page = browser.new_page()
        page.set_default_timeout(DEADLINE * 1000)
        complaints: list[str] = []
        # LiteRT writes its log there, too.
        page.on("console", lambda said: complaints.append(f"{said.location}: {said.text}") if _is_ours(said) else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        requests: list[str] = []
        page.on("request", lambda request: requests.append(request.url))
        page.goto(site)
        yield page
        assert [url for url in requests if not url.startswith((site, "data:", "blob:"))] == []
        assert complaints == []
        browser.close()


def _is_ours(said: ConsoleMessage) -> bool:
    return said.type == "error" and "/litert/" not in said.location["url"]


def _load(page: Page, bundle: Path, key: Path, text: str) -> None:
    page.set_input_files("#key", key)
    page.set_input_files("#bundle", bundle)
    expect(page.locator("#state")).to_contain_text(text, timeout=DEADLINE * 1000)


def _decisions(page: Page, files: list[Path]) -> list[list[str]]:
    """Decision, creative's id, its name and similarity of each picture, as the page shows them."""
    before = page.locator("#decisions tr").count()
    page.set_input_files("#pictures", files)
    expect(page.locator("#decisions tr")).to_have_count(before + len(files), timeout=DEADLINE * 1000)
    rows = page.evaluate(
        "[...document.querySelectorAll('#decisions tr')].map(row => [...row.cells].map(c => c.innerText))"
    )
    shown = rows[: len(files)][::-1]
    assert [row[0] for row in shown] == [file.name for file in files]
    return [row[1:5] for row in shown]


@pytest.mark.parametrize("size", [96, 160])
def test_it_decides_as_the_device_does(
    size: int, page: Page, make_bundle: Callable[..., bytes], keys: tuple[Path, Path], tmp_path: Path
) -> None:
    model = template_recogniser(size)
    recogniser = Recogniser(model)
    creatives = (
        ApprovedCreative("a", "Ad A"),
        ApprovedCreative("b", "Ad B", forbidden=True),
        ApprovedCreative("c", "Ad C", valid_until=1_000_000_000.0),
        ApprovedCreative("d", "Ad D", valid_from=100_000_000_000.0),
    )
    embeddings = np.stack([recogniser.embed(prepare(picture(seed), size)) for seed in range(4)])
    bundle = make_bundle(model=model, catalogue=Catalogue(creatives, *quantise(embeddings)))
    (tmp_path / "screens.bundle").write_bytes(bundle)
    files = frames(tmp_path)
    # Encoded without loss; one is scaled up, one lets light through.
    for seed, shape in enumerate([(1921, 1083), (37, 41), (640, 50)]):
        files.append(tmp_path / f"{seed}.png")
        picture(seed, *shape).save(files[-1])
    glass = picture(0, 400, 300).convert("RGBA")
    glass.putalpha(Image.linear_gradient("L").resize(glass.size))
    files.append(tmp_path / "glass.png")
    glass.save(files[-1])
    _load(page, tmp_path / "screens.bundle", keys[1], "Bundle 7: 4 creatives")
    eye = Eye(read_bundle(bundle, [read_public_key(keys[1])]))
    kinds = set()
    for file, (kind, creative, name, similarity) in zip(files, _decisions(page, files), strict=True):
        decision = eye.look(open_frame(file.read_bytes()))
        kinds.add(kind)
        booked = decision.creative
        expected = (decision.kind, booked.id if booked else "", booked.name if booked else "")
        assert (kind, creative, name) == expected, file
        assert float(similarity) == pytest.approx(decision.similarity, abs=TOLERANCE), file
    assert kinds == {"approved", "forbidden", "expired", "early", "unknown"}


def test_what_is_no_whole_picture_is_broken_for_both(
    page: Page, make_bundle: Callable[..., bytes], bundle_file: Path, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    whole = encoded(picture(0, 640, 360))
    png = encoded(picture(0, 640, 360), "PNG")
    contents = [b"", b"no picture", whole[:300], whole[: len(whole) // 2], whole[:-2], png[: len(png) // 2], whole, png]
    files = []
    for number, content in enumerate(contents):
        files.append(tmp_path / f"{number}.jpg")
        files[-1].write_bytes(content)
    _load(page, bundle_file, keys[1], "Bundle 7")
    eye = Eye(read_bundle(make_bundle(), [read_public_key(keys[1])]))
    expected = []
    for content in contents:
        try:
            expected.append(eye.look(open_frame(content)).kind)
        except BrokenFrame:
            expected.append("broken")
    assert [row[0] for row in _decisions(page, files)] == expected
    assert expected[-2:] == ["approved", "approved"]
    assert set(expected[:4]) == {"broken"}


def test_bundles_that_the_device_refuses_are_refused_and_the_old_one_goes_on(
    page: Page, make_bundle: Callable[..., bytes], bundle_file: Path, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    _load(page, bundle_file, keys[1], "Bundle 7")
    create_keys(tmp_path / "other-private.pem", tmp_path / "other.pem")
    key = read_public_key(keys[1])
    whole = make_bundle()
    hostile = [
        whole[: len(whole) // 2],
        changed(whole, lambda parts: parts.pop("manifest.sig")),
        changed(whole, lambda parts: parts.update({"thresholds.json": b'{"known":0.1}'})),
        changed(whole, lambda parts: parts.update({"more": b"x"})),
        make_bundle(minimum_runtime="0.10.0"),
        make_bundle(thresholds={"unknown": 1}),
    ]
    for number, content in enumerate(hostile):
        with pytest.raises(BundleRefused) as refused:
            read_bundle(content, [key])
        file = tmp_path / f"{number}.bundle"
        file.write_bytes(content)
        _load(page, file, keys[1], f"refused ({refused.value.reason})")
    _load(page, bundle_file, tmp_path / "other.pem", "refused (unsigned)")
    (tmp_path / "model.bundle").write_bytes(make_bundle(model=b"none"))
    _load(page, tmp_path / "model.bundle", keys[1], "refused (unfit)")
    (tmp_path / "a.jpg").write_bytes(encoded(picture(0)))
    assert _decisions(page, [tmp_path / "a.jpg"])[0][:2] == ["approved", "a"]


def test_the_camera_is_watched_until_it_is_stopped(page: Page, bundle_file: Path, keys: tuple[Path, Path]) -> None:
    _load(page, bundle_file, keys[1], "Bundle 7")
    page.click("#camera")
    # Chromium's own test picture is none of the creatives.
    expect(page.locator("#decisions tr.unknown").nth(2)).to_be_visible(timeout=DEADLINE * 1000)
    assert page.locator("#decisions tr").first.locator("td").first.inner_text() == "camera"
    page.click("#camera")
    expect(page.locator("#camera")).to_have_text("Use the camera", timeout=DEADLINE * 1000)
    expect(page.locator("#video")).to_be_hidden()
