"""A command forked from the host does what one does that a person starts."""

from __future__ import annotations

import pytest

from tests.end_to_end.harness import Project, adclick


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["no-such-command"],
        ["status", "--config", "no/such.yaml"],
        ["status", "--config", "ä \udcff\n'\"*"],
        ["serve", "--development"],
        ["serve", "--models-only", "--version"],
    ],
    ids=["help", "wrong", "refused", "odd", "serve", "model server"],
)
def test_it_ends_alike(arguments: list[str]) -> None:
    assert adclick(*arguments) == adclick(*arguments, fresh=True)


def test_it_answers_alike(pushed: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(pushed.folder)
    command = ("predict", "--config", "config.yaml", "--json", "-", "--quiet")
    forked = adclick(*command, stdin='{"ad_position": "top"}')
    assert forked == adclick(*command, stdin='{"ad_position": "top"}', fresh=True)
    assert forked.code == 0 and 0 < float(forked.out) < 1


def test_it_sees_a_changed_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    adclick("--help")
    monkeypatch.setenv("COLUMNS", "40")
    shown = adclick("--help").out
    assert max(map(len, shown.splitlines())) <= 40
