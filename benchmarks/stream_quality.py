"""How much fraud is caught at a fixed rate of false positives: adclick, a rules engine, and LightGBM, on the same rows.

Sample traffic is drawn anew for each seed, goes through `adclick stream backfill`, and is parted by time as a run parts
it; every one gets the same columns. The rules engine flags a click where one of its rules does: a rule is one column
beyond one threshold. Threshold, direction and rules are chosen on the rows that are trained on, so that together they
keep to the rate of false positives there: a rule at a time, the one that adds most fraud.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer
from rich.console import Console
from rich.table import Table

from adclick.models.fitting import fit, predict
from adclick.pipeline.config.settings import load_config
from benchmarks.measure import Result, report
from benchmarks.paired import mean_and_standard_error, paired_difference
from benchmarks.prepared import Impressions, ingest, inputs_by_kind, transform, write_for_rivals
from benchmarks.rival_environment import run_rival

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

RATES = (0.001, 0.01)
OURS, RULES = "adclick", "rules"
LIGHTGBM = ("lightgbm", "lightgbm_target_encoding")


@dataclass(frozen=True)
class Rule:
    """Flags where a column, times the sign, is above the threshold."""

    column: int
    sign: int
    threshold: float

    def flags(self, columns: Floats) -> Bools:
        """Which rows it flags; a missing value never is."""
        values = columns[:, self.column] * self.sign
        return np.asarray(values > self.threshold)


def choose_rules(columns: Floats, fraud: Bools, rate: float) -> list[Rule]:
    """The rules that together catch most fraud and flag no more than a share of the honest.

    Args:
        columns: What is known of the rows to choose on [rows, columns], NaN where missing.
        fraud: Whether each is fraud [rows].
        rate: The share of the honest that may be flagged.
    """
    rules: list[Rule] = []
    flagged = np.zeros(len(fraud), bool)
    allowed = int(rate * (~fraud).sum())
    while True:
        best: tuple[int, Rule] | None = None
        left = allowed - int((flagged & ~fraud).sum())
        for column in range(columns.shape[1]):
            for sign in (1, -1):
                values = columns[:, column] * sign
                known = ~flagged & ~np.isnan(values)
                honest = np.sort(values[known & ~fraud])[::-1]
                if not known.any():
                    continue
                # Each share of what false positives are left, from half of them down to none.
                for spent in {left, left // 2, left // 4, 0}:
                    threshold = honest[spent] if spent < len(honest) else -np.inf
                    caught = int((known & fraud & (values > threshold)).sum())
                    # By what is caught beyond what as many false positives cost.
                    if caught and (best is None or caught - spent > best[0]):
                        best = (caught - spent, Rule(column, sign, float(threshold)))
        if best is None or best[0] <= 0:
            return rules
        rules.append(best[1])
        flagged |= best[1].flags(columns)


def recall_at(score: Floats, fraud: Bools, rate: float) -> float:
    """The share of fraud above the threshold that so many of the honest lie above, on the same rows."""
    honest = np.sort(score[~fraud])[::-1]
    allowed = int(rate * len(honest))
    threshold = honest[allowed] if allowed < len(honest) else -np.inf
    return float((score[fraud] > threshold).mean())


def recall_of_rules(impressions: Impressions, rate: float) -> tuple[float, float, int]:
    """What the rules catch of held-out fraud, what they flag of the honest there, and how many rules there are."""
    categories, quantities = inputs_by_kind(impressions)
    train, test = impressions.split.train, impressions.split.test
    fraud = impressions.clicked == 1
    # A name is as suspicious as it was on the rows to choose on: a list of the bad ones.
    encoded = []
    for name in categories.columns:
        values = categories[name].fillna("")
        seen = values.iloc[train].to_frame("value").assign(fraud=fraud[train])
        counts = seen.groupby("value")["fraud"].agg(["sum", "count"])
        encoded.append(values.map(counts["sum"] / (counts["count"] + 20)).to_numpy(np.float64))
    columns = np.column_stack([quantities.to_numpy(np.float64), *encoded])
    rules = choose_rules(columns[train], fraud[train], rate)
    flagged = np.zeros(len(test), bool)
    for rule in rules:
        flagged |= rule.flags(columns[test])
    return float(flagged[fraud[test]].mean()), float(flagged[~fraud[test]].mean()), len(rules)


def impressions_of(folder: Path, seed: int, clicks: int) -> Impressions:
    """Sample traffic of a seed, backfilled and ingested."""
    adclick = Path(sys.executable).with_name("adclick")
    for command in (
        ("sample-data", "--stream", "--output", folder, "--rows", clicks, "--seed", seed, "--quiet"),
        ("stream", "backfill", "--config", folder / "config.yaml", "--quiet"),
    ):
        subprocess.run([str(adclick), *map(str, command)], check=True, stdout=subprocess.DEVNULL)
    return ingest(load_config(folder / "config.yaml"), folder / "ingested")


def scores_of(impressions: Impressions, folder: Path, seed: int) -> dict[str, Floats]:
    """Every model's probabilities of the held-out rows, by model."""
    split = impressions.split
    config = impressions.config
    data, test = transform(impressions, split, folder / "ours")
    training = config.training.model_copy(update={"seed": seed})
    result = fit(data.train, data.validation, None, data.layout, config.network, training, config.ingestion.image_size)
    found = {OURS: predict(result.network, test, None).astype(np.float64)}
    write_for_rivals(impressions, split, impressions.clicked, folder / "rivals")
    for rival in LIGHTGBM:
        found[rival] = run_rival(rival, folder / "rivals", folder / rival, seed=seed).predictions
    return found


