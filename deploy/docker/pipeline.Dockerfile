# The pipeline: the adclick command, the steps of Vertex AI and Kubeflow Pipelines, and Beam's workers.
# From the repository's root, STACK is compat or modern:
#   docker build --file deploy/docker/pipeline.Dockerfile --build-arg STACK=compat --target pipeline --tag adclick-pipeline .
ARG STACK=compat

FROM python:3.11.16-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b AS python-compat
FROM python:3.13.15-slim-trixie@sha256:9d2e5553305c7c7b0097999bb17187c69b921ccd6bc9d40e4bb5ebe652c00285 AS python-modern
# Their digests are not pinned: see deploy/README.md.
FROM apache/beam_python3.11_sdk:2.61.0 AS beam-compat
FROM apache/beam_python3.13_sdk:2.77.0 AS beam-modern
FROM flink:2.2.1-java17 AS flink

# hadolint ignore=DL3006
FROM python-${STACK} AS build
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# Debian removes superseded versions from its mirrors: pinned ones stop building within weeks.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY requirements.lock pyproject.toml ./
RUN awk '/^[^ #]/ { keep = /^uv==/ } keep' requirements.lock > uv.lock.txt \
    && pip install --no-cache-dir --require-hashes --no-deps --requirement uv.lock.txt
ENV UV_PYTHON_DOWNLOADS=never UV_COMPILE_BYTECODE=1 UV_NO_CACHE=1 VIRTUAL_ENV=/opt/adclick
# TFX calls pip, which uv's environments lack.
RUN uv venv "$VIRTUAL_ENV" \
    && echo pip > pip.txt \
    && uv pip install --verify-hashes --constraints requirements.lock --build-constraints requirements.lock \
        --requirements pyproject.toml --extra pipeline --extra platforms --extra stream --requirements pip.txt
COPY README.md setup.py ./
COPY adclick/__init__.py adclick/__main__.py adclick/py.typed adclick/
COPY schema schema
COPY storage storage
COPY models models
COPY components components
COPY serving serving
COPY stream stream
COPY pipeline pipeline
RUN uv pip install --no-deps --build-constraints requirements.lock .

# hadolint ignore=DL3006
FROM python-${STACK} AS pipeline
RUN useradd --uid 10001 --create-home --home-dir /home/adclick adclick
COPY --from=build /opt/adclick /opt/adclick
# The root may be read-only: what libraries write goes below /tmp.
ENV PATH=/opt/adclick/bin:$PATH HOME=/tmp MPLCONFIGDIR=/tmp/matplotlib \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 TF_USE_LEGACY_KERAS=0 TF_CPP_MIN_LOG_LEVEL=2
USER 10001:10001
WORKDIR /tmp
ENTRYPOINT ["adclick"]
CMD ["--help"]

# hadolint ignore=DL3006
FROM beam-${STACK} AS beam
# Dataflow's and Flink's workers: the pipeline and Beam's start program.
FROM pipeline AS worker
COPY --from=beam /opt/apache/beam /opt/apache/beam
ENTRYPOINT ["/opt/apache/beam/boot"]
CMD []

# What PyFlink needs besides, and Flink's connector for Kafka, in the version and with the checksum of stream/flink/jars.py.
FROM build AS build-flink
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends maven && rm -rf /var/lib/apt/lists/* \
    && uv pip install --verify-hashes --constraints requirements.lock --build-constraints requirements.lock \
        --requirements pyproject.toml --extra flink \
    && XDG_CACHE_HOME=/opt/adclick/cache /opt/adclick/bin/python -c 'from adclick.stream.flink.jars import JARS; JARS.fetched(print)'

# The stream's features on Flink, STACK compat alone: job managers, task managers, and what submits to them.
FROM pipeline AS stream-flink
USER 0:0
# Flink's start script substitutes with it.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends gettext-base && rm -rf /var/lib/apt/lists/*
COPY --from=build-flink /opt/adclick /opt/adclick
COPY --from=flink /opt/java/openjdk /opt/java/openjdk
COPY --from=flink --chown=10001:10001 /opt/flink /opt/flink
COPY --from=flink /docker-entrypoint.sh /docker-entrypoint.sh
ENV FLINK_HOME=/opt/flink JAVA_HOME=/opt/java/openjdk XDG_CACHE_HOME=/opt/adclick/cache \
    PATH=/opt/adclick/bin:/opt/flink/bin:/opt/java/openjdk/bin:$PATH
USER 10001:10001
ENTRYPOINT ["/docker-entrypoint.sh"]
CMD ["help"]
