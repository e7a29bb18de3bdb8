"""What can be chosen about the recogniser."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

#: Pictures whose 16 x 16 colours differ by less on average, of 255, are one creative to everyone.
LEAST_DIFFERENCE = 2.0


class RecognitionSettings(BaseModel):
    """The recogniser of creatives on devices: its network, its training and its gate."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)

    size: int = Field(96, ge=32, le=256, multiple_of=16, description="The side of its input in pixels.")
    dimension: int = Field(128, ge=8, le=512, description="The length of its embedding.")
    width: int = Field(32, ge=4, le=256, description="Channels of its first layer; the others have multiples of it.")
    embedder: str | None = Field(
        None,
        description="A `.keras` file of your own to begin with, from pixels float32 [batch, size, size, 3] (0 to 255) "
        "to [batch, dimension]; a new network otherwise.",
    )
    steps: int = Field(1_500, ge=1, description="Steps of training.")
    batch_size: int = Field(64, ge=2, description="Creatives a step; each and its edited twin are captured twice.")
    learning_rate: float = Field(0.003, gt=0, description="The highest learning rate; it rises first and falls to 0.")
    temperature: float = Field(0.05, gt=0, description="The temperature of the contrast between creatives.")
    seed: int = Field(1, ge=0, description="Seeds weights, order, captures and which creatives are held out.")
    max_creatives: int = Field(
        20_000,
        ge=20,
        description="So many creatives are learned from, of the newest months first; the rest is counted.",
    )
    evaluation_creatives: int = Field(
        400, ge=10, description="So many creatives at most are held out from training, half as booked, half as foreign."
    )
    false_alarm_rate: float = Field(
        0.01, gt=0, lt=0.5, description="The share of booked creatives' captures that may be taken for unknown."
    )
    camera_strength: float = Field(
        0.3,
        gt=0,
        le=1,
        description="How harsh the judging camera is: at 0.3 a template of 16 x 16 colours finds 98.7 % of 1,000 "
        "creatives, at 0.5 97 %, at 1, a camera that hangs anywhere, 72 %.",
    )
    max_bytes: int = Field(3_000_000, ge=1, description="The largest file that a device takes.")
    max_milliseconds: float = Field(
        15.0, gt=0, description="The longest time that one embedding may take, on one thread of the judging machine."
    )
    min_top_1: float = Field(
        0.95, ge=0, le=1, description="The least share of captures whose nearest creative is the right one."
    )
    max_false_accept: float = Field(
        0.5, ge=0, le=1, description="The greatest share of foreign creatives' captures that are taken for booked ones."
    )
    undecided: Literal["bless", "refuse"] = Field(
        "bless", description="What becomes of a recogniser whose intervals hold both sides of a threshold."
    )


#: Settings by which a recogniser is judged, and that change nothing of it.
JUDGING_SETTINGS = (
    "evaluation_creatives",
    "false_alarm_rate",
    "camera_strength",
    "max_bytes",
    "max_milliseconds",
    "min_top_1",
    "max_false_accept",
    "undecided",
)
