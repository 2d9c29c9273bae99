"""Fails in the ways in which a decoupled model of the Python backend can. MOST is how many requests were inside at once
so far, at most; each takes 30 ms."""

import threading
import time

import numpy as np
import triton_python_backend_utils as pb_utils

FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
TAKES_SECONDS = 0.03


class TritonPythonModel:
    def initialize(self, args):
        self._lock = threading.Lock()
        self._inside = self._most = 0

    def execute(self, requests):
        for request in requests:
            case, number = np.from_dlpack(pb_utils.get_input_tensor_by_name(request, "CASE")).flatten()[:2]
            arguments = (request.get_response_sender(), int(case), int(number))
            threading.Thread(target=self._respond, args=arguments, daemon=True).start()

    def _respond(self, sender, case, number):
        with self._lock:
            self._inside += 1
            self._most = max(self._most, self._inside)
        # Each case is what it sends before the 30 ms are over, and what after them, with the final flag or before it.
        before, after, flag_apart = {
            0: ("", "o", False),
            1: ("", "e", False),
            2: ("e", "", True),
            3: ("oe", "", True),
            4: ("eee", "", True),
            5: ("eo", "", True),
            6: ("e", "", None),
            7: ("", "oe", False),
        }[case]
        responses = [self._response(kind, f"broke {place}", number) for place, kind in enumerate(before)]
        for response in responses:
            sender.send(response)
        time.sleep(TAKES_SECONDS)
        with self._lock:
            self._inside -= 1
        responses = [self._response(kind, f"broke {place}", number) for place, kind in enumerate(after)]
        for response in responses[:-1]:
            sender.send(response)
        if responses:
            sender.send(responses[-1], flags=FINAL)
        elif flag_apart:
            sender.send(flags=FINAL)
        else:
            time.sleep(5)  # the marker is lost: it comes when no caller waits for it any more
            sender.send(flags=FINAL)

    def _response(self, kind, text, number):
        if kind == "e":
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(text))
        numbers = {"OUT": number, "MOST": self._most}
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor.from_dlpack(name, np.array([value], np.int32)) for name, value in numbers.items()]
        )
