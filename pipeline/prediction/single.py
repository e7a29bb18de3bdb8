"""`adclick predict`: one impression, from JSON or a CSV row, sent over HTTP."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from adclick.components.ad_example_gen.chunks import ReadOptions, open_drop_file, plan_chunks, read_chunk
from adclick.components.ad_example_gen.drop_files import list_drop
from adclick.components.ad_example_gen.settings import CsvSettings, IngestionSettings
from adclick.components.ad_example_gen.sources.source import DataFile
from adclick.models.description import read_description
from adclick.models.images import to_decodable
from adclick.models.requests import MISSING, text_or_bytes
from adclick.pipeline.config.settings import Config, load_config
from adclick.pipeline.drops import month_folders
from adclick.schema.errors import ConfigError
from adclick.schema.feature_table import FeatureTable, RawType
from adclick.schema.model_name import DEFAULT_MODEL_NAME
from adclick.schema.times import seconds_since_1970
from adclick.serving.client.client import ModelServerClient
from adclick.serving.errors import ServingError
from adclick.serving.model_server.server import running_server
from adclick.storage import filesystem
from adclick.storage.local_copy import local_copy
from adclick.storage.push_directory import whole_versions

_SHOWN_BYTES = 24


def run_predict(
    *,
    config: Path | None,
    url: str | None,
    model_base_path: str | None,
    model_name: str | None,
    request: str | None,
    csv: str | None,
    row: int,
    image: str | None,
    quiet: bool,
    console: Console,
) -> None:
    """Sends one impression to a running server, or to one that is started for it, and prints the answer.

    Raises:
        ConfigError: The options do not say what to send or where, or the request does not fit the model's columns.
        ConfigError: The server cannot be reached or refuses the request.
    """
    settings = load_config(config) if config is not None else None
    base = push_directory(settings, model_base_path)
    instance, source = chosen_instance(settings, base, request, csv, row, image)
    name = model_name or (settings.serving.model_name if settings is not None else DEFAULT_MODEL_NAME)
    with ExitStack() as stack:
        try:
            if url is None:
                if base is None:
                    raise ConfigError("nowhere to send it", "Give --url, --config or --model-base-path.")
                url = stack.enter_context(running_server(base, model_name=name)).url
            client = stack.enter_context(ModelServerClient(url, name))
            client.predict([instance])  # A first request pays for what later ones find ready.
            started = time.perf_counter()
            (probability,) = client.predict([instance])
            elapsed = time.perf_counter() - started
        except ServingError as error:
            raise ConfigError(str(error), "Is the server running, and does it serve this model?") from None
    if quiet:
        console.print(probability, highlight=False)
        return
    console.print(f"POST {url}/v1/models/{name}:predict  ({source})", highlight=False, soft_wrap=True)
    console.print_json(json.dumps({"instances": [instance]}, default=_shown))
    answer = json.dumps({"predictions": [probability]})
    console.print(Text.assemble(f"Answer in {elapsed * 1000:.1f} ms: ", (answer, "bold")))


def push_directory(config: Config | None, given: str | None) -> str | None:
    """The push directory: the one given, else the config's; None without either."""
    return given or (config.push_base if config is not None else None)


def chosen_instance(
    config: Config | None, base: str | None, request: str | None, csv: str | None, row: int, image: str | None
) -> tuple[dict[str, Any], str]:
    """The impression that the options name, as a row for `serving_default`, and where it comes from.

    Raises:
        ConfigError: They do not name one, or it does not fit the columns of the newest version in `base`.
    """
    features = model_features(config, base)
    source = "JSON"
    if request is not None and csv is not None:
        raise ConfigError("give JSON or --csv, not both")
    if request is not None:
        instance = instance_from_json(sys.stdin.read() if request == "-" else request, features)
    else:
        dialect = config.csv if config is not None else CsvSettings()
        file = csv or _newest_file(config)
        source = f"row {row} of {file}"
        instance = instance_from_csv(file, row, features, dialect)
    if image is not None:
        if features.image_name is None:
            raise ConfigError("--image: the model takes no image")
        instance[features.image_name] = _image_bytes(image)
    return instance, source


