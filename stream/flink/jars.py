"""Flink's connector for Kafka, which PyFlink's package lacks, and its SHA-256."""

from __future__ import annotations

from adclick.stream.java import PinnedJars

#: The version of PyFlink's package, and of the cluster that it submits to.
FLINK_VERSION = "2.2.1"
CONNECTOR_VERSION = "5.0.0-2.2"

#: One jar, Kafka's client inside under a name of its own.
JARS = PinnedJars(
    f"Flink's connector for Kafka {CONNECTOR_VERSION}",
    f"flink-connector-kafka-{CONNECTOR_VERSION}",
    "11 MB",
    (("org.apache.flink", "flink-sql-connector-kafka", CONNECTOR_VERSION),),
    {
        f"flink-sql-connector-kafka-{CONNECTOR_VERSION}.jar": (
            "5605c691d11a501382c383fecba37a7a552467da5ab7ba904ef5d6f3d62c5616"
        )
    },
    "stream/flink/jars.py",
)
