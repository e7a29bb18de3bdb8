"""Infers from a sample what each column of a click log is and how to train on it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from components.ad_example_gen.settings import CsvSettings
from pipeline.init.exclusions import ignore_constants, ignore_leaks
from pipeline.init.features import MAX_DOMAIN, decide_feature, is_text
from pipeline.init.guesses import ENTITY_NAME, Guesses, plain_name
from pipeline.init.label import find_label
from pipeline.init.profile import Profile
from pipeline.init.sampling import Sample
from pipeline.init.sections import (
    ColumnGuess,
    Section,
    csv_section,
    evaluation_section,
    split_section,
    training_sections,
)
from pipeline.init.single_roles import find_identifier, find_image, find_timestamp
from schema.errors import ConfigError


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

    sample: Sample
    columns: tuple[ColumnGuess, ...]
    sections: Mapping[str, Section]
    domains: Mapping[str, tuple[str, ...]]
    presence: Mapping[str, float]
    warnings: tuple[str, ...]


def infer(sample: Sample) -> Inference:
    """Infers the role of every column and the settings that follow from the data.

    Raises:
        ConfigError: No column is a label that is 0 or 1, or no column is left to learn from.
    """
    missing_values = CsvSettings.model_fields["missing_values"].default
    sources = sample.columns or tuple(str(number + 1) for number in range(len(sample.cells)))
    profiles = tuple(
        Profile(source, cells, missing_values, sample.estimated_rows)
        for source, cells in zip(sources, sample.cells, strict=True)
    )
    guesses = Guesses(sample, profiles, warnings=list(sample.warnings))
    label = find_label(guesses)
    ignore_constants(guesses)
    ignore_leaks(guesses, label)
    find_image(guesses)
    timestamp = find_timestamp(guesses)
    find_identifier(guesses)
    for index in guesses.undecided:
        decide_feature(guesses, index)
    names = _names(guesses)
    _avoid_derived_names(guesses, names, timestamp)
    columns = tuple(
        ColumnGuess(names[index], _with_source(names[index], profile.source, sample.header, settings), reason)
        for index, profile in enumerate(profiles)
        if profile.source.strip()
        for settings, reason in (guesses.by_index[index],)
    )
    by_name = {names[index]: profile for index, profile in enumerate(profiles)}
    settings_by_name = {column.name: column.settings for column in columns}
    if not any(column.role in ("categorical", "multi_valued", "numeric", "image") for column in columns):
        raise ConfigError(
            f"{sample.root}: no column is left to learn from beside the label, ids and times\n"
            + "\n".join(guesses.warnings),
            "Give a log whose columns say who saw which ad where.",
        )
    return Inference(
        sample=sample,
        columns=columns,
        sections={
            "data": Section({"root": str(sample.root.absolute())}, (_extent(sample),)),
            "csv": csv_section(sample, names),
            "split": split_section(guesses, columns, timestamp),
            **training_sections(sample.estimated_rows),
            "evaluation": evaluation_section(columns, by_name),
        },
        domains={
            name: tuple(sorted(value for value in by_name[name].counts if value not in settings.get("missing", ())))
            for name, settings in settings_by_name.items()
            if settings["role"] == "categorical" and _has_domain(by_name[name], plain_name(name))
        },
        presence={
            name: _least_presence(by_name[name], settings.get("missing", ()))
            for name, settings in settings_by_name.items()
            if settings["role"] not in ("ignored", "label", "identifier")
        },
        warnings=tuple(guesses.warnings),
    )


def _extent(sample: Sample) -> str:
    files = f"{len(sample.files)} file{'s' if len(sample.files) > 1 else ''}"
    return f"{files}, about {sample.estimated_rows:,} rows; the guesses below come from a sample of {sample.rows:,}."


def _names(guesses: Guesses) -> tuple[str, ...]:
    """The columns' names in the config: the header's, as far as the config can hold them, or names by content."""
    taken: set[str] = set()
    numbers: Counter[str] = Counter()
    names: list[str] = []
    for index, profile in enumerate(guesses.profiles):
        role = str(guesses.by_index[index][0]["role"])
        if guesses.sample.header:
            name = re.sub(r"[^A-Za-z0-9_]+", "_", profile.source.strip()).strip("_")
            name = name if name[:1].isalpha() and name.isascii() else f"column_{name or index + 1}"
        elif role in ("label", "image", "timestamp", "identifier"):
            name = role
        else:
            kind = _kind(profile)
            numbers[kind] += 1
            name = f"{kind}_{numbers[kind]}"
        while name in taken:
            name = f"{name}_{index + 1}"
        taken.add(name)
        names.append(name)
    # The status of the image has a column of its own in the examples.
    reserved = [f"{names[i]}_status" for i, (settings, _) in guesses.by_index.items() if settings["role"] == "image"]
    return tuple(f"{name}_of_data" if name in reserved else name for name in names)


def _kind(profile: Profile) -> str:
    if profile.numbers is not None and not profile.has_leading_zeros:
        return "integer" if profile.is_integer else "number"
    return "text" if is_text(profile) else "category"


def _avoid_derived_names(guesses: Guesses, names: Sequence[str], timestamp: int | None) -> None:
    """Leaves out of the derived times those for which the data has a column of its own."""
    if timestamp is None:
        return
    settings, reason = guesses.by_index[timestamp]
    derive = settings.get("derive", ["hour", "weekday"])
    features = {
        name for index, name in enumerate(names) if guesses.by_index[index][0]["role"] in ("categorical", "numeric")
    }
    kept = [name for name in derive if name not in features]
    if kept != derive:
        settings["derive"] = kept
        own = ", ".join(sorted(set(derive) - set(kept)))
        guesses.by_index[timestamp] = (settings, f"{reason}; the data has its own {own}")


def _with_source(name: str, source: str, header: bool, settings: Mapping[str, Any]) -> dict[str, Any]:
    renamed = {"source": source} if header and source != name else {}
    return {"role": settings["role"], **renamed, **{key: value for key, value in settings.items() if key != "role"}}


def _has_domain(profile: Profile, name: str) -> bool:
    """Whether the sample has shown every value that is likely to come; campaigns and the like are made anew."""
    if ENTITY_NAME.search(name) and re.search(r"_(id|key|hash)$", name):
        return False
    return 0 < profile.distinct <= MAX_DOMAIN and profile.singletons <= 0.01 * profile.present


def _least_presence(profile: Profile, missing: Sequence[str]) -> float:
    """The least share of rows that must hold a value: a fifth less than in the sample, or nearly all if all did."""
    present = (profile.present - sum(profile.counts[value] for value in missing)) / len(profile.cells)
    return 0.99 if present >= 0.999 else int(80 * present) / 100
