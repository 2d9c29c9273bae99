"""PROBABILITY of speech in the sequence's next chunk: the highest of its windows of 512 samples. The network's state,
and the samples that fill no window yet, are kept from request to request."""

import importlib.util
from pathlib import Path

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils

WINDOW_SAMPLES = 512
CONTEXT_SAMPLES = 64
RATE_HZ = np.array(16000, np.int64)


class TritonPythonModel:
    def initialize(self, args):
        # Found, not imported: the package would import torch.
        package = Path(importlib.util.find_spec("silero_vad").origin).parent
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            str(package / "data" / "silero_vad.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self._streams = {}

    def execute(self, requests):
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        start, end, stream = (
            int(np.from_dlpack(pb_utils.get_input_tensor_by_name(request, name)).flat[0])
            for name in ("START", "END", "CORRID")
        )
        audio = np.from_dlpack(pb_utils.get_input_tensor_by_name(request, "AUDIO"))
        if start:
            self._streams[stream] = np.zeros((2, 1, 128), np.float32), np.zeros((1, CONTEXT_SAMPLES), np.float32)
        state, before = self._streams[stream]
        samples = np.concatenate([before, audio], axis=1)
        highest, position = 0.0, CONTEXT_SAMPLES
        while position + WINDOW_SAMPLES <= samples.shape[1]:
            window = samples[:, position - CONTEXT_SAMPLES : position + WINDOW_SAMPLES]
            probability, state = self._session.run(None, {"input": window, "state": state, "sr": RATE_HZ})
            highest, position = max(highest, float(probability[0, 0])), position + WINDOW_SAMPLES
        self._streams[stream] = state, samples[:, position - CONTEXT_SAMPLES :].copy()
        if end:
            del self._streams[stream]
        return pb_utils.InferenceResponse([pb_utils.Tensor("PROBABILITY", np.array([[highest]], np.float32))])
