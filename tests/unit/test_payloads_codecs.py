"""Every payload keeps one contract on the wire, and each is as exact as it says.

Shapes: N examples, R rows, V classes or vocabulary, H hidden, k entries of a top-k.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.unit.payload_samples import POSITIONS, SHORT, SPECS, answer, request, rows, sample, signal
from tutelage.errors import TeacherError
from tutelage.objectives import Dense, Draws, TopK
from tutelage.signals.packet import Column, Packet, join
from tutelage.signals.payloads import decode, encode, fault
from tutelage.signals.payloads.wire import pack_floats, pack_ids, unpack_floats, unpack_ids
from tutelage.signals.sizes import id_bytes, position_bytes
from tutelage.signals.spec import PayloadSpec

pytestmark = pytest.mark.unit

WIDE = pytest.mark.parametrize("name", SPECS)


@WIDE
def test_a_right_answer_has_no_fault(name: str) -> None:
    asked, packet = sample(name)
    assert fault(asked, answer(asked, packet)) is None


@WIDE
def test_a_packet_has_as_many_bytes_as_the_planner_says(name: str) -> None:
    asked, packet = sample(name)
    if asked.spec.mixture:
        members = [
            encode(spec, rows(spec), SHORT, asked)
            for spec in (PayloadSpec("sampled", 50, entries=12, mixture="ab", member=k) for k in range(3))
        ]
        assert sum(one.nbytes for one in members) == 9 * sum(
            position_bytes(asked.spec, share) for share in (1 / 6, 1 / 2, 1 / 3)
        )
    else:
        assert packet.nbytes == 9 * position_bytes(asked.spec)


@WIDE
def test_an_example_has_the_same_bytes_whatever_stands_beside_it(name: str) -> None:
    asked, whole = sample(name)
    values = rows(asked.spec)
    for n, (begin, end) in enumerate(zip([0, 3, 4, 5], [3, 4, 5, 9], strict=True)):
        alone = encode(asked.spec, values[begin:end], SHORT[n : n + 1], asked.select([n]))
        for column in whole.columns:
            np.testing.assert_array_equal(
                alone.columns[column].values, whole.select([n]).columns[column].values
            )


@WIDE
def test_packets_select_and_join_to_what_a_request_for_those_examples_gives(name: str) -> None:
    asked, packet = sample(name)
    which = [3, 0]
    joined = join([packet.select([3]), packet.select([0])])
    assert fault(asked.select(which), answer(asked.select(which), joined)) is None


@WIDE
def test_decoding_works_on_read_only_memory(name: str) -> None:
    """The store hands out memory-mapped arrays."""
    asked, packet = sample(name)
    for column in packet.columns.values():
        column.values.flags.writeable = False
    head = torch.eye(50) if asked.spec.kind == "hidden" else None
    assert torch.isfinite(decode(asked.spec, packet, head).values.float()).all()


@WIDE
def test_a_position_without_a_row_is_unknown_and_a_full_answer_has_no_mask(name: str) -> None:
    asked, packet = sample(name)
    head = torch.eye(50) if asked.spec.kind == "hidden" else None
    known_P = signal(asked, packet, head).known_P
    assert known_P is not None
    assert known_P.tolist() == [True] * 5 + [False] + [True] * 4
    full = encode(asked.spec, rows(asked.spec, 10), POSITIONS, asked)
    assert signal(asked, full, head).known_P is None


@WIDE
def test_a_lost_teacher_covers_no_position(name: str) -> None:
    asked = request(SPECS[name])
    head = torch.eye(50) if asked.spec.kind == "hidden" else None
    known_P = signal(asked, None, head).known_P
    assert known_P is not None
    assert not known_P.any()


@WIDE
def test_rows_of_another_shape_are_refused_on_the_teachers_side(name: str) -> None:
    asked = request(SPECS[name])
    with pytest.raises(ValueError, match="which wants"):
        encode(asked.spec, rows(asked.spec)[:, :-1], SHORT, asked)
    with pytest.raises(ValueError, match="which wants"):
        encode(asked.spec, rows(asked.spec)[:-1], SHORT, asked)


@WIDE
def test_more_rows_than_positions_are_refused_on_the_students_side(name: str) -> None:
    asked = request(SPECS[name], [9])
    packet = encode(asked.spec, rows(asked.spec), np.array([9], np.int32), asked)
    head = torch.eye(50) if asked.spec.kind == "hidden" else None
    with pytest.raises(ValueError, match="for positions"):
        signal(request(SPECS[name], [8]), packet, head)


# Numbers


def test_fp32_travels_bit_for_bit() -> None:
    asked, packet = sample("dense")
    assert torch.equal(decode(asked.spec, packet).values, rows(asked.spec))


def test_bf16_rounds_to_nearest_and_ties_to_even() -> None:
    step = 2.0**-7  # of bf16 between 1 and 2
    values = torch.tensor([1 + step / 2, 1 + 3 * step / 2, 1 + 0.51 * step, -1 - step / 2, 3.0])
    wire = pack_floats(values, "bf16")
    assert wire.dtype == np.uint16
    assert unpack_floats(wire, "bf16", "cpu").tolist() == [1.0, 1 + 2 * step, 1 + step, -1.0, 3.0]


@pytest.mark.parametrize(("dtype", "bound"), [("bf16", 2**-8), ("fp16", 2**-11)])
def test_half_precision_errs_by_half_a_step_at_most(dtype: str, bound: float) -> None:
    values = rows(PayloadSpec("dense", 500))
    back = unpack_floats(pack_floats(values, dtype), dtype, "cpu")
    assert ((back - values).abs() <= bound * values.abs() + 1e-7).all()
    assert ((back - values).abs() > bound / 4 * values.abs()).any()


@pytest.mark.parametrize("size", [1e-3, 3.0, 1e4, 1e37])
def test_int8_errs_by_at_most_a_508th_of_the_rows_range(size: float) -> None:
    asked = request(SPECS["dense int8"])
    values = rows(asked.spec, size=size).clamp(-3e38, 3e38)
    back = decode(asked.spec, encode(asked.spec, values, SHORT, asked)).values
    low_R, high_R = values.double().aminmax(dim=-1)
    error_R = (back.double() - values.double()).abs().amax(-1)
    bound_R = (high_R - low_R) / 508
    assert (error_R <= bound_R * (1 + 1e-4)).all()
    assert (error_R > bound_R / 2).all()


def test_int8_keeps_a_row_of_equal_logits_and_the_ends_of_a_row() -> None:
    asked = request(PayloadSpec("dense", 3, "int8"), [2])
    values = torch.tensor([[7.5, 7.5, 7.5], [-1.0, 0.25, 9.0]])
    back = decode(asked.spec, encode(asked.spec, values, np.array([2], np.int32), asked)).values
    assert back[0].tolist() == [7.5] * 3
    assert back[1, 0].item() == pytest.approx(-1.0, abs=1e-6)
    assert back[1, 2].item() == pytest.approx(9.0, abs=1e-6)


@pytest.mark.parametrize("width", [2, 65_536, 65_537, 151_936, 1 << 24, (1 << 24) + 1])
def test_labels_travel_in_the_fewest_bytes_that_hold_all_of_them(width: int) -> None:
    ids = torch.tensor([[0, 1], [width - 2, width - 1], [width // 2, 255 % width]])
    wire = pack_ids(ids, width)
    assert wire.nbytes == 6 * id_bytes(width)
    assert torch.equal(unpack_ids(wire, width, "cpu"), ids)
    assert 256 ** id_bytes(width) >= width


# Hidden


def test_the_head_on_a_hidden_state_gives_the_teachers_logits() -> None:
    """fp32: to 1e-5 of a row's norm. bf16: the rounding of the state, 2^-9 a value at random."""
    generator = torch.Generator().manual_seed(0)
    hidden_RH, head_VH = torch.randn(9, 50, generator=generator), torch.randn(300, 50, generator=generator)
    exact_RV = hidden_RH @ head_VH.T
    for name, bound in (("hidden", 1e-5), ("hidden bf16", 2**-8)):
        asked = request(SPECS[name])
        found = decode(asked.spec, encode(asked.spec, hidden_RH, SHORT, asked), head_VH).values
        error = (found - exact_RV).abs() / (hidden_RH.norm(dim=-1)[:, None] * head_VH.norm(dim=-1))
        assert error.max() < bound
    asked = request(SPECS["hidden"])
    again = decode(asked.spec, encode(asked.spec, hidden_RH, SHORT, asked), head_VH).values
    assert torch.equal(again, torch.nn.functional.linear(hidden_RH, head_VH))


