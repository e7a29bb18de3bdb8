"""The Adam optimiser by TensorFlow's fused kernel."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

_BETA_1 = 0.9
_BETA_2 = 0.999
_EPSILON = 1e-7


class Adam:
    """Adam (Kingma and Ba, 2015) as Keras has it, but each variable is updated by one operation.

    Keras takes a dozen for each, which for embeddings are as many passes over the whole table.

    Args:
        variables: What is optimised, float32.
        learning_rate: The initial step size.

    Attributes:
        learning_rate: A variable; assign to it to change the step size.
    """

    def __init__(self, variables: Sequence[tf.Variable], learning_rate: float) -> None:
        self.learning_rate = tf.Variable(learning_rate, trainable=False, dtype=tf.float32)
        self._variables = list(variables)
        self._means = [tf.Variable(tf.zeros_like(variable), trainable=False) for variable in self._variables]
        self._squares = [tf.Variable(tf.zeros_like(variable), trainable=False) for variable in self._variables]
        self._beta_1_power = tf.Variable(_BETA_1, trainable=False, dtype=tf.float32)
        self._beta_2_power = tf.Variable(_BETA_2, trainable=False, dtype=tf.float32)

    def apply(self, gradients: Sequence[tf.Tensor | tf.IndexedSlices | None]) -> None:
        """Takes a step; variables without a gradient, None, stay as they are."""
        for variable, mean, square, gradient in zip(
            self._variables, self._means, self._squares, gradients, strict=True
        ):
            if gradient is not None:
                tf.raw_ops.ResourceApplyAdam(
                    var=variable.handle,
                    m=mean.handle,
                    v=square.handle,
                    beta1_power=self._beta_1_power,
                    beta2_power=self._beta_2_power,
                    lr=self.learning_rate,
                    beta1=_BETA_1,
                    beta2=_BETA_2,
                    epsilon=_EPSILON,
                    grad=tf.convert_to_tensor(gradient),
                )
        self._beta_1_power.assign(self._beta_1_power * _BETA_1)
        self._beta_2_power.assign(self._beta_2_power * _BETA_2)
