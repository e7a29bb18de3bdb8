"""Drops and pushed models in S3, by the same commands, over the real protocol."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from adclick.serving.client.gateway_client import GatewayClient
from adclick.storage import s3
from tests.buckets import reached
from tests.end_to_end.harness import Done, Project, adclick
from tests.end_to_end.test_google_cloud_storage import both_servers
from tests.end_to_end.test_life_of_a_pipeline import available, wait_for
from tests.s3 import S3, running_s3

DROPS = "s3://drops/agency"
PUSH = "s3://models/adclick"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    with reached(running_s3(tmp_path_factory.mktemp("s3")), s3._made_client, "drops", "models") as running:
        yield running


@pytest.fixture(scope="module")
def project(store: S3, pushed: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project whose local run is known, with its drops and schema in S3; only the config is local."""
    folder = tmp_path_factory.mktemp("in_s3")
    store.put_folder(pushed.folder / "drops", DROPS)
    store.put(f"{DROPS}-schema.pbtxt", (pushed.folder / "schema.pbtxt").read_bytes())
    shutil.copy(pushed.folder / "config.yaml", folder / "config.yaml")
    project = Project(folder)

    def move(config: dict[str, Any]) -> None:
        config["data"]["root"] = DROPS
        config["schema_file"] = f"{DROPS}-schema.pbtxt"
        config.setdefault("serving", {})["push_directory"] = PUSH

    project.edit_config(move)
    return project


@pytest.fixture(scope="module")
def run(project: Project) -> Done:
    return project.run()


def test_artifacts_of_a_run_on_this_machine_are_not_put_there(store: S3, project: Project, tmp_path: Path) -> None:
    document = {**yaml.safe_load(project.config.read_text()), "pipeline_root": "s3://models/root"}
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(document))
    done = adclick("run", "--config", file)
    assert done.code == 2, done.text
    assert "pipeline_root: s3://models/root" in done.err
    assert store.names("s3://models") == []


def test_a_run_in_the_bucket_equals_the_local_one(run: Done, project: Project, pushed: Project) -> None:
    assert run.code == 0, run.text
    here, local = project.status()["runs"][-1], pushed.status()["runs"][0]
    counts = ("rows_in", "rows_examples", "rows_quarantined", "quarantined_by_reason", "creatives_by_status")
    for ours, theirs in zip(here["drops"], local["drops"], strict=True):
        assert ours["uri"].startswith(DROPS)
        assert {key: ours[key] for key in counts} == {key: theirs[key] for key in counts}
    overall, expected = (record["evaluation"][0]["metrics"] for record in (here, local))
    for metric in ("auc", "log_loss", "calibration_ratio"):
        assert overall[metric]["value"] == pytest.approx(expected[metric]["value"], rel=1e-3), metric
    served = project.status()["models"]["adclick"]
    assert (served["versions"], served["served_version"]) == ([here["pushed_version"]], here["pushed_version"])


def test_both_servers_load_from_the_bucket_and_follow_it(
    store: S3, run: Done, project: Project, tmp_path: Path
) -> None:
    assert run.code == 0, run.text
    (version,) = project.status()["models"]["adclick"]["versions"]
    with (
        both_servers(PUSH, DROPS, version, tmp_path) as (url, ads_url, plain_url),
        GatewayClient(ads_url) as gateway,
    ):
        predicted = adclick("predict", "--config", project.config, "--url", url, "--quiet")
        assert predicted.code == 0, predicted.text
        again = adclick("predict", "--config", project.config, "--url", plain_url, "--quiet")
        assert again.out == predicted.out

        names = [name for name in store.names(f"{DROPS}/2026-09/images") if name.endswith(".jpg")]
        address = f"{DROPS}/2026-09/images/{names[0]}"
        by_address, by_bytes, none = (
            gateway.score([{"ad_id": "", "image": one}], {}, creative_status=True).ads[0]
            for one in (address, store.get(address), f"{DROPS}/2026-09/images/none.jpg")
        )
        assert (by_address.creative_status, none.creative_status) == ("ok", "not_fetched")
        assert by_address.click_probability == pytest.approx(by_bytes.click_probability, abs=1e-6)

        def copy(names: list[str]) -> None:
            for name in names:
                store.put(f"{PUSH}/{version + 1}/{name}", store.get(f"{PUSH}/{version}/{name}"))

        copy([name for name in store.names(f"{PUSH}/{version}") if name != "saved_model.pb"])
        assert project.status()["models"]["adclick"]["versions"] == [version], "half a version is none"
        assert available(url) == [version]
        copy(["saved_model.pb"])
        wait_for(lambda: available(url) == [version + 1] and available(plain_url) == [version + 1], 120)

        done = adclick("rollback", "--config", project.config, "--reason", "too many clicks predicted")
        assert done.code == 0, done.text
        wait_for(lambda: available(url) == [version] and available(plain_url) == [version], 120)
        rolled_back = adclick("predict", "--config", project.config, "--url", url, "--quiet")
        assert rolled_back.out == predicted.out
        assert project.status()["models"]["adclick"]["withdrawn"] == [version + 1]


def test_the_next_month_is_judged_against_the_version_in_the_bucket_and_starts_from_it(
    store: S3, run: Done, project: Project
) -> None:
    assert run.code == 0, run.text
    released = adclick("rollback", "--config", project.config, "--release")
    assert released.code == 0, released.text
    project.edit_config(lambda config: config["training"].update(warm_start=True, max_epochs=2))
    done = project.run()
    assert done.code in (0, 4), done.text
    record = project.status()["runs"][-1]
    assert record["baseline"].startswith(f"{PUSH}/")
    assert "change" in done.out, "it was compared with the version in the bucket"