@pytest.mark.parametrize("shift", range(0, 64, 8))
def test_where_hidden_states_lie_in_memory_changes_no_bit(shift: int) -> None:
    """Replies, mapped rows and joined parts lie at different addresses; MKL's last bit may hang on it."""
    generator = torch.Generator().manual_seed(3)
    hidden_RH, head_VH = torch.randn(2, 64, generator=generator), torch.randn(1000, 64, generator=generator)
    room = np.empty(hidden_RH.nbytes + 128, np.uint8)
    start = -room.ctypes.data % 64 + shift
    moved_RH = room[start : start + hidden_RH.nbytes].view(np.float32).reshape(2, 64)
    moved_RH[:] = hidden_RH.numpy()
    lengths_N = np.array([2], np.int32)
    packet = Packet(lengths_N, {"hidden": Column(moved_RH, lengths_N)})
    found_RV = decode(PayloadSpec("hidden", 64, "fp32"), packet, head_VH).values
    assert torch.equal(found_RV, torch.nn.functional.linear(hidden_RH, head_VH))


@pytest.mark.parametrize("head", [None, torch.zeros(300, 49)])
def test_hidden_without_a_head_of_its_width_is_an_error(head: torch.Tensor | None) -> None:
    asked, packet = sample("hidden")
    with pytest.raises(ValueError, match=r"needs the teacher's head \[V, H\]"):
        decode(asked.spec, packet, head)


