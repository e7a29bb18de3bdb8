"""The commands of deploy/README.md on Kubernetes, and what they must give."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
import time
from pathlib import Path

from tests.cluster.proof import NODE, PROJECT, RUN_SECONDS, Proof, broken_csv, wait
from tests.end_to_end.harness import Project

_NAMESPACE = ("--namespace", "adclick")
_ROLL_OUT_SECONDS = 300
#: Requests a second, and for how long.
_LOAD = ("200", "60")

#: Asks for the scores of two ads; the argument is an API key.
_ASK = """
import sys, urllib.request
request = urllib.request.Request(
    "http://gateway/v1/score",
    b'{"context": {"user_id": "u644"}, "ads": [{"ad_id": "ad943"}, {"ad_id": "ad1"}]}',
    {"content-type": "application/json", "authorization": "Bearer " + sys.argv[1]},
)
print(urllib.request.urlopen(request, timeout=20).read().decode())
"""

#: Tells which of the addresses, HOST PORT HOST PORT …, can be reached.
_REACH = """
import json, socket, sys
def reaches(host, port):
    try:
        socket.create_connection((host, int(port)), 4).close()
        return True
    except OSError:
        return False
print(json.dumps([reaches(*pair) for pair in zip(sys.argv[1::2], sys.argv[2::2])]))
"""

#: Asks the gateway of its pod for scores: API key, requests a second, seconds. Prints how often which status came.
_ASK_AGAIN = """
import collections, http.client, json, sys, threading, time
key, rate, seconds = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
body = '{"context": {"user_id": "u644"}, "ads": [{"ad_id": "ad943"}]}'
headers = {"content-type": "application/json", "authorization": "Bearer " + key}
statuses, lock = collections.Counter(), threading.Lock()
def ask(first, workers, started):
    connection = http.client.HTTPConnection("127.0.0.1", 8080, timeout=20)
    for number in range(first, int(rate * seconds), workers):
        time.sleep(max(0, started + number / rate - time.monotonic()))
        try:
            connection.request("POST", "/v1/score", body, headers)
            answer = connection.getresponse()
            answer.read()
            status = str(answer.status)
        except OSError as error:
            status = repr(error)
            connection.close()
        with lock:
            statuses[status] += 1
started = time.monotonic()
threads = [threading.Thread(target=ask, args=(first, 16, started)) for first in range(16)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(json.dumps(statuses))
"""


def commands_of_the_readme() -> list[str]:
    """The commands of deploy/README.md's section Kubernetes, as they stand there."""
    section = (PROJECT / "deploy" / "README.md").read_text().partition("\n## Kubernetes\n")[2]
    block = section.partition("```sh\n")[2].partition("```")[0]
    return [line.partition(" #")[0].rstrip() for line in block.splitlines() if line]


def _make_volumes(proof: Proof) -> None:
    """Folders of this machine for the claims."""
    for name in ("output", "drops"):
        folder = proof.folder / "volumes" / name
        folder.mkdir(parents=True)
        folder.chmod(0o777)
        volume = {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": name},
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "capacity": {"storage": "500Gi"},
                "claimRef": {"namespace": "adclick", "name": name},
                "hostPath": {"path": str(folder)},
            },
        }
        proof.kubectl("apply", "--filename", "-", text=json.dumps(volume))


def _end_of(proof: Proof, job: str) -> str:
    """Waits for the end of a job; gives its condition and the reason of it."""

    def ended() -> str | None:
        for condition in proof.json(*_NAMESPACE, "get", "job", job)["status"].get("conditions", []):
            if condition["type"] in ("Complete", "Failed") and condition["status"] == "True":
                return f"{condition['type']} {condition.get('reason', '')}".strip()
        return None

    return str(wait(f"job {job}", ended, RUN_SECONDS))


def _log(proof: Proof, job: str) -> str:
    return proof.kubectl(*_NAMESPACE, "logs", f"job/{job}", check=False)


def _inside(proof: Proof, script: str, *arguments: str, deployment: str = "gateway") -> str:
    """What a Python script prints in a pod of a deployment."""
    return proof.kubectl(
        *_NAMESPACE, "exec", f"deployment/{deployment}", "--", "python", "-c", script, *arguments
    ).strip()


def _roll_out(proof: Proof, deployment: str) -> None:
    proof.kubectl(*_NAMESPACE, "rollout", "status", f"deployment/{deployment}", f"--timeout={_ROLL_OUT_SECONDS}s")


