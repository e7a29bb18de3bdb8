"""How far the traffic may stand from the training data before `adclick monitor` raises an alarm."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class MonitoringSettings(BaseModel):
    """The thresholds of `adclick monitor`; those of features' distributions are the schema's skew comparators."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    missing_rate: float = Field(
        0.1, ge=0, le=1, description="How far a column's share of missing values may stand from that in training."
    )
    unknown_rate: float = Field(
        0.1,
        ge=0,
        le=1,
        description="How far a column's share of values that the model's vocabulary lacks may exceed that of the "
        "held-out impressions; for images, of those that were scored as the unknown creative.",
    )
    mean_prediction: float = Field(
        0.3,
        ge=0,
        description="How far, as a share of it, the mean prediction may stand from the click rate in training.",
    )
    calibration_lower: float = Field(
        0.8, gt=0, description="The predicted clicks over the true ones must not be below this."
    )
    calibration_upper: float = Field(
        1.25, gt=0, description="The predicted clicks over the true ones must not be above this."
    )
    calibration_error: float = Field(
        0.25, ge=0, description="The expected calibration error, as a share of the click rate, must not be above this."
    )
    normalised_entropy: float = Field(1.0, ge=0, description="The normalised entropy must not be above this.")
    click_window: str = Field(
        "7d",
        pattern=r"^[0-9]+(\.[0-9]+)?[smhd]$",
        description="How long after its prediction a click may come: a number and s, m, h or d.",
    )
    false_alarm_rate: float = Field(
        0.001,
        gt=0,
        lt=1,
        description="How often, at most, traffic that is just within every threshold may raise an alarm by chance.",
    )
    least_requests: int = Field(200, ge=1, description="With fewer requests of a version nothing of it is judged.")
    least_clicks: int = Field(
        20, ge=2, description="With fewer clicks, both true and predicted, what needs clicks is not judged."
    )
