"""OUTPUT0 = INPUT0 + INPUT1 and OUTPUT1 = INPUT0 - INPUT1, element by element."""

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        left = np.from_dlpack(pb_utils.get_input_tensor_by_name(request, "INPUT0"))
        right = np.from_dlpack(pb_utils.get_input_tensor_by_name(request, "INPUT1"))
        return pb_utils.InferenceResponse(
            [
                pb_utils.Tensor.from_dlpack("OUTPUT0", left + right),
                pb_utils.Tensor.from_dlpack("OUTPUT1", left - right),
            ]
        )
