"""Texts with a class: a word decides the label. And classifiers that learn them in seconds."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

LABELS = ("negative", "positive")
DOMAINS = ("books", "shop", "tweets")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
POSITIONS = 64
"""Longest text of a tiny model, in tokens."""

_CUES, _FILLERS = 4, 12


def tiny_words(labels: Sequence[str] = LABELS, domains: Sequence[str] = DOMAINS) -> list[str]:
    """Every word of `tiny_texts`: for each domain the cues of each label, and fillers that mean nothing."""
    cues = [word for domain in domains for label in labels for word in _cues(domain, label)]
    return cues + [word for domain in domains for word in _fillers(domain)]


def tiny_texts(
    count: int, domain: str = DOMAINS[0], labels: Sequence[str] = LABELS, *, seed: int = 0
) -> list[dict[str, str]]:
    """Different rows {"text", "label"}, the labels in turn; a function of the arguments.

    A text holds two cues of its label, at most one of another, and 2 to 7 fillers. Cues belong to one
    domain, so who learned one domain alone knows nothing of the others.
    """
    rng = random.Random(f"{seed} {domain}")  # noqa: S311  # repeatable, not secret
    rows: dict[str, str] = {}
    while len(rows) < count:
        label = labels[len(rows) % len(labels)]
        other = rng.choice([name for name in labels if name != label])
        words = rng.sample(_cues(domain, label), 2) + rng.sample(_cues(domain, other), rng.randrange(2))
        words += rng.sample(_fillers(domain), rng.randrange(2, 8))
        rng.shuffle(words)
        rows[" ".join(words)] = label
    return [{"text": text, "label": label} for text, label in rows.items()]


def tiny_rows(
    folder: Path,
    count: int = 200,
    domains: Sequence[str] = DOMAINS,
    labels: Sequence[str] = LABELS,
    *,
    seed: int = 0,
) -> dict[str, str]:
    """Write `tiny_texts` of each domain to `folder`/DOMAIN.jsonl; returns the file of each domain."""
    folder.mkdir(parents=True, exist_ok=True)
    files: dict[str, str] = {}
    for domain in domains:
        path = folder / f"{domain}.jsonl"
        rows = tiny_texts(count, domain, labels, seed=seed)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        files[domain] = str(path)
    return files


def tiny_classifier(
    folder: Path,
    labels: Sequence[str] = LABELS,
    *,
    vocabulary: Sequence[str] | None = None,
    architecture: Literal["bert", "distilbert", "albert"] = "bert",
    hidden: int = 16,
    layers: int = 2,
    seed: int = 0,
) -> str:
    """Write a random model folder, safetensors and a word tokenizer, as `save_pretrained` does.

    Args:
        folder: where it goes; made when missing.
        labels: the classes, in the order of the logits.
        vocabulary: words that the tokenizer knows beside the special ones; `tiny_words(labels)` when null.
        architecture: which encoder.
        hidden: width of a layer, an even number.
        layers: encoder layers.
        seed: of the weights. The generator of the caller is left as it was.

    Returns:
        The folder, as the `model:` of a job takes it.
    """
    import torch
    from transformers import AutoModelForSequenceClassification

    words = list(tiny_words(labels) if vocabulary is None else vocabulary)
    tokenizer = word_tokenizer(words)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = encoder_config(architecture, len(words) + len(SPECIAL), labels, hidden, layers)
        auto: Any = AutoModelForSequenceClassification
        auto.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def _cues(domain: str, label: str) -> list[str]:
    return [f"{domain}_{label}_{n}" for n in range(_CUES)]


def _fillers(domain: str) -> list[str]:
    return [f"{domain}_word_{n}" for n in range(_FILLERS)]


def word_tokenizer(words: list[str], *, decoder: bool = False) -> Any:
    """A fast tokenizer that gives each word its number; 0 to 3 are the special ones."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    numbers = {word: n for n, word in enumerate([*SPECIAL, *words])}
    tokenizer: Any = Tokenizer(models.WordLevel(numbers, unk_token=SPECIAL[1]))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return wrapped(tokenizer, decoder=decoder)


def wrapped(tokenizer: Any, *, decoder: bool = False) -> Any:
    """The tokenizer as transformers takes it, with special tokens around a text.

    A decoder's begins a text and ends none: its end token is what a model predicts.
    """
    from tokenizers import processors
    from transformers import PreTrainedTokenizerFast

    pad, unknown, begin, end = SPECIAL
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A" if decoder else f"{begin} $A {end}",
        pair=f"{begin} $A {end} $B:1 {end}:1",
        special_tokens=[(sign, tokenizer.token_to_id(sign)) for sign in (begin, end)],
    )
    kind: Any = PreTrainedTokenizerFast
    roles = {"bos_token": begin, "eos_token": end} if decoder else {"cls_token": begin, "sep_token": end}
    return kind(
        tokenizer_object=tokenizer,
        pad_token=pad,
        unk_token=unknown,
        model_max_length=POSITIONS,
        model_input_names=["input_ids", "attention_mask"],
        **roles,
    )


def encoder_config(
    architecture: str, vocabulary: int, labels: Sequence[str], hidden: int, layers: int
) -> Any:
    """The config of a tiny encoder."""
    from transformers import AlbertConfig, BertConfig, DistilBertConfig

    common: dict[str, Any] = {
        "vocab_size": vocabulary,
        "max_position_embeddings": POSITIONS,
        "pad_token_id": 0,
        # Larger than usual: random teachers of this size then disagree, and gradients are far from 0.
        "initializer_range": 0.2,
        "id2label": dict(enumerate(labels)),
        "label2id": {label: n for n, label in enumerate(labels)},
    }
    if architecture == "distilbert":
        return DistilBertConfig(**common, dim=hidden, n_layers=layers, n_heads=2, hidden_dim=2 * hidden)
    kind = {"bert": BertConfig, "albert": AlbertConfig}[architecture]
    return kind(
        **common,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=2 * hidden,
    )
