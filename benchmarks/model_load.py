"""How long a server takes to load a SavedModel, and how large its graph is.

    python -m benchmarks.model_load FOLDER

In a process of its own: `seconds` that TensorFlow's C++ loader takes, every signature made ready as a server does, but
for `explain`; `nodes` of the graph and of its functions; `bytes` of `saved_model.pb`, which holds no weights. As JSON.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from tensorflow.core.protobuf import saved_model_pb2

from adclick.serving.model_server.servable import Servable


def main() -> None:
    """Measures and prints."""
    folder = Path(sys.argv[1])
    start = time.perf_counter()
    Servable.load(folder).close()
    seconds = time.perf_counter() - start
    written = (folder / "saved_model.pb").read_bytes()
    graph = saved_model_pb2.SavedModel.FromString(written).meta_graphs[0].graph_def
    nodes = len(graph.node) + sum(len(function.node_def) for function in graph.library.function)
    print(json.dumps({"seconds": seconds, "nodes": nodes, "bytes": len(written)}))


if __name__ == "__main__":
    main()
