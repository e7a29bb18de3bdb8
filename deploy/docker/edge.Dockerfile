# A device's runtime, which recognises what its screen shows. It holds neither TensorFlow nor anything else of adclick.
# From the repository's root, STACK is compat or modern:
#   docker build --file deploy/docker/edge.Dockerfile --build-arg STACK=compat --tag adclick-edge .
ARG STACK=compat

FROM python:3.11.16-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b AS python-compat
FROM python:3.13.15-slim-trixie@sha256:9d2e5553305c7c7b0097999bb17187c69b921ccd6bc9d40e4bb5ebe652c00285 AS python-modern

# hadolint ignore=DL3006
FROM python-${STACK} AS build
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
WORKDIR /src
COPY requirements.lock ./
RUN awk '/^[^ #]/ { keep = /^uv==/ } keep' requirements.lock > uv.lock.txt \
    && pip install --no-cache-dir --require-hashes --no-deps --requirement uv.lock.txt
ENV UV_PYTHON_DOWNLOADS=never UV_NO_CACHE=1 VIRTUAL_ENV=/opt/adclick-edge
COPY deploy/edge/pyproject.toml deploy/edge/slim.sh deploy/edge/
# The lock is of x86-64: on aarch64 it holds nothing, and the newest releases are taken.
RUN uv venv "$VIRTUAL_ENV" \
    && uv pip install --verify-hashes --constraints requirements.lock --requirements deploy/edge/pyproject.toml --extra mqtt
COPY serving/edge serving/edge
RUN uv pip install --no-deps --build-constraints requirements.lock ./deploy/edge \
    && sh deploy/edge/slim.sh "$VIRTUAL_ENV" \
    && "$VIRTUAL_ENV/bin/python" -m compileall -q "$VIRTUAL_ENV/lib"

# hadolint ignore=DL3006
FROM python-${STACK} AS edge
# The state folder belongs to that user, also where a new volume is mounted there.
RUN useradd --uid 10001 --no-create-home --home-dir /nonexistent adclick \
    && install --directory --owner=10001 --group=10001 --mode=0750 /var/lib/adclick-edge
COPY --from=build /opt/adclick-edge /opt/adclick-edge
# The root may be read-only.
ENV PATH=/opt/adclick-edge/bin:$PATH HOME=/tmp PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
WORKDIR /tmp
VOLUME /var/lib/adclick-edge
ENTRYPOINT ["adclick-edge"]
CMD ["--help"]
