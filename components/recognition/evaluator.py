"""The RecogniserEvaluator component."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydantic import BaseModel
from tfx import types
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils, standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from adclick.components.artifacts import Pictures
from adclick.components.recognition.pictures import read_held_out, read_picture_counts, read_training
from adclick.components.recognition.trainer import form_file
from adclick.models.recognition.conversion import FORMS, ConvertedRecogniser
from adclick.models.recognition.field_camera import DISTORTIONS, capture
from adclick.models.recognition.judging import Candidate, RecognitionTrial, apply_gate, choose, judge
from adclick.models.recognition.settings import RecognitionSettings
from adclick.serving.edge.frame import prepare
from adclick.storage import filesystem
from adclick.storage.recogniser_versions import FACTS_FILE

#: The catalogue of the trial is filled up to so many creatives with ones that were learned from.
_CATALOGUE = 1_000
_CAPTURES_EACH = 4
_CAPTURES_OF_ONE_DISTORTION = 60
_SENSOR = (480, 360)
_BLESSED = "blessed"


class RecognitionFacts(BaseModel):
    """All that is known of a recogniser.

    Attributes:
        thresholds: `known`, the least similarity at which a device recognises a creative.
        size: The side of its input.
        dimension: The length of its embedding.
        form: Which of the forms it is.
        forms: What was measured of each form.
        refusals: Why it must not be pushed; empty if it may.
        undecided: What its captures were too few to decide.
        creatives: How many creatives it learned from, was judged by, and what was left out.
        false_alarm_rate: The share of booked creatives' captures below the threshold, as it was chosen.
        camera_strength: How harsh the judging camera was.
    """

    thresholds: dict[str, float]
    size: int
    dimension: int
    form: str
    forms: list[Candidate]
    refusals: list[str]
    undecided: list[str]
    creatives: dict[str, int]
    false_alarm_rate: float
    camera_strength: float

    @property
    def chosen(self) -> Candidate:
        """The form that is served."""
        return next(candidate for candidate in self.forms if candidate.form == self.form)


def read_facts(uri: str) -> RecognitionFacts:
    """What the evaluation at an address, or a pushed version, says."""
    with filesystem.open_read(filesystem.join(uri, FACTS_FILE)) as stream:
        return RecognitionFacts.model_validate_json(stream.read())


class RecogniserEvaluatorSpec(ComponentSpec):  # type: ignore[misc]
    """Inputs, outputs and parameters of RecogniserEvaluator."""

    PARAMETERS = {"recognition": ExecutionParameter(type=str)}
    INPUTS = {
        "pictures": ChannelParameter(type=Pictures),
        "model": ChannelParameter(type=standard_artifacts.Model),
    }
    OUTPUTS = {
        "evaluation": ChannelParameter(type=standard_artifacts.ModelEvaluation),
        "blessing": ChannelParameter(type=standard_artifacts.ModelBlessing),
    }


class RecogniserEvaluatorExecutor(base_executor.BaseExecutor):  # type: ignore[misc]
    """Judges each converted form, on creatives and by a camera that training never saw."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        settings = RecognitionSettings.model_validate_json(exec_properties["recognition"])
        pictures = artifact_utils.get_single_instance(input_dict["pictures"])
        model = artifact_utils.get_single_uri(input_dict["model"])
        trial = make_trial(read_held_out(pictures), read_training(pictures), settings)
        candidates = []
        for form in FORMS:
            with filesystem.open_read(filesystem.join(model, form_file(form))) as stream:
                content = stream.read()
            recogniser = ConvertedRecogniser(content)
            judgement = judge(recogniser.embed, trial, settings.false_alarm_rate)
            candidates.append(
                Candidate(
                    form=form,
                    size=len(content),
                    milliseconds=recogniser.median_milliseconds(),
                    judgement=judgement,
                )
            )
        chosen = choose(candidates, settings)
        verdict = apply_gate(chosen, settings)
        counts = read_picture_counts(pictures)
        facts = RecognitionFacts(
            thresholds={"known": chosen.judgement.threshold},
            size=settings.size,
            dimension=settings.dimension,
            form=chosen.form,
            forms=candidates,
            refusals=list(verdict.refusals),
            undecided=list(verdict.undecided),
            creatives=counts.__dict__,
            false_alarm_rate=settings.false_alarm_rate,
            camera_strength=settings.camera_strength,
        )
        evaluation = artifact_utils.get_single_uri(output_dict["evaluation"])
        filesystem.make_folder(evaluation)
        with filesystem.open_write_atomic(filesystem.join(evaluation, FACTS_FILE)) as stream:
            stream.write(facts.model_dump_json(indent=2).encode())
        blessing = artifact_utils.get_single_instance(output_dict["blessing"])
        blessing.set_int_custom_property(_BLESSED, int(not verdict.refusals))
        filesystem.make_folder(blessing.uri)
        mark = "NOT_BLESSED" if verdict.refusals else "BLESSED"
        with filesystem.open_write_atomic(filesystem.join(blessing.uri, mark)) as stream:
            stream.write(b"")
        for line in (*verdict.refusals, *verdict.undecided):
            logging.getLogger("adclick").info("recogniser: %s", line)


