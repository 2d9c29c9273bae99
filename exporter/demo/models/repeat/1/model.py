"""OUTPUT0 = INPUT0 and INDEX = 0, 1, 2, … in one answer after another."""

import json
import threading
import time

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        parameters = json.loads(args["model_config"])["parameters"]
        self._defaults = {name: entry["string_value"] for name, entry in parameters.items()}

    def execute(self, requests):
        for request in requests:
            asked = self._defaults | json.loads(request.parameters() or "{}")
            tensor = np.from_dlpack(pb_utils.get_input_tensor_by_name(request, "INPUT0")).copy()
            arguments = (request.get_response_sender(), tensor, int(asked["answers"]), float(asked["interval_ms"]))
            threading.Thread(target=answer, args=arguments, daemon=True).start()


def answer(sender, tensor, answers, interval_ms):
    begin = time.perf_counter()
    for index in range(answers):
        # From the beginning, not from the answer before: delays do not add up.
        time.sleep(max(0.0, begin + (index + 1) * interval_ms / 1000 - time.perf_counter()))
        tensors = [
            pb_utils.Tensor.from_dlpack("OUTPUT0", tensor),
            pb_utils.Tensor.from_dlpack("INDEX", np.array([index], np.int32)),
        ]
        sender.send(pb_utils.InferenceResponse(tensors))
    sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
