"""Random classifiers of many families of transformers, in folders as `save_pretrained` writes them.

Each has the tokenizer kind, the special tokens and the way of counting positions of its family.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tutelage.testing.classification import LABELS, POSITIONS
from tutelage.testing.tokenizers import Kind, small_tokenizer

_BERT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
_BART = {
    **{"d_model": 32, "encoder_layers": 2, "decoder_layers": 2},
    **{"encoder_attention_heads": 2, "decoder_attention_heads": 2},
    **{"encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "init_std": 0.3},
}


@dataclass(frozen=True)
class Family:
    """How a tiny model of a family is made."""

    config: str
    """Class of transformers."""
    tokenizer: Kind
    sizes: dict[str, Any] = field(default_factory=lambda: dict(_BERT))
    options: dict[str, Any] = field(default_factory=dict)
    rows: str | None = "max_position_embeddings"
    """What the config calls the rows of its position table; None where it has none."""
    before: int = 0
    """Rows that stand for no position."""
    padding: Literal["token", "end", "none"] = "token"
    """The tokenizer's padding token: its own, the end of a text, or none."""
    config_pads: bool = True
    """Whether the config names the padding token."""
    side: Literal["left", "right"] = "right"


def _roberta(config: str, tokenizer: Kind = "bytes", **options: Any) -> Family:
    return Family(config, tokenizer, options={"type_vocab_size": 1, **options}, before=2)


def _decoder(config: str, **options: Any) -> Family:
    sizes = {**_BERT, "num_key_value_heads": 1, "head_dim": 16}
    return Family(config, "bytes-decoder", sizes, options)


_GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 2}

