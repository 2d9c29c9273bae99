"""OUTPUT0 = INPUT0 + 0.5."""

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self._respond(request) for request in requests]

    def _respond(self, request):
        tensor = np.from_dlpack(pb_utils.get_input_tensor_by_name(request, "INPUT0"))
        return pb_utils.InferenceResponse([pb_utils.Tensor.from_dlpack("OUTPUT0", tensor + np.float32(0.5))])
