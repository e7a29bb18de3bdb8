"""`adclick stream run --flink`: hands the features to a cluster, and stays beside them."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

from adclick.pipeline.config.settings import Config
from adclick.schema.errors import AdclickError
from adclick.serving.foreground import Stopping
from adclick.stream.flink.checkpoints import check_beginning, checkpoint_folder, newest_checkpoint
from adclick.stream.flink.job import FlinkJob, job_name
from adclick.stream.flink.rest import ENDED, ClusterUnreachable, FlinkCluster
from adclick.stream.flink.submission import check_installed, submit
from adclick.stream.kafka.topics import partitions_of
from adclick.stream.settings import StreamSettings

logger = logging.getLogger(__name__)

_START_SECONDS = 600.0
_LOOK_SECONDS = 1.0
_PATIENCE_SECONDS = 300.0


def checkpoints_of(config: Config, stream: StreamSettings) -> str:
    """Where the checkpoints of a config's features are."""
    return checkpoint_folder(stream, Path(config.output) / "flink_state")


def ensure_job(config: Config, stream: StreamSettings, cluster: FlinkCluster) -> str:
    """The id of the job that computes the features; it is submitted where it does not run yet.

    It goes on from its newest checkpoint.

    Raises:
        ConfigError: A topic, Java, Maven or PyFlink is missing, or there is no checkpoint where there should be one.
        ClusterUnreachable: The cluster does not answer.
        BrokerUnreachable: The broker does not answer.
    """
    check_installed()
    cluster.check()
    running = cluster.running_job(job_name(stream))
    if running is not None:
        logger.info("features: job %s runs already", running)
        return running
    job = FlinkJob.of(stream, config.features)
    partitions_of(stream.kafka, [stream.topics.featured_clicks.name, stream.topics.rejected_events.name])
    folder = checkpoints_of(config, stream)
    checkpoint = newest_checkpoint(folder)
    if checkpoint is None:
        check_beginning(stream, folder, list(job.partitions))
    found = submit(job, cluster, folder, checkpoint)
    logger.info("features: job %s, from %s", found, checkpoint or "the first events")
    return found


def run_features(
    config: Config, stream: StreamSettings, cluster: FlinkCluster, stopping: threading.Event | Stopping
) -> None:
    """Has the cluster compute the features until `stopping` is set; then the job ends, and its checkpoints stay.

    Raises:
        AdclickError: The job has failed, or was ended by others.
        ClusterUnreachable: The cluster stayed away; the job goes on, if it does.
    """
    job = ensure_job(config, stream, cluster)
    cluster.wait_until_running(job, _START_SECONDS, lambda: not stopping.is_set())
    logger.info("features: reading from %s, on Flink", stream.kafka.bootstrap_servers)
    said, heard = "RUNNING", time.monotonic()
    while not stopping.is_set():
        time.sleep(_LOOK_SECONDS)
        try:
            state = cluster.state(job)
        except ClusterUnreachable as error:
            if time.monotonic() - heard > _PATIENCE_SECONDS:
                raise
            logger.warning("features: %s", error)
            continue
        heard = time.monotonic()
        if state in ENDED:
            raise AdclickError(f"Flink's job {job} has ended: {state}\n{cluster.failure(job)[-3000:]}")
        if state != said:
            cause = cluster.failure(job).partition("\n")[0] if state != "RUNNING" else ""
            logger.warning("features: job %s is %s %s", job, state, cause)
            said = state
    cluster.cancel(job)
    logger.info("features: job %s has ended; the next goes on from %s", job, checkpoints_of(config, stream))
