"""Runs the gateway, with the models in the same process or on a server."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adclick.serving.errors import InvalidArgumentError
from adclick.serving.gateway.app import create_app
from adclick.serving.gateway.backends import create_backend
from adclick.serving.gateway.gateway import Gateway
from adclick.serving.gateway.pipeline_runs import PipelineRuns
from adclick.serving.gateway.settings import GatewaySettings
from adclick.serving.model_server.dataplane import ModelServer
from adclick.serving.model_server.server import address_of, answering, listen

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class RunningGateway:
    """A gateway that answers.

    Attributes:
        gateway: What answers.
        url: The address that a client is given.
    """

    gateway: Gateway
    url: str


@contextmanager
def running_gateway(
    settings: GatewaySettings,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    model_server: ModelServer | None = None,
    settings_file: Path | None = None,
    is_open: bool = False,
    runs: PipelineRuns | None = None,
) -> Iterator[RunningGateway]:
    """Runs a gateway in a thread for the length of a `with` block; what has begun is answered.

    Args:
        settings: The settings.
        host: The address to listen at.
        port: The port; 0 for any free one.
        model_server: The models, where they run in this process.
        settings_file: The file whose changes are taken over.
        is_open: Whether anyone may ask; only on this machine.
        runs: The pipeline's runs, where they are at hand.

    Raises:
        InvalidArgumentError: The settings leave it open to anyone, or lack something.
        NotFoundError: A file that they name cannot be read.
        UnavailableError: The port is in use.
    """
    if is_open and host not in _LOOPBACK:
        raise InvalidArgumentError(f"without authentication a gateway listens at 127.0.0.1 only, not at {host}")
    gateway = Gateway(
        settings,
        create_backend(settings.backend, model_server),
        settings_file=settings_file,
        is_open=is_open,
        runs=runs,
    )
    certificates = tls_options(settings)
    proxies = list(settings.security.trusted_proxies)
    with ExitStack() as stack:
        listener: socket.socket = stack.enter_context(listen(host, port))
        app = create_app(gateway)
        stack.enter_context(answering(app, listener, lifespan="on", forwarded_allow_ips=proxies, **certificates))
        url = address_of(listener)
        yield RunningGateway(gateway, url.replace("http://", "https://") if certificates else url)


def tls_options(settings: GatewaySettings) -> dict[str, Any]:
    """What uvicorn needs for the certificates of the settings.

    Raises:
        InvalidArgumentError: A file is not a certificate or a key.
    """
    security = settings.security
    if security.certificate_file is None or security.key_file is None:
        return {}
    try:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(security.certificate_file, security.key_file)
        if security.client_authority_file is not None:
            context.load_verify_locations(security.client_authority_file)
    except (OSError, ssl.SSLError) as error:
        raise InvalidArgumentError(f"security: the certificates cannot be used: {error}") from error
    options: dict[str, Any] = {
        "ssl_certfile": str(security.certificate_file),
        "ssl_keyfile": str(security.key_file),
    }
    if security.client_authority_file is not None:
        options["ssl_ca_certs"] = str(security.client_authority_file)
        options["ssl_cert_reqs"] = ssl.CERT_REQUIRED
    return options
