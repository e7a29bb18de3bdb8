"""Every notebook runs from a clean kernel on a project that a run has just pushed."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.end_to_end.harness import Project

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"


def outputs(name: str, project: Project, monkeypatch: pytest.MonkeyPatch) -> str:
    """Runs a notebook; gives all that its cells printed or showed as text."""
    monkeypatch.setenv("ADCLICK_PROJECT", str(project.folder))
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(FOLDER)}})
    client.execute()
    found = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return "\n".join(str(output.get("text") or output.get("data", {})) for output in found)


def test_explore_a_drop(pushed: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = outputs("explore_drop", pushed, monkeypatch)
    assert "newest month 2026-09" in shown
    assert "wrong_field_count" in shown and "device_type" in shown
    assert "No anomalies found" in shown and "l_infinity" in shown


def test_analyse_a_model(pushed: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = outputs("analyse_model", pushed, monkeypatch)
    assert f"version {pushed.versions[-1]}" in shown
    assert "every threshold is met" in shown and "ad_id_known=new" in shown
    assert "expected calibration error" in shown
    assert shown.count("image/png") == 2


def test_query_the_server(pushed: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = outputs("query_server", pushed, monkeypatch)
    assert f"answered by version {pushed.versions[-1]}" in shown
    assert "unknown field `colour`" in shown and "never seen" in shown
