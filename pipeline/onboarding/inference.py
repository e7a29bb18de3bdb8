"""Infers from a sample what each column of a click log is and how to train on it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from adclick.components.ad_example_gen.settings import CsvSettings
from adclick.pipeline.onboarding.exclusions import ignore_constants, ignore_leaks, ignore_unnamed
from adclick.pipeline.onboarding.features import MAX_DOMAIN, decide_feature, is_text
from adclick.pipeline.onboarding.guesses import ENTITY_NAME, Guesses, plain_name
from adclick.pipeline.onboarding.label import find_label
from adclick.pipeline.onboarding.profile import Profile
from adclick.pipeline.onboarding.sampling import LogSample
from adclick.pipeline.onboarding.sections import (
    ColumnGuess,
    Section,
    csv_section,
    evaluation_section,
    split_section,
    training_sections,
)
from adclick.pipeline.onboarding.single_roles import find_identifier, find_image, find_timestamp
from adclick.schema.errors import ConfigError
from adclick.schema.feature_table import Timestamp, parse_feature_table
from adclick.schema.roles import ROLES


@dataclass(frozen=True)
class Inference:
    """A whole config, its reasons, and what the schema needs beside it.

    Attributes:
        sample: What was read.
        columns: Every column in the data's order.
        sections: The other parts of the config by key.
        domains: By categorical column of few values, those values.
        presence: By column, the least share of rows that must hold a value.
        warnings: What is likely to ruin a click model.
    """

    sample: LogSample
    columns: tuple[ColumnGuess, ...]
    sections: Mapping[str, Section]
    domains: Mapping[str, tuple[str, ...]]
    presence: Mapping[str, float]
    warnings: tuple[str, ...]


def infer(sample: LogSample, label: str | None = None, positive: Sequence[str] = ()) -> Inference:
    """Infers the role of every column and the settings that follow from the data.

    Args:
        sample: Rows of the log.
        label: The label's name in the CSV header; None to find it.
        positive: The texts of that label that mean a click; none to read it by how logs write it.

    Raises:
        ConfigError: No column is called as the label is, no column is a label that is 0 or 1, or no column is left to
            learn from.
    """
    missing_values = CsvSettings.model_fields["missing_values"].default
    sources = sample.columns or tuple(str(number + 1) for number in range(len(sample.cells)))
    profiles = tuple(
        Profile(source, cells, missing_values, sample.estimated_rows)
        for source, cells in zip(sources, sample.cells, strict=True)
    )
    guesses = Guesses(sample, profiles, warnings=list(sample.warnings))
    ignore_unnamed(guesses)
    clicked = find_label(guesses, label, positive)
    ignore_constants(guesses)
    ignore_leaks(guesses, clicked)
    find_image(guesses)
    timestamp = find_timestamp(guesses)
    find_identifier(guesses)
    for index in guesses.undecided:
        decide_feature(guesses, index)
    names = _names(guesses)
    columns = tuple(
        ColumnGuess(names[index], settings, reason)
        for index, profile in enumerate(profiles)
        if profile.source.strip()
        for settings, reason in (guesses.by_index[index],)
    )
    roles = {column.name: ROLES[column.role] for column in columns}
    if not any(role.is_input and role is not Timestamp for role in roles.values()):
        raise ConfigError(
            f"{sample.root}: no column is left to learn from beside the label, ids and times\n"
            + "\n".join(guesses.warnings),
            "Give a log whose columns say who saw which ad where.",
        )
    features = parse_feature_table({column.name: dict(column.settings) for column in columns})
    by_name = {names[index]: profile for index, profile in enumerate(profiles)}
    settings_by_name = {column.name: column.settings for column in columns}
    return Inference(
        sample=sample,
        columns=columns,
        sections={
            "data": Section({"root": str(sample.root.absolute())}, (_extent(sample),)),
            "csv": csv_section(sample, names),
            "split": split_section(guesses, columns, timestamp),
            **training_sections(sample.estimated_rows),
            "evaluation": evaluation_section(columns, by_name, features),
        },
        domains={
            name: tuple(sorted(value for value in by_name[name].counts if value not in settings.get("missing", ())))
            for name, settings in settings_by_name.items()
            if settings["role"] == "categorical" and _has_domain(by_name[name], plain_name(name))
        },
        presence={
            name: _least_presence(by_name[name], settings.get("missing", ()))
            for name, settings in settings_by_name.items()
            if roles[name].is_input
        },
        warnings=tuple(guesses.warnings),
    )


def _extent(sample: LogSample) -> str:
    files = f"{len(sample.files)} file{'s' if len(sample.files) > 1 else ''}"
    return f"{files}, about {sample.estimated_rows:,} rows; the guesses below come from a sample of {sample.rows:,}."


def _names(guesses: Guesses) -> tuple[str, ...]:
    """The columns' names in the config: the header's as they are, or by content where there is none."""
    if guesses.sample.header:
        return tuple(profile.source for profile in guesses.profiles)
    numbers: Counter[str] = Counter()
    names: list[str] = []
    for index, profile in enumerate(guesses.profiles):
        role = str(guesses.by_index[index][0]["role"])
        if ROLES[role].is_single:
            names.append(role)
        else:
            kind = _kind(profile)
            numbers[kind] += 1
            names.append(f"{kind}_{numbers[kind]}")
    return tuple(names)


def _kind(profile: Profile) -> str:
    if profile.numbers is not None and not profile.has_leading_zeros:
        return "integer" if profile.is_integer else "number"
    return "text" if is_text(profile) else "category"


def _has_domain(profile: Profile, name: str) -> bool:
    """Whether the sample has shown every value that is likely to come; campaigns and the like are made anew."""
    if ENTITY_NAME.search(name) and re.search(r"_(id|key|hash)$", name):
        return False
    return 0 < profile.distinct <= MAX_DOMAIN and profile.singletons <= 0.01 * profile.present


def _least_presence(profile: Profile, missing: Sequence[str]) -> float:
    """The least share of rows that must hold a value: a fifth less than in the sample, or nearly all if all did."""
    present = (profile.present - sum(profile.counts[value] for value in missing)) / len(profile.cells)
    return 0.99 if present >= 0.999 else int(80 * present) / 100
