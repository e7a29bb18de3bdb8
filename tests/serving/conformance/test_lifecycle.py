"""Versions that come and go, configurations that change, and how the process starts and ends."""

from __future__ import annotations

import datetime
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import tensorflow as tf
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from google.protobuf import text_format
from tensorflow_serving.apis import model_management_pb2, prediction_log_pb2, prediction_service_pb2_grpc

from tests.serving.conformance.conftest import ModelServerProcess, free_port, started
from tests.serving.conformance.test_grpc import example, predict, regression

#: Each starts the server anew.
pytestmark = pytest.mark.end_to_end


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 180
    while not condition():
        assert time.monotonic() < deadline, "it never became so"
        time.sleep(0.05)


def publish(model: Path, base: Path, version: int) -> None:
    partial = base.parent / f"partial-{version}"
    shutil.copytree(model, partial)
    partial.rename(base / str(version))


@pytest.fixture
def base(saved: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "base"
    folder.mkdir()
    publish(saved / "half_plus_two" / "123", folder, 1)
    return folder


def states(server: ModelServerProcess, model: str = "default") -> dict[str, str]:
    answer = server.http.get(f"/v1/models/{model}")
    if answer.status_code != 200:
        return {}
    return {one["version"]: one["state"] for one in answer.json()["model_version_status"]}


def answered(server: ModelServerProcess, path: str = "default") -> Any:
    return server.http.post(f"/v1/models/{path}:predict", json={"instances": [2.0]}).json().get("predictions")


class TestVersions:
    def test_a_life(self, saved: Path, base: Path) -> None:
        three = saved / "half_plus_three" / "124"
        with started(f"--model_base_path={base}", wait_path="/v1/models/default/metadata") as server:
            assert answered(server) == [3.0]
            publish(three, base, 2)
            wait_for(lambda: answered(server) == [4.0])
            wait_for(lambda: states(server) == {"2": "AVAILABLE", "1": "END"})
            (base / "3").mkdir()
            (base / "3" / "saved_model.pb").write_bytes(b"broken")
            wait_for(lambda: states(server).get("3") == "END")
            broken = server.http.get("/v1/models/default/versions/3").json()["model_version_status"][0]["status"]
            assert broken["error_code"] != "OK"
            assert "saved_model.pb" in broken["error_message"]
            assert answered(server) == [4.0]
            (base / "4").mkdir()
            wait_for(lambda: "4" in states(server))
            assert answered(server) == [4.0]
            for version in ("4", "3", "2"):
                shutil.rmtree(base / version)
            wait_for(lambda: answered(server) == [3.0])
            assert server.process.poll() is None
            server.process.terminate()
            assert server.process.wait(120) == 0

    @pytest.mark.parametrize(
        ("policy", "available"),
        [
            ("", {"3"}),
            ("model_version_policy { latest { num_versions: 2 } }", {"3", "2"}),
            ("model_version_policy { all {} }", {"3", "2", "1"}),
            ("model_version_policy { specific { versions: 1 versions: 9 } }", {"1"}),
        ],
        ids=["default", "latest", "all", "specific"],
    )
    def test_policies(self, saved: Path, base: Path, tmp_path: Path, policy: str, available: set[str]) -> None:
        for version in (2, 3):
            publish(saved / "half_plus_three" / "124", base, version)
        file = tmp_path / "models.config"
        file.write_text(config(base, policy))
        with started(f"--model_config_file={file}", wait_path="/v1/models/half/metadata") as server:
            wait_for(lambda: {v for v, state in states(server, "half").items() if state == "AVAILABLE"} == available)
            for version in ("1", "2", "3"):
                answer = answered(server, f"half/versions/{version}")
                assert (answer is not None) == (version in available)


def config(base: Path, extra: str = "", name: str = "half") -> str:
    model = f'config {{ name: "{name}" base_path: "{base}" model_platform: "tensorflow" {extra} }}'
    return f"model_config_list {{ {model} }}"


def reload(server: ModelServerProcess, text: str) -> Any:
    request = model_management_pb2.ReloadConfigRequest()
    text_format.Parse(text, request.config)
    return server.models.HandleReloadConfigRequest(request)


class TestConfigurations:
    def test_models_and_labels_change_by_a_request(self, saved: Path, base: Path) -> None:
        publish(saved / "half_plus_three" / "124", base, 2)
        everything = "model_version_policy { all {} }"

        def labelled(version: int) -> str:
            return config(base, f'{everything} version_labels {{ key: "live" value: {version} }}')

        with started(f"--model_base_path={base}", "--model_name=half", wait_path="/v1/models/half/metadata") as server:
            assert reload(server, config(base, everything)).status.error_code == 0
            assert answered(server, "half/versions/1") == [3.0]
            reload(server, labelled(1))
            assert answered(server, "half/labels/live") == [3.0]
            reload(server, labelled(2))
            assert answered(server, "half/labels/live") == [4.0]
            with pytest.raises(grpc.RpcError) as refusal:
                reload(server, labelled(9))
            assert refusal.value.code() is grpc.StatusCode.FAILED_PRECONDITION
            assert "Request to assign label to version 9 of model half, which is not" in refusal.value.details()
            assert answered(server, "half/labels/live") == [4.0]
            with pytest.raises(grpc.RpcError) as twice:
                one = config(base).removeprefix("model_config_list {").removesuffix("}")
                reload(server, f"model_config_list {{ {one} {one} }}")
            assert "Illegal to list model half multiple times in config list" in twice.value.details()
            reload(server, config(saved / "types", name="types"))
            assert server.http.get("/v1/models/types/metadata").status_code == 200
            assert answered(server, "half") is None

    def test_a_reload_that_is_refused_changes_nothing(self, saved: Path, base: Path) -> None:
        def entry(name: str, path: Path | str, extra: str = "", platform: str = "tensorflow") -> str:
            return f'config {{ name: "{name}" base_path: "{path}" model_platform: "{platform}" {extra} }}'

        def listed(*entries: str) -> str:
            return f"model_config_list {{ {' '.join(entries)} }}"

        half, types = entry("half", base), entry("types", saved / "types")
        bad_label = entry("half", base, 'version_labels { key: "live" value: 9 }')
        other = entry("other", saved / "half_plus_three")
        with started(f"--model_base_path={base}", "--model_name=half", wait_path="/v1/models/half/metadata") as server:
            reload(server, listed(half, types))
            for refused_config, words in (
                (listed(bad_label, other), "Request to assign label to version 9 of model half, which is not"),
                (listed(half, other, half), "Illegal to list model half multiple times in config list"),
                (listed(half, entry("other", "a/b")), "Expected model other to have an absolute path or URI; got"),
                (listed(half, entry("other", "")), "to have an absolute path or URI; got base_path()="),
                (
                    listed(entry("half", base, platform="x"), other),
                    "Illegal to change a model's platform. For model half",
                ),
                (listed(half, entry("other", base, platform="x")), "Model other requests unsupported platform x"),
                (listed(half, entry("other", base, platform="")), "model name is other"),
            ):
                with pytest.raises(grpc.RpcError) as refusal:
                    reload(server, refused_config)
                assert words in refusal.value.details()
                assert answered(server, "half") == [3.0]
                assert server.http.get("/v1/models/types/metadata").status_code == 200
                assert server.http.get("/v1/models/other").status_code == 404

    def test_a_base_path_that_is_not_there_is_waited_for(self, saved: Path, base: Path) -> None:
        later = base.parent / "later"
        with started(f"--model_base_path={base}", "--model_name=half", wait_path="/v1/models/half/metadata") as server:
            request = model_management_pb2.ReloadConfigRequest(metric_names=["/tensorflow/cc/saved_model/load_latency"])
            text_format.Parse(config(later, name="other"), request.config)
            with pytest.raises(grpc.RpcError) as patience:
                server.models.HandleReloadConfigRequest(request, timeout=1)
            assert patience.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            later.mkdir()
            publish(saved / "half_plus_three" / "124", later, 1)
            wait_for(lambda: answered(server, "other") == [4.0])
            assert server.models.HandleReloadConfigRequest(request).metric[0].name == request.metric_names[0]
            broken = base.parent / "broken"
            (broken / "1").mkdir(parents=True)
            (broken / "1" / "saved_model.pb").write_bytes(b"broken")
            with pytest.raises(grpc.RpcError) as refusal:
                reload(server, config(broken, name="third"))
            assert refusal.value.code() is grpc.StatusCode.UNKNOWN
            assert "1 model(s) did not become available: {{{name: third version: 1} due to" in refusal.value.details()

    def test_the_file_is_read_again(self, saved: Path, base: Path, tmp_path: Path) -> None:
        file = tmp_path / "models.config"
        file.write_text(config(base))
        flags = (f"--model_config_file={file}", "--model_config_file_poll_wait_seconds=1")
        with started(*flags, wait_path="/v1/models/half/metadata") as server:
            file.write_text("nonsense {")
            time.sleep(1.5)
            assert answered(server, "half") == [3.0]
            file.write_text(config(saved / "types", name="types"))
            wait_for(lambda: server.http.get("/v1/models/types/metadata").status_code == 200)

    def test_labels_may_come_first(self, saved: Path, base: Path, tmp_path: Path) -> None:
        file = tmp_path / "models.config"
        file.write_text(config(base, 'version_labels { key: "next" value: 2 }'))
        assert refused(f"--model_config_file={file}") == 255
        flags = (f"--model_config_file={file}", "--allow_version_labels_for_unavailable_models")
        with started(*flags, wait_path="/v1/models/half/metadata") as server:
            assert answered(server, "half/labels/next") is None
            publish(saved / "half_plus_three" / "124", base, 2)
            wait_for(lambda: answered(server, "half/labels/next") == [4.0])


class TestWarmup:
    def write(self, folder: Path, *logs: Any) -> None:
        (folder / "assets.extra").mkdir()
        with tf.io.TFRecordWriter(str(folder / "assets.extra" / "tf_serving_warmup_requests")) as writer:
            for log in logs:
                writer.write(log.SerializeToString())

    def test_requests_run_before_a_version_serves(self, base: Path, tmp_path: Path) -> None:
        logs = [prediction_log_pb2.PredictionLog(), prediction_log_pb2.PredictionLog()]
        logs[0].predict_log.request.CopyFrom(predict(x=[1.0]))
        logs[1].regress_log.request.CopyFrom(regression("regress_x_to_y", example(x=1.0)))
        self.write(base / "1", *logs)
        monitoring = tmp_path / "monitoring.config"
        monitoring.write_text('prometheus_config { enable: true path: "/m" }')
        flags = (f"--model_base_path={base}", f"--monitoring_config_file={monitoring}")
        with started(*flags, wait_path="/v1/models/default/metadata") as server:
            assert answered(server) == [3.0]
            warmed = f':tensorflow:serving:model_warmup_latency_count{{model_path="{base}/1",status="OK"}} 1'
            assert warmed in server.http.get("/m").text

    def test_a_version_that_refuses_its_warm_up_is_not_served(self, saved: Path, base: Path) -> None:
        log = prediction_log_pb2.PredictionLog()
        log.predict_log.request.CopyFrom(predict(z=[1.0]))
        partial = base.parent / "partial"
        shutil.copytree(saved / "half_plus_three" / "124", partial)
        self.write(partial, log)
        with started(f"--model_base_path={base}", wait_path="/v1/models/default/metadata") as server:
            partial.rename(base / "2")
            wait_for(lambda: states(server).get("2") == "END")
            assert answered(server) == [3.0]
        with started(
            f"--model_base_path={base}", "--enable_model_warmup=false", wait_path="/v1/models/default/metadata"
        ) as server:
            assert answered(server) == [4.0]


class TestBatching:
    def test_a_full_queue_refuses_and_recovers(self, base: Path, tmp_path: Path) -> None:
        file = tmp_path / "batching.config"
        file.write_text(
            "max_batch_size { value: 4 } batch_timeout_micros { value: 300000 } max_enqueued_batches { value: 1 } "
            "num_batch_threads { value: 1 }"
        )
        flags = (f"--model_base_path={base}", "--enable_batching", f"--batching_parameters_file={file}")
        with started(*flags, wait_path="/v1/models/default/metadata") as server:

            def ask(shape: int) -> int:
                body = {"instances": [[[1.0] * shape]] * 3}
                with httpx.Client(base_url=server.http.base_url, trust_env=False, timeout=120) as client:
                    answer = client.post("/v1/models/default:predict", json=body)
                assert answer.status_code == 200 or "queue to which this task was submitted is full" in answer.text
                return answer.status_code

            with ThreadPoolExecutor(12) as pool:
                found = list(pool.map(ask, range(1, 13)))
            assert set(found) == {200, 503}
            assert answered(server) == [3.0]
            large = server.http.post("/v1/models/default:predict", json={"instances": [1.0] * 5})
            assert large.status_code == 400
            assert "Task size 5 is larger than maximum input batch size 4" in large.json()["error"]


class TestStarting:
    def run(self, *flags: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "adclick.serving.model_server.command", *flags]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    @pytest.mark.parametrize(
        ("flags", "words"),
        [
            (("--port=x",), "invalid int value: 'x'"),
            (("--enable_batching=maybe",), "expected true or false, got 'maybe'"),
        ],
    )
    def test_wrong_flags_show_the_right_ones(self, flags: tuple[str, ...], words: str) -> None:
        done = self.run(*flags)
        assert done.returncode == 255
        assert words in done.stdout
        assert "--rest_api_port" in done.stdout

    def test_goes_on_after_an_unknown_flag(self, base: Path) -> None:
        flags = (f"--model_base_path={base}", "--nonsense=1", "--num_load_threads=2", "--xla_cpu_compilation_enabled")
        with started(*flags, wait_path="/v1/models/default/metadata") as server:
            assert answered(server) == [3.0]

    def test_says_its_version(self) -> None:
        done = self.run("--version")
        assert done.returncode == 0
        assert "TensorFlow ModelServer: " in done.stdout
        assert f"TensorFlow Library: {tf.__version__}" in done.stdout

    @pytest.mark.parametrize(
        ("flags", "words"),
        [
            ((), "Both server_options.model_base_path and server_options.model_config_file are empty!"),
            (("--model_config_file=/nowhere/models.config",), "NOT_FOUND: /nowhere/models.config: No such file"),
            (("--model_base_path=BASE", "--port=0"), "At least one of server_options.grpc_port or"),
            (
                ("--model_base_path=BASE", "--use_alts_credentials", "--ssl_config_file=x"),
                "use_alts_credentials must be",
            ),
            (
                ("--model_base_path=BASE", "--batching_parameters_file=x"),
                "without setting server_options.enable_batching",
            ),
            (("--model_base_path=BASE", "--grpc_channel_arguments=x"), "'x' is not of the form KEY=VALUE"),
            (("--model_base_path=a/b",), "Expected model default to have an absolute path or URI; got base_path()=a/b"),
        ],
    )
    def test_what_cannot_start_says_why(self, base: Path, flags: tuple[str, ...], words: str) -> None:
        done = self.run(f"--port={free_port()}", *(flag.replace("BASE", str(base)) for flag in flags))
        assert done.returncode == 255
        assert "Failed to start server. Error: " in done.stdout
        assert words in done.stdout

    def test_waits_for_a_base_path(self, saved: Path, tmp_path: Path) -> None:
        later = tmp_path / "later"
        with started(f"--model_base_path={later}") as server:
            later.mkdir()
            publish(saved / "half_plus_two" / "123", later, 1)
            wait_for(lambda: answered(server) == [3.0])

    def test_rest_answers_at_ipv4_and_ipv6(self, base: Path) -> None:
        with started(f"--model_base_path={base}", wait_path="/v1/models/default/metadata") as server:
            hosts = ["127.0.0.1", "[::1]"] if socket.has_dualstack_ipv6() else ["127.0.0.1"]
            for host in hosts:
                answer = httpx.get(f"http://{host}:{server.rest_port}/v1/models/default", trust_env=False, timeout=60)
                assert answer.status_code == 200
            preflight = server.http.options("/v1/models/default:predict", headers={"origin": "https://page.example"})
            assert (preflight.status_code, preflight.content) == (200, b"")
            assert "access-control-allow-origin" not in preflight.headers

    def test_certificates_of_the_grpc_api(self, base: Path, tmp_path: Path) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
        now = datetime.datetime.now(datetime.UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
            .sign(key, hashes.SHA256())
        )
        certificate = made.public_bytes(serialization.Encoding.PEM)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        file = tmp_path / "ssl.config"
        escaped = {"server_key": private, "server_cert": certificate}
        file.write_text(
            "\n".join(
                f'{field}: "{text_format.text_encoding.CEscape(value, False)}"' for field, value in escaped.items()
            )
        )
        flags = (f"--model_base_path={base}", f"--ssl_config_file={file}")
        with started(*flags, wait_path="/v1/models/default/metadata") as server:
            credentials = grpc.ssl_channel_credentials(certificate)
            with grpc.secure_channel(f"localhost:{server.grpc_port}", credentials) as channel:
                stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
                assert list(stub.Predict(predict("default", x=[2.0])).outputs["y"].float_val) == [3.0]
            with pytest.raises(grpc.RpcError):
                server.prediction.Predict(predict("default", x=[2.0]), timeout=5)


def refused(*flags: str) -> int:
    """The exit code of a server that does not start."""
    command = [sys.executable, "-m", "adclick.serving.model_server.command", f"--port={free_port()}", *flags]
    return subprocess.run(command, capture_output=True, timeout=120, check=False).returncode
