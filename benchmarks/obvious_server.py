"""The obvious way to serve a SavedModel: FastAPI, `tf.saved_model.load`, and one call of the model a request.

python -m benchmarks.obvious_server MODEL_FOLDER PORT
"""

from __future__ import annotations

import sys
from typing import Any

import tensorflow as tf
import uvicorn
from fastapi import FastAPI


def create_app(model_folder: str) -> FastAPI:
    """Builds the server: `POST /predict` with `{"instances": [...]}`."""
    model = tf.saved_model.load(model_folder)
    run = model.signatures["serving_default"]
    specs = run.structured_input_signature[1]
    app = FastAPI()

    @app.post("/predict")
    def predict(request: dict[str, Any]) -> dict[str, Any]:
        rows = request["instances"]
        tensors = {name: tf.constant([row[name] for row in rows], spec.dtype) for name, spec in specs.items()}
        return {"predictions": run(**tensors)["click_probability"].numpy().tolist()}

    return app


if __name__ == "__main__":
    uvicorn.run(create_app(sys.argv[1]), host="127.0.0.1", port=int(sys.argv[2]), log_level="error")
