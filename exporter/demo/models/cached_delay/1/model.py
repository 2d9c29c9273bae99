"""OUTPUT0 = INPUT0 squared, 20 ms later; the server keeps the answer and does not ask again."""

import time

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        time.sleep(0.02)
        tensor = np.from_dlpack(pb_utils.get_input_tensor_by_name(request, "INPUT0"))
        return pb_utils.InferenceResponse([pb_utils.Tensor.from_dlpack("OUTPUT0", tensor * tensor)])
