"""Which codec a spec names."""

from __future__ import annotations

from tutelage.signals.payloads.base import Codec
from tutelage.signals.payloads.dense import DenseCodec, HiddenCodec
from tutelage.signals.payloads.sampled import SampledCodec
from tutelage.signals.payloads.topk import TopKCodec
from tutelage.signals.spec import Kind, PayloadSpec

CODECS: dict[Kind, Codec] = {
    "dense": DenseCodec(),
    "hidden": HiddenCodec(),
    "topk": TopKCodec(),
    "sampled": SampledCodec(),
}


def codec(spec: PayloadSpec) -> Codec:
    """Both ends of the spec's payload."""
    return CODECS[spec.kind]
