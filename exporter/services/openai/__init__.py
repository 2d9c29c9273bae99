"""The service kind `openai`: chat completions, completions and embeddings of any server that speaks OpenAI's HTTP API.
It must not know of windows or pacing."""
