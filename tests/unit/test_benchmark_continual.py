"""The arithmetic of the continual-learning benchmark, on matrices and images small enough to see through."""

from __future__ import annotations

import gzip
import math
import struct
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks.continual.images import SIDE, Images, Part, last_for_tests, read_idx
from benchmarks.continual.learning import Course, learn, mlp
from benchmarks.continual.methods import METHODS, Reservoir, Settings
from benchmarks.continual.protocols import PADDED, permuted, split
from benchmarks.continual.reference import ReferencePenalty, fisher_one_by_one
from benchmarks.continual.table import Result, figures, markdown, matrix_text, spread, table

MATRIX = [[0.9], [0.5, 0.8], [0.7, 0.6, 1.0]]


def fake(classes: int = 4, each: int = 6, side: int = SIDE) -> Images:
    """Images whose pixels say their class: all of row c of the picture is lit."""
    labels_N = torch.arange(classes).repeat(each)
    pixels_NSS = torch.zeros(len(labels_N), side, side, dtype=torch.uint8)
    pixels_NSS[torch.arange(len(labels_N)), labels_N] = 255
    part = Part(pixels_NSS.flatten(1), labels_N)
    return Images("fake", part, part)


def test_figures_are_those_of_their_papers() -> None:
    found = figures(MATRIX)
    assert found["accuracy"] == pytest.approx((0.7 + 0.6 + 1.0) / 3)
    assert found["backward_transfer"] == pytest.approx(((0.7 - 0.9) + (0.6 - 0.8)) / 2)
    assert found["forgetting"] == pytest.approx(((0.9 - 0.7) + (0.8 - 0.6)) / 2)
    assert found["minimum"] == pytest.approx((0.5 + 0.6) / 2)


def test_forgetting_counts_from_the_best_and_not_from_the_first() -> None:
    found = figures([[0.5], [0.9, 0.8], [0.6, 0.8, 0.7]])
    assert found["forgetting"] == pytest.approx((0.9 - 0.6 + 0.0) / 2)
    assert found["backward_transfer"] == pytest.approx((0.6 - 0.5 + 0.0) / 2)


def test_one_context_has_nothing_to_forget() -> None:
    assert figures([[0.8]]) == {
        "accuracy": 0.8,
        "backward_transfer": 0.0,
        "forgetting": 0.0,
        "minimum": 0.8,
    }


def test_error_is_of_the_mean_and_missing_for_one_seed() -> None:
    assert spread([1.0, 2.0, 3.0]) == pytest.approx((2.0, 1 / math.sqrt(3)))
    assert spread([1.0]) == (1.0, None)


def test_tables_have_percent_and_errors() -> None:
    one = Result("split", "task", "none", [1, 2], [MATRIX, MATRIX], [1.0, 3.0])
    assert table([one]).splitlines()[2].split("|")[1:-1] == [
        " none   ", " 76.67 ± 0.00 ", " -20.00 ± 0.00 ", " 20.00 ± 0.00 ", " 55.00 ± 0.00 ", "      2.0 ",
    ]  # fmt: skip
    assert matrix_text(one).splitlines()[3] == "| after 2 | 50.0 | 80.0 |       |"
    assert one.as_json()["figures"]["accuracy"]["mean"] == pytest.approx(2.3 / 3)
    assert markdown(["a", "b"], [["x", "1"]]) == "| a | b |\n|---|--:|\n| x | 1 |"


def test_contexts_of_split_share_no_class_and_leave_none() -> None:
    protocol = split(fake(), "class", 2)
    assert protocol.classes_TK.tolist() == [[0, 1], [2, 3]]
    rows = [protocol.rows(context).tolist() for context in range(2)]
    assert not set(rows[0]) & set(rows[1])
    assert sorted(rows[0] + rows[1]) == list(range(24))


@pytest.mark.parametrize(
    ("scenario", "width", "targets", "first", "second"),
    [
        ("task", 4, [0, 1, 2, 3], [0, 1], [2, 3]),
        ("domain", 2, [0, 1, 0, 1], [0, 1], [0, 1]),
        ("class", 4, [0, 1, 2, 3], [0, 1, 2, 3], [0, 1, 2, 3]),
    ],
)
def test_scenarios_differ_in_outputs_that_compete(
    scenario: str, width: int, targets: list[int], first: list[int], second: list[int]
) -> None:
    protocol = split(fake(), scenario, 2)
    assert protocol.width == width
    contexts_B, rows_B = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 2, 3])
    assert protocol.batch(contexts_B, rows_B).targets_B.tolist() == targets
    open_BC = protocol.masked(torch.zeros(4, width), contexts_B, latest=1).isfinite()
    assert open_BC[0].nonzero().flatten().tolist() == first
    assert open_BC[3].nonzero().flatten().tolist() == second


def test_an_output_not_met_yet_does_not_compete() -> None:
    protocol = split(fake(), "class", 2)
    open_BC = protocol.masked(torch.zeros(1, 4), torch.tensor([0]), latest=0).isfinite()
    assert open_BC.tolist() == [[True, True, False, False]]


