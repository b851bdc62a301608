"""Small tokenizers of every kind that models come with, trained on made-up sentences."""

from __future__ import annotations

import random
import string
from typing import Any, Literal

Kind = Literal[
    "wordpiece", "wordpiece-cased", "bytes", "bytes-decoder", "unigram", "unigram-end", "unigram-last"
]
"""What texts are cut into, and where the special tokens stand: around a text, or behind it."""

_WORDS = (
    "the a this that film phone food book room staff plot actor battery screen table price story music",
    "was is very quite rather never always good bad great awful lovely poor fine dull warm cold broken",
    "solid cheap slow quick friendly rude and but or because when while after before Paris London Mr Mrs",
    "2 10 5",
)
WORDS = [word for line in _WORDS for word in line.split()]
_BERT = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_SIZE = 400


def sentences(count: int, seed: int = 0) -> list[str]:
    """Rows of 3 to 13 words; a function of the arguments."""
    rng = random.Random(seed)  # noqa: S311  # repeatable, not secret
    return [" ".join(rng.choice(WORDS) for _ in range(rng.randrange(3, 14))) for _ in range(count)]


def small_tokenizer(
    kind: Kind, *, pad: str | None = "<pad>", side: Literal["left", "right"] = "right"
) -> Any:
    """A fast tokenizer of transformers.

    Args:
        kind: what it is like.
        pad: the padding token of a kind that leaves the choice; None for a tokenizer without one.
        side: where it pads.
    """
    match kind:
        case "wordpiece" | "wordpiece-cased":
            return _wordpiece(lower=kind == "wordpiece")
        case "bytes":
            return _wrapped(_byte_pairs("<s>", "<pad>", "</s>", "<unk>", "<mask>"), "<s> $A </s>", pad, side)
        case "bytes-decoder":
            # A decoder's tokenizer ends no text, and has a token that separates documents.
            tokenizer = _byte_pairs("<|end|>", *([pad] if pad else []))
            return _wrapped(tokenizer, None, pad, side, **_roles(bos="<|end|>", eos="<|end|>"))
        case "unigram":
            return _wrapped(_unigram("<s>", "<pad>", "</s>", "<unk>", "<mask>"), "<s> $A </s>", pad, side)
        case "unigram-end":
            tokenizer = _unigram("<pad>", "</s>", "<unk>")
            return _wrapped(tokenizer, "$A </s>", pad, side, **_roles(eos="</s>", unk="<unk>"))
        case "unigram-last":
            tokenizer = _unigram("<unk>", "<sep>", "<cls>", "<pad>")
            roles = _roles(cls="<cls>", sep="<sep>", unk="<unk>")
            names = ["input_ids", "token_type_ids", "attention_mask"]
            end = "$A:0 <sep>:0 <cls>:2"
            return _wrapped(tokenizer, end, pad, "left", model_input_names=names, **roles)


def _wordpiece(*, lower: bool) -> Any:
    from transformers import BertTokenizer

    letters = string.ascii_lowercase if lower else string.ascii_letters
    words = sorted({word.lower() if lower else word for word in WORDS})
    pieces = [f"##{letter}" for letter in letters + string.digits]
    tokens = dict.fromkeys([*_BERT, *words, *letters, *string.digits, *".,!?'", *pieces])
    kind: Any = BertTokenizer
    return kind(vocab={token: number for number, token in enumerate(tokens)}, do_lower_case=lower)


def _byte_pairs(*special: str) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer: Any = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_SIZE,
        special_tokens=list(special),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sentences(_SIZE), trainer)
    return tokenizer


def _unigram(*special: str) -> Any:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    tokenizer: Any = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=_SIZE // 2, special_tokens=list(special), **_roles(unk="<unk>"), show_progress=False
    )
    tokenizer.train_from_iterator(sentences(_SIZE), trainer)
    return tokenizer


def _roles(**signs: str) -> dict[str, Any]:
    return {f"{role}_token": sign for role, sign in signs.items()}


def _wrapped(tokenizer: Any, single: str | None, pad: str | None, side: str, **roles: Any) -> Any:
    from tokenizers import processors
    from transformers import PreTrainedTokenizerFast

    if single is not None:
        signs = {part.split(":")[0] for part in single.split() if not part.startswith("$")}
        tokenizer.post_processor = processors.TemplateProcessing(
            single=single, special_tokens=[(sign, tokenizer.token_to_id(sign)) for sign in sorted(signs)]
        )
    if single == "<s> $A </s>":
        roles = _roles(bos="<s>", eos="</s>", cls="<s>", sep="</s>", unk="<unk>", mask="<mask>")
    kind: Any = PreTrainedTokenizerFast
    if pad:
        roles["pad_token"] = pad
    roles.setdefault("model_input_names", ["input_ids", "attention_mask"])
    return kind(tokenizer_object=tokenizer, padding_side=side, **roles)
