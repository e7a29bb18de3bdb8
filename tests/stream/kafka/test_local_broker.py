"""A broker of this machine: what is missing is said; killed and started again it has what it had."""

from __future__ import annotations

import os
import re
import uuid
from pathlib import Path

import pytest

from adclick.schema.errors import ConfigError
from adclick.stream.java import cache_folder, java_program
from adclick.stream.kafka.jars import KAFKA_VERSION, SHA256
from adclick.stream.kafka.local_broker import LocalBroker, broker_jars, new_cluster_id


def program(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that alone is searched for programs."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "bin"


def test_says_that_java_is_missing_and_how_to_get_it(programs: Path) -> None:
    with pytest.raises(ConfigError, match=r"Java.*not installed\n.*apt-get install openjdk-17"):
        java_program()


def test_says_that_java_is_too_old(programs: Path) -> None:
    program(programs, "java", """echo 'openjdk version "11.0.2" 2019-01-15' >&2""")
    with pytest.raises(ConfigError, match=r"is Java 11\.0\.2; Apache Kafka needs 17"):
        java_program()


def test_says_that_maven_is_missing_and_how_to_get_it(programs: Path) -> None:
    with pytest.raises(ConfigError, match=r"Maven.*not installed.*\n.*apt-get install"):
        broker_jars()


def test_a_jar_that_is_not_the_pinned_one_is_refused_and_not_kept(programs: Path) -> None:
    name = next(iter(SHA256))
    program(
        programs,
        "mvn",
        f'for one; do case "$one" in -DoutputDirectory=*) echo x > "${{one#-DoutputDirectory=}}/{name}";; esac; done',
    )
    for _ in range(2):
        with pytest.raises(ConfigError, match=f"not Apache Kafka.*{name}"):
            broker_jars()


def test_what_maven_says_is_passed_on(programs: Path) -> None:
    program(programs, "mvn", "echo 'Could not transfer artifact'; exit 1")
    with pytest.raises(ConfigError, match="Could not transfer artifact"):
        broker_jars()
    assert not (cache_folder() / "kafka-4.3.1").exists()


def test_no_connection_is_given_its_ports(programs: Path, tmp_path: Path) -> None:
    program(programs, "java", "echo 'openjdk version \"17.0.1\" 2021-10-19' >&2")
    cache_folder().joinpath(f"kafka-{KAFKA_VERSION}").mkdir(parents=True)
    first, last = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    for number in range(5):
        broker = LocalBroker(tmp_path / str(number))
        (listeners,) = re.findall(r"(?m)^listeners=(.*)$", broker.config_file.read_text())
        ports = {int(port) for port in re.findall(r":(\d+)", listeners)}
        assert len(ports) == 2, "broker and controller"
        assert not any(first <= port <= last for port in ports)


@pytest.mark.end_to_end
def test_killed_and_started_again_it_has_what_it_had(tmp_path: Path) -> None:
    from confluent_kafka.admin import AdminClient, NewTopic

    try:
        broker = LocalBroker(tmp_path)
    except ConfigError as error:
        pytest.skip(str(error))
    try:
        broker.start()
        admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
        admin.create_topics([NewTopic("kept", 3, 1)])["kept"].result(60)
        broker.kill()
        broker.start()
        assert len(admin.list_topics(timeout=60).topics["kept"].partitions) == 3
    finally:
        broker.kill()
    with pytest.raises(ProcessLookupError):
        os.kill(broker_process(tmp_path), 0)


def broker_process(folder: Path) -> int:
    """The number of a process that has the folder's config on its command line; one that cannot be if there is none."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                command = (entry / "cmdline").read_text()
            except OSError:
                continue
            if str(folder / "server.properties") in command and "kafka.Kafka" in command:
                return int(entry.name)
    return 2**22 + 1


def test_a_cluster_s_id_never_reads_as_an_option() -> None:
    drawn = iter([uuid.UUID(bytes=bytes([0xF8]) + bytes(15)), uuid.UUID(bytes=bytes(16))])
    assert new_cluster_id(lambda: next(drawn)) == "A" * 22
