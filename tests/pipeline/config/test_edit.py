"""Values set in a YAML document, with its comments kept."""

from __future__ import annotations

import pytest
import yaml

from adclick.pipeline.config.edit import edit_yaml

CONFIG = """\
# First.
data:
  root: drops  # beside this file
network:
  # Why these.
  hidden_units:
  - 64
  - 32
  # Why so little.
  dropout: 0.1  # measured
output: here
"""
VALUES = {("network", "dropout"): 0.25, ("network", "hidden_units"): [8, 4], ("training", "seed"): 2}


def test_comments_and_other_keys_stay() -> None:
    edited = edit_yaml(CONFIG, {**VALUES, ("network", "cross_layers"): 1, ("training", "batch_size"): 64})
    assert (
        edited
        == CONFIG.replace("hidden_units:\n  - 64\n  - 32", "hidden_units: [8, 4]").replace(
            "dropout: 0.1  # measured", "dropout: 0.25  # measured\n  cross_layers: 1"
        )
        + "\ntraining:\n  seed: 2\n  batch_size: 64\n"
    )


@pytest.mark.parametrize(
    "text",
    [
        "network:\n",
        "network:  # nothing yet\na: 1\n",
        "network: {}\n",
        "network: {dropout: 0.1}\na: [1]",
        "network: {hidden_units: [1, 2]}\n",
        "{a: 1, network: {dropout: 0.1}}\n",
        "a: 1",
        "shared: &shared\n  dropout: 0.1\nnetwork: *shared\n",
        "network:\n  hidden_units: &units\n    - 1\n  other: *units\n",
        "network:\n  text: |\n    several\n    lines\n",
        '"network":\n  "dropout": 0.1\n',
    ],
)
def test_any_layout_gets_the_values_and_keeps_the_rest(text: str) -> None:
    before, after = yaml.safe_load(text), yaml.safe_load(edit_yaml(text, VALUES))
    network = {**(before.get("network") or {}), "dropout": 0.25, "hidden_units": [8, 4]}
    assert after == {**before, "network": network, "training": {"seed": 2}}


@pytest.mark.parametrize("value", [True, None, 1e-05, "a: b # c", "/with space/#x", [1.5, "x"], 10**12])
def test_values_come_back_as_they_are(value: object) -> None:
    assert yaml.safe_load(edit_yaml("a: 1\n", {("a",): value, ("b", "c"): value})) == {"a": value, "b": {"c": value}}
