"""The gateway's settings, read from one YAML file."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal

import yaml
from limits import parse_many
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from adclick.schema.model_name import DEFAULT_MODEL_NAME
from adclick.serving.errors import InvalidArgumentError, NotFoundError

Percent = Annotated[float, Field(ge=0, le=100)]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BackendSettings(_Settings):
    """Where the models run."""

    kind: Literal["in_process", "grpc", "rest"] = Field(
        "in_process", description="`in_process` loads them into the gateway; the others ask a server by that API."
    )
    address: str = Field("", description="`host:port` of the server for grpc, its URL for rest.")
    model_name: str = Field(DEFAULT_MODEL_NAME, description="The model's name.")
    model_base_path: str = Field(
        "", description="The push directory. Needed in process; elsewhere optional, for what the fields mean."
    )
    timeout_seconds: float = Field(1.0, gt=0, description="After how long a request is given up.")
    explain_timeout_seconds: float = Field(10.0, gt=0, description="The same for `explain`, which costs far more.")


class CreativeSettings(_Settings):
    """What is done about images."""

    allowed: tuple[str, ...] = Field(
        (),
        description="Folders and `gs://bucket/prefix` or `s3://…` addresses of images; none if empty.",
    )
    timeout_seconds: float = Field(0.5, gt=0, description="After how long a fetch is given up.")
    max_bytes: int = Field(10_000_000, ge=1, description="The largest image file.")
    max_pixels: int = Field(40_000_000, ge=1, description="The most pixels of an image.")
    cache_bytes: int = Field(64_000_000, ge=0, description="Memory for embeddings of images that were seen before.")
    address_seconds: float = Field(600.0, ge=0, description="How long an address is taken to hold the same image.")


class Route(_Settings):
    """A share of the users, and the version that answers them."""

    name: str = Field(description="The route's name in answers, logs and metrics.")
    percent: Percent = Field(description="The share of users.")
    label: str | None = Field(None, description="The label of the version; the newest if neither this nor `version`.")
    version: int | None = Field(None, ge=0, description="The version's number.")


class Shadow(_Settings):
    """A version that is asked, too, without a say in the answer."""

    label: str | None = Field(None, description="The label of the version; the newest if neither this nor `version`.")
    version: int | None = Field(None, ge=0, description="The version's number.")
    percent: Percent = Field(100.0, description="The share of requests that it is asked.")
    queue: int = Field(100, ge=1, description="Requests that may wait for it; beyond them they are dropped.")


class RoutingSettings(_Settings):
    """Which version answers whom."""

    routes: tuple[Route, ...] = Field(
        (), description="Their percentages add up to 100; everyone to the newest if empty."
    )
    by: str = Field("user_id", description="The field whose value decides; requests without it are spread at random.")
    salt: str = Field("", description="Another salt spreads users anew.")
    shadow: Shadow | None = Field(None, description="A version to try on real traffic.")
    labels: dict[str, int] = Field(
        {}, description="In process: the version that each label stands for. Elsewhere the server's labels count."
    )

    @property
    def versions(self) -> frozenset[int]:
        """The versions that are asked besides the newest."""
        numbers = [route.version for route in self.routes] + [self.shadow.version if self.shadow is not None else None]
        return frozenset([*self.labels.values(), *(number for number in numbers if number is not None)])

    @model_validator(mode="after")
    def _check(self) -> RoutingSettings:
        total = sum(route.percent for route in self.routes)
        if self.routes and abs(total - 100) > 1e-6:
            raise ValueError(f"the percentages of the routes must add up to 100, not {total:g}")
        names = [route.name for route in self.routes]
        if len(set(names)) != len(names):
            raise ValueError(f"two routes have the same name: {names}")
        return self


class SecuritySettings(_Settings):
    """Who may ask."""

    api_keys_file: Path | None = Field(None, description="Hashed API keys, a line each; see `adclick api-key`.")
    certificate_file: Path | None = Field(None, description="The server's TLS certificate chain, PEM.")
    key_file: Path | None = Field(None, description="Its private key, PEM.")
    client_authority_file: Path | None = Field(
        None, description="Certificates that sign clients' certificates, PEM; clients must then show one (mTLS)."
    )
    trusted_proxies: tuple[str, ...] = Field(
        ("127.0.0.1", "::1"),
        description="Addresses and networks such as `10.0.0.0/8` of proxies whose `X-Forwarded-For` and "
        "`X-Forwarded-Proto` are believed: whose request it is, and whether it came by TLS.",
    )

    @field_validator("trusted_proxies")
    @classmethod
    def _check_proxies(cls, proxies: tuple[str, ...]) -> tuple[str, ...]:
        for proxy in proxies:
            try:
                ip_network(proxy)
            except ValueError as error:
                raise ValueError(f"not an address or a network: {error}") from error
        return proxies

    @model_validator(mode="after")
    def _check(self) -> SecuritySettings:
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file go together")
        if self.client_authority_file is not None and self.certificate_file is None:
            raise ValueError("client_authority_file needs certificate_file and key_file")
        return self


class LimitSettings(_Settings):
    """How much is taken on."""

    body_bytes: int = Field(16_000_000, ge=1, description="The largest request body.")
    ads: int = Field(500, ge=1, description="Ads of one context.")
    contexts: int = Field(100, ge=1, description="Contexts of one `score:batch`.")
    rate: str = Field("2000/second", description="Requests of one client, such as `100/second;100000/day`; or empty.")
    past_days: float | None = Field(
        7_300.0, ge=0, description="An impression's time may lie so many days before now; null for any."
    )
    future_days: float | None = Field(
        366.0, ge=0, description="The same after now: a time in milliseconds lies far beyond; null for any."
    )
    in_flight: int = Field(512, ge=1, description="Requests that are answered at the same time; 503 beyond.")

    @field_validator("rate")
    @classmethod
    def _check_rate(cls, rate: str) -> str:
        if rate:
            parse_many(rate)
        return rate


class LogSettings(_Settings):
    """What is written down of the traffic."""

    access: bool = Field(True, description="Whether each request is a line of JSON in the log.")
    user_field: str = Field("user_id", description="The field that names a person; logs hold only its keyed hash.")
    hash_key_file: Path | None = Field(
        None,
        description="A secret for that hash; without it one is drawn at each start, and hashes of two starts differ.",
    )
    predictions: Path | None = Field(None, description="A folder for sampled predictions; none if empty.")
    sample_percent: Percent = Field(1.0, description="The share of requests whose predictions are logged.")
    file_bytes: int = Field(16_000_000, ge=1_000, description="After how many bytes a file is finished.")
    file_seconds: float = Field(60.0, gt=0, description="After how long a file is finished.")
    total_bytes: int = Field(1_000_000_000, ge=1_000, description="Beyond so many bytes the oldest files are removed.")


class EdgeSettings(_Settings):
    """What devices report (`adclick-edge watch --gateway`)."""

    reports_file: Path | None = Field(
        None,
        description="A SQLite file for reports of devices, written by this gateway alone; none are taken if empty.",
    )
    device_keys_file: Path | None = Field(
        None, description="Hashed keys of devices, a line each, by the device's name; see `adclick api-key`."
    )
    total_bytes: int = Field(
        1_000_000_000, ge=1_000, description="Beyond so many bytes the oldest reports go, proofs of play first."
    )
    most_devices: int = Field(2_000, ge=1, description="Reports of more devices are refused: each has series.")


class ConsoleSettings(_Settings):
    """The page for people, at `/`."""

    enabled: bool = Field(True, description="Whether there is a page at `/`, and what it shows below `/console`.")
    session_seconds: int = Field(
        28_800, ge=60, le=604_800, description="How long a browser stays signed in that an API key was given to."
    )
    session_key_file: Path | None = Field(
        None,
        description="A secret that sessions are signed with, for several gateways behind one address; without it one "
        "is drawn at each start, which ends all sessions.",
    )


class GatewaySettings(_Settings):
    """All of the gateway's settings."""

    backend: BackendSettings = Field(default_factory=BackendSettings)
    creatives: CreativeSettings = Field(default_factory=CreativeSettings)
    routing: RoutingSettings = Field(default_factory=RoutingSettings)
    security: SecuritySettings = Field(default_factory=SecuritySettings)
    limits: LimitSettings = Field(default_factory=LimitSettings)
    log: LogSettings = Field(default_factory=LogSettings)
    edge: EdgeSettings = Field(default_factory=EdgeSettings)
    console: ConsoleSettings = Field(default_factory=ConsoleSettings)


