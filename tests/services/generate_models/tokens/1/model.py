"""Emits words at known moments; a prompt with "fail" in it ends with an error after its second word, one
with "stall" in it after a pause of two seconds there."""

import threading
import time

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            text = pb_utils.get_input_tensor_by_name(request, "text_input").as_numpy()[0].decode()
            limit = pb_utils.get_input_tensor_by_name(request, "max_tokens")
            count = int(limit.as_numpy()[0]) if limit is not None else 4
            arguments = (request.get_response_sender(), text, count)
            threading.Thread(target=respond, args=arguments, daemon=True).start()


def respond(sender, text, count):
    begin = time.perf_counter()
    for index in range(count):
        time.sleep(max(0.0, begin + 0.040 + index * 0.010 - time.perf_counter()))
        if index == 2 and "stall" in text:
            time.sleep(2)
        if index == 2 and "fail" in text:
            sender.send(pb_utils.InferenceResponse(error=pb_utils.TritonError("out of words")))
            break
        word = pb_utils.Tensor("text_output", np.array([b"word "], np.object_))
        sender.send(pb_utils.InferenceResponse([word]))
    sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