FAMILIES: dict[str, Family] = {
    "bert": Family("BertConfig", "wordpiece"),
    "bert-cased": Family("BertConfig", "wordpiece-cased"),
    "distilbert": Family(
        "DistilBertConfig", "wordpiece", {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}
    ),
    "electra": Family("ElectraConfig", "wordpiece", options={"embedding_size": 16}),
    "mobilebert": Family(
        "MobileBertConfig", "wordpiece", options={"embedding_size": 16, "intra_bottleneck_size": 16}
    ),
    "convbert": Family("ConvBertConfig", "wordpiece", options={"embedding_size": 16}),
    "squeezebert": Family("SqueezeBertConfig", "wordpiece", options={"embedding_size": 32}),
    "megatron-bert": Family("MegatronBertConfig", "wordpiece"),
    "ernie": Family("ErnieConfig", "wordpiece"),
    "roformer": Family("RoFormerConfig", "wordpiece", options={"embedding_size": 32}),
    "mpnet": Family("MPNetConfig", "bytes", before=2),
    "albert": Family("AlbertConfig", "unigram", options={"embedding_size": 16}),
    "rembert": Family(
        "RemBertConfig", "unigram", options={"input_embedding_size": 16, "output_embedding_size": 16}
    ),
    "deberta-v2": Family(
        "DebertaV2Config",
        "unigram",
        options={
            **{"relative_attention": True, "position_buckets": 16, "pos_att_type": ["p2c", "c2p"]},
            **{"type_vocab_size": 0, "position_biased_input": False},
        },
    ),
    "big_bird": Family(
        "BigBirdConfig",
        "unigram",
        options={"attention_type": "block_sparse", "block_size": 16, "num_random_blocks": 1},
    ),
    "nystromformer": Family(
        "NystromformerConfig", "unigram", options={"num_landmarks": 64, "segment_means_seq_len": 64}
    ),
    "roberta": _roberta("RobertaConfig"),
    "camembert": _roberta("CamembertConfig", "unigram"),
    "xlm-roberta": _roberta("XLMRobertaConfig", "unigram"),
    "roberta-prelayernorm": _roberta("RobertaPreLayerNormConfig"),
    "data2vec-text": _roberta("Data2VecTextConfig"),
    "longformer": _roberta("LongformerConfig", attention_window=8),
    "modernbert": Family("ModernBertConfig", "bytes", options={"local_attention": 16}),
    "xlnet": Family(
        "XLNetConfig", "unigram-last", {"d_model": 32, "n_layer": 2, "n_head": 2, "d_inner": 64}, rows=None
    ),
    "bart": Family("BartConfig", "bytes", _BART),
    "t5": Family(
        "T5Config",
        "unigram-end",
        {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_decoder_layers": 2, "num_heads": 2},
        rows=None,
    ),
    "gpt2": Family("GPT2Config", "bytes-decoder", _GPT2, rows="n_positions"),
    "gpt2-end": Family("GPT2Config", "bytes-decoder", _GPT2, rows="n_positions", padding="end"),
    "gpt2-left": Family("GPT2Config", "bytes-decoder", _GPT2, rows="n_positions", side="left"),
    "gpt2-none": Family("GPT2Config", "bytes-decoder", _GPT2, rows="n_positions", padding="none"),
    "opt": Family(
        "OPTConfig",
        "bytes-decoder",
        {
            **{"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "ffn_dim": 64},
            "word_embed_proj_dim": 32,
        },
    ),
    "bloom": Family(
        "BloomConfig", "bytes-decoder", {"hidden_size": 32, "n_layer": 2, "n_head": 2}, rows=None
    ),
    "llama": _decoder("LlamaConfig"),
    "llama-none": Family("LlamaConfig", "bytes-decoder", {**_BERT, "num_key_value_heads": 1}, padding="none"),
    "qwen2": _decoder("Qwen2Config"),
    "qwen2-unnamed": Family(
        "Qwen2Config", "bytes-decoder", {**_BERT, "num_key_value_heads": 1}, config_pads=False
    ),
    "mistral": _decoder("MistralConfig", sliding_window=None),
    "gemma": _decoder("GemmaConfig"),
}


def each_config() -> list[str]:
    """One family for each class of config."""
    return list({family.config: name for name, family in reversed(FAMILIES.items())}.values())[::-1]


def tiny_family(
    name: str,
    folder: Path,
    labels: Sequence[str] = LABELS,
    *,
    positions: int = POSITIONS,
    seed: int = 0,
    options: dict[str, Any] | None = None,
) -> str:
    """Write a random classifier of a family.

    Args:
        name: one of FAMILIES.
        folder: where it goes; made when missing.
        labels: the classes, in the order of the logits.
        positions: longest text in tokens, where the family has a limit.
        seed: of the weights. The generator of the caller is left as it was.
        options: values of the config beside the family's own.

    Returns:
        The folder, as the `model:` of a job takes it.
    """
    import torch
    from transformers import AutoModelForSequenceClassification

    family = FAMILIES[name]
    own = "[PAD]" if "wordpiece" in family.tokenizer else "<pad>"
    pad = {"token": own, "end": "<|end|>", "none": None}[family.padding]
    tokenizer = small_tokenizer(family.tokenizer, pad=pad, side=family.side)
    config = _config(family, tokenizer, positions, labels, options or {})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        auto: Any = AutoModelForSequenceClassification
        auto.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def _config(
    family: Family, tokenizer: Any, positions: int, labels: Sequence[str], options: dict[str, Any]
) -> Any:
    import transformers

    values = {"vocab_size": len(tokenizer), "initializer_range": 0.3, **family.sizes, **family.options}
    if family.rows:
        values[family.rows] = positions + family.before
    for role in ("bos", "eos", "cls", "sep"):
        values[f"{role}_token_id"] = getattr(tokenizer, f"{role}_token_id")
    values["pad_token_id"] = tokenizer.pad_token_id if family.config_pads else None
    if family.config in ("BartConfig", "T5Config"):
        values["decoder_start_token_id"] = tokenizer.pad_token_id
    if family.config == "T5Config":
        values["initializer_factor"] = 3.0
    kind: Any = getattr(transformers, family.config)
    return kind(
        **values | options,
        id2label=dict(enumerate(labels)),
        label2id={label: number for number, label in enumerate(labels)},
    )
