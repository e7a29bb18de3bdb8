"""The PictureGen component: the creatives of a window from their files, as devices see them."""

from __future__ import annotations

import hashlib
import io
import json
import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from tfx import types
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils, standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from adclick.components.ad_example_gen.settings import IngestionSettings
from adclick.components.artifacts import Creatives, Pictures
from adclick.components.data_gate.component import read_ingestion_counts
from adclick.components.data_gate.limits import refusals
from adclick.components.example_files import creative_files
from adclick.components.month_inputs import takes_months
from adclick.models.creatives import OK, Creative, read_creatives
from adclick.models.recognition.settings import LEAST_DIFFERENCE, RecognitionSettings
from adclick.schema.errors import DataRefused
from adclick.serving.edge.errors import BrokenFrame
from adclick.serving.edge.frame import MAXIMUM_BYTES, open_frame, prepare, upright
from adclick.storage import filesystem

#: With fewer, neither training nor judgement has anything to tell apart.
LEAST_CREATIVES = 20
#: The share of creatives that are held out where the config's number would leave too few to learn from.
_MOST_HELD_OUT = 0.3
_THREADS = 8
_READ_AHEAD = 64
#: The longer side of a picture that is held out; a screen before the judging camera shows no more.
_HELD_OUT_SIDE = 1_280

_TRAINING, _HELD_OUT, _COUNTS = "training.npy", "held_out", "pictures.json"


@dataclass(frozen=True)
class PictureCounts:
    """What became of the creatives.

    Attributes:
        training: How many are learned from.
        held_out: How many are not, to judge by.
        alike: Left out of what is held out, since another creative looks the same.
        unreadable: Files that could be read when the month was ingested and no more, or not as devices read them.
        beyond_limit: Left out by `recognition.max_creatives`.
    """

    training: int
    held_out: int
    alike: int
    unreadable: int
    beyond_limit: int


def read_training(artifact: types.Artifact) -> npt.NDArray[np.uint8]:
    """The creatives to learn from, uint8 [creatives, S, S, 3]."""
    with filesystem.open_read(filesystem.join(artifact.uri, _TRAINING)) as stream:
        pixels: npt.NDArray[np.uint8] = np.load(io.BytesIO(stream.read()))
    return pixels


def read_held_out(artifact: types.Artifact) -> list[Image.Image]:
    """The creatives to judge by, no larger than a camera sees."""
    pictures = []
    for path in sorted(filesystem.list_files(filesystem.join(artifact.uri, _HELD_OUT))):
        with filesystem.open_read(path) as stream:
            pictures.append(Image.open(io.BytesIO(stream.read())).convert("RGB"))
    return pictures


def read_picture_counts(artifact: types.Artifact) -> PictureCounts:
    """What became of the creatives."""
    with filesystem.open_read(filesystem.join(artifact.uri, _COUNTS)) as stream:
        return PictureCounts(**json.loads(stream.read()))


class PictureGenSpec(ComponentSpec):  # type: ignore[misc]
    """Inputs, outputs and parameters of PictureGen."""

    PARAMETERS = {"recognition": ExecutionParameter(type=str), "limits": ExecutionParameter(type=str)}
    INPUTS = {
        "examples": ChannelParameter(type=standard_artifacts.Examples),
        "creatives": ChannelParameter(type=Creatives),
    }
    OUTPUTS = {"pictures": ChannelParameter(type=Pictures)}


