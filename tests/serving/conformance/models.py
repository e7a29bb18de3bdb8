"""SavedModels for the conformance tests: of TensorFlow 1, with the signatures of TensorFlow Serving's own test models,
and of TensorFlow 2, with every type that a request can carry."""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf

v1 = tf.compat.v1


def save_half_plus(path: Path, intercept: float) -> None:
    """y = x / 2 + intercept: over tensors, and over `tf.Example`s to classify and to regress by."""
    constants = v1.saved_model.signature_constants
    with tf.Graph().as_default(), v1.Session() as session:
        serialized = v1.placeholder(tf.string, [None], name="tf_example")
        parsed = tf.io.parse_example(
            serialized,
            {
                "x": tf.io.FixedLenFeature([1], tf.float32),
                "x2": tf.io.FixedLenFeature([1], tf.float32, default_value=[0.0]),
            },
        )
        slope = v1.get_variable("a", initializer=0.5, use_resource=False)
        constant = v1.get_variable("b", initializer=intercept, use_resource=False)
        x = tf.identity(parsed["x"], name="x")
        y = tf.add(tf.multiply(slope, x), constant, name="y")
        y2 = tf.add(tf.multiply(slope, parsed["x2"]), 3.0, name="y2")
        labels = tf.fill(tf.shape(y), "half")

        def info(tensor: tf.Tensor) -> object:
            return v1.saved_model.build_tensor_info(tensor)

        def signature(inputs: dict[str, tf.Tensor], outputs: dict[str, tf.Tensor], method: str) -> object:
            return v1.saved_model.build_signature_def(
                {name: info(tensor) for name, tensor in inputs.items()},
                {name: info(tensor) for name, tensor in outputs.items()},
                method,
            )

        examples = {constants.CLASSIFY_INPUTS: serialized}
        scores = {constants.CLASSIFY_OUTPUT_SCORES: y}
        classes = {constants.CLASSIFY_OUTPUT_CLASSES: labels}
        classify, regress = constants.CLASSIFY_METHOD_NAME, constants.REGRESS_METHOD_NAME
        session.run(v1.global_variables_initializer())
        builder = v1.saved_model.Builder(str(path))
        builder.add_meta_graph_and_variables(
            session,
            [v1.saved_model.tag_constants.SERVING],
            signature_def_map={
                "serving_default": signature({"x": x}, {"y": y}, constants.PREDICT_METHOD_NAME),
                "classify_x_to_y": signature(examples, scores, classify),
                "classify_with_labels": signature(examples, {**classes, **scores}, classify),
                "classify_labels_only": signature(examples, classes, classify),
                "classify_wrong_output": signature(examples, {"nothing": y}, classify),
                "regress_x_to_y": signature(examples, {"outputs": y}, regress),
                "regress_x_to_y2": signature(examples, {"outputs": y2}, regress),
                "regress_x2_to_y3": signature({"inputs": x}, {"outputs": y2}, regress),
                "regress_wrong_type": signature(examples, {"outputs": labels}, regress),
            },
        )
        builder.save()


def save_defaults(path: Path) -> None:
    """y = x * factor + summand, where the summand is 10 and may be left out, as may the factor, which is 2."""
    with tf.Graph().as_default(), v1.Session() as session:
        x, factor, summand = (v1.placeholder(tf.float32, [None], name=name) for name in ("x", "factor", "summand"))
        y = tf.add(tf.multiply(x, factor), summand, name="y")
        info = v1.saved_model.build_tensor_info
        definition = v1.saved_model.build_signature_def(
            {"x": info(x), "factor": info(factor), "summand": info(summand)},
            {"y": info(y)},
            v1.saved_model.signature_constants.PREDICT_METHOD_NAME,
        )
        for name, value in (("factor", 2.0), ("summand", 10.0)):
            definition.defaults[name].CopyFrom(tf.make_tensor_proto([value]))
        builder = v1.saved_model.Builder(str(path))
        builder.add_meta_graph_and_variables(
            session, [v1.saved_model.tag_constants.SERVING], signature_def_map={"serving_default": definition}
        )
        builder.save()


class Types(tf.Module):
    """Gives back what it gets, in every type; and models whose answers are unusual."""

    def signatures(self) -> dict[str, object]:
        def echo(dtype: tf.DType, shape: list[int | None] | None) -> object:
            return tf.function(
                lambda x: {"y": tf.identity(x)}, input_signature=[tf.TensorSpec(shape, dtype, "x")], autograph=False
            ).get_concrete_function()

        kinds = {
            name: tf.as_dtype(name)
            for name in ("float32", "float64", "int32", "int64", "int8", "int16", "uint8", "uint32", "uint64", "bool")
        }
        made = {name: echo(dtype, None) for name, dtype in kinds.items()}
        made["string"] = echo(tf.string, None)
        made["half"] = echo(tf.float16, None)
        made["complex"] = echo(tf.complex64, None)

        @tf.function(
            input_signature=[
                tf.TensorSpec([None], tf.float32, "a"),
                tf.TensorSpec([None], tf.string, "b"),
                tf.TensorSpec([None, None], tf.int64, "c"),
            ],
            autograph=False,
        )
        def several(a: tf.Tensor, b: tf.Tensor, c: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"double": a * 2, "text": b, "image_bytes": b, "sum": tf.reduce_sum(c, axis=1)}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")], autograph=False)
        def unusual(x: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"inverse": 1.0 / x, "root": tf.sqrt(x)}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")], autograph=False)
        def scalar(x: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"sum": tf.reduce_sum(x)}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")], autograph=False)
        def uneven(x: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"one": x[:1], "all": x}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")], autograph=False)
        def refusing(x: tf.Tensor) -> dict[str, tf.Tensor]:
            with tf.control_dependencies([tf.debugging.assert_less(x, 10.0, "too large")]):
                return {"y": tf.identity(x)}

        self.table = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(tf.constant(["one", "two"]), tf.constant([1, 2], tf.int64)), -1
        )

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "word")], autograph=False)
        def look_up(word: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"number": self.table.lookup(word)}

        def of_examples(factor: float, output: str) -> object:
            @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "inputs")], autograph=False)
            def scaled(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
                parsed = tf.io.parse_example(inputs, {"x": tf.io.FixedLenFeature([1], tf.float32)})
                return {output: factor * parsed["x"]}

            return scaled.get_concrete_function()

        return {
            **made,
            "regress_half": of_examples(0.5, "outputs"),
            "regress_double": of_examples(2.0, "outputs"),
            "classify_triple": of_examples(3.0, "scores"),
            "serving_default": several.get_concrete_function(),
            "unusual": unusual.get_concrete_function(),
            "scalar": scalar.get_concrete_function(),
            "uneven": uneven.get_concrete_function(),
            "refusing": refusing.get_concrete_function(),
            "look_up": look_up.get_concrete_function(),
        }


def save_types(path: Path) -> None:
    """The model of every type."""
    module = Types()
    signatures = module.signatures()
    tf.saved_model.save(module, str(path), signatures=signatures)
