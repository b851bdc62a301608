"""A teacher that is an HTTP server of its own: where it is, and how patient the client is."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from tutelage.config.base import Positive, Section

_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")
_REVISION = re.compile(r"^[\x20-\x7e]{0,200}$")


class _Server(Section):
    url: str
    """Root of the server, such as `http://127.0.0.1:8000`; the paths of the protocol are put behind it."""
    timeout_s: float = Field(default=60, gt=0)
    """Time for one question with all its retries; must be below `stream.deadline_s`."""
    retries: int = Field(default=4, ge=0)
    """Attempts after the first when the server is away or answers 429, 502, 503 or 504."""
    batch: Positive = 32
    """Most examples in one call; a larger question is sent in several."""
    max_reply_mb: float = Field(default=256, gt=0)
    """A larger answer (1e6 bytes, unpacked) is refused before it is read in full."""
    api_key_env: str | None = None
    """Name of the environment variable that holds the key, on every node; sent as `Authorization: Bearer`."""
    insecure: bool = False
    """Send the key over plain http to another machine all the same."""
    revision: str = ""
    """Any text. Change it when other weights are served under the same name: signals are then asked anew."""

    @field_validator("url")
    @classmethod
    def _url_is_a_root(cls, url: str) -> str:
        try:
            parts = urlsplit(url)
            parts.port  # noqa: B018  (raises when it is no number)
        except ValueError as error:
            raise ValueError(f"url is no URL ({error}); write http://host:port") from None
        if parts.username or parts.password:
            raise ValueError("url holds a user name or password; put the key into api_key_env")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"'{url}' is not http://host:port or https://host")
        if parts.query or parts.fragment:
            raise ValueError(f"'{url}' holds a query or a fragment; write the root of the server alone")
        path = parts.path.rstrip("/")
        if path.endswith(("/v1", "/v2", "/completions", "/infer")):
            root = f"{parts.scheme}://{parts.netloc}{re.sub(r'/v[12](/.*)?$', '', path)}"
            raise ValueError(f"'{url}' holds the protocol's own path; write {root}")
        return f"{parts.scheme}://{parts.netloc}{path}"

    @field_validator("api_key_env")
    @classmethod
    def _a_name_and_no_key(cls, name: str | None) -> str | None:
        # The value is not repeated: somebody may have put the key itself here.
        if name is not None and (not _NAME.match(name) or name.startswith(("sk_", "hf_"))):
            raise ValueError("api_key_env is the name of an environment variable, never the key itself")
        return name

    @field_validator("revision")
    @classmethod
    def _one_line(cls, revision: str) -> str:
        if not _REVISION.match(revision):
            raise ValueError("revision is one line of at most 200 ASCII characters")
        return revision

    @model_validator(mode="after")
    def _a_key_is_not_sent_in_the_clear(self) -> _Server:
        if self.api_key_env and not self.insecure and self.url.startswith("http:") and not self.loopback:
            raise ValueError(
                f"url {self.url} is plain http to another machine, where everybody on the way can read "
                "the key of api_key_env; use https, or set insecure: true"
            )
        return self

    @property
    def loopback(self) -> bool:
        """True when the server is on this machine."""
        host = urlsplit(self.url).hostname or ""
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost" or host.endswith(".localhost")


class OpenAIRemote(_Server):
    """A causal-lm server with the OpenAI completions API that gives the prompt's log-probabilities (vLLM)."""

    type: Literal["openai"]


class OipRemote(_Server):
    """A sequence classifier behind the Open Inference Protocol, V2 (Triton, KServe, MLServer, OpenVINO)."""

    type: Literal["oip"]
    output: str = Field(default="logits", min_length=1)
    """Name of the output tensor, [N, C]."""
    values: Literal["logits", "probabilities"] = "logits"
    """What the output holds; logarithms of probabilities serve as logits."""
    version: str | None = None
    """Version of the model, as the server names it; the server's choice when null."""

    @field_validator("version", "output")
    @classmethod
    def _safe_in_a_url(cls, name: str | None) -> str | None:
        if name is not None and not re.match(r"^[\w.:-]+$", name):
            raise ValueError(f"'{name}' may hold letters, digits, '_', '.', ':' and '-' alone")
        return name


Remote = Annotated[OpenAIRemote | OipRemote, Field(discriminator="type")]
