"""The user code of the stock Trainer, as TFX's templates lay it out: input function, serving signature, run function.

The network is adclick's own, fitted from zero by the same optimizer with the same batch size for as many epochs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
from tfx_bsl.public import tfxio

from adclick.models.effects import Effects, EffectTable
from adclick.models.features import InputLayout, input_layout, transformed_name
from adclick.models.network import CATEGORIES, NUMBERS, ClickNetwork
from adclick.models.settings import NetworkSettings, TrainingSettings
from adclick.schema.feature_table import FeatureTable, parse_feature_table

CLICK_PROBABILITY = "click_probability"
#: The keys of the Trainer's custom configuration.
FEATURES, NETWORK, TRAINING = "features", "network", "training"
#: Rows of a validation batch.
EVALUATION_BATCH = 4_096
#: Prior deviation of the effects of values, which nothing estimates here.
_EFFECT_DEVIATION = 0.2


def run_fn(fn_args: Any) -> None:
    """Trains on the transformed examples and exports; what the Trainer calls.

    Args:
        fn_args: TFX's `FnArgs`; `train_steps` and `eval_steps` are those of one epoch.
    """
    features = parse_feature_table(fn_args.custom_config[FEATURES])
    network_settings = NetworkSettings.model_validate_json(fn_args.custom_config[NETWORK])
    training = TrainingSettings.model_validate_json(fn_args.custom_config[TRAINING])
    transform = tft.TFTransformOutput(fn_args.transform_output)
    layout = input_layout(features, transform.vocabulary_size_by_name)
    keras.utils.set_random_seed(training.seed)
    network = ClickNetwork(
        layout,
        network_settings,
        training,
        image_size=0,
        rows=fn_args.train_steps * training.batch_size,
        effects=_no_effects(layout),
    )
    network.compile(
        optimizer=keras.optimizers.Adam(training.learning_rate),
        loss=keras.losses.BinaryCrossentropy(from_logits=True),
        metrics=[
            keras.metrics.BinaryCrossentropy(from_logits=True, name="log_loss"),
            keras.metrics.AUC(from_logits=True, name="auc", num_thresholds=500),
        ],
        jit_compile=False,
    )
    network.fit(
        _input_fn(fn_args.train_files, fn_args.data_accessor, transform, features, layout, training.batch_size),
        steps_per_epoch=fn_args.train_steps,
        epochs=training.max_epochs,
        validation_data=_input_fn(
            fn_args.eval_files, fn_args.data_accessor, transform, features, layout, EVALUATION_BATCH
        ),
        validation_steps=fn_args.eval_steps,
        callbacks=[keras.callbacks.TensorBoard(fn_args.model_run_dir, write_graph=False, update_freq="epoch")],
        verbose=0,
    )
    module = _ServingModule(network, transform, features.label_name)
    tf.saved_model.save(module, fn_args.serving_model_dir, signatures={"serving_default": module.serve})


def _no_effects(layout: InputLayout) -> Effects:
    tables = tuple(
        EffectTable((position,), (field.size,), _EFFECT_DEVIATION, np.zeros(field.size))
        for position, field in enumerate(layout.singles)
    )
    return Effects(0.0, tables)


def _input_fn(
    files: Sequence[str],
    data_accessor: Any,
    transform: tft.TFTransformOutput,
    features: FeatureTable,
    layout: InputLayout,
    batch_size: int,
) -> tf.data.Dataset:
    label = transformed_name(features.label_name)
    dataset = data_accessor.tf_dataset_factory(
        files,
        tfxio.TensorFlowDatasetOptions(batch_size=batch_size, label_key=label),
        transform.transformed_metadata.schema,
    )

    def as_inputs(transformed: Mapping[str, tf.Tensor], clicked: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        return _network_inputs(transformed, layout), tf.reshape(tf.cast(clicked, tf.float32), [-1, 1])

    return dataset.map(as_inputs, num_parallel_calls=tf.data.AUTOTUNE).repeat().prefetch(tf.data.AUTOTUNE)


def _network_inputs(transformed: Mapping[str, tf.Tensor], layout: InputLayout) -> dict[str, tf.Tensor]:
    def stacked(names: Sequence[str], dtype: tf.DType) -> tf.Tensor:
        return tf.concat(
            [tf.reshape(tf.cast(transformed[transformed_name(name)], dtype), [-1, 1]) for name in names], axis=1
        )

    return {
        CATEGORIES: stacked([field.name for field in layout.singles], tf.int32),
        NUMBERS: stacked(layout.numbers, tf.float32),
    }


class _ServingModule(tf.Module):
    """What is exported; it holds the variables itself, as the C++ loader does not find those of a Keras 3 model."""

    def __init__(self, network: ClickNetwork, transform: tft.TFTransformOutput, label: str) -> None:
        super().__init__()
        self._network = network
        self.weights = [variable.value for variable in network.variables]
        self.transform_layer = transform.transform_features_layer()
        self._raw_spec = {name: spec for name, spec in transform.raw_feature_spec().items() if name != label}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "examples")])
    def serve(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        """Click probabilities, float32 [batch], of serialized `tf.Example`s."""
        transformed = self.transform_layer(tf.io.parse_example(examples, self._raw_spec))
        logits = self._network(_network_inputs(transformed, self._network.layout), training=False)
        return {CLICK_PROBABILITY: tf.sigmoid(logits)[:, 0]}
