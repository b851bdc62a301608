"""Per-example squares against the plain loop, on every kind of layer; modes; what must not disturb them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn

from tutelage.continual.fisher import Scored, fisher, label_directions, mas
from tutelage.continual.importance import Importance
from tutelage.continual.per_example import PerExample
from tutelage.errors import StoreError
from tutelage.objectives.competing import own_classes
from tutelage.testing.models import tiny_model

Score = Callable[[Any], Scored]


def by_loop(
    model: nn.Module,
    batches: list[tuple[int, Any]],
    score: Score,
    weigh: Callable[[Tensor], list[tuple[Tensor, Tensor]]],
) -> dict[str, Tensor]:
    """Sums of p * (d log-likelihood)^2, one backward pass for each example and label."""
    sums = {n: torch.zeros_like(p) for n, p in model.named_parameters() if p.requires_grad}
    parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
    for count, batch in batches:
        for n in range(count):
            scored = score(batch)
            owners = torch.arange(len(scored.logits_PV)) if scored.examples_P is None else scored.examples_P
            log_p = F.log_softmax(scored.logits_PV[owners == n].double(), -1)
            for share, value in weigh(log_p):
                found = torch.autograd.grad(
                    value, list(parameters.values()), retain_graph=True, allow_unused=True
                )
                for name, gradient in zip(parameters, found, strict=True):
                    if gradient is not None:
                        sums[name] += share.detach().float() * gradient**2
    return sums


def all_labels(log_p_PV: Tensor) -> list[tuple[Tensor, Tensor]]:
    """For an example of one position: each label with its probability."""
    return [(log_p_PV[0, v].exp(), log_p_PV[0, v]) for v in range(log_p_PV.shape[1])]


def mlp(classes: int) -> tuple[nn.Module, list[tuple[int, Any]], Score]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Dropout(0.5), nn.LayerNorm(9), nn.Linear(9, classes))
    # The last batch is short: sums are divided by examples, not by batches.
    batches: list[tuple[int, Any]] = [(5, torch.randn(5, 6)), (2, torch.randn(2, 6))]
    return model, batches, lambda x: Scored(model(x))


class Images(nn.Module):
    """Convolutions of both kinds, one grouped, and a norm that no rule covers."""

    def __init__(self) -> None:
        super().__init__()
        self.two = nn.Conv2d(2, 4, 3, stride=2, padding=1)
        self.norm = nn.GroupNorm(2, 4)
        self.grouped = nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.one = nn.Conv1d(4, 3, 2, dilation=2, bias=False)
        self.out = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.grouped(self.norm(self.two(x)).tanh()).tanh()
        logits: Tensor = self.out(self.one(hidden.flatten(2)).mean(-1))
        return logits


class Shared(nn.Module):
    """One table twice: as embedding with padding, and as the output layer; one layer used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(7, 5, padding_idx=0)
        self.mix = nn.Linear(5, 5)
        self.out = nn.Linear(5, 7, bias=False)
        self.out.weight = self.table.weight

    def forward(self, ids: Tensor) -> Tensor:
        hidden = self.mix(self.mix(self.table(ids)).tanh())
        logits: Tensor = self.out(hidden.mean(1))
        return logits


def close(found: dict[str, Tensor], truth: dict[str, Tensor]) -> None:
    assert found.keys() == truth.keys()
    scale = max(float(value.abs().max()) for value in truth.values())
    for name, value in truth.items():
        assert torch.allclose(found[name], value, rtol=1e-4, atol=1e-6 * scale), name


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_exact_fisher_of_a_network_is_that_of_the_loop(classes: int) -> None:
    model, batches, score = mlp(classes)
    found = fisher(model, batches, score)
    assert found.examples == 7
    model.eval()
    close(found.sums, by_loop(model, batches, score, all_labels))


def test_convolutions_and_layers_without_a_rule() -> None:
    torch.manual_seed(1)
    model = Images()
    batches: list[tuple[int, Any]] = [(4, torch.randn(4, 2, 9, 9)), (1, torch.randn(1, 2, 9, 9))]
    score: Score = lambda x: Scored(model(x))  # noqa: E731
    close(fisher(model, batches, score).sums, by_loop(model, batches, score, all_labels))


def test_parameters_used_twice_are_added_before_they_are_squared_and_padding_has_no_gradient() -> None:
    torch.manual_seed(2)
    model = Shared()
    batches: list[tuple[int, Any]] = [(3, torch.tensor([[1, 2, 1, 0], [3, 3, 3, 3], [4, 5, 6, 0]]))]
    score: Score = lambda x: Scored(model(x))  # noqa: E731
    found = fisher(model, batches, score)
    assert set(found.sums) == {"table.weight", "mix.weight", "mix.bias"}
    close(found.sums, by_loop(model, batches, score, all_labels))