def main(
    seeds: Annotated[int, typer.Option(min=2, help="Draws of sample traffic.")] = 5,
    first_seed: Annotated[int, typer.Option(min=0, help="The first draw's; the others follow it.")] = 1,
    clicks: Annotated[int, typer.Option(help="Clicks of each.")] = 60_000,
    json_file: Annotated[Path | None, typer.Option("--json", help="Where the results go.")] = None,
) -> None:
    """Measure the recall of fraud at fixed false-positive rates."""
    recall: dict[tuple[str, float], dict[int, float]] = {}
    for seed in range(first_seed, first_seed + seeds):
        with tempfile.TemporaryDirectory(prefix="adclick-stream-") as work:
            impressions = impressions_of(Path(work) / "sample", seed, clicks)
            fraud = impressions.clicked[impressions.split.test] == 1
            for name, score in scores_of(impressions, Path(work), seed).items():
                for rate in RATES:
                    recall.setdefault((name, rate), {})[seed] = recall_at(score, fraud, rate)
            for rate in RATES:
                caught, false, number = recall_of_rules(impressions, rate)
                recall.setdefault((RULES, rate), {})[seed] = caught
                print(f"seed {seed}: {number} rules for {rate:.1%} flag {false:.2%} of the honest held-out", flush=True)
        print({f"{name} {rate:.1%}": round(values[seed], 3) for (name, rate), values in recall.items()}, flush=True)
    results = []
    table = Table(title=f"Recall of held-out fraud, {seeds} draws", title_justify="left", show_edge=False)
    for heading in ("false positives", "model", "recall", "adclick minus it"):
        table.add_column(heading)
    for rate in RATES:
        ours = recall[OURS, rate]
        for name in (OURS, RULES, *LIGHTGBM):
            mean, error = mean_and_standard_error(list(recall[name, rate].values()))
            difference = paired_difference(ours, recall[name, rate], lower_is_better=False)
            gap = "" if name == OURS else f"{difference.mean:+.3f} ± {difference.standard_error:.3f}"
            table.add_row(f"{rate:.1%}", name, f"{mean:.3f} ± {error:.3f}", gap)
            at = f"recall at {rate:.1%} false positives, against {name}"
            if name == RULES:
                results.append(
                    Result(f"{at}, in 20 points", *_means(ours, recall[name, rate]), difference.mean / 0.2, ">= 1")
                )
            elif name != OURS:
                gain = difference.gain_in_errors
                results.append(Result(f"{at}, in errors", *_means(ours, recall[name, rate]), gain, ">= -1"))
    Console(width=120).print(table)
    report("Recall of fraud", results, json_file)


def _means(ours: dict[int, float], other: dict[int, float]) -> tuple[float, float, str]:
    return float(np.mean(list(ours.values()))), float(np.mean(list(other.values()))), "share"


if __name__ == "__main__":
    typer.run(main)
