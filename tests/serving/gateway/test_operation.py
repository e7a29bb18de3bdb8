"""Operating the gateway: who may ask, which version answers, what changes without a restart, what is written down."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import json
import logging
import shutil
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import tensorflow as tf
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from adclick.serving.errors import InvalidArgumentError, NotFoundError
from adclick.serving.gateway.routing import Router
from adclick.serving.gateway.security import create_api_key, read_api_keys
from adclick.serving.gateway.server import running_gateway
from adclick.serving.gateway.settings import RoutingSettings, load_settings
from adclick.serving.model_server.configuration import BatchingOptions, Choice, ModelConfig, VersionPolicy
from adclick.serving.model_server.dataplane import ServerOptions
from adclick.serving.model_server.server import Endpoints, RunningServer, create_model_server, listening, running_server
from tests.models.tiny_model import TinyModel
from tests.serving.gateway.conftest import BACKENDS, FIRST, SECOND, settings_for

Start = Callable[..., Any]
ONE = {"context": {"site": "site3"}, "ads": [{"ad": "ad0"}]}


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "it never became so"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def two_versions(tiny_model: TinyModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    base = tmp_path_factory.mktemp("two")
    for version in (FIRST, SECOND):
        shutil.copytree(tiny_model.folder, base / str(version))
    config = ModelConfig("adclick", str(base), VersionPolicy(Choice.ALL), {"stable": FIRST, "canary": SECOND})
    server = create_model_server((config,), ServerOptions(poll_seconds=0.1), BatchingOptions())
    with listening(server, Endpoints(rest_port=0, grpc_port=0), model_name="adclick") as running:
        yield running


class TestSecurity:
    def test_only_with_a_key(self, gateway: Start, tmp_path: Path) -> None:
        key, line = create_api_key("agency")
        other, other_line = create_api_key("late")
        file = tmp_path / "keys"
        file.write_text(f"# backends\n{line}\n")
        assert key not in file.read_text()
        _, client = gateway(is_open=False, security={"api_keys_file": str(file)})

        def status(authorization: str | None) -> int:
            headers = {} if authorization is None else {"authorization": authorization}
            return client.post("/v1/score", json=ONE, headers=headers).status_code

        assert status(f"Bearer {key}") == 200
        for wrong in (None, "", key, f"Basic {key}", f"Bearer {key}x", "Bearer", f"Bearer {other}"):
            assert status(wrong) == 401
        assert client.get("/v1/fields").status_code == 401
        assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200
        # A new key counts without a restart, and a removed one no longer.
        file.write_text(f"{other_line}\n")
        wait_for(lambda: status(f"Bearer {other}") == 200)
        assert status(f"Bearer {key}") == 401

    def test_an_open_gateway_must_be_asked_for(self, models: RunningServer, base: Path) -> None:
        settings = settings_for("in_process", models, base)
        server = models.model_server
        with (
            pytest.raises(InvalidArgumentError, match=r"security\.api_keys_file"),
            running_gateway(settings, model_server=server),
        ):
            pass
        with (
            pytest.raises(InvalidArgumentError, match=r"listens at 127\.0\.0\.1 only"),
            running_gateway(settings, model_server=server, host="0.0.0.0", is_open=True),
        ):
            pass

    @pytest.mark.parametrize(
        ("text", "error"),
        [("agency\n", "line 1: not NAME SHA256"), ("a " + "0" * 64 + "\na " + "1" * 64, "line 2")],
    )
    def test_a_wrong_keys_file_is_named(self, tmp_path: Path, text: str, error: str) -> None:
        (tmp_path / "keys").write_text(text)
        with pytest.raises(InvalidArgumentError, match=error):
            read_api_keys(tmp_path / "keys")
        with pytest.raises(NotFoundError, match="No such file"):
            read_api_keys(tmp_path / "nowhere")
        with pytest.raises(InvalidArgumentError, match="the name of an API key"):
            create_api_key("two words")

    def test_too_many_requests_of_one_client(self, gateway: Start) -> None:
        _, client = gateway(limits={"rate": "3/hour"})
        answers = [client.post("/v1/score", json=ONE) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
        assert int(answers[-1].headers["retry-after"]) >= 1

    def test_mutual_tls(self, models: RunningServer, base: Path, tmp_path: Path) -> None:
        authority, authority_key = certificate(tmp_path, "authority")
        certificate(tmp_path, "server", authority, authority_key)
        certificate(tmp_path, "client", authority, authority_key)
        security = {
            "certificate_file": str(tmp_path / "server.pem"),
            "key_file": str(tmp_path / "server.key"),
            "client_authority_file": str(tmp_path / "authority.pem"),
        }
        settings = settings_for("in_process", models, base, security=security)
        with running_gateway(settings, model_server=models.model_server) as running:
            assert running.url.startswith("https://")
            context = ssl.create_default_context(cafile=str(tmp_path / "authority.pem"))
            with (
                httpx.Client(base_url=running.url, verify=context, trust_env=False) as stranger,
                pytest.raises(httpx.HTTPError),
            ):
                stranger.post("/v1/score", json=ONE)
            context.load_cert_chain(tmp_path / "client.pem", tmp_path / "client.key")
            with httpx.Client(base_url=running.url, verify=context, trust_env=False) as friend:
                assert friend.post("/v1/score", json=ONE).status_code == 200


def certificate(folder: Path, name: str, authority: Any = None, authority_key: Any = None) -> tuple[Any, Any]:
    """Writes NAME.pem and NAME.key, signed by the authority or by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    signer = authority_key or key
    usages = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
    usage = dict.fromkeys((*usages, "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"), False)
    usage["key_cert_sign" if authority is None else "digital_signature"] = True
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(authority.subject if authority is not None else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=authority is None, path_length=None), critical=True)
        # From Python 3.13 on, chains are checked strictly, as RFC 5280 asks.
        .add_extension(x509.KeyUsage(**usage), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(signer, hashes.SHA256())
    )
    (folder / f"{name}.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / f"{name}.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return made, key


class TestRouting:
    def canaries(self, percent: float, salt: str = "s") -> set[str]:
        """Who of 10,000 users gets to a canary of so many percent."""
        routes = [{"name": "canary", "percent": percent}, {"name": "stable", "percent": 100 - percent}]
        router = Router(RoutingSettings.model_validate({"routes": routes, "salt": salt}))
        return {f"user{n}" for n in range(10_000) if router.route(f"user{n}").name == "canary"}

    def test_shares_are_kept_and_users_stay(self) -> None:
        few = self.canaries(10)
        assert 800 < len(few) < 1_200
        assert self.canaries(10) == few
        assert few < self.canaries(50)
        assert len(few & self.canaries(10, salt="t")) < len(few) / 2

    def test_labels_canary_and_a_change_without_a_restart(
        self, gateway: Start, two_versions: RunningServer, tmp_path: Path
    ) -> None:
        def routes(*shares: tuple[str, float]) -> dict[str, Any]:
            return {"by": "site", "routes": [{"name": n, "label": n, "percent": p} for n, p in shares]}

        document = {
            "backend": {"timeout_seconds": 120, "explain_timeout_seconds": 120},
            "limits": {"rate": ""},
            "routing": routes(("stable", 50), ("canary", 50)),
        }
        file = tmp_path / "gateway.yaml"
        file.write_text(yaml.safe_dump(document))
        with ExitStack() as stack:
            running = stack.enter_context(
                running_gateway(
                    load_settings(file), model_server=two_versions.model_server, settings_file=file, is_open=True
                )
            )
            client = stack.enter_context(httpx.Client(base_url=running.url, trust_env=False, timeout=150))

            def versions() -> list[int]:
                requests = [{"context": {"site": f"site{number}"}, "ads": [{"ad": "ad0"}]} for number in range(40)]
                answer = client.post("/v1/score:batch", json={"requests": requests}).json()
                return [response["model"]["version"] for response in answer["responses"]]

            first = versions()
            assert set(first) == {FIRST, SECOND}
            assert versions() == first
            file.write_text(yaml.safe_dump({**document, "routing": routes(("stable", 100))}))
            wait_for(lambda: set(versions()) == {FIRST})
            file.write_text(yaml.safe_dump({**document, "routing": routes(("stable", 70))}))
            wait_for(lambda: "add up to 100, not 70" in client.get("/readyz").text)
            assert set(versions()) == {FIRST}
            assert client.get("/readyz").status_code == 200
            file.write_text(yaml.safe_dump({**document, "routing": routes(("canary", 100))}))
            wait_for(lambda: set(versions()) == {SECOND})
            assert "config_error" not in client.get("/readyz").json()

    def test_in_process_the_routes_say_what_is_loaded(self, tiny_model: TinyModel, tmp_path: Path) -> None:
        base = tmp_path / "base"
        for version in (1, 2, 3):
            shutil.copytree(tiny_model.folder, base / str(version))
        file = tmp_path / "gateway.yaml"
        document: dict[str, Any] = {
            "backend": {"model_base_path": str(base), "timeout_seconds": 120, "explain_timeout_seconds": 120}
        }
        routes = [{"name": "stable", "label": "stable", "percent": 100}]
        file.write_text(yaml.safe_dump({**document, "routing": {"routes": routes, "labels": {"stable": 1}}}))
        options = ServerOptions(
            poll_seconds=0.1, labels_unavailable_versions=True, moves_labels_to_unavailable_versions=True
        )
        server = create_model_server((ModelConfig("adclick", str(base)),), options, BatchingOptions())
        with listening(server, Endpoints(rest_port=None)), ExitStack() as stack:
            running = stack.enter_context(
                running_gateway(load_settings(file), model_server=server, settings_file=file, is_open=True)
            )
            client = stack.enter_context(httpx.Client(base_url=running.url, trust_env=False, timeout=150))

            def version() -> int:
                return int(client.post("/v1/score", json=ONE).json()["model"]["version"])

            assert version() == 1
            file.write_text(yaml.safe_dump({**document, "routing": {"routes": routes, "labels": {"stable": 2}}}))
            wait_for(lambda: version() == 2)
            file.write_text(yaml.safe_dump(document))
            wait_for(lambda: version() == 3)

    @pytest.mark.parametrize(("shadow", "outcome"), [({"label": "canary"}, "answered"), ({"version": 99}, "failed")])
    def test_a_shadow_has_no_say(
        self, two_versions: RunningServer, tmp_path: Path, shadow: dict[str, Any], outcome: str
    ) -> None:
        routing = {"routes": [{"name": "stable", "label": "stable", "percent": 100}], "shadow": shadow}
        file = tmp_path / "gateway.yaml"
        file.write_text(
            yaml.safe_dump({"backend": {"timeout_seconds": 120, "explain_timeout_seconds": 120}, "routing": routing})
        )
        with (
            running_gateway(load_settings(file), model_server=two_versions.model_server, is_open=True) as running,
            httpx.Client(base_url=running.url, trust_env=False, timeout=150) as client,
        ):
            for _ in range(5):
                answer = client.post("/v1/score", json=ONE)
                assert (answer.status_code, answer.json()["model"]["version"]) == (200, FIRST)
            assert client.get("/readyz").status_code == 200
            counted = f'adclick_gateway_shadow_requests_total{{outcome="{outcome}"}} 5.0'
            wait_for(lambda: counted in client.get("/metrics").text)

    def test_a_route_is_tried_by_its_name(self, two_versions: RunningServer, tmp_path: Path) -> None:
        """Whoever the user is; such scores are neither shadowed nor logged as predictions."""
        odd = "new & <old>'s"
        routes = [{"name": "stable", "label": "stable", "percent": 100}, {"name": odd, "label": "canary", "percent": 0}]
        folder = tmp_path / "predictions"
        document = {
            "backend": {"timeout_seconds": 120, "explain_timeout_seconds": 120},
            "routing": {"routes": routes, "shadow": {"label": "canary"}},
            "log": {"predictions": str(folder), "sample_percent": 100},
        }
        (tmp_path / "gateway.yaml").write_text(yaml.safe_dump(document))
        settings = load_settings(tmp_path / "gateway.yaml")
        with (
            running_gateway(settings, model_server=two_versions.model_server, is_open=True) as running,
            httpx.Client(base_url=running.url, trust_env=False, timeout=150) as client,
        ):
            for route, version in ((odd, SECOND), ("shadow", SECOND), ("stable", FIRST)):
                for path, body in (("score", ONE), ("explain", ONE), ("score:batch", {"requests": [ONE]})):
                    answer = client.post(f"/v1/{path}", params={"route": route}, json=body)
                    assert answer.status_code == 200, answer.text
                    model = (answer.json().get("responses") or [answer.json()])[0]["model"]
                    assert (model["route"], model["version"]) == (route, version)
                assert client.get("/v1/fields", params={"route": route}).json()["model"]["version"] == version
            assert client.post("/v1/score?route=", json=ONE).json()["model"]["route"] == "stable"
            unknown = client.post("/v1/score", params={"route": "none"}, json=ONE)
            assert (unknown.status_code, unknown.json()["error"]["field"]) == (422, "route")
            wait_for(lambda: 'shadow_requests_total{outcome="answered"} 1.0' in client.get("/metrics").text)
            paths = client.get("/openapi.json").json()["paths"]
            assert [one["name"] for one in paths["/v1/score"]["post"]["parameters"]] == ["route"]
        files = [str(file) for file in folder.rglob("*") if file.is_file()]
        logged = [tf.train.Example.FromString(record.numpy()) for record in tf.data.TFRecordDataset(files)]
        assert [example.features.feature["route"].bytes_list.value[0] for example in logged] == [b"stable"]

    @pytest.mark.parametrize("kind", BACKENDS)
    def test_a_version_that_cannot_be_read_is_named_until_it_can(
        self, kind: str, tiny_model: TinyModel, tmp_path: Path
    ) -> None:
        base = tmp_path / "base"
        shutil.copytree(tiny_model.folder, base / "101")
        description = base / "101" / "assets.extra" / "adclick.json"
        description.rename(tmp_path / "adclick.json")
        description.symlink_to("x" * 300)  # Which root cannot read either.
        (base / "102").symlink_to("x" * 300)
        with (
            running_server(base, grpc_port=0, poll_seconds=0.1) as models,
            running_gateway(
                settings_for(kind, models, base), model_server=models.model_server, is_open=True
            ) as running,
            httpx.Client(base_url=running.url, trust_env=False, timeout=150) as client,
        ):
            ready = client.get("/readyz")
            assert ready.status_code == 200
            assert "served without its description" in ready.json()["versions"]["101"]
            assert "/102 cannot be read" in ready.json()["versions"]["102"]
            assert client.post("/v1/score", json=ONE).status_code == 200
            description.unlink()
            (tmp_path / "adclick.json").rename(description)
            wait_for(lambda: "101" not in client.get("/readyz").json()["versions"])
            fields = {field["name"]: field for field in client.get("/v1/fields").json()["fields"]}
            assert fields["shown_at"]["default"] == "now"
            shutil.copytree(tiny_model.folder, base / "partial")
            (base / "partial").rename(base / "104")
            wait_for(lambda: client.post("/v1/score", json=ONE).json()["model"]["version"] == 104)

    def test_no_request_fails_while_versions_change(self, tiny_model: TinyModel, tmp_path: Path) -> None:
        base = tmp_path / "base"
        shutil.copytree(tiny_model.folder, base / "1")
        server = create_model_server(
            (ModelConfig("adclick", str(base)),), ServerOptions(poll_seconds=0.05), BatchingOptions()
        )
        file = tmp_path / "gateway.yaml"
        document = {
            "backend": {"model_base_path": str(base), "timeout_seconds": 120, "explain_timeout_seconds": 120},
            "limits": {"rate": ""},
        }
        file.write_text(yaml.safe_dump(document))
        with listening(server, Endpoints(rest_port=None)), ExitStack() as stack:
            running = stack.enter_context(running_gateway(load_settings(file), model_server=server, is_open=True))
            finished = threading.Event()
            seen: set[int] = set()
            failures: list[str] = []

            def ask() -> None:
                with httpx.Client(base_url=running.url, trust_env=False, timeout=150) as client:
                    while not finished.is_set():
                        answer = client.post("/v1/score", json=ONE)
                        if answer.status_code == 200:
                            seen.add(answer.json()["model"]["version"])
                        else:
                            failures.append(answer.text)

            # Whatever becomes of the test, nobody asks on.
            stack.callback(finished.set)
            threads = [threading.Thread(target=ask, daemon=True) for _ in range(3)]
            for thread in threads:
                thread.start()
            partial = tmp_path / "partial"
            shutil.copytree(tiny_model.folder, partial)
            partial.rename(base / "2")
            wait_for(lambda: 2 in seen)
            seen.clear()
            shutil.rmtree(base / "2")
            wait_for(lambda: 1 in seen)
            finished.set()
            for thread in threads:
                thread.join(120)
                assert not thread.is_alive()
            assert not failures


class TestLogs:
    def test_predictions_are_logged_as_examples(self, gateway: Start, tmp_path: Path, tiny_model: TinyModel) -> None:
        import tensorflow_data_validation as tfdv

        folder = tmp_path / "predictions"
        log = {"predictions": str(folder), "sample_percent": 100, "file_seconds": 0.2, "user_field": "site"}
        _, client = gateway(log=log)
        request = {
            "context": {"site": "site3", "topics": ["t1", "t2"]},
            "ads": [{"ad": "ad0", "price": 2.5, "image": tiny_model.creatives[0].key}, {"ad": "ad1"}],
        }
        scored = client.post("/v1/score", json=request, headers={"x-request-id": "r-7"}).json()
        wait_for(lambda: bool(list(folder.glob("*.tfrecord"))))
        (file,) = folder.glob("*.tfrecord")
        examples = [tf.train.Example.FromString(r.numpy()).features.feature for r in tf.data.TFRecordDataset(str(file))]
        assert [example["ad"].bytes_list.value[0] for example in examples] == [b"ad0", b"ad1"]
        assert list(examples[0]["topics"].bytes_list.value) == [b"t1", b"t2"]
        assert list(examples[0]["price"].float_list.value) == [2.5]
        assert not examples[1]["price"].float_list.value
        assert list(examples[0]["image"].bytes_list.value) == [tiny_model.creatives[0].key.encode()]
        assert examples[0]["model_version"].int64_list.value[0] == FIRST
        assert examples[0]["request_id"].bytes_list.value[0] == b"r-7"
        (user,) = examples[0]["site"].bytes_list.value
        assert user != b"site3"
        assert user == examples[1]["site"].bytes_list.value[0]
        by_index = {ad["index"]: ad["click_probability"] for ad in scored["ads"]}
        logged = [example["click_probability"].float_list.value[0] for example in examples]
        assert logged == pytest.approx([by_index[0], by_index[1]])
        statistics = tfdv.generate_statistics_from_tfrecord(str(file))
        assert statistics.datasets[0].num_examples == 2

    def test_a_logged_prediction_can_be_told_from_every_other(self, tiny_model: TinyModel, tmp_path: Path) -> None:
        base = tmp_path / "versions"
        shutil.copytree(tiny_model.folder, base / "1")
        description = base / "1" / "assets.extra" / "adclick.json"
        document = json.loads(description.read_text())
        document["features"] = {"impression": {"role": "identifier"}, **document["features"]}
        description.write_text(json.dumps(document))
        log = {"predictions": str(tmp_path / "log"), "sample_percent": 100, "user_field": "site"}
        ads = [{"impression": "i-1", "image": tiny_model.creatives[0].key}, {"impression": None, "image": "0" * 32}]
        batch = {"requests": [{"ads": [{}]}, {"context": {"site": "site3"}, "ads": ads}]}
        with ExitStack() as stack:
            models = stack.enter_context(running_server(base, grpc_port=0, poll_seconds=0.1))
            settings = settings_for("in_process", models, base, log=log)
            running = stack.enter_context(running_gateway(settings, model_server=models.model_server, is_open=True))
            client = stack.enter_context(httpx.Client(base_url=running.url, trust_env=False, timeout=60))
            fields = {field["name"]: field for field in client.get("/v1/fields").json()["fields"]}
            assert fields["impression"]["default"] == "none"
            in_context = client.post("/v1/score", json={"context": {"impression": "i-1"}, "ads": [{}]})
            assert in_context.status_code == 422
            assert client.post("/v1/score:batch", json=batch, headers={"x-request-id": "r-1"}).status_code == 200
        (file,) = (tmp_path / "log").glob("*.tfrecord")
        logged = [tf.train.Example.FromString(r.numpy()).features.feature for r in tf.data.TFRecordDataset(str(file))]

        def texts(name: str) -> list[list[bytes]]:
            return [list(example[name].bytes_list.value) for example in logged]

        def numbers(name: str) -> list[int]:
            return [example[name].int64_list.value[0] for example in logged]

        assert texts("request_id") == [[b"r-1"]] * 3
        assert list(zip(numbers("context_index"), numbers("ad_index"), strict=True)) == [(0, 0), (1, 0), (1, 1)]
        assert texts("impression_id") == [[], [b"i-1"], []]
        assert texts("creative_status") == [[b"none"], [b"ok"], [b"unknown_key"]]
        assert texts("hashed_columns") == [[b"site"]] * 3
        assert [example["sample_percent"].float_list.value[0] for example in logged] == [100.0] * 3

    def test_the_log_is_bounded(self, gateway: Start, tmp_path: Path) -> None:
        folder = tmp_path / "predictions"
        log = {"predictions": str(folder), "sample_percent": 100, "file_bytes": 1000, "total_bytes": 20_000}
        _, client = gateway(log=log)
        for _ in range(60):
            assert client.post("/v1/score", json={"ads": [{"ad": "ad0"}] * 5}).status_code == 200
        wait_for(lambda: 'outcome="written"} 300.0' in client.get("/metrics").text)
        sizes = []
        for file in folder.glob("*.tfrecord"):
            with contextlib.suppress(FileNotFoundError):  # the oldest go while they are looked at
                sizes.append(file.stat().st_size)
        assert len(sizes) > 2
        assert sum(sizes) <= 22_000

    def test_a_client_that_goes_away_is_no_fault(self, gateway: Start, caplog: pytest.LogCaptureFixture) -> None:
        running, client = gateway()
        with caplog.at_level(logging.INFO):
            address = httpx.URL(running.url)
            with socket.create_connection((address.host, address.port), timeout=60) as connection:
                connection.sendall(b"POST /v1/score HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
                wait_for(lambda: "requests_in_flight 1.0" in client.get("/metrics").text)
            gone = 'adclick_gateway_requests_total{endpoint="score",status="499"} 1.0'
            wait_for(lambda: gone in client.get("/metrics").text)
        assert 'status="500"' not in client.get("/metrics").text
        assert not [record for record in caplog.records if record.levelno >= logging.WARNING]

    def test_a_request_is_a_line_without_the_users_name(self, gateway: Start, caplog: pytest.LogCaptureFixture) -> None:
        _, client = gateway(log={"user_field": "site"})
        with caplog.at_level(logging.INFO, "adclick.access"):
            client.post("/v1/score", json=ONE, headers={"x-request-id": "r-9"})
            client.post("/v1/score", json={"ads": []})
        lines = [json.loads(record.getMessage()) for record in caplog.records if record.name == "adclick.access"]
        assert [line["status"] for line in lines] == [200, 422]
        assert lines[0]["request_id"] == "r-9"
        assert (lines[0]["ads"], lines[0]["model_version"], lines[0]["route"]) == (1, [FIRST], ["default"])
        assert len(lines[0]["user"]) == 16
        assert "site3" not in caplog.text


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("backend: {kind: magic}", "backend.kind: Input should be 'in_process', 'grpc' or 'rest'"),
        ("limits: {ads: 0}", "limits.ads"),
        ("limits: {rate: often}", "limits.rate"),
        ("sercurity: {}", "sercurity: Extra inputs are not permitted"),
        ("security: {certificate_file: x}", "certificate_file and key_file go together"),
        ("routing: {routes: [{name: a, percent: 10}]}", "add up to 100, not 10"),
        ("[", "not YAML"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, text: str, error: str) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(text)
    with pytest.raises(InvalidArgumentError) as refusal:
        load_settings(file)
    assert error in refusal.value.message
    with pytest.raises(NotFoundError, match="No such file"):
        load_settings(tmp_path / "nowhere.yaml")
