"""What stock ExampleGens are told of their input and their splits."""

from __future__ import annotations

from tfx.proto import example_gen_pb2

#: Rows are dealt to the splits by hash, as ExampleGens do; of so many parts one is held out.
PARTS = 5


def input_config() -> example_gen_pb2.Input:
    """The CSV files of a folder, whatever else is in it."""
    return example_gen_pb2.Input(splits=[example_gen_pb2.Input.Split(name="csv", pattern="*.csv")])


def output_config() -> example_gen_pb2.Output:
    """Train and eval splits."""
    split = example_gen_pb2.SplitConfig.Split
    splits = [split(name="train", hash_buckets=PARTS - 1), split(name="eval", hash_buckets=1)]
    return example_gen_pb2.Output(split_config=example_gen_pb2.SplitConfig(splits=splits))
