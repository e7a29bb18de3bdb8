"""TensorFlow's profiler service on the gRPC API, so that TensorBoard captures what a live server does."""

from __future__ import annotations

import logging
import socket
import threading
from typing import Any

import grpc
import tensorflow as tf

logger = logging.getLogger(__name__)

_SERVICE = "tensorflow.ProfilerService"
_METHODS = ("Profile", "Terminate", "Monitor")
_LARGEST_MESSAGE = 2**31 - 1


def add_profiler_service(server: grpc.Server) -> None:
    """Has a gRPC server answer for TensorFlow's own profiler, which is started when it is first asked."""
    profiler = _Profiler()
    handlers = {name: grpc.unary_unary_rpc_method_handler(profiler.method(name)) for name in _METHODS}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, handlers),))


class _Profiler:
    """TensorFlow's profiler server of this process, to which messages are passed on as they are."""

    def __init__(self) -> None:
        self._starting = threading.Lock()
        self._channel: grpc.Channel | None = None

    def method(self, name: str) -> Any:
        def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
            call = self._started().unary_unary(f"/{_SERVICE}/{name}")
            try:
                response: bytes = call(request, timeout=context.time_remaining())
            except grpc.RpcError as error:
                context.abort(error.code(), error.details())
                raise AssertionError("abort raises") from error
            return response

        return answer

    def _started(self) -> grpc.Channel:
        with self._starting:
            if self._channel is None:
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", 0))
                    port = int(probe.getsockname()[1])
                tf.profiler.experimental.server.start(port)
                logger.info("TensorFlow's profiler server at port %d", port)
                self._channel = grpc.insecure_channel(
                    f"127.0.0.1:{port}",
                    options=[
                        ("grpc.enable_http_proxy", 0),
                        ("grpc.max_receive_message_length", _LARGEST_MESSAGE),
                        ("grpc.max_send_message_length", _LARGEST_MESSAGE),
                    ],
                )
            return self._channel
