# The gateway, which answers the ad API and asks TensorFlow Serving. It holds none of TFX, and no training code.
# From the repository's root, STACK is compat or modern:
#   docker build --file deploy/docker/gateway.Dockerfile --build-arg STACK=compat --tag adclick-gateway .
ARG STACK=compat

FROM python:3.11.16-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b AS python-compat
FROM python:3.13.15-slim-trixie@sha256:9d2e5553305c7c7b0097999bb17187c69b921ccd6bc9d40e4bb5ebe652c00285 AS python-modern

# hadolint ignore=DL3006
FROM python-${STACK} AS build
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
WORKDIR /src
COPY requirements.lock pyproject.toml ./
RUN awk '/^[^ #]/ { keep = /^uv==/ } keep' requirements.lock > uv.lock.txt \
    && pip install --no-cache-dir --require-hashes --no-deps --requirement uv.lock.txt
ENV UV_PYTHON_DOWNLOADS=never UV_COMPILE_BYTECODE=1 UV_NO_CACHE=1 VIRTUAL_ENV=/opt/adclick
# TensorFlow's C++ headers are for who compiles operations.
RUN uv venv "$VIRTUAL_ENV" \
    && uv pip install --verify-hashes --constraints requirements.lock --requirements pyproject.toml --extra gateway \
    && rm -rf "$VIRTUAL_ENV"/lib/python*/site-packages/tensorflow/include
COPY README.md setup.py ./
COPY adclick/__init__.py adclick/py.typed adclick/
COPY schema schema
# Of the models' code what reads files and images, and what metrics are called; a test holds that it is what the gateway imports.
COPY models/__init__.py models/held_out.py models/images.py models/orientation.py models/
COPY models/metrics/__init__.py models/metrics/auc.py models/metrics/auc_precision_recall.py models/metrics/calibration_ratio.py models/metrics/
COPY models/metrics/impressions.py models/metrics/log_loss.py models/metrics/metric.py models/metrics/recall.py models/metrics/
COPY storage/__init__.py storage/bucket.py storage/google_storage.py storage/literal_path.py storage/local_copy.py storage/
COPY storage/filesystem.py storage/folder_lock.py storage/model_versions.py storage/push_directory.py storage/
COPY storage/object_store.py storage/s3.py storage/
COPY serving serving
# The command `adclick` is the pipeline's.
RUN uv pip install --no-deps --build-constraints requirements.lock . \
    && rm "$VIRTUAL_ENV/bin/adclick"

# hadolint ignore=DL3006
FROM python-${STACK} AS gateway
RUN useradd --uid 10001 --no-create-home --home-dir /nonexistent adclick
COPY --from=build /opt/adclick /opt/adclick
# The root may be read-only.
ENV PATH=/opt/adclick/bin:$PATH HOME=/tmp PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 TF_CPP_MIN_LOG_LEVEL=3
USER 10001:10001
WORKDIR /tmp
EXPOSE 8080
ENTRYPOINT ["adclick-gateway"]
CMD ["--gateway-config", "/etc/adclick/config/gateway.yaml", "--host", "0.0.0.0"]
