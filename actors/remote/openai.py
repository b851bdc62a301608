"""A causal-lm behind `POST /v1/completions`: token ids go in, the prompt's own log-probabilities come out.

Shapes: N examples, T tokens of one example, P positions of all, k entries of a top-k.
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import Any

import numpy as np

from actors.remote.base import part, same_name, wrong
from actors.remote.http import Server
from actors.remote.logprobs import Ids, LogP, echo_rows, prompt_rows
from tutelage.errors import ConfigError, RefusedError, TeacherError
from tutelage.signals.exchange import Request
from tutelage.signals.packet import Counts, Packet
from tutelage.signals.spec import PayloadSpec

PATH = "/v1/completions"
PROBE = "The old man sat by the river and read the paper in the sun."
_LIMIT = re.compile(r"(?:max(?:imum)?|most|limit|up to)\D{0,40}?(\d+)", re.IGNORECASE)


class OpenAIModel:
    """Asks in the dialect that the server knows; which one is found out by the first question."""

    def __init__(self, server: Server, model: str, tokenizer: Any, max_tokens: int, batch: int) -> None:
        self._server = server
        self._model = model
        self._tokenizer = tokenizer
        self._max_tokens = max_tokens
        self._batch = batch
        self._dialect = ""
        self._where = f"{server.url}{PATH}"

    def identity(self) -> dict[str, Any]:
        """The model's entry in /v1/models. Raises TeacherError when it is not there."""
        where = f"{self._server.url}/v1/models"
        listed = part(self._server.get("/v1/models"), "data", list, where)
        entries = {str(entry.get("id")): entry for entry in listed if isinstance(entry, dict)}
        if self._model not in entries:
            raise wrong(
                where,
                f"no model '{self._model}'; the server has {', '.join(sorted(entries)) or 'none'}",
                fix="write one of these as the teacher's model",
            )
        # `created` is the time of the call with many servers, `permission` holds random ids.
        kept = ("id", "root", "parent", "owned_by", "max_model_len", "meta")
        return {key: entries[self._model][key] for key in kept if entries[self._model].get(key) is not None}

    def probe(self, spec: PayloadSpec) -> None:
        """One sentence: are there log-probabilities of the prompt, enough of them, by the same tokenizer?"""
        check_spec(spec)
        ids_T = self._probe_ids(spec.width)
        choice = self._choices([ids_T], spec.entries)[0]
        self._rows(choice, ids_T, 1, spec)
        if self._dialect == "prompt":
            self._same_words(choice)

    def score(self, request: Request) -> Packet:
        """Top-k of every position, packed."""
        import torch

        from tutelage.signals.payloads.topk import pack_topk

        check_spec(request.spec)
        if request.ids is None:
            raise TeacherError(
                f"{self._where}: the request holds no token ids", fix="openai serves causal-lm only"
            )
        sent = [ids[: self._max_tokens].tolist() for ids in request.ids]
        # The last positions_N tokens of an example are what is predicted.
        first_N = [len(ids) - int(n) for ids, n in zip(request.ids, request.positions_N, strict=True)]
        if any(first < 1 for first, n in zip(first_N, request.positions_N, strict=True) if n):
            raise TeacherError(
                f"{self._where}: a first token cannot be predicted", fix="ask for T - 1 positions at most"
            )
        lengths_N = np.array([max(0, len(ids) - f) for ids, f in zip(sent, first_N, strict=True)], np.int32)
        parts = self._ask_all(sent, first_N, lengths_N, request.spec)
        k = min(request.spec.entries, request.spec.width)
        ids_Pk = np.concatenate([np.empty((0, k), np.int32), *(ids for ids, _ in parts)])
        log_p_Pk = np.concatenate([np.empty((0, k), np.float32), *(log_p for _, log_p in parts)])
        return pack_topk(request.spec, torch.from_numpy(ids_Pk), torch.from_numpy(log_p_Pk), lengths_N)

    def _ask_all(
        self, sent: list[list[int]], first_N: list[int], lengths_N: Counts, spec: PayloadSpec
    ) -> list[tuple[Ids, LogP]]:
        asked = [n for n in range(len(sent)) if lengths_N[n]]
        found: list[tuple[Ids, LogP]] = []
        for start in range(0, len(asked), self._batch):
            some = asked[start : start + self._batch]
            choices = self._choices([sent[n] for n in some], spec.entries)
            found += [
                self._rows(choice, sent[n], first_N[n], spec) for choice, n in zip(choices, some, strict=True)
            ]
        return found

    def _rows(self, choice: Any, ids_T: list[int], first: int, spec: PayloadSpec) -> tuple[Ids, LogP]:
        if self._dialect == "prompt":
            return prompt_rows(choice, ids_T, first, spec.entries, spec.width, self._where)
        return echo_rows(choice, ids_T, first, spec.entries, spec.width, self._where, self._text, self._find)

    def _choices(self, prompts: list[list[int]], k: int) -> list[Any]:
        """One choice for each prompt, in their order."""
        if not self._dialect:
            self._dialect = self._find_dialect(k)
        return self._ask(prompts, k, self._dialect)

    def _ask(self, prompts: list[list[int]], k: int, dialect: str) -> list[Any]:
        # A temperature of the server's own defaults would bend what some servers call log-probabilities.
        body = {"model": self._model, "prompt": prompts, "max_tokens": 1, "temperature": 1.0, "top_p": 1.0}
        if dialect == "prompt":
            body |= {"prompt_logprobs": k, "return_token_ids": True}
        else:
            body |= {"logprobs": k, "echo": True, "return_tokens_as_token_ids": True}
        try:
            answer = self._server.post(PATH, body)
        except RefusedError as error:
            raise _with_limit(error, k) from None
        same_name(answer.get("model") if isinstance(answer, dict) else None, self._model, self._where)
        choices = part(answer, "choices", list, self._where)
        order = [part(choice, "index", int, self._where) for choice in choices]
        if sorted(order) != list(range(len(prompts))):
            raise wrong(
                self._where, f"{len(prompts)} prompts were sent, the choices are numbered {order[:20]}"
            )
        return [choice for _, choice in sorted(zip(order, choices, strict=True), key=lambda pair: pair[0])]

    def _find_dialect(self, k: int) -> str:
        """`prompt` where the server knows vLLM's field, else `echo`. Raises TeacherError if neither."""
        ids_T = self._probe_ids(None)
        problems: list[str] = []
        for dialect in ("prompt", "echo"):
            try:
                choice = self._ask([ids_T], k, dialect)[0]
            except RefusedError as error:
                # Another dialect helps neither a key that is refused nor a k that is too large.
                if error.status not in (400, 422) or isinstance(error, _TooManyError):
                    raise
                problems.append(f"{dialect}: {error.said}")
                continue
            if dialect == "prompt" and isinstance(choice, dict) and choice.get("prompt_logprobs"):
                return dialect
            given = choice.get("logprobs") if isinstance(choice, dict) else None
            rows = given.get("top_logprobs") if isinstance(given, dict) else None
            if dialect == "echo" and isinstance(rows, list) and len(rows) >= len(ids_T):
                return dialect
            problems.append(
                f"{dialect}: {len(rows) if isinstance(rows, list) else 0} rows for {len(ids_T)} tokens"
            )
        raise wrong(
            self._where,
            f"no log-probabilities of the prompt ({'; '.join(problems)})",
            fix="serve the model with vLLM; llama.cpp and hosted chat services give log-probabilities of "
            "written tokens alone",
        )

    def _probe_ids(self, width: int | None) -> list[int]:
        ids: list[int] = self._tokenizer(PROBE, add_special_tokens=False)["input_ids"][
            : min(32, self._max_tokens)
        ]
        if len(ids) < 2 or (width is not None and max(ids) >= width):
            raise ConfigError(
                f"{self._where}: the teacher's tokenizer turns a sentence into {ids[:8]}, vocabulary {width}",
                fix="name the tokenizer of the server's model in teachers.*.tokenizer",
            )
        return ids

    def _same_words(self, choice: Any) -> None:
        """Where the server decodes ids, most of them must read as the tokenizer has them."""
        pairs = [
            (entry["decoded_token"], self._text(int(key)))
            for row in choice["prompt_logprobs"]
            if isinstance(row, dict)
            for key, entry in row.items()
            if isinstance(entry, dict) and isinstance(entry.get("decoded_token"), str)
        ]
        # Servers decode parts of characters and leading spaces in ways of their own.
        alike = sum(theirs.strip() == ours.strip() for theirs, ours in pairs)
        if pairs and alike < 0.5 * len(pairs):
            theirs, ours = next((a, b) for a, b in pairs if a.strip() != b.strip())
            raise wrong(
                self._where,
                f"the server has another tokenizer: {len(pairs) - alike} of {len(pairs)} tokens read "
                f"otherwise, such as {theirs[:30]!r} for {ours[:30]!r}",
                fix="name the tokenizer of the server's model in teachers.*.tokenizer",
            )

    def _text(self, token: int) -> str:
        text: str = self._tokenizer.decode([token], clean_up_tokenization_spaces=False)
        return text

    def _find(self, text: str) -> int | None:
        # A server that names tokens by id never needs the table, which takes a second to make.
        return self._by_text.get(text)

    @cached_property
    def _by_text(self) -> dict[str, int]:
        """The tokens that can be told by their text."""
        texts = self._tokenizer.batch_decode(
            [[token] for token in range(len(self._tokenizer))], clean_up_tokenization_spaces=False
        )
        seen: dict[str, int] = {}
        for token, text in enumerate(texts):
            seen[text] = -1 if text in seen else token
        return {text: token for text, token in seen.items() if token >= 0}


class _TooManyError(RefusedError):
    """The server gives fewer log-probabilities than the payload needs."""


def _with_limit(error: RefusedError, k: int) -> RefusedError:
    """The same refusal, with the server's limit in its fix where it names one."""
    if error.status not in (400, 422) or "logprobs" not in error.said.lower():
        return error
    found = _LIMIT.search(error.said)
    if found is None or int(found[1]) >= k:
        return error
    return _TooManyError(
        error.problem,
        fix=f"the payload's k can be {found[1]} at most, or start the server with a higher limit "
        f"(vLLM: --max-logprobs {k})",
        status=error.status,
        said=error.said,
    )


def check_spec(spec: PayloadSpec) -> None:
    """Refuse what such a server cannot give. Raises ConfigError."""
    if spec.kind != "topk":
        raise ConfigError(
            f"payload {spec.kind}: an openai server gives the most probable tokens alone",
            fix="use the topk payload for this teacher",
        )
    if spec.temperature != 1.0:
        raise ConfigError(
            f"payload topk at temperature {spec.temperature:g}: an openai server's log-probabilities are at "
            "temperature 1, and those of the tail, which another temperature needs, are not known",
            fix="use temperature 1 in the kl objective",
        )
