"""Teachers that are HTTP servers: OpenAI-compatible completions, and the Open Inference Protocol."""