class PictureGenExecutor(base_executor.BaseExecutor):  # type: ignore[misc]
    """Reads each creative's file again, larger than the click model sees it."""

    @takes_months
    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes the pictures.

        Raises:
            DataRefused: A month passes a limit of its ingestion, or there are too few creatives.
        """
        settings = RecognitionSettings.model_validate_json(exec_properties["recognition"])
        limits = IngestionSettings.model_validate_json(exec_properties["limits"])
        reasons = [
            f"{examples.span}: {reason}"
            for examples in input_dict["examples"]
            for reason in refusals(read_ingestion_counts(examples), limits)
        ]
        if reasons:
            raise DataRefused("\n".join(reasons), "Correct the drop; or, if the data is right, raise the limits.")
        known = [one for one in read_creatives(creative_files(input_dict["creatives"])) if one.status == OK]
        folder = artifact_utils.get_single_uri(output_dict["pictures"])
        counts = write_pictures(known, settings, folder)
        logging.getLogger("adclick").info("pictures: %s", counts)


def write_pictures(known: Sequence[Creative], settings: RecognitionSettings, folder: str) -> PictureCounts:
    """Reads the creatives' files and writes the artifact's folder.

    Args:
        known: Creatives whose files could be read when their months were ingested, the newest first.
        settings: Sizes, limits and the seed.
        folder: The artifact's address.

    Raises:
        DataRefused: There are too few distinct ones.
    """
    taken = known[: settings.max_creatives]
    held_out_share = min(_MOST_HELD_OUT, settings.evaluation_creatives / max(1, len(taken)))
    training: list[npt.NDArray[np.uint8]] = []
    held_out = _HeldOut()
    unreadable = 0
    filesystem.make_folder(filesystem.join(folder, _HELD_OUT))
    for creative, content in _contents(taken):
        try:
            image = open_frame(content) if content is not None else None
            pixels = prepare(image, settings.size)[0].astype(np.uint8) if image is not None else None
        except BrokenFrame:
            image = pixels = None
        if image is None or pixels is None:
            unreadable += 1
        elif not _is_held_out(creative.key, settings.seed, held_out_share):
            training.append(pixels)
        elif held_out.is_new(image):
            path = filesystem.join(folder, _HELD_OUT, f"{creative.key}.png")
            with filesystem.open_write_atomic(path) as stream:
                _held_out_picture(image).save(stream, "PNG", compress_level=1)
    counts = PictureCounts(
        training=len(training),
        held_out=held_out.count,
        alike=held_out.alike,
        unreadable=unreadable,
        beyond_limit=len(known) - len(taken),
    )
    if len(training) + held_out.count < LEAST_CREATIVES or held_out.count < 4:
        raise DataRefused(
            f"{len(training) + held_out.count} distinct images that can be read, {held_out.count} of them held out; a "
            f"recogniser needs {LEAST_CREATIVES} and 4",
            "Widen data.window, or correct the columns of role image.",
        )
    buffer = io.BytesIO()
    np.save(buffer, np.stack(training))
    for name, written in ((_TRAINING, buffer.getvalue()), (_COUNTS, json.dumps(asdict(counts)).encode())):
        with filesystem.open_write_atomic(filesystem.join(folder, name)) as stream:
            stream.write(written)
    return counts


def _contents(creatives: Sequence[Creative]) -> Iterator[tuple[Creative, bytes | None]]:
    """The creatives' files in order, some read ahead; None for one that cannot be read any more."""

    def content(creative: Creative) -> bytes | None:
        try:
            return filesystem.read(creative.source, MAXIMUM_BYTES + 1)
        except OSError:
            return None

    waiting = iter(creatives)
    with ThreadPoolExecutor(_THREADS) as threads:
        while batch := list(islice(waiting, _READ_AHEAD)):
            yield from zip(batch, threads.map(content, batch), strict=True)


def _is_held_out(key: str, seed: int, share: float) -> bool:
    """By the image's bytes, so that a creative is on one side in every month."""
    digest = hashlib.sha256(f"{seed} {key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


class _HeldOut:
    """Tells whether a creative looks like one that is held out already."""

    def __init__(self) -> None:
        self.alike = 0
        self._small: list[npt.NDArray[np.float32]] = []

    @property
    def count(self) -> int:
        return len(self._small)

    def is_new(self, image: Image.Image) -> bool:
        small = prepare(image, 16)[0]
        if self._small and np.abs(np.stack(self._small) - small).mean(axis=(1, 2, 3)).min() < LEAST_DIFFERENCE:
            self.alike += 1
            return False
        self._small.append(small)
        return True


def _held_out_picture(image: Image.Image) -> Image.Image:
    picture = upright(image)
    picture.thumbnail((_HELD_OUT_SIDE, _HELD_OUT_SIDE))
    return picture


class PictureGen(base_component.BaseComponent):  # type: ignore[misc]
    """Reads the creatives of a window from their files, in the size that devices see, and holds some out.

    The ingestion of the months has found which images there are; what it stored of them is smaller than a recogniser
    needs.
    """

    SPEC_CLASS = PictureGenSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(PictureGenExecutor)

    def __init__(
        self, *, examples: types.BaseChannel, creatives: types.BaseChannel, recognition: str, limits: str
    ) -> None:
        """Declares the component.

        Args:
            examples: The months' examples, whose counts say whether a month is fit.
            creatives: The months' creatives.
            recognition: The recognition settings as JSON.
            limits: The limits of ingestion as JSON.
        """
        super().__init__(
            spec=PictureGenSpec(
                examples=examples,
                creatives=creatives,
                recognition=recognition,
                limits=limits,
                pictures=types.Channel(type=Pictures),
            )
        )
