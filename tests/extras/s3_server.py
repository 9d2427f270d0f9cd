"""A server of this machine that speaks S3 over HTTPS (moto's), with one bucket.

With TLS because LitData takes nothing else; s3fs and boto3 find it as they would find S3, by the environment.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import boto3

from tests.forked import free_port

BUCKET = "scans"


class Store:
    """The bucket."""

    def __init__(self, client: Any) -> None:
        self.client = client
        client.create_bucket(Bucket=BUCKET)

    def upload(self, folder: Path, name: str) -> str:
        """Put the files of a folder below a name; returns its address."""
        for path in folder.rglob("*"):
            if path.is_file():
                self.put(f"{name}/{path.relative_to(folder).as_posix()}", path.read_bytes())
        return f"s3://{BUCKET}/{name}"

    def tree(self, name: str) -> dict[str, bytes]:
        """Bytes of all objects below a name, as ``tree_bytes`` says it of a folder."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{name}/")
        keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
        return {key.removeprefix(f"{name}/"): self.read(key) for key in keys}

    def put(self, key: str, data: bytes) -> None:
        self.client.put_object(Bucket=BUCKET, Key=key, Body=data)

    def read(self, key: str) -> bytes:
        return bytes(self.client.get_object(Bucket=BUCKET, Key=key)["Body"].read())

    def remove(self, key: str) -> None:
        self.client.delete_object(Bucket=BUCKET, Key=key)


@contextlib.contextmanager
def s3_server(folder: Path) -> Iterator[Store]:
    """Start the server, and let the environment name it, for child processes too; both end with the block."""
    certificates(folder)
    port = free_port()
    words = f"-m moto.server -H 127.0.0.1 -p {port} -s -c server.pem -k server.key"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen([sys.executable, *words.split()], cwd=folder, **quiet)
    settings = {
        "AWS_ENDPOINT_URL": f"https://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",  # where keys would be looked for as well
        "AWS_CA_BUNDLE": str(folder / "ca.pem"),
        "SSL_CERT_FILE": str(folder / "ca.pem"),
    }
    with mock.patch.dict(os.environ, settings):
        os.environ.pop("SSL_CERT_DIR", None)
        try:
            _wait_for(server, port)
            yield Store(boto3.client("s3"))
        finally:
            server.kill()
            server.wait()


def certificates(folder: Path) -> None:
    """An authority of its own, and the server's certificate by it."""
    (folder / "extensions").write_text("subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
    new, own = "-newkey rsa:2048 -nodes", "-x509 -days 2 -addext basicConstraints=critical,CA:TRUE"
    for words in (
        f"req {new} {own} -subj /CN=authority -out ca.pem -keyout ca.key",
        f"req {new} -subj /CN=server -out server.csr -keyout server.key",
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -days 2 -extfile extensions -out server.pem",
    ):
        subprocess.run(["openssl", *words.split()], cwd=folder, check=True, capture_output=True)


def _wait_for(server: subprocess.Popen[bytes], port: int, seconds: float = 120.0) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until and server.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
    raise RuntimeError("the server did not start")