def model_features(config: Config | None, base: str | None) -> FeatureTable:
    """The columns of the newest version in `base`, else of the config; raises `ConfigError` where there is neither."""
    versions = whole_versions(base) if base is not None else []
    if versions:
        return read_description(local_copy(f"{base}/{versions[-1]}")).features
    if config is not None:
        return config.features
    raise ConfigError("the model's columns are not known", "Give --config, or --model-base-path with a pushed version.")


def _newest_file(config: Config | None) -> str:
    if config is None:
        raise ConfigError("nothing to send", "Give --json, --csv or --config.")
    root = config.data.root
    return list_drop(filesystem.join(root, *month_folders(root)[-1:])).paths[0]


def instance_from_json(text: str, features: FeatureTable) -> dict[str, Any]:
    """A row for `serving_default` from a JSON object of columns; what is not given is missing.

    Raises:
        ConfigError: The text is no JSON object, or a column is unknown or of the wrong type.
    """
    try:
        given = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"--json: not valid JSON: {error}") from None
    if not isinstance(given, dict):
        raise ConfigError("--json: must be one JSON object of columns")
    unknown = sorted(set(given) - set(features.model_inputs))
    if unknown:
        raise ConfigError(
            f"--json: unknown column {unknown[0]!r}", f"The columns are {', '.join(features.model_inputs)}."
        )
    return {name: _typed(name, given.get(name), features) for name in features.model_inputs}


def _typed(name: str, value: Any, features: FeatureTable) -> Any:
    raw_type = features.raw_type(name)
    if features.root[name].is_list:
        values = value if isinstance(value, list) else [] if value is None else [value]
        return [str(part) for part in values] or [MISSING[RawType.STRING]]
    if value is None:
        return MISSING[raw_type]
    try:
        if raw_type is RawType.FLOAT:
            return float(value)
        if raw_type is RawType.INT:
            return _seconds(value)
    except (TypeError, ValueError):
        raise ConfigError(f"--json: {name} is {value!r}, which is no {raw_type.value}") from None
    return value if isinstance(value, str) else json.dumps(value)


def _seconds(value: Any) -> int:
    return int(seconds_since_1970(value) if isinstance(value, str) else value)


def instance_from_csv(file: str, row: int, features: FeatureTable, csv: CsvSettings) -> dict[str, Any]:
    """A row for `serving_default` from a row of a file, read as ingestion reads it; its image is sent as bytes.

    Raises:
        ConfigError: There is no such row, or it would be quarantined.
        DataRefused: The file does not have the columns.
    """
    if not filesystem.isfile(file):
        raise ConfigError(f"{file}: no such file")
    limits = IngestionSettings()
    options = ReadOptions(features, csv, limits.max_field_bytes, split_by_time=False, labelled=False)
    opened = open_drop_file(DataFile(file), 0, csv, features, labelled=False)
    seen = 0
    for chunk in plan_chunks(opened, csv, limits.max_field_bytes, limits.chunk_bytes) if opened else ():
        for part in read_chunk(chunk, options, limits.chunk_bytes):
            if row <= seen + part.batch.num_rows:
                return _instance(part.batch.slice(row - seen - 1, 1).to_pylist()[0], file, features)
            seen += part.batch.num_rows
    raise ConfigError(f"{file}: has {seen} usable rows, there is no row {row}")


def _instance(values: Mapping[str, Any], file: str, features: FeatureTable) -> dict[str, Any]:
    instance: dict[str, Any] = {}
    for name, column in features.model_inputs.items():
        value = values.get(name)
        if isinstance(value, list):
            value = [text_or_bytes(part) for part in value] or [MISSING[RawType.STRING]]
        elif isinstance(value, bytes):
            value = text_or_bytes(value)
        if value is None:
            missing = MISSING[features.raw_type(name)]
            value = [missing] if column.is_list else missing
        instance[name] = value
    if features.image_name is not None and instance[features.image_name]:
        address = filesystem.join(file.rpartition("/")[0], str(instance[features.image_name]))
        instance[features.image_name] = _image_bytes(address) if filesystem.isfile(address) else ""
    return instance


def _image_bytes(path: str) -> bytes:
    try:
        with filesystem.open_read(path) as stream:
            return to_decodable(stream.read())
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such image") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: not an image that can be decoded: {error}") from None


def _shown(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"b64": f"{value[:_SHOWN_BYTES].hex()}… {len(value):,} bytes"}
    raise TypeError(type(value).__name__)