def test_permuted_images_are_the_same_pixels_in_an_order_of_each_context() -> None:
    protocol = permuted(fake(), "domain", 3, seed=5)
    assert protocol.pixels == PADDED**2
    assert protocol.width == 4
    assert protocol.orders_TD is not None
    for order_D in protocol.orders_TD:
        assert order_D.sort().values.tolist() == list(range(PADDED**2))
    one, other = (protocol.of_context(context, torch.tensor([1])) for context in (0, 2))
    assert not torch.equal(one.pixels_BD, other.pixels_BD)
    assert float(one.pixels_BD.sum()) == float(other.pixels_BD.sum()) == SIDE
    # Undone, the second row of the picture is lit, with the margin around it.
    picture = (
        torch.zeros(PADDED**2).scatter(0, protocol.orders_TD[2], other.pixels_BD[0]).reshape(PADDED, PADDED)
    )
    assert picture.nonzero().tolist() == [[3, column] for column in range(2, 2 + SIDE)]


def test_a_mixed_batch_shows_each_image_as_its_context_does() -> None:
    protocol = permuted(fake(), "domain", 3, seed=5)
    mixed = protocol.batch(torch.tensor([2, 0]), torch.tensor([1, 1]))
    assert torch.equal(mixed.pixels_BD[0], protocol.of_context(2, torch.tensor([1])).pixels_BD[0])
    assert torch.equal(mixed.pixels_BD[1], protocol.of_context(0, torch.tensor([1])).pixels_BD[0])


def test_batches_depend_on_the_seed_and_an_epoch_has_each_image_once() -> None:
    protocol = split(fake(), "task", 2)

    def rows(seed: int) -> list[int]:
        return [int(row) for batch in protocol.stream(1, 4, 3, seed) for row in batch.rows_B]

    assert rows(1) == rows(1) != rows(2)
    assert sorted(rows(1)) == protocol.rows(1).tolist()


def test_a_reservoir_is_the_same_whatever_the_batches() -> None:
    protocol = split(fake(each=20), "task", 2)
    whole, parts = Reservoir(8, 80, seed=3), Reservoir(8, 80, seed=3)
    for context in range(2):
        rows_N = protocol.rows(context)
        whole.offer(protocol.of_context(context, rows_N), torch.zeros(len(rows_N), 1))
        for rows_B in torch.split(rows_N, 7) + torch.split(rows_N, 9):
            parts.offer(protocol.of_context(context, rows_B), torch.ones(len(rows_B), 1))
    assert whole._kept is not None
    assert parts._kept is not None
    assert torch.equal(whole._kept[2], parts._kept[2])
    assert len(whole._kept[2].unique()) == 8
    assert set(whole._kept[1].tolist()) == {0, 1}


def test_the_reference_is_the_fisher_information_of_a_softmax() -> None:
    model = nn.Linear(1, 2, bias=False)
    model.weight.data = torch.tensor([[0.0], [1.0]])
    found = fisher_one_by_one(dict(model.named_parameters()), [torch.tensor([2.0])], model)
    p = torch.softmax(torch.tensor([0.0, 2.0]), 0)
    # d log p_c / d w_k = ([c = k] - p_k) x; its mean square is p_k (1 - p_k) x^2.
    assert found["weight"].flatten().tolist() == pytest.approx((p * (1 - p) * 4).tolist())


def test_the_reference_penalty_has_the_half() -> None:
    penalty = ReferencePenalty(lam=3.0)
    penalty.add({"w": torch.tensor([2.0])}, {"w": torch.tensor([1.0])})
    penalty.add({"w": torch.tensor([1.0])}, {"w": torch.tensor([0.0])})
    assert float(penalty.loss({"w": torch.tensor([4.0])})) == pytest.approx(1.5 * (2 * 9 + 1 * 16))


@pytest.mark.parametrize("method", METHODS)
def test_each_method_learns_both_contexts(method: str) -> None:
    matrix = learn(
        split(fake(), "task", 2), Course(40, 8, 1e-2, (8,)), method, Settings(1.0, memory=6), seed=1
    )
    assert [len(row) for row in matrix] == [1, 2]
    assert matrix[0][0] == matrix[1][1] == 1.0


def weights_after(name: str, monkeypatch: pytest.MonkeyPatch) -> torch.Tensor:
    """All weights at the end of two contexts, by plain gradient descent."""
    made: list[nn.Module] = []

    class Watched(METHODS[name]):
        def finish(self, context: int) -> None:
            super().finish(context)
            made.append(self.model)

    monkeypatch.setitem(METHODS, name, Watched)
    learn(split(fake(), "domain", 2), Course(20, 8, 1e-2, (8,), "sgd"), name, Settings(50.0), seed=1)
    return torch.cat([one.detach().flatten() for one in made[-1].parameters()])


def test_ours_and_the_reference_learn_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, ours, theirs = (weights_after(name, monkeypatch) for name in ("none", "ewc", "reference-ewc"))
    assert torch.allclose(ours, theirs, atol=1e-6)
    assert not torch.allclose(ours, plain, atol=1e-3)


def test_mlp_ends_without_an_activation() -> None:
    assert [type(one).__name__ for one in mlp(4, (3,), 2)] == ["Linear", "ReLU", "Linear"]


def test_idx_files_are_read_in_their_shape(tmp_path: Path) -> None:
    path = tmp_path / "one.gz"
    path.write_bytes(gzip.compress(b"\0\0\x08\x02" + struct.pack(">2I", 2, 3) + bytes(range(6))))
    assert read_idx(path).tolist() == [[0, 1, 2], [3, 4, 5]]


def test_the_last_of_each_class_are_for_tests() -> None:
    images = last_for_tests("fake", torch.arange(6).reshape(6, 1), torch.tensor([0, 1, 0, 1, 0, 1]), 1)
    assert images.train.pixels_ND.flatten().tolist() == [0, 2, 1, 3]
    assert images.test.pixels_ND.flatten().tolist() == [4, 5]