@pytest.mark.parametrize("architecture", ["bert", "distilbert"])
def test_exact_fisher_of_a_text_classifier_is_that_of_the_loop(architecture: Any, tmp_path: Path) -> None:
    from tutelage.models.load import load_classifier

    model = load_classifier(tiny_model(tmp_path / "m", "sequence-classification", architecture=architecture))
    torch.manual_seed(3)
    ids = torch.randint(5, 20, (4, 7))
    mask = torch.ones_like(ids)
    mask[1, 4:] = 0
    batches: list[tuple[int, Any]] = [(4, (ids, mask)), (1, (ids[:1, :5], mask[:1, :5]))]
    score: Score = lambda b: Scored(model(input_ids=b[0], attention_mask=b[1]).logits)  # noqa: E731
    close(fisher(model, batches, score).sums, by_loop(model, batches, score, all_labels))


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_causal_lm_sequences_are_squared_as_a_whole(architecture: Any, tmp_path: Path) -> None:
    from tutelage.models.load import load_model

    model = load_model(tiny_model(tmp_path / "m", "causal-lm", architecture=architecture), "causal-lm")
    ids = torch.randint(5, 12, (2, 6), generator=torch.Generator().manual_seed(5))
    labels, owners = ids[:, 1:].reshape(-1), torch.arange(2).repeat_interleave(5)

    def run() -> Tensor:
        logits: Tensor = model(input_ids=ids).logits[:, :-1]
        return logits.reshape(10, -1)

    found = fisher(model, [(2, None)], lambda _: Scored(run(), labels, owners, 2), mode="empirical")
    parameters = dict(model.named_parameters())
    truth = {name: torch.zeros_like(p) for name, p in parameters.items()}
    for n in range(2):
        loss = F.cross_entropy(run()[owners == n], labels[owners == n], reduction="sum")
        for name, g in zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True):
            truth[name] += g**2
    close(found.sums, truth)


def tokens_model() -> tuple[nn.Module, list[tuple[int, Any]], Callable[[Any], Tensor]]:
    torch.manual_seed(4)
    model = nn.Sequential(nn.Embedding(9, 6), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 4))
    return model, [(3, torch.randint(0, 9, (3, 5)))], lambda ids: model(ids).reshape(-1, 4)


def test_empirical_fisher_of_sequences_sums_tokens_first() -> None:
    model, batches, run = tokens_model()
    labels = torch.randint(0, 4, (15,))
    labels[5:10] = -1  # one example has no label: it is not counted
    owners = torch.arange(3).repeat_interleave(5)
    found = fisher(model, batches, lambda ids: Scored(run(ids), labels, owners, 3), mode="empirical")
    assert found.examples == 2
    truth = {n: torch.zeros_like(p) for n, p in model.named_parameters()}
    for n in (0, 2):
        loss = F.cross_entropy(run(batches[0][1])[owners == n], labels[owners == n], reduction="sum")
        for (name, _), gradient in zip(
            model.named_parameters(), torch.autograd.grad(loss, list(model.parameters())), strict=True
        ):
            truth[name] += gradient**2
    close(found.sums, truth)


def test_fisher_of_tokens_adds_the_squares_of_single_positions() -> None:
    model, batches, run = tokens_model()
    owners = torch.arange(3).repeat_interleave(5)
    score: Score = lambda ids: Scored(run(ids), None, owners, 3)  # noqa: E731
    truth = {n: torch.zeros_like(p) for n, p in model.named_parameters()}
    for position in range(15):
        log_p = F.log_softmax(run(batches[0][1])[position], -1)
        for v in range(4):
            gradients = torch.autograd.grad(log_p[v], list(model.parameters()), retain_graph=True)
            for name, gradient in zip(truth, gradients, strict=True):
                truth[name] += log_p[v].exp().detach() * gradient**2
    rounds = 300
    mean = {name: torch.zeros_like(value) for name, value in truth.items()}
    for seed in range(rounds):
        for name, value in fisher(model, batches, score, per="token", seed=seed).sums.items():
            mean[name] += value / rounds
    for name, value in truth.items():
        assert float((mean[name] - value).norm() / value.norm()) < 0.15, name


def test_sampled_fisher_has_the_exact_one_as_its_mean() -> None:
    model, batches, score = mlp(3)
    exact = fisher(model, batches, score)
    rounds = 400
    total = fisher(model, batches, score, mode="sampled")
    for seed in range(1, rounds):
        total = total + fisher(model, batches, score, mode="sampled", seed=seed)
    for name, value in exact.mean().items():
        assert float((total.mean()[name] - value).norm() / value.norm()) < 0.15, name