#: Sections that a running gateway takes over when the file changes; the others need a restart.
RELOADABLE = ("routing", "limits", "creatives")


def load_settings(path: Path) -> GatewaySettings:
    """Reads the settings; relative paths are relative to the file.

    Raises:
        NotFoundError: The file cannot be read.
        InvalidArgumentError: It is not YAML, or a setting is wrong; names it.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise NotFoundError(f"{path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidArgumentError(f"{path}: not YAML: {error}") from error
    try:
        settings = GatewaySettings.model_validate(document)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc'])) or 'the file'}: {fault['msg'].removeprefix('Value error, ')}"
            for fault in error.errors()
        )
        raise InvalidArgumentError(f"{path}: {faults}") from error
    return _resolved(settings, path.resolve().parent)


def _resolved(settings: GatewaySettings, folder: Path) -> GatewaySettings:
    def absolute(section: BaseModel) -> BaseModel:
        paths = {name: folder / value for name, value in section if isinstance(value, Path)}
        return section.model_copy(update=paths)

    backend = settings.backend
    if backend.model_base_path and "://" not in backend.model_base_path:
        backend = backend.model_copy(update={"model_base_path": str(folder / backend.model_base_path)})
    allowed = tuple(place if "://" in place else str(folder / place) for place in settings.creatives.allowed)
    return settings.model_copy(
        update={
            "backend": backend,
            "creatives": settings.creatives.model_copy(update={"allowed": allowed}),
            "security": absolute(settings.security),
            "log": absolute(settings.log),
            "edge": absolute(settings.edge),
            "console": absolute(settings.console),
        }
    )
