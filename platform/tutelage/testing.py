"""Tiny models and data for tests of jobs: a word decides the label, and a model loads in milliseconds.

Nothing here is fetched; every file is a function of the arguments. The in-memory twins stand beside what
they replace: `MemoryStore` in `tutelage.signals.store`, `ScriptedTeacher` in `actors.teacher`, `Silent` in
`tutelage.progress`. Importing this module loads neither torch nor transformers.
"""

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
    tokenizer = _tokenizer(words)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = _config(architecture, len(words) + len(SPECIAL), labels, hidden, layers)
        auto: Any = AutoModelForSequenceClassification
        auto.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def _cues(domain: str, label: str) -> list[str]:
    return [f"{domain}_{label}_{n}" for n in range(_CUES)]


def _fillers(domain: str) -> list[str]:
    return [f"{domain}_word_{n}" for n in range(_FILLERS)]


def _tokenizer(words: list[str]) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    pad, unknown, begin, end = SPECIAL
    numbers = {word: n for n, word in enumerate([*SPECIAL, *words])}
    tokenizer: Any = Tokenizer(models.WordLevel(numbers, unk_token=unknown))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A {end}", special_tokens=[(word, numbers[word]) for word in (begin, end)]
    )
    wrapper: Any = PreTrainedTokenizerFast
    return wrapper(
        tokenizer_object=tokenizer,
        pad_token=pad,
        unk_token=unknown,
        cls_token=begin,
        sep_token=end,
        model_max_length=POSITIONS,
        model_input_names=["input_ids", "attention_mask"],
    )


def _config(architecture: str, vocabulary: int, labels: Sequence[str], hidden: int, layers: int) -> Any:
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
