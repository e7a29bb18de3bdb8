"""What Flink is told of the broker, for how long it keeps state, and what is said where something is missing."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from adclick.pipeline.cli.app import app
from adclick.schema.errors import ConfigError
from adclick.schema.feature_table import FeatureTable
from adclick.stream.flink import package
from adclick.stream.flink.job import FlinkJob, kafka_properties
from adclick.stream.flink.package import flink_home
from adclick.stream.flink.rest import FlinkCluster
from adclick.stream.settings import KafkaSettings, StreamSettings


def test_logins_and_certificates_are_passed_on_by_content(tmp_path: Path) -> None:
    for name in ("password", "authority", "certificate", "key"):
        (tmp_path / name).write_text(f'{name} "\\\n')
    properties = kafka_properties(
        KafkaSettings(
            bootstrap_servers="kafka:9093",
            security_protocol="SASL_SSL",
            sasl_mechanism="SCRAM-SHA-512",
            sasl_username="stream",
            sasl_password_file=tmp_path / "password",
            authority_file=tmp_path / "authority",
            certificate_file=tmp_path / "certificate",
            key_file=tmp_path / "key",
        )
    )
    assert properties["bootstrap.servers"] == "kafka:9093"
    assert properties["sasl.jaas.config"].endswith(
        '.ScramLoginModule required username="stream" password="password \\"\\\\";'
    )
    assert properties["ssl.truststore.certificates"] == (tmp_path / "authority").read_text()
    assert properties["ssl.keystore.key"] == (tmp_path / "key").read_text()
    with pytest.raises(ConfigError, match=r"nowhere: cannot be read"):
        kafka_properties(KafkaSettings(sasl_mechanism="PLAIN", sasl_password_file=tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match=r"socket\.timeout\.ms.*librdkafka"):
        kafka_properties(KafkaSettings(options={"socket.timeout.ms": "1"}))


def test_state_is_kept_as_long_as_an_event_that_needs_it_may_come() -> None:
    settings = StreamSettings.model_validate(
        {
            "events": {"impressions": {"id": "impression_id"}},
            "topics": {"clicks": {"retention": "2d"}, "impressions": {"retention": "3d"}},
            "features": {"clicks": {"kind": "count", "by": ["ip"], "window": "1h"}},
        }
    )
    features = FeatureTable.model_validate({"is_fraud": {"role": "label"}, "ip": {"role": "categorical"}})
    job = FlinkJob(settings, features, {"clicks": 2, "impressions": 1})
    day = 86_400_000
    assert job.kept(5 * day * 1000) == 8 * day
    assert job.kinds == ("impressions", "clicks")
    assert job.channels == (("impressions", 0), ("clicks", 0), ("clicks", 1))


@pytest.mark.parametrize("address", ["", "here", "here:", ":8081", "here:http", "here:0", "here:99999"])
def test_an_address_is_a_host_and_a_port(address: str) -> None:
    with pytest.raises(ConfigError, match="no address"):
        FlinkCluster.at(address)


def config(folder: Path) -> Path:
    document = {
        "data": {"root": str(folder / "data")},
        "output": str(folder / "output"),
        "features": {"click_id": {"role": "identifier"}, "time": {"role": "timestamp"}, "is_fraud": {"role": "label"}},
        "stream": {"features": {"clicks": {"kind": "count", "by": ["ip"], "window": "1h"}}},
    }
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump(document))
    return file


def run(folder: Path, *arguments: str) -> Any:
    return CliRunner().invoke(app, ["stream", "run", "--config", str(config(folder)), *arguments])


def test_without_java_the_command_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if sys.version_info >= (3, 12):
        pytest.skip("PyFlink takes no newer Python than 3.11")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(ConfigError, match=r"Apache Flink runs on, is not installed\n.*apt-get install openjdk-17"):
        run_raising(tmp_path, "--flink", "localhost:8081")


def test_without_the_extra_the_command_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"PyFlink is not installed\n.*pip install 'adclick\[flink\]'"):
        run_raising(tmp_path, "--flink", "localhost:8081")


def test_flink_computes_the_features_alone(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Flink computes the features alone"):
        run_raising(tmp_path, "--flink", "localhost:8081", "--stages", "score")


def run_raising(folder: Path, *arguments: str) -> None:
    error = run(folder, *arguments).exception
    assert error is not None
    raise error


def test_explain_says_what_one_task_does(tmp_path: Path) -> None:
    file = str(config(tmp_path))
    alone = CliRunner().invoke(app, ["stream", "explain", "--config", file]).output
    on_flink = CliRunner().invoke(app, ["stream", "explain", "--config", file, "--flink"]).output
    assert on_flink.startswith(alone.rstrip()) and "order     1 task" in on_flink


def test_the_package_has_flink_s_jars() -> None:
    if sys.version_info >= (3, 12):
        with pytest.raises(ConfigError, match=r"newer than PyFlink takes"):
            flink_home()
    else:
        assert list((flink_home() / "opt").glob("flink-python-*.jar"))
