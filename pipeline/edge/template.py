"""A recogniser that nothing was learned for: a picture as 16 x 16 colours, without its mean, at unit length.

It finds the right creative among alike ones in most captures, and tells foreign pictures badly: the baseline of every
learned recogniser, and what demonstrates a device where none was trained.
"""

from __future__ import annotations

import tempfile

#: The least similarity at which a template is taken for the same picture; foreign sample creatives mostly lie below.
TEMPLATE_KNOWN = 0.95
_SIDE = 16


def template_recogniser(size: int = 96) -> bytes:
    """The LiteRT file of the template.

    Args:
        size: The side of its input, a multiple of 16: float32 [1, size, size, 3] to float32 [1, 768].
    """
    import tensorflow as tf

    step = size // _SIDE

    class Template(tf.Module):  # type: ignore[misc]
        @tf.function(input_signature=[tf.TensorSpec([1, size, size, 3], tf.float32, "pixels")])
        def embed(self, pixels: tf.Tensor) -> tf.Tensor:
            coarse = tf.reshape(tf.nn.avg_pool2d(pixels, step, step, "VALID"), [1, _SIDE * _SIDE * 3])
            centred = coarse - tf.reduce_mean(coarse, axis=1, keepdims=True)
            # A blank picture has no direction: it is like nothing.
            return centred * tf.math.rsqrt(tf.reduce_sum(centred * centred, axis=1, keepdims=True) + 1e-6)

    with tempfile.TemporaryDirectory(prefix="adclick-template-") as folder:
        module = Template()
        tf.saved_model.save(module, folder, module.embed.get_concrete_function())
        return bytes(tf.lite.TFLiteConverter.from_saved_model(folder).convert())
