"""PROBABILITY of speech for each chunk of 512 samples of AUDIO; the last chunk is filled up with silence.

The network keeps a state from chunk to chunk and sees the last 64 samples of the chunk before. Both begin anew with
each request, so that a request holds a whole clip, and the same clip gives the same answer.
"""

import importlib.util
from pathlib import Path

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils

SAMPLE_RATE_HZ = 16000
CHUNK_SAMPLES = 512
CONTEXT_SAMPLES = 64


class TritonPythonModel:
    def initialize(self, args):
        # Found, not imported: the package would import torch.
        package = Path(importlib.util.find_spec("silero_vad").origin).parent
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            str(package / "data" / "silero_vad.onnx"), options, providers=["CPUExecutionProvider"]
        )

    def execute(self, requests):
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        audio = np.from_dlpack(pb_utils.get_input_tensor_by_name(request, "AUDIO"))
        return pb_utils.InferenceResponse([pb_utils.Tensor.from_dlpack("PROBABILITY", self._probabilities(audio))])

    def _probabilities(self, audio):
        batch, samples = audio.shape
        chunks = -(-samples // CHUNK_SAMPLES)
        silence = chunks * CHUNK_SAMPLES - samples
        padded = np.pad(audio, ((0, 0), (CONTEXT_SAMPLES, silence)))
        state = np.zeros((2, batch, 128), np.float32)
        probabilities = np.empty((batch, chunks), np.float32)
        for chunk in range(chunks):
            start = chunk * CHUNK_SAMPLES
            window = padded[:, start : start + CONTEXT_SAMPLES + CHUNK_SAMPLES]
            inputs = {"input": window, "state": state, "sr": np.array(SAMPLE_RATE_HZ, np.int64)}
            probability, state = self._session.run(None, inputs)
            probabilities[:, chunk] = probability[:, 0]
        return probabilities
