"""`adclick explain`: why one impression has its click probability, asked of the ad API."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from adclick.models.requests import MISSING
from adclick.pipeline.config.settings import load_config
from adclick.pipeline.console import one_line
from adclick.pipeline.prediction.single import chosen_instance, model_features, push_directory
from adclick.schema.errors import ConfigError
from adclick.schema.feature_table import FeatureTable
from adclick.serving.client.gateway_client import Explanation, GatewayClient, GatewayRefusal
from adclick.serving.errors import ServingError
from adclick.serving.gateway.server import running_gateway
from adclick.serving.gateway.settings import GatewaySettings
from adclick.serving.model_server.server import running_server

_TIMEOUT_SECONDS = 60.0


def run_explain(
    *,
    config: Path | None,
    url: str | None,
    api_key: str | None,
    model_base_path: str | None,
    request: str | None,
    csv: str | None,
    row: int,
    image: str | None,
    heat_map: Path | None,
    as_json: bool,
    console: Console,
) -> None:
    """Has one impression explained by a running gateway, or by one that is started for it, and prints the answer.

    Raises:
        ConfigError: The options do not say what to explain or where, or there is no heat map to write.
        ConfigError: The gateway cannot be reached or refuses the request.
    """
    settings = load_config(config) if config is not None else None
    base = push_directory(settings, model_base_path)
    instance, source = chosen_instance(settings, base, request, csv, row, image)
    ad = fields_of_instance(instance, model_features(settings, base))
    with ExitStack() as stack:
        try:
            if url is None:
                if base is None:
                    raise ConfigError("nowhere to ask", "Give --url, --config or --model-base-path.")
                url = stack.enter_context(_started(base, any_time=csv is not None))
            client = stack.enter_context(GatewayClient(url, api_key, timeout_seconds=_TIMEOUT_SECONDS))
            explanation = client.explain(ad)
        except (ServingError, GatewayRefusal) as error:
            raise ConfigError(str(error), "Is the gateway running, and does it serve this model?") from None
    if heat_map is not None:
        if explanation.heat_map is None:
            raise ConfigError("--heat-map: the impression shows no image", "Give one with --image.")
        heat_map.write_bytes(explanation.heat_map)
    if as_json:
        document = {name: value for name, value in asdict(explanation).items() if name != "heat_map"}
        console.print_json(json.dumps({**document, "source": source}))
        return
    console.print(source, highlight=False, soft_wrap=True)
    console.print(_table(explanation, ad))
    if heat_map is not None:
        console.print(f"Heat map, red where the image helps and blue where it harms: {heat_map}", highlight=False)


@contextmanager
def _started(base: str, any_time: bool) -> Iterator[str]:
    """A gateway for this machine alone with the models of a push directory; gives its address.

    Args:
        base: The push directory.
        any_time: Whether impressions may be of any time: those of a file are as old as the file.
    """
    timeouts = dict.fromkeys(("timeout_seconds", "explain_timeout_seconds"), _TIMEOUT_SECONDS)
    backend = {"model_base_path": base, **timeouts}
    limits = dict.fromkeys(("past_days", "future_days")) if any_time else {}
    settings = GatewaySettings.model_validate({"backend": backend, "log": {"access": False}, "limits": limits})
    with (
        running_server(base) as models,
        running_gateway(settings, model_server=models.model_server, is_open=True) as gateway,
    ):
        yield gateway.url


def fields_of_instance(instance: Mapping[str, Any], features: FeatureTable) -> dict[str, Any]:
    """The fields of an ad of the gateway from a row of `serving_default`; what is missing is left out."""
    fields = {}
    for name, value in instance.items():
        missing = MISSING[features.raw_type(name)]
        is_missing = value in (missing, [missing]) or (isinstance(value, float) and math.isnan(value))
        if not is_missing:
            fields[name] = value
    return fields


def _table(explanation: Explanation, ad: Mapping[str, Any]) -> Table:
    table = Table("column", "value", "adds to the logit", box=SIMPLE_HEAD, pad_edge=False, show_footer=False)
    table.columns[2].justify = "right"
    table.add_row("an ad of which nothing is known", "", f"{explanation.baseline_logit:+.4f}")
    for name, contribution in explanation.contributions.items():
        value = ad.get(name, "-")
        shown = f"{len(value):,} bytes" if isinstance(value, bytes) else str(value)
        table.add_row(one_line(name), one_line(shown[:60]), f"{contribution:+.4f}")
        for word, added in explanation.words.get(name, {}).items():
            table.add_row("", f"  {one_line(word)}", f"{added:+.4f}")
    table.add_section()
    probability = f"click probability {explanation.click_probability:.5f}"
    table.add_row("together", f"{probability}, version {explanation.model_version}", f"{explanation.logit:+.4f}")
    return table
