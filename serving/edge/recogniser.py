"""A recogniser: a LiteRT model from pixels to an embedding of unit length."""

from __future__ import annotations

from typing import Any

import numpy as np

from .errors import BundleRefused


class Recogniser:
    """A loaded LiteRT model; one thread uses it at a time.

    Attributes:
        size: The side S of its input, float32 [1, S, S, 3].
        dimension: The length D of its output, float32 [1, D].

    Raises:
        BundleRefused: It is no LiteRT model, or one of other inputs and outputs.
    """

    def __init__(self, model: bytes, threads: int = 1) -> None:
        from ai_edge_litert.interpreter import Interpreter

        try:
            self._interpreter = Interpreter(model_content=model, num_threads=threads)
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise BundleRefused("unfit", f"recogniser.tflite: LiteRT cannot load it: {error}") from None
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        forms = [(tuple(int(n) for n in each["shape"]), np.dtype(each["dtype"])) for each in (*inputs, *outputs)]
        if len(inputs) != 1 or len(outputs) != 1 or not _is_recogniser(*forms):
            raise BundleRefused(
                "unfit", f"recogniser.tflite: wants float32 [1, S, S, 3] to float32 [1, D], has {forms}"
            )
        self._input, self._output = inputs[0]["index"], outputs[0]["index"]
        self.size: int = forms[0][0][1]
        self.dimension: int = forms[1][0][1]

    def embed(self, pixels: np.ndarray[Any, np.dtype[np.float32]]) -> np.ndarray[Any, np.dtype[np.float32]]:
        """The embedding of a prepared frame.

        Args:
            pixels: float32 [1, S, S, 3], as `frame.prepare` gives them.

        Returns:
            float32 [D]; not finite where the model's answer is not.
        """
        self._interpreter.set_tensor(self._input, pixels)
        self._interpreter.invoke()
        return np.array(self._interpreter.get_tensor(self._output)[0], np.float32)


def _is_recogniser(given: tuple[tuple[int, ...], Any], taken: tuple[tuple[int, ...], Any]) -> bool:
    shape, answer = given[0], taken[0]
    return (
        given[1] == taken[1] == np.float32
        and len(shape) == 4
        and shape[0] == 1
        and shape[1] == shape[2] > 0
        and shape[3] == 3
        and len(answer) == 2
        and answer[0] == 1
    )
