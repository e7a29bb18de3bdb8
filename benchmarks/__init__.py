"""Benchmarks: each sets adclick beside what a user would pick instead, on the same data in the same call."""

import os

# Their tables, not the notes of libraries on the machine and on releases to come; also in the processes they start.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("PYTHONWARNINGS", "ignore::FutureWarning,ignore::DeprecationWarning")
