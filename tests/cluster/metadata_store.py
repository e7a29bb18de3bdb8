"""ML Metadata behind gRPC: the wheel's own C++ store, as its server is published as an image alone.

python -m tests.cluster.metadata_store SQLITE_FILE ADDRESS
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from concurrent import futures
from typing import Any

import grpc
from ml_metadata.metadata_store.pywrap.metadata_store_extension import metadata_store as native
from ml_metadata.proto import metadata_store_pb2, metadata_store_service_pb2

_CODES = {code.value[0]: code for code in grpc.StatusCode}


def _handler(store: Any, lock: threading.Lock, name: str) -> grpc.RpcMethodHandler:
    call: Callable[[Any, bytes], tuple[bytes, bytes | str, int]] | None = getattr(native, name, None)

    def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
        if call is None:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, name)
        with lock:
            response, message, code = call(store, request)
        if code:
            context.abort(_CODES[code], message.decode() if isinstance(message, bytes) else message)
        return response

    return grpc.unary_unary_rpc_method_handler(answer)


def main() -> None:
    config = metadata_store_pb2.ConnectionConfig()
    config.sqlite.filename_uri = sys.argv[1]
    config.sqlite.connection_mode = metadata_store_pb2.SqliteMetadataSourceConfig.READWRITE_OPENCREATE
    store = native.CreateMetadataStore(
        config.SerializeToString(), metadata_store_pb2.MigrationOptions().SerializeToString()
    )
    lock = threading.Lock()
    service = metadata_store_service_pb2.DESCRIPTOR.services_by_name["MetadataStoreService"]
    methods = {method.name: _handler(store, lock, method.name) for method in service.methods}
    server = grpc.server(futures.ThreadPoolExecutor(8), options=[("grpc.max_receive_message_length", -1)])
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.full_name, methods),))
    server.add_insecure_port(sys.argv[2])
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main()
