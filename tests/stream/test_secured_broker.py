"""A broker that asks for TLS, a client's certificate and a password."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from adclick.schema.errors import ConfigError
from adclick.stream.kafka.connection import BrokerUnreachable, client_options
from adclick.stream.kafka.local_broker import LocalBroker
from adclick.stream.kafka.topics import check_topics
from adclick.stream.settings import KafkaSettings, TopicsSettings
from adclick.stream.state.store import MemoryState
from tests.gcs import free_port
from tests.stream.stages import WAIT_SECONDS, documents, drive, make_project
from tests.stream.test_stages import operator_of

pytestmark = pytest.mark.end_to_end

PASSWORD = "s3cret, with a comma"


def private_key(file: Path) -> rsa.RSAPrivateKey:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pkcs8, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    file.write_bytes(key.private_bytes(serialization.Encoding.PEM, pkcs8, plain))
    return key


def certificates(folder: Path) -> None:
    """`authority.pem`, and of `broker` and `client` a key and a certificate that the authority has signed."""
    now = datetime.datetime.now(datetime.UTC)
    authority_name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "authority of tests")])
    authority_key = private_key(folder / "authority.key")
    keys = {"authority": authority_key} | {name: private_key(folder / f"{name}.key") for name in ("broker", "client")}
    for name, key in keys.items():
        is_authority = name == "authority"
        subject = authority_name if is_authority else x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(authority_name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
            )
        )
        signed = builder.sign(authority_key, hashes.SHA256())
        (folder / f"{name}.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))


@dataclass(frozen=True)
class SecuredBroker:
    """A broker with two doors.

    Attributes:
        plain: The open one.
        secured: That which asks for certificate and password.
    """

    plain: KafkaSettings
    secured: KafkaSettings


def let_in_by_scram(plain: KafkaSettings, secured: KafkaSettings) -> None:
    """Tells a broker, through its open door, of a user who logs in by SCRAM."""
    from confluent_kafka.admin import AdminClient, ScramCredentialInfo, ScramMechanism, UserScramCredentialUpsertion

    how = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
    change = UserScramCredentialUpsertion(secured.sasl_username, how, PASSWORD.encode())
    # Its answers end with it.
    client = AdminClient(client_options(plain))
    for answer in client.alter_user_scram_credentials([change]).values():
        answer.result(WAIT_SECONDS)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredBroker]:
    folder = tmp_path_factory.mktemp("secured")
    certificates(folder)
    (folder / "password").write_text(f"{PASSWORD}\n")
    (folder / "keystore.pem").write_text((folder / "broker.key").read_text() + (folder / "broker.pem").read_text())
    try:
        local = LocalBroker(folder / "kafka")
    except ConfigError as error:
        pytest.skip(str(error))
    port = free_port()
    listeners = [line for line in local.config_file.read_text().splitlines() if "listeners=" in line]
    login = f'org.apache.kafka.common.security.plain.PlainLoginModule required user_stream="{PASSWORD}";'
    door = "listener.name.secured"
    more = [
        *(f"{line},SECURED://127.0.0.1:{port}" for line in listeners),
        "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURED:SASL_SSL",
        f"{door}.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512",
        f"{door}.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;",
        f"{door}.plain.sasl.jaas.config={login}",
        f"{door}.ssl.keystore.type=PEM",
        f"{door}.ssl.keystore.location={folder / 'keystore.pem'}",
        f"{door}.ssl.truststore.type=PEM",
        f"{door}.ssl.truststore.location={folder / 'authority.pem'}",
        f"{door}.ssl.client.auth=required",
    ]
    with local.config_file.open("a") as config:
        config.write("\n".join([*more, ""]))
    secured = KafkaSettings(
        bootstrap_servers=f"127.0.0.1:{port}",
        security_protocol="SASL_SSL",
        sasl_mechanism="PLAIN",
        sasl_username="stream",
        sasl_password_file=folder / "password",
        authority_file=folder / "authority.pem",
        certificate_file=folder / "client.pem",
        key_file=folder / "client.key",
    )
    local.start()
    try:
        plain = KafkaSettings(bootstrap_servers=local.bootstrap_servers)
        let_in_by_scram(plain, secured)
        yield SecuredBroker(plain, secured)
    finally:
        local.kill()


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
def test_clicks_go_through_the_secured_door(
    tmp_path: Path, broker: SecuredBroker, own_topics: Callable[..., TopicsSettings], mechanism: str
) -> None:
    from confluent_kafka import Producer

    secured = broker.secured.model_copy(update={"sasl_mechanism": mechanism, "group": mechanism})
    project = make_project(tmp_path, secured, own_topics(), model=False)
    producer = Producer(client_options(secured))
    click = b'{"click_id": "a", "time": "2026-11-01T00:00:00Z", "ip": "10.0.0.1"}'
    producer.produce(project.stream.topics.clicks.name, click)
    assert producer.flush(WAIT_SECONDS) == 0
    with ExitStack() as stack:
        stage = operator_of(project, MemoryState(), stack)
        seen = [0]

        def all_are_through() -> bool:
            seen[0] += stage.step()
            return seen[0] == 1 and not stage.waiting

        drive([], all_are_through)
    (featured,) = documents(broker.plain, project.stream.topics.featured_clicks.name, 1)
    assert featured["features"]["clicks_by_ip"] == 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"sasl_username": "stranger"}, "Authentication failed"),
        ({"sasl_username": "stranger", "sasl_mechanism": "SCRAM-SHA-512"}, "Authentication failed"),
        ({"certificate_file": None, "key_file": None}, "SSL"),
        ({"authority_file": None}, "certificate verify failed"),
    ],
    ids=["a stranger", "a stranger by SCRAM", "no certificate", "an authority that is not trusted"],
)
def test_who_is_not_let_in_is_told_so(broker: SecuredBroker, change: dict[str, object], reason: str) -> None:
    settings = broker.secured.model_copy(update=change)
    with pytest.raises(BrokerUnreachable, match="does not answer") as raised:
        check_topics(settings, TopicsSettings(), make=False)
    assert reason in raised.value.message
