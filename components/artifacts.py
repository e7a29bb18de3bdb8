"""The artifact types of adclick's own components."""

from __future__ import annotations

from tfx.types.artifact import Artifact, Property, PropertyType

_SPAN = Property(type=PropertyType.INT)


class FeatureAnalysis(Artifact):
    """What the Transform graph must know of a month, in a folder per split, see `models.analysis`."""

    TYPE_NAME = "AdclickFeatureAnalysis"
    PROPERTIES = {"span": _SPAN, "split_names": Property(type=PropertyType.STRING)}


class Creatives(Artifact):
    """The distinct images of a drop, decoded and resized: TFRecord files `creatives-*`, see `models.creatives`."""

    TYPE_NAME = "AdclickCreatives"
    PROPERTIES = {"span": _SPAN}


class Quarantine(Artifact):
    """The rows of a drop that could not be used: files `quarantine-*.jsonl`, and `ingestion.json` with all counts."""

    TYPE_NAME = "AdclickQuarantine"
    PROPERTIES = {"span": _SPAN}


class Drift(Artifact):
    """How far a month moved from the months before: `drift.json`, see `components.drift_detector.distances`."""

    TYPE_NAME = "AdclickDrift"
    PROPERTIES = {"span": _SPAN}


class Copies(Artifact):
    """Which rows of a month stand elsewhere too: `copies.json`, see `components.copy_detector.report`."""

    TYPE_NAME = "AdclickCopies"
    PROPERTIES = {"span": _SPAN}


class Pictures(Artifact):
    """A window's distinct images as devices see them, and some held out, see `components.recognition.pictures`."""

    TYPE_NAME = "AdclickPictures"
