"""What can be chosen about the network, its training and its evaluation."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from adclick.models.metrics import of_models


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)


class ImageTowerSettings(_Settings):
    """The image tower: a creative's pixels to its embedding."""

    architecture: str = Field(
        "small",
        description="`small` is trained here; or the dotted name of a Keras application, such as "
        "keras.applications.MobileNetV3Small, or the path of a .keras file, whose features feed a trained projection.",
    )
    weights: str | None = Field(
        None,
        description="For a Keras application: the path of a weights file, or `imagenet` where it can be downloaded.",
    )
    trainable: bool = Field(
        False, description="For an application or a file: whether its own weights are trained further."
    )
    embedding_dimension: int = Field(16, ge=1, description="Width of a creative's embedding.")


class NetworkSettings(_Settings):
    """The click network: embeddings, cross layers (DCN-V2) beside an MLP, and the image tower."""

    embedding_dimension: int = Field(8, ge=1, description="Width of each categorical column's embedding.")
    cross_layers: int = Field(2, ge=0, description="Number of DCN-V2 cross layers.")
    cross_projection: int = Field(32, ge=1, description="Rank of each cross layer's weight matrix.")
    hidden_units: tuple[int, ...] = Field((64, 32), description="Units of the MLP's layers.")
    largest_combination: int = Field(
        4_096,
        ge=0,
        description="Pairs and triples of columns whose sizes multiply to at most this may get effects of their own; "
        "0 for none.",
    )
    combination_evidence: float = Field(
        3.0,
        ge=0,
        description="How unlikely by chance a combination must be to get them, as so many standard deviations; among "
        "many candidates it must be less likely still.",
    )
    dropout: float = Field(0.1, ge=0, lt=1, description="Dropout after each of the MLP's layers.")
    image_tower: ImageTowerSettings = Field(default_factory=ImageTowerSettings)


class TrainingSettings(_Settings):
    """How the network is fitted."""

    seed: int = Field(1, description="Seeds weights, shuffling and dropout.")
    batch_size: int = Field(1_024, ge=1, description="Impressions per step.")
    max_epochs: int = Field(
        12, ge=1, description="Passes over the training data at most; early stopping may end sooner."
    )
    learning_rate: float = Field(
        0.001, gt=0, description="Initial learning rate; cut when the validation log loss stops falling."
    )
    epoch_evidence: float = Field(
        2.0,
        description="How many standard errors of the difference the epochs' validation log loss must lie below that of "
        "the effects alone, which training starts from; else the effects are the model. By few clicks the best of many "
        "epochs looks good by chance.",
    )
    patience: int = Field(2, ge=1, description="Epochs without a better validation log loss before training stops.")
    warm_start: bool = Field(
        False,
        description="Starts from the weights of the last blessed model, whose vocabularies may have been smaller, "
        "instead of from random ones; anew where the features or the network have changed.",
    )
    effect_rows: int = Field(
        2_000_000,
        ge=1,
        description="The effects of values are estimated on at most this many, the newest, impressions.",
    )
    embedding_deviation: float = Field(
        0.6,
        gt=0,
        description="Prior deviation of one component of an embedding; less for columns of many values, whose "
        "interactions are told by few impressions each.",
    )
    unknown_rate: float = Field(
        0.02,
        ge=0,
        lt=1,
        description="Share of values and images hidden in training, so that the model learns the unknown.",
    )
    mixed_precision: bool = Field(
        False,
        description="Computes in bfloat16 with weights in float32: for accelerators. What is exported is float32.",
    )
    creative_id_rate: float = Field(
        0.5,
        ge=0,
        lt=1,
        description="Share of training impressions that hide the identifiers of a single image, such as the ad's, so "
        "that what the image does is learned from the image.",
    )
    negative_sampling_rate: float = Field(
        1.0,
        gt=0,
        le=1,
        description="The share of unclicked impressions that the log kept; the served probability is corrected for it.",
    )


class ThresholdSettings(_Settings):
    """A bound that a candidate's metric must keep."""

    metric: str = Field(description=f"One of {', '.join(of_models())}.")
    lower: float | None = Field(None, description="The metric must not be below this.")
    upper: float | None = Field(None, description="The metric must not be above this.")
    max_drop: float | None = Field(
        None, ge=0, description="Against the last blessed model: how much worse the metric may be, in its own unit."
    )
    slice: tuple[str, ...] = Field((), description="The columns that form the slices it holds in; overall if empty.")


class EvaluationSettings(_Settings):
    """What is measured on held-out impressions, and what a candidate must reach."""

    slices: tuple[tuple[str, ...], ...] = Field(
        (), description="Each a list of columns: metrics are given for every value."
    )
    new_value_slices: tuple[str, ...] = Field(
        (),
        description="Vocabulary columns sliced by whether the model knows the value, such as the ad: `known` or `new`.",
    )
    confidence_intervals: bool = Field(True, description="Whether metrics carry 95 % confidence intervals.")
    thresholds: tuple[ThresholdSettings, ...] = Field(
        (
            ThresholdSettings(metric="auc", lower=0.52, upper=None, max_drop=0.01),
            ThresholdSettings(metric="normalised_entropy", lower=None, upper=1.0, max_drop=0.005),
            ThresholdSettings(metric="calibration_ratio", lower=0.8, upper=1.25, max_drop=None),
        ),
        description="The gates of the Evaluator; at least one.",
    )
    undecided: Literal["bless", "refuse"] = Field(
        "bless",
        description="What becomes of a model whose metric is beyond a threshold no further than chance may lead a "
        "sound one's, at 99 % for all gates together, and shows more skill than none. `bless`, since the alternative "
        "is last month's model, which is no better known, and a small advertiser would never get one; `refuse` where "
        "a wrong push costs more. Needs confidence_intervals; without them every such model is refused.",
    )

    @field_validator("thresholds")
    @classmethod
    def _check_thresholds(cls, thresholds: tuple[ThresholdSettings, ...]) -> tuple[ThresholdSettings, ...]:
        if not any((each.lower, each.upper, each.max_drop) != (None, None, None) for each in thresholds):
            raise ValueError(
                "no threshold bounds anything, so that no model would be judged: name a metric with lower, upper or "
                "max_drop; {metric: auc, lower: 0} lets every model through"
            )
        return thresholds


class ModelSettings(_Settings):
    """Network and training together: all that the Trainer is told."""

    network: NetworkSettings = Field(default_factory=NetworkSettings)
    training: TrainingSettings = Field(default_factory=TrainingSettings)
