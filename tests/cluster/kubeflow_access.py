"""Who may submit, and what submits by itself: a Kubeflow for many users, and a schedule."""

from __future__ import annotations

import json
import subprocess
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.on_kubeflow import HOST, changed, follow
from tests.cluster.proof import NODE, PROJECT, Proof, wait

#: The server of kubeflow.sh that knows many users.
_MANY_USERS = f"http://{NODE}:8889"
_NAMESPACE = "ads"
#: What `adclick submit` ends with where the platform refuses.
_REFUSED = 7
_AUDIENCE = "pipelines.kubeflow.org"


def role_of_the_readme() -> list[dict[str, Any]]:
    """The rules of the Role that deploy/README.md gives who submits."""
    section = (PROJECT / "deploy" / "README.md").read_text().partition("\n- **Role**")[2]
    block = section.partition("```yaml\n")[2].partition("```")[0]
    rules: list[dict[str, Any]] = yaml.safe_load(block)["rules"]
    return rules


def prove_permissions(proof: Proof, config: Path) -> None:
    """Adds the rows of a Kubeflow for many users."""

    def for_many(document: dict[str, Any]) -> None:
        document["platform"]["kubeflow"] = {"host": _MANY_USERS, "namespace": _NAMESPACE}

    many = changed(config, "many-users", for_many)

    def refused(token: str) -> str:
        try:
            proof.adclick("submit", "--config", many, "--target", "kubeflow", ADCLICK_KUBEFLOW_TOKEN=token)
        except subprocess.CalledProcessError as error:
            assert error.returncode == _REFUSED, (error.returncode, error.stderr)
            return " ".join(error.stderr.split())
        raise AssertionError("it was accepted")

    proof.kubectl("create", "namespace", _NAMESPACE)
    proof.kubectl("--namespace", _NAMESPACE, "create", "serviceaccount", "submitter")
    token = proof.kubectl(
        *("--namespace", _NAMESPACE, "create", "token", "submitter", "--audience", _AUDIENCE, "--duration", "2h")
    ).strip()
    elsewhere = proof.kubectl("--namespace", _NAMESPACE, "create", "token", "submitter").strip()
    with proof.row("a Kubeflow for many users: no token, a wrong one or one of another audience is refused") as saw:
        said = [refused(value) for value in ("", "no.token.atall", elsewhere)]
        assert all("401" in text for text in said), said
        saw.append(f"{len(said)} times {said[-1][:260]}")
    with proof.row("a token without the Role is refused, with the right that is missing") as saw:
        text = refused(token)
        assert "403" in text and f"Let the caller list experiments (resource of {_AUDIENCE})" in text, text
        saw.append(f"403 … {text[text.index('Let the caller') :]}")
    with proof.row("with the Role of deploy/README.md it submits and schedules") as saw:
        role = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": {"name": "submitter", "namespace": _NAMESPACE},
            "rules": role_of_the_readme(),
        }
        proof.kubectl("apply", "--filename", "-", text=json.dumps(role))
        account = f"--serviceaccount={_NAMESPACE}:submitter"
        proof.kubectl("--namespace", _NAMESPACE, "create", "rolebinding", "submitter", "--role=submitter", account)
        for command in (["submit"], ["schedule", "--cron", "0 6 2 * *"]):
            said_now = proof.adclick(*command, "--config", many, "--target", "kubeflow", ADCLICK_KUBEFLOW_TOKEN=token)
            saw.append(said_now.strip().splitlines()[-1][:160])
        workflows = proof.json("--namespace", _NAMESPACE, "get", "workflows")["items"]
        schedules = proof.json("--namespace", _NAMESPACE, "get", "scheduledworkflows")["items"]
        assert (len(workflows), len(schedules)) == (1, 1), (len(workflows), len(schedules))
        saw.append(f"a workflow and a schedule in namespace {_NAMESPACE}")


def _asked(path: str, method: str = "GET", **query: str) -> Any:
    request = urllib.request.Request(f"{HOST}/apis/v2beta1/{path}?{urllib.parse.urlencode(query)}", method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def prove_schedule(proof: Proof, config: Path) -> None:
    """Adds the row of a schedule that fires, submits the month from inside, and ends.

    Args:
        proof: The cluster.
        config: A project whose months have run and were pushed, so that what the schedule submits has nothing to do.
    """
    with proof.row("a schedule fires, and its step submits the newest months from inside the cluster") as saw:
        earlier = {run["run_id"] for run in _asked("runs", page_size="200").get("runs", [])}
        proof.adclick("schedule", "--config", config, "--target", "kubeflow", "--cron", "* * * * *")
        (schedule,) = _asked("recurringruns").get("recurringRuns", [])
        identity = schedule["recurring_run_id"]

        def new_runs() -> list[dict[str, Any]]:
            runs: list[dict[str, Any]] = _asked("runs", page_size="200").get("runs", [])
            return [run for run in runs if run["run_id"] not in earlier]

        fired = wait(
            "the schedule fires", lambda: [run for run in new_runs() if run.get("recurring_run_id") == identity], 300
        )[0]
        monthly = follow(proof, fired["run_id"])
        assert monthly.state == "SUCCEEDED" and "submitted" in monthly.log("MonthlySubmission"), monthly
        _asked(f"recurringruns/{identity}", "DELETE")
        submitted = [run for run in new_runs() if not run.get("recurring_run_id")]
        assert submitted, new_runs()
        month = follow(proof, submitted[0]["run_id"])
        assert (month.state, month.pods) == ("SUCCEEDED", {}), month
        saw.append(f"its first run submitted run {month.id}, which ended {month.state} without a step: nothing was new")
