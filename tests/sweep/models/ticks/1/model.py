"""AT_NS = when a response was sent, by the monotonic clock that all processes of a machine share."""

import time

import numpy as np
import triton_python_backend_utils as pb_utils

RESPONSES = 4


class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            sender = request.get_response_sender()
            interval_ms = int(np.from_dlpack(pb_utils.get_input_tensor_by_name(request, "INTERVAL_MS"))[0])
            for _ in range(RESPONSES):
                time.sleep(interval_ms / 1000)
                at_ns = np.array([time.monotonic_ns()], np.int64)
                sender.send(pb_utils.InferenceResponse([pb_utils.Tensor.from_dlpack("AT_NS", at_ns)]))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
