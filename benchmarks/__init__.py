"""Benchmarks: each sets adclick beside what a user would pick instead, on the same data in the same call."""
