"""Positions of each task: a teacher that is the student says the same, whatever its tokenizer.

Shapes: B batch, P positions, R rows of a teacher, V classes, words of the context or vocabulary.
"""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tests.unit.task_samples import TASKS, UNICODE, Side, batch_of, examples_of, in_order, side
from tutelage.data.batch import Batch
from tutelage.signals.packet import Counts
from tutelage.tasks.inputs import ABSENT, range_logsumexp
from tutelage.testing import TAGS, tiny_answers, tiny_completions, tiny_model, tiny_tagged

pytestmark = pytest.mark.unit

QA = TASKS["question-answering"]
UNANSWERABLE = QA | {"unanswerable": True}
TAGGED = TASKS["token-classification"]
LM = TASKS["causal-lm"]
MAKERS: dict[str, Any] = {
    "token-classification": tiny_tagged,
    "question-answering": tiny_answers,
    "causal-lm": tiny_completions,
}
VARIANTS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (TAGGED, {}),
    (TAGGED, {"architecture": "distilbert"}),
    (QA, {}),
    (QA, {"architecture": "distilbert"}),
    (UNANSWERABLE, {}),
    (LM, {}),
    (LM, {"architecture": "gpt2"}),
    (LM | {"completion_only": True}, {}),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kinds")


@cache
def made(folder: Path, number: int, max_tokens: int = 64) -> tuple[Side, Any]:
    """The side of a variant, and its examples."""
    task, model = VARIANTS[number]
    here = folder / str(number)
    one = side(here, task, **model)
    columns = {"prompt": "prompt", "completion": "completion"} if task["type"] == "causal-lm" else None
    rows = MAKERS[task["type"]](14)
    return one, examples_of(here / str(max_tokens), task, rows, one.folder, max_tokens, columns)


def kl(one_PV: torch.Tensor, other_PV: torch.Tensor) -> torch.Tensor:
    p, q = torch.log_softmax(one_PV, -1), torch.log_softmax(other_PV, -1)
    return (p.exp() * (p - q)).sum(-1)


@pytest.mark.parametrize("number", range(len(VARIANTS)))
@pytest.mark.parametrize("max_tokens", [64, 9])
def test_a_teacher_that_is_the_student_gives_kl_0_at_every_position(
    folder: Path, number: int, max_tokens: int
) -> None:
    one, examples = made(folder, number, max_tokens)
    batch = batch_of(examples, examples.select("train").rows)
    rows, taught = one.study(batch), one.teach(batch, max_tokens)
    signal = one.kind.place(taught.values_RV, taught.lengths_N, rows, batch)
    assert signal.known_P is None
    assert len(rows.logits_PV) == int(batch.positions_B.sum()) == len(rows.labels_P) > 0
    assert kl(signal.logits_PV, rows.logits_PV).tolist() == [0.0] * len(rows.logits_PV)