# Top-k and draws


@pytest.mark.parametrize("name", ["topk", "topk fp16, T=2", "topk bf16, 3-byte ids"])
def test_top_k_holds_the_largest_probabilities_at_its_temperature(name: str) -> None:
    asked, packet = sample(name)
    found = decode(asked.spec, packet)
    exact_RV = torch.log_softmax(rows(asked.spec) / asked.spec.temperature, -1)
    top_Rk, ids_Rk = exact_RV.topk(8)
    assert torch.equal(found.values, ids_Rk)
    assert found.log_p_Rk is not None
    step = {"fp32": 1e-6, "fp16": 2**-11, "bf16": 2**-8}[asked.spec.dtype]
    assert ((found.log_p_Rk - top_Rk).abs() <= step * top_Rk.abs() + 1e-6).all()


def test_each_kind_becomes_its_own_signal() -> None:
    kinds = {name: type(signal(*sample(name), torch.eye(50) if "hidden" in name else None)) for name in SPECS}
    assert {name: kind for name, kind in kinds.items() if kind is not Dense} == {
        **{name: TopK for name in SPECS if name.startswith("topk")},
        **{name: Draws for name in SPECS if name.startswith(("sampled", "mixture"))},
    }


def test_a_label_of_probability_0_is_never_drawn() -> None:
    spec = PayloadSpec("sampled", 6, entries=50)
    asked = request(spec, [200])
    values = torch.tensor([[-torch.inf, 0.0, -torch.inf, 0.0, 1.0, -torch.inf]]).repeat(200, 1)
    ids = decode(spec, encode(spec, values, np.array([200], np.int32), asked)).values
    assert set(ids.tolist()) == {1, 3, 4}


def test_other_seeds_examples_and_positions_draw_other_labels() -> None:
    spec = PayloadSpec("sampled", 1000, entries=12)
    values = rows(spec, 1, size=0.1).repeat(2, 1)
    one = decode(spec, encode(spec, values, np.array([2], np.int32), request(spec, [2]))).values.view(2, 12)
    other_seed = PayloadSpec("sampled", 1000, entries=12, seed=1)
    two = decode(other_seed, encode(other_seed, values, np.array([2], np.int32), request(spec, [2]))).values
    apart = request(spec, [1, 1])
    three = decode(spec, encode(spec, values, np.array([1, 1], np.int32), apart)).values.view(2, 12)
    assert not torch.equal(one[0], one[1])
    assert not torch.equal(one, two.view(2, 12))
    assert torch.equal(three[0], one[0])
    assert not torch.equal(three[0], three[1])


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_nothing_is_drawn_from_logits_that_are_no_distribution(bad: float) -> None:
    spec = SPECS["mixture"]
    values = rows(spec)
    values[4, 7] = bad
    with pytest.raises(TeacherError, match="NaN or infinity in 1 of 9 rows"):
        encode(spec, values, SHORT, request(spec))
