"""Nothing wrong in a reply passes the check, and each fault is named.

Shapes: N examples, R rows.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.unit.payload_samples import SPECS, answer, request, rows, sample, with_values
from tutelage.signals.packet import Column, Packet
from tutelage.signals.payloads import encode, fault, packet_fault

pytestmark = pytest.mark.unit

WIDE = pytest.mark.parametrize("name", SPECS)


def named(asked: object, packet: Packet) -> str:
    found = packet_fault(asked, packet)  # type: ignore[arg-type]
    assert found is not None
    return found


@WIDE
def test_the_digest_of_another_batch(name: str) -> None:
    asked, packet = sample(name)
    found = fault(asked, replace(answer(asked, packet), digest=b"0" * 16))
    assert found is not None
    assert "the digest of another batch" in found


@WIDE
def test_too_few_examples(name: str) -> None:
    asked, packet = sample(name)
    assert "3 examples instead of 4" in named(asked, packet.select([0, 1, 2]))


@WIDE
def test_more_rows_than_an_example_has_positions(name: str) -> None:
    asked, packet = sample(name)
    assert named(asked, packet.select([3, 1, 2, 0])) == "4 rows for the 3 positions of example 0"


@WIDE
def test_negative_or_fractional_lengths(name: str) -> None:
    asked, packet = sample(name)
    assert "no counts" in named(asked, replace(packet, lengths_N=packet.lengths_N * -1))
    assert "no counts" in named(asked, replace(packet, lengths_N=packet.lengths_N.astype(np.float32)))


@WIDE
def test_a_missing_a_foreign_and_an_extra_column(name: str) -> None:
    asked, packet = sample(name)
    first, *rest = packet.columns
    column = packet.columns[first]
    lacking = Packet(packet.lengths_N, {key: packet.columns[key] for key in rest})
    assert "the columns" in named(asked, lacking)
    assert "the columns" in named(asked, Packet(packet.lengths_N, {**packet.columns, "extra": column}))


@WIDE
def test_another_type_width_or_number_of_rows(name: str) -> None:
    asked, packet = sample(name)
    for key, column in packet.columns.items():
        values = column.values
        assert f"instead of {values.dtype} in {key}" in named(
            asked, with_values(packet, key, values.astype(np.float64))
        )
        assert f"{key} of shape" in named(asked, with_values(packet, key, values[:-1]))
        assert f"{key} of shape" in named(asked, with_values(packet, key, values[..., None]))


@WIDE
def test_rows_that_belong_to_other_examples(name: str) -> None:
    asked, packet = sample(name)
    key, column = next(iter(packet.columns.items()))
    moved = column.rows_N.copy()
    moved[0] -= 1
    moved[1] += 1
    other = Packet(packet.lengths_N, {**packet.columns, key: Column(column.values, moved)})
    assert "split otherwise" in named(asked, other)


@pytest.mark.parametrize(
    ("name", "key", "bits"),
    [
        ("dense", "logits", {np.nan: "NaN", np.inf: "infinity", -np.inf: "infinity"}),
        ("dense bf16", "logits", {0x7FC0: "NaN", 0xFFC1: "NaN", 0x7F80: "infinity", 0xFF80: "infinity"}),
        ("dense int8", "scale", {np.nan: "NaN", np.inf: "infinity"}),
        ("hidden", "hidden", {np.nan: "NaN", -np.inf: "infinity"}),
        ("hidden bf16", "hidden", {0x7F81: "NaN", 0xFF80: "infinity"}),
        ("topk", "log_p", {np.nan: "NaN", -np.inf: "infinity"}),
        ("topk fp16, T=2", "log_p", {0x7E00: "NaN", 0xFC00: "infinity"}),
        ("topk bf16, 3-byte ids", "log_p", {0x7FC0: "NaN", 0xFF80: "infinity"}),
        ("sampled", "doubt", {0x7E00: "NaN", 0x7C00: "infinity"}),
    ],
)
def test_nan_and_infinity_are_told_apart(name: str, key: str, bits: dict[float, str]) -> None:
    asked, packet = sample(name)
    for bad, word in bits.items():
        values = packet.columns[key].values.copy()
        values.reshape(-1)[5] = bad
        assert named(asked, with_values(packet, key, values)).startswith(word)


@pytest.mark.parametrize("name", ["dense", "dense bf16", "dense int8", "hidden", "hidden bf16", "topk"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_teacher_with_nan_or_infinity_cannot_hide_it_in_its_payload(name: str, bad: float) -> None:
    asked = request(SPECS[name])
    values = rows(asked.spec)
    values[4, 7] = bad
    packet = encode(asked.spec, values, np.array([3, 1, 1, 4], np.int32), asked)
    assert named(asked, packet).startswith(("NaN", "infinity"))


@pytest.mark.parametrize("name", ["dense bf16", "hidden bf16"])
def test_a_value_beyond_the_wire_types_range_is_refused_not_saturated(name: str) -> None:
    asked = request(SPECS[name])
    values = rows(asked.spec)
    values[4, 7] = 3.4e38
    packet = encode(asked.spec, values, np.array([3, 1, 1, 4], np.int32), asked)
    assert named(asked, packet).startswith("infinity")


@pytest.mark.parametrize(
    "name", ["topk", "topk bf16, 3-byte ids", "sampled", "sampled, 3-byte ids", "mixture"]
)
def test_labels_outside_the_vocabulary(name: str) -> None:
    asked, packet = sample(name)
    values = packet.columns["ids"].values.copy()
    wide = asked.spec.width
    if values.dtype == np.uint8:
        values.reshape(-1, 3)[2] = [wide & 255, wide >> 8 & 255, wide >> 16]
    else:
        values.reshape(-1)[2] = wide
    assert named(asked, with_values(packet, "ids", values)) == f"the label {wide} of a vocabulary of {wide}"


def test_masses_that_no_distribution_has() -> None:
    asked, packet = sample("topk")
    log_p = packet.columns["log_p"].values
    assert "above 1" in named(asked, with_values(packet, "log_p", log_p * 0 + 0.01))
    assert "sum to 4" in named(asked, with_values(packet, "log_p", log_p * 0 + np.float32(np.log(0.5))))
    ids = packet.columns["ids"].values.copy()
    ids[3, 1] = ids[3, 0]
    assert named(asked, with_values(packet, "ids", ids)) == "a label twice in one top-k"
    drawn, answered = sample("sampled")
    doubt = np.full(9, 1.5, np.float16).view(np.uint16)
    assert "outside [0, 1]" in named(drawn, with_values(answered, "doubt", doubt))


def test_draws_for_other_shares_are_refused() -> None:
    """A store may hold an example that was drawn when its teachers had other weights."""
    asked, packet = sample("mixture")
    assert asked.shares_NK is not None
    other = replace(asked, shares_NK=asked.shares_NK[:, ::-1] * np.float32([3, 0.1, 1]))
    assert "ids of shape" in named(other, packet)
