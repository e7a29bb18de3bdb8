"""`adclick serve` with what is not there: told as the user's to put right, not as a failure of ours."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from adclick.serving.gateway.security import create_api_key

_SECONDS = 300
#: Nobody is asked before the settings are known to be right: no model is loaded.
_BACKEND = "backend: {kind: grpc, address: 'localhost:1'}\n"


def serve(folder: Path, settings: str, port: int = 0) -> subprocess.CompletedProcess[str]:
    (folder / "keys").write_text(create_api_key("ann")[1] + "\n")
    (folder / "gateway.yaml").write_text(_BACKEND + settings)
    command = [str(Path(sys.executable).with_name("adclick")), "serve", "--gateway-config", "gateway.yaml"]
    return subprocess.run(
        [*command, "--port", str(port)], cwd=folder, capture_output=True, text=True, timeout=_SECONDS, check=False
    )


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ("security: {api_keys_file: missing}", "missing: No such file or directory; `adclick api-key`"),
        ("security: {api_keys_file: keys}\nlog: {predictions: keys/log}", "keys/log: predictions cannot be kept there"),
    ],
)
def test_a_file_that_cannot_be_used_ends_with_2_and_is_named(settings: str, named: str, tmp_path: Path) -> None:
    done = serve(tmp_path, settings)
    assert done.returncode == 2, done.stderr
    assert named in done.stderr and "internal failure" not in done.stderr and "Traceback" not in done.stderr


def test_a_port_that_is_in_use_ends_with_2_and_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = serve(tmp_path, "security: {api_keys_file: keys}", port)
    assert done.returncode == 2, done.stderr
    assert f"port {port} of 127.0.0.1 is already in use" in done.stderr