def test_squares_of_batch_means_are_something_else() -> None:
    """The commonest mistake: its trace is a small share of the true one."""
    model, batches, score = mlp(2)
    true = sum(float(value.sum()) for value in fisher(model, batches, score).mean().values())
    model.eval()
    labels = score(batches[0][1]).logits_PV.argmax(-1)
    loss = F.cross_entropy(score(batches[0][1]).logits_PV, labels)
    wrong = sum(float((g**2).sum()) for g in torch.autograd.grad(loss, list(model.parameters())))
    assert wrong < 0.5 * true


def test_the_pass_leaves_mode_gradients_and_random_numbers_as_they_were() -> None:
    model, batches, score = mlp(2)
    model.train()
    before = torch.random.get_rng_state()
    fisher(model, batches, score, mode="sampled")
    assert model.training
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(before, torch.random.get_rng_state())
    one, other = fisher(model, batches, score), fisher(model, batches, score)
    assert all(torch.equal(one.sums[n], other.sums[n]) for n in one.sums)  # dropout is off


def test_frozen_parameters_are_left_out() -> None:
    model, batches, score = mlp(2)
    whole = fisher(model, batches, score).sums
    first: Any = model[0]  # type: ignore[index]
    first.requires_grad_(False)
    rest = fisher(model, batches, score).sums
    assert set(whole) - set(rest) == {"0.weight", "0.bias"}
    close(rest, {name: whole[name] for name in rest})


def test_parts_merge_in_any_order_and_refuse_what_is_not_alike() -> None:
    model, batches, score = mlp(3)
    whole = fisher(model, batches, score)
    a, b = (fisher(model, [batch], score) for batch in batches)
    for merged in (a + b, b + a):
        assert merged.examples == whole.examples
        close(merged.mean(), whole.mean())
    with pytest.raises(ValueError, match="cannot be added"):
        a + Importance(b.sums, b.examples, {**b.stamp, "mode": "sampled"})