@pytest.mark.parametrize("number", range(len(VARIANTS)))
def test_rows_do_not_depend_on_what_stands_beside_them(folder: Path, number: int) -> None:
    one, examples = made(folder, number)
    whole = batch_of(examples)
    rows, taught = one.study(whole), one.teach(whole)
    starts = np.concatenate([[0], np.cumsum(taught.lengths_N)])
    firsts = np.concatenate([[0], np.cumsum(whole.positions_B)])
    for n in (0, 5, 13):
        alone = batch_of(examples, in_order(examples)[[n]])
        mine = one.study(alone).logits_PV
        theirs = rows.logits_PV[firsts[n] : firsts[n + 1], : mine.shape[1]]
        torch.testing.assert_close(theirs, mine, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(
            taught.values_RV[starts[n] : starts[n + 1]], one.teach(alone).values_RV, rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize("number", [0, 2, 4, 5, 7])
def test_a_teacher_with_fewer_tokens_covers_the_first_positions(folder: Path, number: int) -> None:
    one, examples = made(folder, number)
    batch = batch_of(examples)
    rows = one.study(batch)
    cut = one.teach(batch, 9)
    assert (cut.lengths_N <= one.request(batch).positions_N).all()
    assert cut.lengths_N.sum() < one.request(batch).positions_N.sum()
    signal = one.kind.place(cut.values_RV, cut.lengths_N, rows, batch)
    assert signal.logits_PV.shape == rows.logits_PV.shape
    assert bool(signal.logits_PV.isfinite().all())


def test_a_causal_teacher_with_fewer_tokens_still_says_the_same_where_it_reads(folder: Path) -> None:
    """What follows a token does not change what it predicts."""
    one, examples = made(folder, 5)
    batch = batch_of(examples)
    rows, cut = one.study(batch), one.teach(batch, 6)
    signal = one.kind.place(cut.values_RV, cut.lengths_N, rows, batch)
    assert signal.known_P is not None
    assert cut.lengths_N.tolist() == [min(6, n) for n in batch.positions_B.tolist()]
    known = signal.known_P
    torch.testing.assert_close(signal.logits_PV[known], rows.logits_PV[known], rtol=1e-5, atol=1e-5)
    assert int((~known).sum()) == int(batch.positions_B.sum() - cut.lengths_N.sum()) > 0


# --- another tokenizer ------------------------------------------------------------------------------


class Spoken:
    """A model by rule: every token gets what the rule says of the word around it, whatever the tokens.

    For answers a word's mass is shared out evenly among its tokens.
    """

    device = torch.device("cpu")
    config = SimpleNamespace(model_type="rule")

    def __init__(self, tokenizer: Any, task: str) -> None:
        self._tokenizer = tokenizer
        self._task = task

    def forward(self, input_ids: Any, attention_mask: Any) -> None:
        """Only its arguments are looked at."""

    def __call__(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
        rows_BTV = torch.full((*input_ids.shape, 5), -3.0)
        for b, ids in enumerate(input_ids.tolist()):
            for places, word in self._words(ids):
                values = self.rule(word)
                if self._task == "question-answering":
                    values = values - float(np.log(len(places)))
                rows_BTV[b, places] = values
        if self._task == "question-answering":
            return SimpleNamespace(start_logits=rows_BTV[..., 0], end_logits=rows_BTV[..., 1])
        return SimpleNamespace(logits=rows_BTV)

    @staticmethod
    def rule(word: str) -> torch.Tensor:
        """Five numbers that are a function of the word."""
        return torch.tensor([random.Random(f"{word} {n}").uniform(-3, 3) for n in range(5)])

    def _words(self, ids: list[int]) -> list[tuple[list[int], str]]:
        """For each word between spaces its tokens; specials and padding are left out."""
        found: list[tuple[list[int], bytes | str]] = []
        open_word = False
        for place, token in enumerate(self._tokenizer.convert_ids_to_tokens(ids)):
            if token in self._tokenizer.all_special_tokens or token == "Ġ":
                open_word = False
                continue
            if self._single_bytes and open_word:
                found[-1] = ([*found[-1][0], place], found[-1][1] + _byte_of(token))
            else:
                found.append(([place], _byte_of(token) if self._single_bytes else token))
            open_word = self._single_bytes
        return [(places, w.decode() if isinstance(w, bytes) else w) for places, w in found]

    @property
    def _single_bytes(self) -> bool:
        return "Ġ" in self._tokenizer.get_vocab()


def _byte_of(token: str) -> bytes:
    from tokenizers import decoders

    # One sign of the byte alphabet stands for one byte, which need not be a character.
    plain = {chr(n): n for n in [*range(33, 127), *range(161, 173), *range(174, 256)]}
    if token in plain:
        return bytes([plain[token]])
    assert decoders.ByteLevel() is not None
    others = [n for n in range(256) if n not in plain.values()]
    return bytes([others[ord(token) - 256]])


def spoken(folder: Path, task: dict[str, Any], tokenizer: Any, words: list[str]) -> Side:
    one = side(folder, task, tokenizer, tokenizer=tokenizer, vocabulary=words, positions=512)
    one.model = Spoken(one.tokenizer, task["type"])
    return one


WORDS = ["naïve", "e\u0301te\u0301", "日本語", "👩\u200d👩\u200d👧", "नमस्ते", "plain", "İstanbul", "ﬁne"]


def tagged(count: int = 8) -> list[dict[str, Any]]:
    rng = random.Random(2)
    rows = [[rng.choice(WORDS) for _ in range(rng.randrange(1, 9))] for _ in range(count)]
    return [{"tokens": words, "tags": [rng.choice(TAGS) for _ in words]} for words in rows]


@pytest.mark.parametrize(("student", "teacher"), [("words", "bytes"), ("bytes", "words")])
def test_another_tokenizer_of_the_same_function_gives_the_same_rows_for_words(
    tmp_path: Path, student: str, teacher: str
) -> None:
    mine, theirs = (spoken(tmp_path, TAGGED, kind, WORDS) for kind in (student, teacher))
    data = tagged()
    examples = examples_of(tmp_path / "data", TAGGED, data, mine.folder, 512)
    batch = batch_of(examples)
    rows, taught = mine.study(batch), theirs.teach(batch, 512)
    signal = mine.kind.place(taught.values_RV, taught.lengths_N, rows, batch)
    assert signal.known_P is None
    assert torch.equal(signal.logits_PV, rows.logits_PV)
    expected_PV = torch.stack([Spoken.rule(word) for row in data for word in row["tokens"]])
    assert torch.equal(rows.logits_PV, expected_PV)
    assert rows.labels_P.tolist() == [TAGS.index(tag) for row in data for tag in row["tags"]]


@pytest.mark.parametrize(("student", "teacher"), [("words", "bytes"), ("bytes", "words")])
def test_another_tokenizer_of_the_same_function_gives_the_same_answers(
    tmp_path: Path, student: str, teacher: str
) -> None:
    """A student of whole words joins what it reads at once; one of bytes has single ideographs."""
    words = [
        "naïve",
        "e\u0301te\u0301",
        "नमस्ते",
        "plain",
        "İstanbul",
        "日本語" if student == "words" else "語",
    ]
    mine, theirs = (spoken(tmp_path, QA, kind, [*words, "who"]) for kind in (student, teacher))
    rng = random.Random(5)
    contexts = [" ".join(rng.choice(words) for _ in range(rng.randrange(2, 9))) for _ in range(6)]
    data = [
        {
            "question": "who",
            "context": text,
            "answers": {"text": [text.split()[1]], "answer_start": [len(text.split()[0]) + 1]},
        }
        for text in contexts
    ]
    batch = batch_of(examples_of(tmp_path / "data", QA, data, mine.folder, 512))
    rows, taught = mine.study(_without_types(batch)), theirs.teach(batch, 512)
    signal = mine.kind.place(taught.values_RV, taught.lengths_N, rows, batch)
    torch.testing.assert_close(signal.logits_PV, rows.logits_PV, rtol=1e-5, atol=1e-5)
    assert kl(signal.logits_PV, rows.logits_PV).abs().max() < 1e-5
    for n, text in enumerate(contexts):
        for side_, row in ((0, 2 * n), (1, 2 * n + 1)):
            expected = [float(Spoken.rule(word)[side_]) for word in text.split()]
            found = rows.logits_PV[row]
            assert found[: len(expected)].tolist() == pytest.approx(expected, abs=1e-5)
            assert (found[len(expected) :] == ABSENT).all()
    assert rows.labels_P.tolist() == [1, 1] * len(data)


def _without_types(batch: Batch) -> Batch:
    from dataclasses import replace

    return replace(batch, token_types_BT=None)


def test_a_word_that_a_teacher_has_no_token_for_ends_what_it_covers(tmp_path: Path) -> None:
    """Nothing is made up for it, and nothing shifts."""
    mine = spoken(tmp_path, TAGGED, "words", WORDS)
    batch = batch_of(examples_of(tmp_path / "d", TAGGED, tagged(3), mine.folder, 512))

    class Deaf:
        """A tokenizer that drops one word."""

        def __call__(self, texts: list[str], **options: Any) -> Any:
            return mine.tokenizer([text.replace("plain", "     ") for text in texts], **options)

        def __getattr__(self, name: str) -> Any:
            """All else is as it was."""
            return getattr(mine.tokenizer, name)

    words = [[text[a:b] for a, b in spans] for text, spans in zip(batch.texts, batch.spans, strict=True)]
    taught = mine.kind.score(mine.model, Deaf(), mine.request(batch), 512)
    lengths = [row.index("plain") if "plain" in row else len(row) for row in words]
    assert taught.lengths_N.tolist() == lengths
    assert lengths != [len(row) for row in words]
    rows = mine.study(batch)
    signal = mine.kind.place(taught.values_RV, taught.lengths_N, rows, batch)
    assert signal.known_P is not None
    assert torch.equal(signal.logits_PV[signal.known_P], rows.logits_PV[signal.known_P])


def test_words_that_the_students_tokens_do_not_reach_are_no_positions(tmp_path: Path) -> None:
    one = side(tmp_path, TAGGED, vocabulary=WORDS)
    data = [{"tokens": WORDS[:6], "tags": [*TAGS, "O"]}, {"tokens": WORDS[:2], "tags": ["O", "O"]}]
    batch = batch_of(examples_of(tmp_path / "d", TAGGED, data, one.folder, 6))
    assert batch.positions_B.tolist() == [4, 2]
    assert [len(spans) for spans in batch.spans] == [4, 2]
    assert batch.labels_P.tolist() == [0, 1, 2, 3, 0, 0]


# --- digests, labels, padding -------------------------------------------------------------------------


def digests(
    folder: Path, task: dict[str, Any], rows: list[dict[str, Any]], max_tokens: int = 64, **columns: Any
) -> list[bytes]:
    model = tiny_model(folder / "m", task["type"], tokenizer="bytes")
    return batch_of(examples_of(folder / str(max_tokens), task, rows, model, max_tokens, columns)).digests


def test_the_digest_covers_question_context_and_reached_words(tmp_path: Path) -> None:
    def row(question: str, context: str) -> dict[str, Any]:
        return {"question": question, "context": context, "answers": {"text": ["a"], "answer_start": [0]}}

    rows = [row("who", "a b"), row("where", "a b"), row("who", "a c")]
    found = digests(tmp_path, QA, rows)
    assert len(set(found)) == 3
    assert set(digests(tmp_path, QA, rows, 7)).isdisjoint(found)
    assert set(digests(tmp_path / "u", UNANSWERABLE, rows)).isdisjoint(found)
    assert digests(tmp_path, QA, rows, 40) == found


def test_the_digest_covers_how_words_are_split_and_not_their_tags(tmp_path: Path) -> None:
    rows = [
        {"tokens": ["a b", "c"], "tags": ["O", "O"]},
        {"tokens": ["a", "b c"], "tags": ["O", "O"]},
        {"tokens": ["a", "b c"], "tags": ["B-PER", "O"]},
    ]
    one, two, three = digests(tmp_path, TAGGED, rows)
    assert one != two == three


def test_the_digest_covers_which_tokens_are_predicted(tmp_path: Path) -> None:
    rows = [{"prompt": "a", "completion": "bc"}, {"prompt": "ab", "completion": "c"}]
    columns = {"prompt": "prompt", "completion": "completion"}
    one, two = digests(tmp_path / "all", LM, rows, **columns)
    assert one == two
    one, two = digests(tmp_path / "part", LM | {"completion_only": True}, rows, **columns)
    assert one != two


def test_completion_only_predicts_the_completion_and_the_end(tmp_path: Path) -> None:
    task = LM | {"completion_only": True}
    one = side(tmp_path, task)
    rows = [{"prompt": "after books_turn_0 comes", "completion": " books_turn_1 books_turn_2"}]
    columns = {"prompt": "prompt", "completion": "completion"}
    batch = batch_of(examples_of(tmp_path / "d", task, rows, one.folder, 64, columns))
    tokens = one.tokenizer.convert_ids_to_tokens(batch.labels_P.tolist())
    assert tokens == ["books_turn_1", "books_turn_2", "[SEP]"]
    whole = batch_of(examples_of(tmp_path / "e", LM | {"end_token": False}, rows, one.folder, 64, columns))
    tokens = one.tokenizer.convert_ids_to_tokens(whole.labels_P.tolist())
    assert tokens == ["after", "books_turn_0", "comes", "books_turn_1", "books_turn_2"]


def test_a_completion_behind_max_tokens_is_no_row_to_train_on(tmp_path: Path) -> None:
    task = LM | {"completion_only": True}
    model = tiny_model(tmp_path / "m", "causal-lm")
    rows = [
        {"prompt": "after " * 9, "completion": "comes"},
        {"prompt": "after", "completion": " comes"},
    ]
    columns = {"prompt": "prompt", "completion": "completion"}
    examples = examples_of(tmp_path / "d", task, rows, model, 6, columns)
    assert examples.positions(in_order(examples)).tolist() == [0, 2]
    assert len(examples.select("train")) == 1


def test_labels_that_must_not_be_used_are_unknown_at_all_positions(tmp_path: Path) -> None:
    for task in (TAGGED, QA, LM):
        model = tiny_model(tmp_path / task["type"], task["type"])
        examples = examples_of(tmp_path / f"d-{task['type']}", task, MAKERS[task["type"]](3), model)
        batch = examples.batch(in_order(examples), np.array([True, False, True]), 0)
        owner = np.repeat(np.arange(3), batch.positions_B)
        assert (batch.labels_P[owner == 1] == -1).all()
        assert (batch.labels_P[owner != 1] >= 0).all()


def test_questions_without_an_answer_point_at_the_special_token(tmp_path: Path) -> None:
    one = side(tmp_path, UNANSWERABLE)
    rows = tiny_answers(12, unanswerable=0.5)
    batch = batch_of(examples_of(tmp_path / "d", UNANSWERABLE, rows, one.folder))
    assert all((spans[0] == 0).all() for spans in batch.spans)
    assert [int(first[0]) for first in batch.span_first] == [0] * 12
    for n, row in enumerate(rows):
        label = batch.labels_P[2 * n]
        text, (begin, end) = batch.texts[n], batch.spans[n][label]
        assert text[begin:end] == (row["answers"]["text"] or [""])[0]
    assert {int(label) == 0 for label in batch.labels_P} == {True, False}


# --- vocabularies ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mine", "theirs"), [(512, 520), (520, 512), (None, 512), (151936, 152064)])
def test_embeddings_padded_differently_meet_in_the_tokenizers_vocabulary(
    tmp_path: Path, mine: int | None, theirs: int | None
) -> None:
    student = side(tmp_path, LM, "student", tokenizer="bytes", embeddings=mine, hidden=4)
    teacher = side(tmp_path, LM, "teacher", tokenizer="bytes", embeddings=theirs, hidden=4, seed=1)
    batch = batch_of(examples_of(tmp_path / "d", LM, tiny_completions(5), student.folder))
    rows, taught = student.study(batch), teacher.teach(batch)
    assert batch.vocabulary == 260
    assert rows.logits_PV.shape == taught.values_RV.shape == (int(batch.positions_B.sum()), 260)
    signal = student.kind.place(taught.values_RV, taught.lengths_N, rows, batch)
    assert bool((kl(signal.logits_PV, rows.logits_PV) > 0).all())


@pytest.mark.parametrize("number", [5, 6, 7])
def test_hidden_states_times_the_head_are_the_logits(folder: Path, number: int) -> None:
    from tutelage.models.vocabulary import vocabulary_head

    one, examples = made(folder, number)
    batch = batch_of(examples)
    dense, hidden = one.teach(batch), one.teach(batch, kind="hidden")
    assert hidden.lengths_N.tolist() == dense.lengths_N.tolist()
    head_VH = vocabulary_head(one.model, batch.vocabulary)
    torch.testing.assert_close(hidden.values_RV @ head_VH.T, dense.values_RV, rtol=1e-5, atol=1e-5)


def test_logits_of_a_padded_head_are_cut_to_the_vocabulary(tmp_path: Path) -> None:
    from tutelage.models.vocabulary import vocabulary_head

    student = side(tmp_path, LM, "student", tokenizer="bytes")
    teacher = side(tmp_path, LM, "teacher", tokenizer="bytes", embeddings=264, seed=1)
    batch = batch_of(examples_of(tmp_path / "d", LM, tiny_completions(3), student.folder))
    rows, hidden = student.study(batch), teacher.teach(batch, kind="hidden")
    logits_RV = hidden.values_RV @ vocabulary_head(teacher.model).T
    assert logits_RV.shape[1] == 264
    placed = student.kind.place(logits_RV, hidden.lengths_N, rows, batch).logits_PV
    torch.testing.assert_close(placed, teacher.teach(batch).values_RV, rtol=1e-5, atol=1e-5)


# --- sums over tokens ----------------------------------------------------------------------------------


def test_the_logit_of_a_range_is_the_log_of_the_summed_exponentials() -> None:
    logits_BT = torch.randn(2, 6, generator=torch.Generator().manual_seed(0), requires_grad=True)
    found = range_logsumexp(
        logits_BT, torch.tensor([0, 1, 1]), torch.tensor([1, 5, -1]), torch.tensor([3, 5, -1])
    )
    assert found[0].item() == pytest.approx(torch.logsumexp(logits_BT[0, 1:4], 0).item(), abs=1e-6)
    assert found[1].item() == logits_BT[1, 5].item()
    assert found[2].item() == ABSENT
    found.sum().backward()
    assert logits_BT.grad is not None
    assert bool(logits_BT.grad.isfinite().all())
    assert logits_BT.grad.sum().item() == pytest.approx(2.0, abs=1e-6)


def test_no_span_at_all_gives_no_row() -> None:
    none = torch.zeros(0, dtype=torch.int64)
    assert range_logsumexp(torch.zeros(1, 3), none, none, none).shape == (0,)


def test_what_a_teacher_does_not_cover_of_a_context_is_absent_and_none_is_unknown(tmp_path: Path) -> None:
    one = side(tmp_path, QA)
    batch = batch_of(examples_of(tmp_path / "d", QA, tiny_answers(3), one.folder))
    rows = one.study(batch)
    words = [len(spans) for spans in batch.spans]
    lengths: Counts = np.array([words[0], 1, 0], np.int32)
    values_RV = torch.arange(2.0 * int(lengths.sum())).reshape(-1, 2)
    signal = one.kind.place(values_RV, lengths, rows, batch)
    assert signal.known_P is not None
    assert signal.known_P.tolist() == [True] * 4 + [False] * 2
    assert signal.logits_PV[2].tolist() == [float(2 * words[0])] + [ABSENT] * (rows.logits_PV.shape[1] - 1)
    assert signal.logits_PV[3, 0].item() == 2 * words[0] + 1
    assert signal.logits_PV[0, : words[0]].tolist() == [2.0 * n for n in range(words[0])]


def test_unicode_words_are_all_reached_by_bytes(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "m", "token-classification", tokenizer="bytes", positions=512)
    rows = [{"tokens": UNICODE, "tags": ["O"] * len(UNICODE)}]
    batch = batch_of(examples_of(tmp_path / "d", TAGGED, rows, model, 512))
    assert batch.positions_B.tolist() == [len(UNICODE)]
    assert [batch.texts[0][a:b] for a, b in batch.spans[0]] == UNICODE
