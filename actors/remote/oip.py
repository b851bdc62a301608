"""A sequence classifier behind the Open Inference Protocol V2: texts or token ids in, a row of classes out.

Shapes: N examples of one call, T tokens, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from actors.remote.base import part, same_name, wrong
from actors.remote.http import Server
from tutelage.config.remote import OipRemote
from tutelage.data.padding import mask_rows, pad_rows, padded_width
from tutelage.errors import ConfigError, RefusedError, TeacherError
from tutelage.signals.exchange import Request, batch_digest
from tutelage.signals.packet import Packet
from tutelage.signals.spec import PayloadSpec
from tutelage.tokenizer import read_texts

PROBES = ["A small sentence.", "Another one, which is a little longer."]
TOKEN_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
WHOLE = ("INT64", "INT32")
REAL = ("FP16", "BF16", "FP32", "FP64")
SUM_TO_ONE = 1e-3


class OipModel:
    """Asks with texts where the model takes a BYTES tensor, else with the tokenizer's ids."""

    def __init__(
        self,
        server: Server,
        remote: OipRemote,
        model: str,
        tokenizer: Any,
        order: Sequence[int],
        max_tokens: int,
    ) -> None:
        self._server, self._remote, self._model = server, remote, model
        self._tokenizer = tokenizer
        self._order = list(order)
        self._max_tokens = max_tokens
        version = f"/versions/{quote(remote.version, safe='')}" if remote.version else ""
        self._path = f"/v2/models/{quote(model, safe='')}{version}"
        self._where = f"{server.url}{self._path}/infer"
        self._inputs: dict[str, dict[str, Any]] | None = None

    def identity(self) -> dict[str, Any]:
        """The model's metadata. Raises TeacherError when the server is not ready or has no such model."""
        self._server.get("/v2/health/ready")
        try:
            told = self._server.get(self._path)
        except RefusedError as error:
            known = self._known() if error.status in (400, 404) else []
            if known:
                raise wrong(
                    error.problem,
                    f"the server has {', '.join(known)}",
                    fix="write one of these as the teacher's model",
                ) from None
            raise
        where = f"{self._server.url}{self._path}"
        same_name(part(told, "name", str, where), self._model, where)
        inputs, outputs = part(told, "inputs", list, where), part(told, "outputs", list, where)
        names = [str(one.get("name")) for one in outputs if isinstance(one, dict)]
        if self._remote.output not in names:
            raise wrong(
                where,
                f"the model has no output '{self._remote.output}'; it has {', '.join(names) or 'none'}",
                fix=f"write remote.output: {names[0]}" if names else "check the model on the server",
            )
        self._inputs = self._readable(inputs, where)
        kept = ("name", "versions", "platform", "inputs", "outputs")
        return {key: told[key] for key in kept if told.get(key) is not None}

    def probe(self, spec: PayloadSpec) -> None:
        """Two sentences: a row of C numbers each, and of the kind that remote.values says."""
        check_spec(spec)
        rows_NC = self._infer(PROBES, batch_digest([text.encode() for text in PROBES]).hex(), spec.width)
        looks_like_shares = bool((rows_NC >= 0).all() and (abs(rows_NC.sum(1) - 1) < SUM_TO_ONE).all())
        if self._remote.values == "logits" and looks_like_shares:
            raise wrong(
                self._where,
                f"the rows of '{self._remote.output}' sum to 1: these are probabilities and not logits",
                fix="write remote.values: probabilities",
            )
        self._logits(rows_NC)

    def score(self, request: Request) -> Packet:
        """Logits in the task's order of labels, packed as the payload says."""
        import torch

        from tutelage.signals.payloads import encode

        check_spec(request.spec)
        if len(request.texts) != len(request) or request.pairs is not None:
            raise TeacherError(
                f"{self._where}: the request is not one text for each example",
                fix="oip serves sequence-classification only",
            )
        step = self._remote.batch
        parts = [np.empty((0, request.spec.width))]
        for start in range(0, len(request), step):
            name = f"{request.digest.hex()}-{start}"
            parts.append(self._infer(request.texts[start : start + step], name, request.spec.width))
        logits_NC = self._logits(np.concatenate(parts))
        if self._order:
            logits_NC = logits_NC[:, self._order]
        return encode(
            request.spec,
            torch.from_numpy(logits_NC.astype(np.float32)),
            np.ones(len(request), np.int32),
            request,
        )

    def _known(self) -> list[str]:
        """Names of the server's models, where it has the extension that lists them."""
        try:
            index = self._server.post("/v2/repository/index", {})
        except TeacherError:
            return []
        entries = index if isinstance(index, list) else []
        return sorted({str(entry.get("name")) for entry in entries if isinstance(entry, dict)})

    def _readable(self, inputs: list[Any], where: str) -> dict[str, dict[str, Any]]:
        """The inputs by name, when we can fill them all."""
        by_name = {str(one.get("name")): one for one in inputs if isinstance(one, dict)}
        kinds = {name: str(one.get("datatype")) for name, one in by_name.items()}
        as_text = len(kinds) == 1 and set(kinds.values()) == {"BYTES"}
        as_ids = "input_ids" in kinds and all(n in TOKEN_INPUTS and k in WHOLE for n, k in kinds.items())
        if not as_text and not as_ids:
            raise wrong(
                where,
                f"the model takes {kinds}; known are one BYTES tensor of texts, or INT64 tensors "
                f"{', '.join(TOKEN_INPUTS)}",
                fix="put a model with such inputs in front of it (an ensemble, a pre-processing step)",
            )
        if as_ids and self._tokenizer is None:
            raise ConfigError(
                f"{where}: the model takes token ids, and teachers.*.tokenizer is null",
                fix="name the tokenizer of the server's model in teachers.*.tokenizer",
            )
        return by_name

    def _infer(self, texts: list[str], name: str, width: int) -> NDArray[np.float64]:
        if self._inputs is None:
            self.identity()
        assert self._inputs is not None
        answer = self._server.post(
            f"{self._path}/infer",
            {"id": name, "inputs": self._filled(texts), "outputs": [{"name": self._remote.output}]},
        )
        outputs = part(answer, "outputs", list, self._where)
        same_name(answer.get("model_name"), self._model, self._where)
        version = answer.get("model_version")
        if self._remote.version and version not in (None, "", self._remote.version):
            raise wrong(self._where, f"version {version} answered, asked was {self._remote.version}")
        if answer.get("id") not in (None, "", name):
            raise wrong(
                self._where, f"the answer belongs to request {str(answer['id'])[:80]}, asked was {name}"
            )
        tensors = [one for one in outputs if isinstance(one, dict) and one.get("name") == self._remote.output]
        if len(tensors) != 1:
            raise wrong(
                self._where, f"{len(tensors)} outputs named '{self._remote.output}' came, one was expected"
            )
        return _rows(tensors[0], len(texts), width, self._where)

    def _filled(self, texts: list[str]) -> list[dict[str, Any]]:
        assert self._inputs is not None
        first = next(iter(self._inputs.values()))
        if first.get("datatype") == "BYTES":
            rank = len(first.get("shape") or [-1])
            shape = [len(texts), *[1] * (rank - 1)]
            return [{"name": first["name"], "shape": shape, "datatype": "BYTES", "data": texts}]
        found = read_texts(self._tokenizer, texts, self._max_tokens)
        lengths = [len(tokens.ids) for tokens in found]
        width = padded_width(max(lengths), self._max_tokens)
        pad = self._tokenizer.pad_token_id or 0
        none = np.zeros(0, np.int32)
        filled = {
            "input_ids": pad_rows([tokens.ids for tokens in found], pad, width),
            "attention_mask": mask_rows(lengths, width),
            "token_type_ids": pad_rows(
                [none if tokens.types is None else tokens.types for tokens in found], 0, width
            ),
        }
        return [
            {
                "name": name,
                "shape": list(filled[name].shape),
                "datatype": tensor["datatype"],
                "data": filled[name].ravel().tolist(),
            }
            for name, tensor in self._inputs.items()
        ]

    def _logits(self, rows_NC: NDArray[np.float64]) -> NDArray[np.float64]:
        if self._remote.values == "logits":
            return rows_NC
        off = rows_NC.sum(1) - 1
        if (rows_NC < 0).any() or (abs(off) > SUM_TO_ONE).any():
            raise wrong(
                self._where,
                f"the rows of '{self._remote.output}' are no probabilities: they hold {rows_NC.min():.3g} "
                f"and sum to {1 + off.max():.3g}",
                fix="write remote.values: logits",
            )
        # A probability that was rounded to 0 becomes the smallest that fp32 can hold.
        return np.log(np.maximum(rows_NC, float(np.finfo(np.float32).tiny)))


