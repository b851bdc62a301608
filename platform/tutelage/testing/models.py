"""Random models of every task, in folders as `save_pretrained` writes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from tutelage.config.task import TaskName
from tutelage.testing.classification import (
    LABELS,
    POSITIONS,
    SPECIAL,
    encoder_config,
    word_tokenizer,
    wrapped,
)
from tutelage.testing.rows import TAGS, tiny_task_words

_AUTO: dict[TaskName, str] = {
    "sequence-classification": "AutoModelForSequenceClassification",
    "token-classification": "AutoModelForTokenClassification",
    "question-answering": "AutoModelForQuestionAnswering",
    "causal-lm": "AutoModelForCausalLM",
}


def tiny_model(
    folder: Path,
    task: TaskName,
    labels: Sequence[str] | None = None,
    *,
    vocabulary: Sequence[str] | None = None,
    tokenizer: Literal["words", "bytes"] = "words",
    architecture: Literal["bert", "distilbert", "llama", "gpt2"] | None = None,
    embeddings: int | None = None,
    positions: int = POSITIONS,
    hidden: int = 16,
    layers: int = 2,
    seed: int = 0,
) -> str:
    """Write a random model folder, safetensors and a tokenizer.

    Args:
        folder: where it goes; made when missing.
        task: decides the head.
        labels: of a classifier, in the order of the logits; those of the tiny rows when null.
        vocabulary: words of the word tokenizer; those of the tiny rows when null.
        tokenizer: whole words, or single bytes, of which a space belongs to what follows.
        architecture: llama for causal-lm and bert for the others when null.
        embeddings: rows of the embedding; as many as the tokenizer has tokens when null.
        positions: longest text in tokens.
        hidden: width of a layer, a multiple of 4.
        layers: layers.
        seed: of the weights. The generator of the caller is left as it was.

    Returns:
        The folder, as the `model:` of a job takes it.
    """
    import torch
    import transformers

    words = list(tiny_task_words(task) if vocabulary is None else vocabulary)
    kind = architecture or ("llama" if task == "causal-lm" else "bert")
    decoder = kind in ("llama", "gpt2")
    fast = byte_tokenizer(decoder) if tokenizer == "bytes" else word_tokenizer(words, decoder=decoder)
    fast.model_max_length = positions
    if kind == "bert" and task == "question-answering":
        fast.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    size = embeddings or len(fast)
    names = list(labels or (TAGS if task == "token-classification" else LABELS))
    config = (
        _decoder_config(kind, size, hidden, layers, positions)
        if decoder
        else encoder_config(kind, size, names, hidden, layers)
    )
    config.max_position_embeddings = positions
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        auto: Any = getattr(transformers, _AUTO[task])
        auto.from_config(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return str(folder)


def byte_tokenizer(decoder: bool = False) -> Any:
    """A byte-level BPE tokenizer without merges: each byte is a token, any text can be written."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    signs = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer: Any = Tokenizer(models.BPE({sign: n for n, sign in enumerate(signs)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return wrapped(tokenizer, decoder=decoder)


def _decoder_config(kind: str, vocabulary: int, hidden: int, layers: int, positions: int) -> Any:
    from transformers import GPT2Config, LlamaConfig

    tokens: dict[str, Any] = {
        "bos_token_id": 2,
        "eos_token_id": 3,
        "pad_token_id": 0,
        "initializer_range": 0.2,
    }
    if kind == "gpt2":
        return GPT2Config(
            vocab_size=vocabulary, n_embd=hidden, n_layer=layers, n_head=2, n_positions=positions, **tokens
        )
    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=2,
        max_position_embeddings=positions,
        **tokens,
    )
