"""From the log-probabilities in a completions answer to arrays: who stands where is checked row by row.

Two dialects say the same. `prompt`: vLLM's own field, keyed by token id. `echo`: the field of the OpenAI
API, keyed by `token_id:N` where the server can, else by the token's text.

Shapes: T tokens of one example, P its positions, k entries of a top-k, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actors.remote.base import part, wrong

Ids = NDArray[np.int32]
LogP = NDArray[np.float32]
FindId = Callable[[str], int | None]
"""The one token that a text stands for; None when there is none or more than one."""

ABOVE_ONE = 1e-3
"""What rounding (bf16 servers) may add to the sum of probabilities."""
PADDING = float(np.log(1e-3))
"""A token outside the vocabulary that is more probable than this is no padding."""
NOTHING = -60000.0
ID = "token_id:"


def prompt_rows(
    choice: Any, ids_T: Sequence[int], first: int, k: int, width: int, where: str
) -> tuple[Ids, LogP]:
    """Top-k of the tokens ids_T[first:], from `choices[i].prompt_logprobs`.

    Entry q tells what the model expected at token q, so it must know token q itself. The server adds that
    token when it is not among the k, which is why a row may hold k + 1.

    Returns:
        ids int32 [P, k] and log-probabilities fp32 [P, k], the most probable first, ties by id.

    Raises:
        RefusedError: another number of tokens, another token, fewer than k entries, or no probabilities.
    """
    _same_prompt(choice, ids_T, where)
    rows = part(choice, "prompt_logprobs", list, where)
    _count(len(rows), len(ids_T), where, exact=True)
    out = _Table(len(ids_T) - first, k, width, where)
    for place, q in enumerate(range(first, len(ids_T))):
        row = rows[q]
        if not isinstance(row, dict):
            raise wrong(
                where, f"token {q} has no log-probabilities (does the server answer from a prefix cache?)"
            )
        if str(ids_T[q]) not in row:
            raise wrong(
                where, f"token {q} is {ids_T[q]}, and the answer is about another one: positions are shifted"
            )
        try:
            out.put(place, [int(key) for key in row], [float(entry["logprob"]) for entry in row.values()])
        except (TypeError, ValueError, KeyError, OverflowError):
            raise wrong(where, f"token {q}: entries are not {{token id: {{logprob: number}}}}") from None
    return out.checked()


def echo_rows(
    choice: Any,
    ids_T: Sequence[int],
    first: int,
    k: int,
    width: int,
    where: str,
    text_of: Callable[[int], str],
    find: FindId,
) -> tuple[Ids, LogP]:
    """As `prompt_rows`, from `choices[i].logprobs` of an echoed prompt."""
    _same_prompt(choice, ids_T, where)
    logprobs = part(choice, "logprobs", dict, where)
    tokens, rows = part(logprobs, "tokens", list, where), part(logprobs, "top_logprobs", list, where)
    _count(len(tokens), len(ids_T), where, exact=False)
    if len(rows) != len(tokens):
        raise wrong(where, f"{len(tokens)} tokens with {len(rows)} rows of top_logprobs")
    out = _Table(len(ids_T) - first, k, width, where)
    for q, (token, sent) in enumerate(zip(tokens, ids_T, strict=False)):
        known = token == f"{ID}{sent}" if str(token).startswith(ID) else token == text_of(int(sent))
        if not known:
            raise wrong(where, f"token {q} was sent as {sent} and comes back as {str(token)[:40]!r}")
    for place, q in enumerate(range(first, len(ids_T))):
        row = rows[q]
        if not isinstance(row, dict):
            raise wrong(where, f"token {q} has no log-probabilities")
        found: dict[int, float] = {}
        try:
            for text, log_p in row.items():
                which = int(text[len(ID) :]) if text.startswith(ID) else find(text)
                if which is not None:
                    found[which] = float(log_p)
        except (TypeError, ValueError, OverflowError):
            raise wrong(where, f"token {q}: entries are not {{token: number}}") from None
        lost = len(row) - len(found)
        if lost and len(found) < min(k, width):
            raise wrong(
                where,
                f"token {q}: {lost} of {len(row)} entries have a text that is not one token's alone",
                fix="use a server that names tokens by id (vLLM), or a smaller k",
            )
        out.put(place, list(found), list(found.values()))
    return out.checked()


class _Table:
    """The rows of one example as they are read."""

    def __init__(self, positions: int, k: int, width: int, where: str) -> None:
        self._k, self._width, self._where = min(k, width), width, where
        self._ids_Pk = np.empty((positions, self._k), np.int32)
        self._log_p_Pk = np.empty((positions, self._k), np.float32)

    def put(self, place: int, ids: list[int], log_p: list[float]) -> None:
        """The k most probable of a row's entries."""
        if len(ids) < self._k:
            raise wrong(
                self._where,
                f"{self._k} log-probabilities a token were asked for, {len(ids)} came",
                fix=f"the payload's k can be {len(ids)} at most with this server",
            )
        if len(set(ids)) != len(ids) or min(ids) < 0:
            raise wrong(self._where, "token ids that are doubled or below 0")
        pairs = list(zip(log_p, ids, strict=True))
        if max(ids) >= self._width:
            pairs = self._without_padding(pairs)
        best = sorted(pairs, key=lambda pair: (-pair[0], pair[1]))[: self._k]
        self._log_p_Pk[place], self._ids_Pk[place] = zip(*best, strict=True)

    def _without_padding(self, pairs: list[tuple[float, int]]) -> list[tuple[float, int]]:
        """Embeddings are padded beyond the vocabulary, and where a model is sure their noise is among the k.

        What little they hold goes to the tail; a place that gets empty goes to a free token, with 0.
        """
        largest = max(log_p for log_p, token in pairs if token >= self._width)
        if not largest < PADDING:
            raise wrong(
                self._where,
                f"a token outside the vocabulary of {self._width} has probability {np.exp(largest):.3g}",
                fix="name the tokenizer of the server's model in teachers.*.tokenizer",
            )
        kept = [pair for pair in pairs if pair[1] < self._width]
        used = {token for _, token in kept}
        free = (token for token in range(self._width) if token not in used)
        return kept + [(NOTHING, next(free)) for _ in range(self._k - len(kept))]

    def checked(self) -> tuple[Ids, LogP]:
        """The whole table, when these can be probabilities."""
        if not np.isfinite(self._log_p_Pk).all():
            raise wrong(self._where, "NaN or infinity among the log-probabilities")
        mass_P = np.exp(np.minimum(self._log_p_Pk.astype(np.float64), 100)).sum(-1)
        if self._log_p_Pk.size and float(mass_P.max()) > 1 + ABOVE_ONE:
            raise wrong(
                self._where,
                f"probabilities of one position sum to {mass_P.max():.4g}",
                fix="let the server give log-probabilities (vLLM: --logprobs-mode raw_logprobs)",
            )
        # What rounding put above 1 is taken back, so that the tail is never below 0.
        above_P1 = np.log(np.maximum(mass_P, 1))[:, None]
        return self._ids_Pk, np.minimum(self._log_p_Pk - above_P1, 0).astype(np.float32)


def _same_prompt(choice: Any, ids_T: Sequence[int], where: str) -> None:
    """Where the server says which tokens it read, they are those that were sent."""
    read = choice.get("prompt_token_ids") if isinstance(choice, dict) else None
    if read is not None and read != [int(one) for one in ids_T]:
        raise wrong(where, "the server read other tokens than were sent (a special token put in front?)")


def _count(given: int, sent: int, where: str, *, exact: bool) -> None:
    # An echo may end in the one token that the server had to write.
    if given != sent and (exact or given != sent + 1):
        raise wrong(
            where,
            f"{sent} tokens were sent, log-probabilities of {given} came",
            fix="the server must give log-probabilities of the prompt: vLLM does, llama.cpp gives those of "
            "written tokens alone",
        )
