"""OUTPUT0 = the sum of the sequence's INPUT0 so far."""

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self._sums = {}

    def execute(self, requests):
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        start, end, ready, sequence = (
            int(pb_utils.get_input_tensor_by_name(request, name).as_numpy().flat[0])
            for name in ("START", "END", "READY", "CORRID")
        )
        tensor = pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy()
        if ready:
            total = tensor if start else self._sums.get(sequence, 0) + tensor
            self._sums[sequence] = total
        else:
            total = tensor
        if end:
            self._sums.pop(sequence, None)
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", total)])
