"""Traffic that a version is asked which Kubeflow pushed, as `adclick monitor` judges it."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import yaml

from tests.cluster.on_kubeflow import OUTPUT
from tests.cluster.proof import PROJECT, Proof, wait
from tests.end_to_end.harness import Project, held_out_examples
from tests.gcs import free_port

_ROWS, _CONTEXTS = 1_000, 100


def prove_monitored(proof: Proof, config: Path, local: Project) -> None:
    """Adds the row of the monitor; the version has been pushed to the bucket."""
    with proof.row("`adclick serve` and `monitor` take the version and its training from the bucket") as saw:
        log = proof.folder / "predictions"
        asked = _ask(proof, local, log)
        said = json.loads(proof.adclick("monitor", "--config", config, "--predictions", log, "--quiet", "--json", "-"))
        assert said["state"] == "in_order", said
        saw.append(f"{asked} ads scored; monitor: {said['state']}")


def _ask(proof: Proof, local: Project, log: Path) -> int:
    """Serves the push directory on this machine and asks for held-out rows; gives how many."""
    import tensorflow as tf

    from adclick.models.requests import requests_from_examples
    from adclick.pipeline.config.settings import load_config
    from adclick.serving.client.gateway_client import GatewayClient

    settings = proof.folder / "gateway.yaml"
    limits = {"limits": {"rate": ""}, "log": {"predictions": str(log), "sample_percent": 100, "access": False}}
    settings.write_text(yaml.safe_dump(limits))
    ports = [free_port() for _ in range(3)]
    options = zip(("--port", "--rest-port", "--grpc-port"), map(str, ports), strict=True)
    command = [sys.executable, "-m", "adclick", "serve", "--development", "--gateway-config", str(settings)]
    command += ["--model-base-path", f"{OUTPUT}/serving_model/adclick", *(word for pair in options for word in pair)]
    records = held_out_examples(local, _ROWS)
    rows = requests_from_examples(records, load_config(local.config).features)
    identifiers = [tf.train.Example.FromString(record).features.feature["impression_id"] for record in records]
    ads = [
        {
            **{name: value for name, value in row.items() if value not in ("", -1) and value == value},
            "impression_id": identifier.bytes_list.value[0].decode(),
        }
        for row, identifier in zip(rows, identifiers, strict=True)
    ]
    with (proof.folder / "gateway.log").open("wb") as printed:
        server = subprocess.Popen(command, env=proof.variables, cwd=PROJECT, stdout=printed, stderr=printed)
    try:
        with GatewayClient(f"http://127.0.0.1:{ports[0]}", timeout_seconds=120) as client:
            wait("the gateway is ready", lambda: server.poll() is not None or _is_ready(ports[0]), 180)
            for start in range(0, len(ads), _CONTEXTS):
                client.score_batch([({}, [ad]) for ad in ads[start : start + _CONTEXTS]], request_id=f"r-{start}")
    finally:
        server.terminate()
        server.wait(60)
    return len(ads)


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=10) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
