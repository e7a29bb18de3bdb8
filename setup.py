"""Builds the wheel that pipeline workers install; metadata stands in pyproject.toml."""

from setuptools import find_packages, setup

TOP_LEVEL = ("pipeline", "components", "models", "schema", "serving", "storage", "stream")

setup(
    packages=find_packages(include=[pattern for name in TOP_LEVEL for pattern in (name, f"{name}.*")]),
    package_data={"": ["py.typed", "*.yaml", "*.pbtxt", "templates/*", "static/*"]},
)
