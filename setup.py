"""Builds the wheel that pipeline workers install: every package below `adclick`; metadata stands in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
FOLDERS = ("pipeline", "components", "models", "schema", "serving", "storage", "stream")
PACKAGES = find_packages(str(ROOT), include=[pattern for name in FOLDERS for pattern in (name, f"{name}.*")])

setup(
    packages=["adclick", *(f"adclick.{package}" for package in PACKAGES)],
    package_dir={"adclick": "adclick", **{f"adclick.{name}": name for name in FOLDERS}},
    package_data={
        "": ["py.typed", "*.yaml", "*.pbtxt", "templates/*", "templates/sections/*", "static/*", "static/explorer/*"]
    },
)