def test_saved_importance_comes_back_bit_by_bit_and_damage_is_said(tmp_path: Path) -> None:
    model, batches, score = mlp(2)
    found = fisher(model, batches, score)
    found.save(tmp_path / "f.safetensors")
    again = Importance.load(tmp_path / "f.safetensors")
    assert again.stamp == found.stamp
    assert again.examples == found.examples
    assert all(torch.equal(again.sums[n], found.sums[n]) for n in found.sums)
    raw = (tmp_path / "f.safetensors").read_bytes()
    (tmp_path / "f.safetensors").write_bytes(raw[: len(raw) // 2])
    with pytest.raises(StoreError, match="cannot be read"):
        Importance.load(tmp_path / "f.safetensors")


@pytest.mark.parametrize(
    "logits", [[[0.3, -1.0, 2.0, 0.0]], [[40.0, -40.0, 0.0, 1.0]], [[-200.0, 0.0, 200.0, 200.0]]]
)
def test_label_directions_factor_the_covariance_of_the_label(logits: list[list[float]]) -> None:
    z = torch.tensor(logits)
    p = torch.softmax(z.double(), -1)[0]
    columns = torch.stack([column[0].double() for column in label_directions(z)], 1)
    assert columns.shape == (4, 3)
    assert bool(columns.isfinite().all())
    torch.testing.assert_close(columns @ columns.T, torch.diag(p) - torch.outer(p, p), atol=1e-6, rtol=1e-4)


def test_mas_adds_absolute_gradients_of_single_examples() -> None:
    model, batches, score = mlp(3)
    found = mas(model, batches, score)
    model.eval()
    truth = {n: torch.zeros_like(p) for n, p in model.named_parameters()}
    for count, batch in batches:
        for n in range(count):
            norm = score(batch).logits_PV[n].square().sum()
            for name, g in zip(truth, torch.autograd.grad(norm, list(model.parameters())), strict=True):
                truth[name] += g.abs()
    close(found.sums, truth)
    assert math.isclose(found.examples, 7)


def test_empirical_fisher_without_labels_is_refused() -> None:
    model, batches, score = mlp(2)
    with pytest.raises(ValueError, match="needs labels"):
        fisher(model, batches, score, mode="empirical")


def stream(*batches: Any) -> Iterator[Any]:
    yield from batches


def test_batches_may_come_from_a_generator() -> None:
    model, batches, score = mlp(2)
    close(fisher(model, stream(*batches), score).sums, fisher(model, batches, score).sums)


@pytest.mark.parametrize(
    "family",
    [
        transformers.BertConfig,
        transformers.AlbertConfig,
        transformers.MobileBertConfig,
        transformers.ElectraConfig,
        transformers.RobertaConfig,
    ],
)
def test_families_of_encoders_need_no_pass_for_each_example(family: Any) -> None:
    sizes = {"hidden_size": 16, "intermediate_size": 32, "embedding_size": 8, "intra_bottleneck_size": 8}
    config = family(vocab_size=50, num_hidden_layers=2, num_attention_heads=2, **sizes)
    torch.manual_seed(6)
    auto: Any = transformers.AutoModelForSequenceClassification
    model = auto.from_config(config).eval()
    ids = torch.randint(5, 40, (3, 6))
    with PerExample(model) as watched:
        logits = watched.forward(lambda: model(input_ids=ids).logits, 3)
        watched.reduce(logits, torch.randn_like(logits), torch.arange(3), "square")
        assert not watched.one_by_one


def test_a_sequence_that_is_read_at_one_token_gives_the_same_squares() -> None:
    """Behind the last attention only that token has slopes: its rows are multiplied once for all labels."""
    torch.manual_seed(8)
    config = transformers.BertConfig(
        vocab_size=40,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        num_labels=4,
    )
    model = transformers.BertForSequenceClassification(config).eval()
    ids = torch.randint(1, 40, (5, 7))
    mask = (torch.arange(7) < torch.tensor([7, 3, 5, 1, 6])[:, None]).long()
    inputs = [
        (n, {"input_ids": ids[at], "attention_mask": mask[at]}) for n, at in ((3, slice(3)), (2, slice(3, 5)))
    ]
    found = fisher(model, inputs, lambda batch: Scored(model(**batch).logits), mode="exact").mean()
    alone = [(1, {"input_ids": ids[n, None], "attention_mask": mask[n, None]}) for n in range(5)]
    truth: dict[str, torch.Tensor] = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for _, batch in alone:
        logits = model(**batch).logits[0]
        p = torch.softmax(logits, -1).detach()
        for label in range(4):
            slopes = torch.autograd.grad(
                torch.log_softmax(logits, -1)[label],
                list(model.parameters()),
                retain_graph=True,
                allow_unused=True,
            )
            for (name, parameter), slope in zip(model.named_parameters(), slopes, strict=True):
                truth[name] += p[label] * (torch.zeros_like(parameter) if slope is None else slope) ** 2 / 5
    largest = max(float(one.max()) for one in truth.values())
    for name, one in truth.items():
        torch.testing.assert_close(found[name], one, rtol=1e-4, atol=1e-7 * largest, msg=name)


def test_slopes_at_another_token_are_not_added_to_those_of_the_first() -> None:
    torch.manual_seed(9)
    layer = torch.nn.Linear(3, 2, bias=False)
    given = torch.randn(4, 5, 3)
    with PerExample(layer) as watched:
        logits = watched.forward(lambda: layer(given).flatten(0, 1), 4).reshape(4, 5, 2)
        truth = torch.zeros(2, 3)
        for token in (1, 1, 3):
            slopes = torch.zeros(4, 5, 2)
            slopes[:, token] = torch.randn(4, 2)
            watched.reduce(logits, slopes, torch.arange(4), "square")
            truth += (slopes[:, token, :, None] * given[:, token, None, :]).square().sum(0)
        torch.testing.assert_close(watched.sums["weight"], truth)


def test_rules_are_compared_at_the_first_direction_that_has_slopes() -> None:
    """A weight that is also used where no hook sees it is found out although class 0 is closed."""

    class Twice(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(3, 3)
            self.head = torch.nn.Linear(3, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(torch.nn.functional.linear(torch.tanh(self.layer(x)), self.layer.weight))

    torch.manual_seed(3)
    model, x, labels = Twice(), torch.randn(5, 3), torch.full((5,), 3)
    found = fisher(model, [(5, x)], lambda x: Scored(own_classes(model(x), labels, (0, 0, 1, 1)))).mean()
    truth = torch.zeros(3, 3)
    for row in x:
        logits = model(row[None])[0, 2:]
        for label, p in enumerate(torch.softmax(logits, -1).tolist()):
            (slope,) = torch.autograd.grad(
                torch.log_softmax(logits, -1)[label], model.layer.weight, retain_graph=True
            )
            truth += p * slope**2 / 5
    torch.testing.assert_close(found["layer.weight"], truth)


def test_nothing_measured_is_zero() -> None:
    layer = torch.nn.Linear(2, 1)
    found = fisher(layer, [(1, torch.ones(1, 2))], lambda x: Scored(layer(x)))  # one class: no direction
    assert {name: float(value.sum()) for name, value in found.sums.items()} == {"weight": 0.0, "bias": 0.0}
