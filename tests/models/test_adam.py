"""Adam takes Keras's steps."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from adclick.models.adam import Adam


def test_its_steps_are_those_of_keras() -> None:
    random = np.random.default_rng(1)
    start = random.normal(size=(7, 3)).astype(np.float32)
    gradients = random.normal(size=(5, 7, 3)).astype(np.float32)
    ours, theirs = tf.Variable(start), keras.Variable(start)
    adam, of_keras = Adam([ours], 0.1), keras.optimizers.Adam(0.1)
    for step, gradient in enumerate(gradients):
        if step == 3:
            adam.learning_rate.assign(0.01)
            of_keras.learning_rate.assign(0.01)
        adam.apply([tf.constant(gradient)])
        of_keras.apply([tf.constant(gradient)], [theirs])
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-5, atol=1e-6)


def test_sparse_gradients_count_and_missing_ones_leave_a_variable_as_it_is() -> None:
    dense, sparse, untouched = (tf.Variable(tf.ones((3, 2))) for _ in range(3))
    Adam([dense], 0.1).apply([tf.constant([[1.0, 2.0], [0.0, 0.0], [3.0, 3.0]])])
    twice = tf.IndexedSlices(tf.constant([[1.0, 1.0], [1.0, 2.0], [2.0, 1.0]]), tf.constant([0, 2, 2]), [3, 2])
    adam = Adam([sparse, untouched], 0.1)
    adam.apply([twice, None])
    np.testing.assert_array_equal(sparse.numpy()[1], [1.0, 1.0])
    np.testing.assert_allclose(sparse.numpy(), dense.numpy(), atol=1e-6)
    np.testing.assert_array_equal(untouched.numpy(), np.ones((3, 2)))