def _prove_policies(proof: Proof, saw: list[str]) -> None:
    said = _inside(proof, _REACH, "tensorflow-serving", "8500", "tensorflow-serving", "8501", NODE, "6443")
    assert json.loads(said) == [True, False, False], said
    saw.append("the gateway reaches tensorflow-serving:8500, not its REST API nor the node")
    said = _inside(proof, _REACH, "10.96.0.10", "53", NODE, "6443", deployment="tensorflow-serving")
    assert json.loads(said) == [False, False], said
    saw.append("tensorflow-serving reaches nobody")


def _prove_roll_out(proof: Proof, key: str, saw: list[str]) -> None:
    statuses: list[str] = []
    load = threading.Thread(target=lambda: statuses.append(_inside(proof, _ASK_AGAIN, key, *_LOAD)))
    load.start()
    time.sleep(5)
    proof.kubectl(*_NAMESPACE, "rollout", "restart", "deployment/tensorflow-serving")
    _roll_out(proof, "tensorflow-serving")
    load.join()
    counted = json.loads(statuses[0])
    assert set(counted) == {"200"}, counted
    saw.append(f"{counted['200']:,} requests, {_LOAD[0]} a second: none failed")


def _prove_refused_month(proof: Proof, saw: list[str]) -> None:
    drops = proof.folder / "volumes" / "drops"
    (drops / "2026-10").mkdir()
    for file in (drops / "2026-09").glob("*.csv"):
        (drops / "2026-10" / file.name).write_bytes(broken_csv(file))
    proof.kubectl(*_NAMESPACE, "create", "job", "--from=cronjob/month", "month-refused")
    ended, log = _end_of(proof, "month-refused"), _log(proof, "month-refused")
    pods = proof.json(*_NAMESPACE, "get", "pods", "--selector", "job-name=month-refused")["items"]
    codes = [pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] for pod in pods]
    assert (ended, codes) == ("Failed PodFailurePolicy", [3]), f"{ended} {codes} {log[-2000:]}"
    saw += [ended, "one pod, exit code 3", next(line for line in log.splitlines() if "error" in line)[:160]]


def prove_kubernetes(proof: Proof, project: Project) -> None:
    """Adds the rows of Kubernetes."""
    folder = proof.folder / "by-the-readme"
    shutil.copytree(PROJECT / "deploy", folder / "deploy")
    (folder / "my-project").mkdir()
    for name in ("config.yaml", "schema.pbtxt"):
        shutil.copy(project.folder / name, folder / "my-project" / name)
    key = proof.adclick("api-key", "backend", "--file", folder / "api-keys").split()[-1]
    (folder / "hash-key").write_text(os.urandom(32).hex())
    _make_volumes(proof)
    shutil.copytree(project.folder / "drops", proof.folder / "volumes" / "drops", dirs_exist_ok=True)

    with proof.row("deploy/README.md's commands") as saw:
        commands = commands_of_the_readme()
        for command in commands:
            subprocess.run(command, shell=True, check=True, capture_output=True, text=True, cwd=folder)
        saw.append(f"{len(commands)} commands, each ended with 0")
    with proof.row("both overlays pass the server's dry run") as saw:
        for overlay in ("one-node", "google-cloud"):
            path = Path("deploy", "kubernetes", "overlays", overlay)
            said = proof.kubectl("apply", "--dry-run=server", "--kustomize", str(folder / path))
            saw.append(f"{overlay}: {len(said.splitlines())} objects")
    with proof.row("the namespace holds to Pod Security 'restricted'") as saw:
        as_root = ("run", "root", "--image=any", "--dry-run=server")
        said = proof.kubectl(*_NAMESPACE, *as_root, check=False)
        assert "violates PodSecurity" in said, said
        said = proof.kubectl(*_NAMESPACE, "get", "events", check=False)
        assert "violates PodSecurity" not in said, said
        saw.append("an ordinary pod is refused, none of deploy/kubernetes is")
    with proof.row("the first month runs and is pushed") as saw:
        ended = _end_of(proof, "month-first")
        assert ended.startswith("Complete"), f"{ended} {_log(proof, 'month-first')[-2000:]}"
        (version,) = os.listdir(proof.folder / "volumes" / "output" / "serving_model" / "adclick")
        saw += [ended, f"version {version}"]
    with proof.row("the servers become ready and answer the ad API") as saw:
        for deployment in ("tensorflow-serving", "gateway"):
            _roll_out(proof, deployment)
        saw.append(_inside(proof, _ASK, key)[:200])
    with proof.row("network policies hold") as saw:
        _prove_policies(proof, saw)
    with proof.row("the model servers roll out under load") as saw:
        _prove_roll_out(proof, key, saw)
    with proof.row("a refused month fails, and is not tried again") as saw:
        _prove_refused_month(proof, saw)
    # Room for what follows.
    proof.kubectl("delete", "namespace", "adclick", "--wait=false")
