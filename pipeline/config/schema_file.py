"""The curated schema of a config, wherever it lies."""

from __future__ import annotations

import hashlib

from tensorflow_metadata.proto.v0 import schema_pb2

from adclick.pipeline.config.settings import Config
from adclick.schema.curated import check_schema, missing_schema, parse_schema
from adclick.schema.errors import ConfigError
from adclick.storage import filesystem


def read_schema(config: Config) -> schema_pb2.Schema:
    """Reads the schema, which may lie in a bucket, and checks it.

    Raises:
        ConfigError: It cannot be read, is not a schema, or does not describe the config's features.
    """
    schema = parse_schema(_content(config.schema_file), config.schema_file)
    check_schema(schema, config.features)
    return schema


def publish_schema(config: Config) -> str:
    """Copies the schema below the output folder, to an address that changes with its content; gives that address.

    TFX's cache goes by the address of what is imported, not by what stands there.
    """
    copy = filesystem.join(config.output, "schema", schema_digest(config), "schema.pbtxt")
    if not filesystem.exists(copy):
        filesystem.make_folder(copy.rpartition("/")[0])
        with filesystem.open_write_atomic(copy) as stream:
            stream.write(_content(config.schema_file))
    return copy


def schema_digest(config: Config) -> str:
    """A hash of the schema's content."""
    return hashlib.sha256(_content(config.schema_file)).hexdigest()[:16]


def _content(path: str) -> bytes:
    try:
        with filesystem.open_read(path) as stream:
            return stream.read()
    except FileNotFoundError:
        raise missing_schema(path) from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
