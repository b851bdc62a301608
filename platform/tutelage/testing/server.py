"""A small HTTP server around model folders, for tests of remote teachers: completions and V2, on loopback.

    python -m tutelage.testing.server --lm FOLDER --classifier FOLDER [--port 0] [--busy-every 0]

Model `lm` answers as vLLM does (prompt_logprobs), `lm-echo` is the same model with the echoed logprobs of
the completions API, `classifier` is behind V2. It prints `{"port": N}` when it listens. It is for tests
alone: one call at a time, no limits.

Shapes: N examples, T tokens, V vocabulary, C classes.
"""

from __future__ import annotations

import argparse
import json
import socket
from typing import Any

LIMIT = 64
"""Most log-probabilities a token."""


class Models:
    """The models of the server, and how each kind of question is answered."""

    def __init__(self, lm: str | None, classifier: str | None, busy_every: int) -> None:
        from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

        self._busy_every = busy_every
        self._calls = 0
        language: Any = AutoModelForCausalLM
        sequence: Any = AutoModelForSequenceClassification
        tokenizer: Any = AutoTokenizer
        self._lm = language.from_pretrained(lm).eval() if lm else None
        self._classifier = sequence.from_pretrained(classifier).eval() if classifier else None
        self._lm_words = tokenizer.from_pretrained(lm) if lm else None
        self._words = tokenizer.from_pretrained(classifier) if classifier else None

    def busy(self) -> bool:
        """True for every n-th question."""
        self._calls += 1
        return bool(self._busy_every) and self._calls % self._busy_every == 0

    def models(self) -> dict[str, Any]:
        """/v1/models; `created` is the time of the call with real servers, and differs each time here too."""
        self._calls += 1
        entries = [{"id": name, "root": "lm", "created": self._calls} for name in ("lm", "lm-echo")]
        return {"object": "list", "data": entries}

    def complete(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """/v1/completions for prompts in token ids."""
        echo = body["model"] == "lm-echo"
        k = body.get("logprobs" if echo else "prompt_logprobs")
        if k is not None and k > LIMIT:
            said = f"Requested prompt logprobs of {k}, which is greater than max allowed: {LIMIT}"
            return 400, {"error": {"message": said, "code": 400}}
        choices = [self._choice(n, ids, k, echo=echo) for n, ids in enumerate(body["prompt"])]
        return 200, {"object": "text_completion", "model": body["model"], "choices": choices}

    def _choice(self, index: int, ids: list[int], k: int | None, *, echo: bool) -> dict[str, Any]:
        choice: dict[str, Any] = {"index": index, "text": "", "logprobs": None}
        if k is None:
            return choice
        rows: list[dict[int, float] | None] = [None, *self._rows(ids, k)]
        named: list[dict[str, Any] | None]
        if not echo:
            words: Any = self._lm_words
            named = [
                None
                if row is None
                else {
                    str(i): {"logprob": p, "rank": n + 1, "decoded_token": words.decode([i])}
                    for n, (i, p) in enumerate(row.items())
                }
                for row in rows
            ]
            return {**choice, "prompt_logprobs": named, "prompt_token_ids": ids}
        named = [None if row is None else {f"token_id:{i}": p for i, p in row.items()} for row in rows]
        tokens = [f"token_id:{i}" for i in ids]
        return {**choice, "logprobs": {"tokens": tokens, "top_logprobs": named}}

    def _rows(self, ids: list[int], k: int) -> list[dict[int, float]]:
        import torch

        model: Any = self._lm
        with torch.inference_mode():
            log_p_TV = torch.log_softmax(model(torch.tensor([ids])).logits[0].float(), -1)
        top_Tk = log_p_TV.topk(min(k, log_p_TV.shape[1]), dim=-1)
        rows = zip(ids[1:], log_p_TV, top_Tk.values.tolist(), top_Tk.indices.tolist(), strict=False)
        return [
            {token: float(log_p_V[token]), **dict(zip(best, values, strict=True))}
            for token, log_p_V, values, best in rows
        ]

    def ready(self) -> dict[str, bool]:
        """/v2/health/ready."""
        return {"ready": True}

    def metadata(self) -> dict[str, Any]:
        """/v2/models/classifier."""
        model: Any = self._classifier
        return {
            "name": "classifier",
            "versions": ["1"],
            "platform": "pytorch",
            "inputs": [{"name": "text", "datatype": "BYTES", "shape": [-1]}],
            "outputs": [{"name": "logits", "datatype": "FP32", "shape": [-1, model.config.num_labels]}],
        }

    def infer(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """/v2/models/classifier/infer for texts."""
        import torch

        words: Any = self._words
        model: Any = self._classifier
        texts = body["inputs"][0]["data"]
        inputs = words(texts, truncation=True, padding=True, return_tensors="pt")
        with torch.inference_mode():
            logits_NC = model(**inputs).logits.float()
        output = {"name": "logits", "datatype": "FP32", "shape": list(logits_NC.shape)}
        outputs = [{**output, "data": logits_NC.flatten().tolist()}]
        return 200, {
            "id": body.get("id"),
            "model_name": "classifier",
            "model_version": "1",
            "outputs": outputs,
        }


def build_app(models: Models) -> Any:
    """The ASGI app."""
    from fastapi import FastAPI, Request
    from fastapi.responses import JSONResponse

    app = FastAPI()

    async def answer(request: Any, ask: Any) -> Any:
        if models.busy():
            return JSONResponse({"error": "busy"}, 503, {"retry-after": "0"})
        status, value = ask(await request.json())
        return JSONResponse(value, status)

    async def complete(request: Request) -> Any:
        return await answer(request, models.complete)

    async def infer(request: Request) -> Any:
        return await answer(request, models.infer)

    # Annotations are strings here, and FastAPI looks for their names in the module.
    complete.__annotations__["request"] = infer.__annotations__["request"] = Request
    app.get("/v1/models")(models.models)
    app.post("/v1/completions", response_model=None)(complete)
    app.get("/v2/health/ready")(models.ready)
    app.get("/v2/models/classifier")(models.metadata)
    app.post("/v2/models/classifier/infer", response_model=None)(infer)
    return app


def main() -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lm")
    parser.add_argument("--classifier")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--busy-every", type=int, default=0, help="every n-th question is answered with 503")
    given = parser.parse_args()
    import torch
    import transformers
    import uvicorn

    words: Any = transformers.utils.logging
    words.disable_progress_bar()
    torch.set_num_threads(1)
    app = build_app(Models(given.lm, given.classifier, given.busy_every))
    listener = socket.create_server(("127.0.0.1", given.port), backlog=128)
    print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False)).run(sockets=[listener])


if __name__ == "__main__":
    main()