def is_blessed(blessing: types.Artifact) -> bool:
    """Whether the recogniser may be pushed."""
    return bool(blessing.get_int_custom_property(_BLESSED) == 1)


def make_trial(
    held_out: Sequence[Image.Image], training: npt.NDArray[np.uint8], settings: RecognitionSettings
) -> RecognitionTrial:
    """Takes pictures of screens, half of the held-out creatives being booked and half foreign.

    Args:
        held_out: Creatives that training never saw.
        training: Creatives that it saw, which fill the catalogue, uint8 [creatives, S, S, 3].
        settings: The camera's strength, the size and the seed.
    """
    booked, foreign = held_out[: len(held_out) // 2], held_out[len(held_out) // 2 :]
    shot = _camera(settings)
    clean = np.concatenate([prepare(picture, settings.size) for picture in booked]).astype(np.uint8)
    rows = np.repeat(np.arange(len(booked)), _CAPTURES_EACH)
    alone = np.arange(min(len(booked), _CAPTURES_OF_ONE_DISTORTION))
    return RecognitionTrial(
        catalogue=np.concatenate([clean, training[: max(0, _CATALOGUE - len(booked))]]),
        booked=shot((booked[row] for row in rows), 1, None),
        rows=rows,
        foreign=shot(foreign, 2, None),
        by_distortion={
            name: (shot((booked[row] for row in alone), 3 + number, (name,)), alone)
            for number, name in enumerate(DISTORTIONS)
        },
    )


def _camera(
    settings: RecognitionSettings,
) -> Callable[[Sequence[Image.Image] | Iterator[Image.Image], int, tuple[str, ...] | None], npt.NDArray[np.uint8]]:
    def shot(
        pictures: Sequence[Image.Image] | Iterator[Image.Image], purpose: int, distortions: tuple[str, ...] | None
    ) -> npt.NDArray[np.uint8]:
        frames = []
        for number, picture in enumerate(pictures):
            generator = np.random.default_rng([settings.seed, purpose, number])
            frame = capture(picture, generator, distortions, _SENSOR, settings.camera_strength)
            frames.append(prepare(frame, settings.size)[0].astype(np.uint8))
        return np.stack(frames)

    return shot


class RecogniserEvaluator(base_component.BaseComponent):  # type: ignore[misc]
    """Judges the converted recogniser and blesses it, or not."""

    SPEC_CLASS = RecogniserEvaluatorSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(RecogniserEvaluatorExecutor)

    def __init__(self, *, pictures: types.BaseChannel, model: types.BaseChannel, recognition: str) -> None:
        """Declares the component.

        Args:
            pictures: PictureGen's.
            model: RecogniserTrainer's.
            recognition: The recognition settings as JSON.
        """
        super().__init__(
            spec=RecogniserEvaluatorSpec(
                pictures=pictures,
                model=model,
                recognition=recognition,
                evaluation=types.Channel(type=standard_artifacts.ModelEvaluation),
                blessing=types.Channel(type=standard_artifacts.ModelBlessing),
            )
        )
