"""S3 on this machine: gofakes3, which speaks its protocol. The code under test finds its address in the environment."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.gcs import free_port, go, locked, run_or_skip, tools_folder

GOFAKES3 = "github.com/johannesboyne/gofakes3/cmd/gofakes3@v1.2.0"


def gofakes3() -> Path:
    """The server's binary, built once; skips the test, with the reason, where it cannot be had."""
    if found := shutil.which("gofakes3"):
        return Path(found)
    folder = tools_folder() / f"gofakes3-{GOFAKES3.rpartition('@')[2]}"
    binary = folder / "gofakes3"
    with locked(folder.with_suffix(".lock")):
        if not binary.exists():
            environment = {**os.environ, "GOBIN": str(folder), "GOFLAGS": "-buildvcs=false"}
            run_or_skip([go(), "install", GOFAKES3], "gofakes3 cannot be built", env=environment)
    return binary


class S3:
    """The server as the tests see it, at a port of this machine or of another address of it."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self.environment = {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "a-key-of-the-tests",
            "AWS_SECRET_ACCESS_KEY": "a-secret-of-the-tests",
            "AWS_REGION": "eu-central-1",
        }
        import boto3

        self._client: Any = boto3.client(
            "s3",
            endpoint_url=self.environment["AWS_ENDPOINT_URL"],
            region_name="eu-central-1",
            aws_access_key_id=self.environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.environment["AWS_SECRET_ACCESS_KEY"],
        )

    def make_bucket(self, name: str) -> None:
        self._client.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})

    def put(self, address: str, content: bytes) -> None:
        bucket, _, name = address.removeprefix("s3://").partition("/")
        self._client.put_object(Bucket=bucket, Key=name, Body=content)

    def put_folder(self, folder: Path, address: str) -> None:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                self.put(f"{address}/{file.relative_to(folder)}", file.read_bytes())

    def get(self, address: str) -> bytes:
        bucket, _, name = address.removeprefix("s3://").partition("/")
        content: bytes = self._client.get_object(Bucket=bucket, Key=name)["Body"].read()
        return content

    def names(self, address: str) -> list[str]:
        """Names of all objects below an address, relative to it, sorted."""
        bucket, _, name = (address.rstrip("/") + "/").removeprefix("s3://").partition("/")
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=name)
        return [found["Key"].removeprefix(name) for page in pages for found in page.get("Contents", [])]

    def delete_folder(self, address: str) -> None:
        bucket, _, name = (address.rstrip("/") + "/").removeprefix("s3://").partition("/")
        for each in self.names(address):
            self._client.delete_object(Bucket=bucket, Key=name + each)


@contextmanager
def running_s3(folder: Path) -> Iterator[S3]:
    """Runs the server, empty, until the block ends; its log is written to `folder`."""
    port = free_port()
    command = [str(gofakes3()), "-host", f"127.0.0.1:{port}", "-backend", "memory"]
    with (folder / "s3.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 180
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert server.poll() is None and time.monotonic() < deadline, "gofakes3 does not answer"
                time.sleep(0.05)
        yield S3(port)
    finally:
        server.terminate()
        server.wait(60)
