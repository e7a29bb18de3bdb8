"""The features of the stream on Apache Flink: the same definitions, keys parted among tasks."""