def check_spec(spec: PayloadSpec) -> None:
    """Refuse what such a server cannot give. Raises ConfigError."""
    if spec.kind == "hidden":
        raise ConfigError(
            "payload hidden: a remote teacher's hidden states and head are not known",
            fix="use dense, topk or sampled for this teacher",
        )


def _rows(tensor: dict[str, Any], rows: int, width: int, where: str) -> NDArray[np.float64]:
    """The tensor as [N, C], whatever nesting its data has. Raises RefusedError."""
    kind, shape = tensor.get("datatype"), tensor.get("shape")
    if kind not in REAL:
        raise wrong(where, f"output '{tensor['name']}' is {kind}, a floating type was expected")
    if shape != [rows, width]:
        raise wrong(
            where,
            f"output '{tensor['name']}' has shape {shape}, {[rows, width]} was expected",
            fix="the model needs one class for each of task.labels",
        )
    try:
        values = np.array(tensor.get("data"), dtype=np.float64).ravel()
    except (TypeError, ValueError):
        raise wrong(where, "the output's data are not numbers in JSON") from None
    if values.size != rows * width:
        raise wrong(where, f"{values.size} numbers came, {rows * width} were expected")
    if not np.isfinite(values).all():
        raise wrong(where, "NaN or infinity in the output")
    return values.reshape(rows, width)
