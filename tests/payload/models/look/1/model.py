"""SEEN = what came, for each element of the batch, as JSON: X, EXTRA (null if it was not sent), request parameters."""

import json

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self._respond(request) for request in requests]

    def _respond(self, request):
        x = pb_utils.get_input_tensor_by_name(request, "X").as_numpy()
        extra = pb_utils.get_input_tensor_by_name(request, "EXTRA")
        extras = [None] * len(x) if extra is None else extra.as_numpy().tolist()
        parameters = json.loads(request.parameters() or "{}")
        seen = [
            json.dumps({"X": row, "EXTRA": more, "parameters": parameters}, sort_keys=True).encode()
            for row, more in zip(x.tolist(), extras, strict=True)
        ]
        return pb_utils.InferenceResponse([pb_utils.Tensor("SEEN", np.array(seen, np.object_).reshape(-1, 1))])
