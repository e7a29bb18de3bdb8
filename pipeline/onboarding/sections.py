"""The parts of the config beside the features: dialect, split, network, evaluation."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from adclick.components.ad_example_gen.settings import SplitSettings
from adclick.components.ad_example_gen.split_times import MINUTE, choose_split_times
from adclick.pipeline.onboarding.guesses import Guesses, plain_name
from adclick.pipeline.onboarding.profile import Profile
from adclick.pipeline.onboarding.sampling import LogSample
from adclick.schema.feature_table import FeatureTable

_AD_NAME = re.compile(r"(^|_)(ad|creative|banner)_?(id|key|hash)?$")
#: The columns that people most want metrics by, the likeliest first.
_SLICE_NAMES = [
    "device_type",
    "device",
    "ad_position",
    "banner_pos",
    "position",
    "pos",
    "slot",
    "os",
    "country",
    "site_category",
]
_SMALL_DATA_ROWS = 50_000
_LARGE_DATA_ROWS = 5_000_000


@dataclass(frozen=True)
class ColumnGuess:
    """What one column was taken for.

    Attributes:
        name: The column's name in the config.
        settings: Its entry in the config: the role and what differs from the defaults.
        reason: Why, in one line.
    """

    name: str
    settings: Mapping[str, Any]
    reason: str

    @property
    def role(self) -> str:
        return str(self.settings["role"])


@dataclass(frozen=True)
class Section:
    """A part of the config other than the features.

    Attributes:
        settings: What differs from the defaults.
        reasons: Why, a line each.
    """

    settings: Mapping[str, Any]
    reasons: tuple[str, ...] = ()


def csv_section(sample: LogSample, names: Sequence[str]) -> Section:
    """The dialect, as far as it is not the default."""
    settings: dict[str, Any] = {}
    reasons = []
    if sample.encoding != "utf-8":
        settings["encoding"] = sample.encoding
        reasons.append(f"The files' bytes are {sample.encoding.upper()}.")
    if sample.delimiter != ",":
        settings["delimiter"] = "\\t" if sample.delimiter == "\t" else sample.delimiter
        reasons.append(f"Fields are divided by {'a tab' if sample.delimiter == chr(9) else sample.delimiter}.")
    if not sample.header:
        settings.update(header=False, columns=list(names))
        reasons.append("The first row is data, so the columns are named here, in order.")
    return Section(settings, tuple(reasons))


def split_section(guesses: Guesses, columns: Sequence[ColumnGuess], timestamp: int | None) -> Section:
    """By time if the times allow it, else by the hash of the identifier or of the whole row."""
    split = SplitSettings()
    why = "there is no timestamp"
    if timestamp is not None:
        profile = guesses.profiles[timestamp]
        time_format = str(guesses.by_index[timestamp][0].get("format", "iso8601"))
        seconds = np.asarray(profile.times(time_format))
        minutes, counts = np.unique(seconds // MINUTE, return_counts=True)
        times = choose_split_times(dict(zip(minutes.tolist(), counts.tolist(), strict=True)), split)
        if times is not None:
            evaluation = float(np.mean(seconds >= times.evaluation_from))
            validation = float(np.mean(seconds >= times.validation_from)) - evaluation
            # Whole minutes are held out: do they come near the shares wanted?
            if all(
                wanted / 2 <= share <= 2 * wanted
                for share, wanted in ((evaluation, split.eval_share), (validation, split.validation_share))
            ):
                return Section({"by": "time"}, ("The last part of each month is held out: a random split flatters.",))
        held_out = split.validation_share + split.eval_share
        why = f"the times are too few ({len(minutes)}) to hold out the last {held_out:.0%} of the rows"
    identifier = next((column.name for column in columns if column.role == "identifier"), None)
    if identifier is not None:
        return Section({"by": "hash"}, (f"By the hash of {identifier}, because {why}.",))
    return Section({"by": "hash"}, (f"By the hash of the whole row, because {why} and no identifier.",))


def training_sections(rows: int) -> dict[str, Section]:
    """A network that fits the amount of data."""
    if rows < _SMALL_DATA_ROWS:
        return {
            "network": Section(
                {"embedding_dimension": 4}, ("Little data: narrow embeddings keep it from being learned by heart.",)
            ),
            "training": Section({"batch_size": 256}, ()),
        }
    if rows > _LARGE_DATA_ROWS:
        return {
            "network": Section(
                {"embedding_dimension": 16, "hidden_units": [256, 128]}, ("Much data bears a wider network.",)
            ),
            "training": Section({"batch_size": 4096}, ()),
        }
    return {}


def evaluation_section(
    columns: Sequence[ColumnGuess], by_name: Mapping[str, Profile], features: FeatureTable
) -> Section:
    """Chooses the slices: columns of few values, the image's status, and new ads against known ones."""

    def rank(column: ColumnGuess) -> tuple[int, int]:
        name = plain_name(column.name)
        known = _SLICE_NAMES.index(name) if name in _SLICE_NAMES else len(_SLICE_NAMES)
        return known, by_name[column.name].distinct

    def has_slices(profile: Profile) -> bool:
        frequent = sum(count >= 0.05 * len(profile.cells) for count in profile.counts.values())
        return profile.distinct <= 20 and frequent >= 2

    categorical = [column for column in columns if column.role == "categorical"]
    few = sorted((column for column in categorical if has_slices(by_name[column.name])), key=rank)
    slices = [[column.name] for column in few[:3]]
    slices += [[features.image_status_name]] if features.image_name is not None else []
    ads = [
        column.name
        for column in categorical
        if _AD_NAME.search(plain_name(column.name))
        and column.settings.get("encoding") != "hashed"
        and by_name[column.name].distinct > 20
    ]
    settings: dict[str, Any] = {}
    reasons = []
    if slices:
        settings["slices"] = slices
        reasons.append("Metrics are also given for every value of these columns, which have few.")
    if ads:
        settings["new_value_slices"] = ads[:1]
        reasons.append(f"{ads[0]} names the ad: metrics are given for ads that the model knows and for new ones.")
    return Section(settings, tuple(reasons))
