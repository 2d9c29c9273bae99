"""OUTPUT0 = the sum of the sequence's INPUT0 so far."""

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self._sums = {}

    def execute(self, requests):
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        start, end, ready, sequence = (
            int(np.from_dlpack(pb_utils.get_input_tensor_by_name(request, name)).flat[0])
            for name in ("START", "END", "READY", "CORRID")
        )
        # A copy: the tensor's memory is the request's, and it cannot be written.
        tensor = np.from_dlpack(pb_utils.get_input_tensor_by_name(request, "INPUT0")).copy()
        if ready:
            total = tensor if start else self._sums.get(sequence, 0) + tensor
            self._sums[sequence] = total
        else:
            total = tensor
        if end:
            self._sums.pop(sequence, None)
        return pb_utils.InferenceResponse([pb_utils.Tensor.from_dlpack("OUTPUT0", total)])
