"""OUTPUT0 = INPUT0, after the longest delay that any request of the batch asks for."""

import json
import time

import triton_python_backend_utils as pb_utils

SPIN_SECONDS = 0.0002


class TritonPythonModel:
    def initialize(self, args):
        parameters = json.loads(args["model_config"])["parameters"]
        self._delay_ms = float(parameters["delay_ms"]["string_value"])

    def execute(self, requests):
        end = time.perf_counter() + max(self._asked_ms(request) for request in requests) / 1000
        # The kernel wakes a sleeper some 0.1 ms late: sleep short, and spin the little that is left.
        time.sleep(max(0.0, end - time.perf_counter() - SPIN_SECONDS))
        while time.perf_counter() < end:
            pass
        return [self._answer(request) for request in requests]

    def _asked_ms(self, request):
        return float(json.loads(request.parameters() or "{}").get("delay_ms", self._delay_ms))

    def _answer(self, request):
        tensor = pb_utils.get_input_tensor_by_name(request, "INPUT0")
        return pb_utils.InferenceResponse([pb_utils.Tensor.from_dlpack("OUTPUT0", tensor)])
