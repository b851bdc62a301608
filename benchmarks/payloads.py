"""What each payload costs on the wire, and how far it turns the student's gradient from exact distillation.

    python -m benchmarks.payloads [--vocabulary V] [--positions P] [--arithmetic]

Logits are simulated as `benchmarks/simulated.py` says.

Angles are between the gradient for the student's logits and that of exact distillation on fp32 logits, by the
`kl` objective itself. `position`: the mean over positions of each one's own angle. `batch`: the angle of
the gradient for the student's head, the sum over positions of gradient x hidden state. Hidden states are
simulated as one of 16 contexts plus noise. Draws' noise averages out in a batch, a bias does not: the last
table of angles shows it.

Independent draws and the plain top-k (scaled to sum to 1, without tail) are computed here alone, to compare.

Hidden states of teachers are factors of their logits, which any so few positions have.

Shapes: P positions, V vocabulary, K teachers, F features of the student's hidden state, H of the teachers'.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from benchmarks.simulated import LENGTH, World, simulate
from tutelage.cli.surroundings import machine
from tutelage.config.objectives import KL
from tutelage.objectives import Dense, Evidence, Signal, build_terms
from tutelage.signals.exchange import Request, batch_digest
from tutelage.signals.payloads import encode, signal_of
from tutelage.signals.sizes import id_bytes, position_bytes
from tutelage.signals.spec import PayloadSpec, WireType

CHUNK = 256
HIDDEN = 2048


@dataclass
class Measured:
    """Sums over chunks for one way of sending signals."""

    bytes_sent: int = 0
    positions: int = 0
    degrees: float = 0.0
    head: Tensor | None = None

    def add(self, gradient_PV: Tensor, exact_PV: Tensor, hidden_PF: Tensor, nbytes: int) -> None:
        """Count one chunk."""
        self.bytes_sent += nbytes
        self.positions += len(gradient_PV)
        cosine_P = torch.cosine_similarity(gradient_PV, exact_PV, dim=-1, eps=1e-12)
        self.degrees += float(cosine_P.clamp(-1, 1).arccos().rad2deg().sum())
        head_FV = hidden_PF.T @ gradient_PV
        self.head = head_FV if self.head is None else self.head + head_FV


def angle(one: Tensor, other: Tensor) -> float:
    """Degrees between two tensors, from the sine at small angles, where the cosine has no digits left."""
    a, b = one.flatten().double() / one.double().norm(), other.flatten().double() / other.double().norm()
    return math.degrees(2 * math.atan2(float((a - b).norm()), float((a + b).norm())))


def gradient(student_PV: Tensor, signals: Sequence[Signal], temperature: float) -> Tensor:
    """[P, V] of the kl objective with equal weights."""
    (term,) = build_terms([KL(type="kl", temperature=temperature)])
    student_PV = student_PV.clone().requires_grad_()
    weights_KP = torch.full((len(signals), len(student_PV)), 1 / len(signals))
    labels_P = torch.full((len(student_PV),), -1)
    term.per_position(Evidence(student_PV, labels_P, tuple(signals), weights_KP)).sum().backward()  # type: ignore[no-untyped-call]
    assert student_PV.grad is not None
    return student_PV.grad


def send(world: World, specs: Sequence[PayloadSpec]) -> tuple[list[Signal], int]:
    """The signals after their way over the wire, and their bytes."""
    count, positions = len(specs), len(world.student_PV)
    lengths_N = np.full(positions // LENGTH, LENGTH, np.int32)
    shares_NK = np.full((len(lengths_N), count), 1 / count, np.float32)
    examples_P = torch.arange(len(lengths_N)).repeat_interleave(LENGTH)
    signals, nbytes = [], 0
    for spec, logits_PV in zip(specs, world.teachers, strict=False):
        asked = Request(batch_digest(world.examples), world.examples, lengths_N, spec, shares_NK=shares_NK)
        rows_PV, head_VH = factors(logits_PV) if spec.kind == "hidden" else (logits_PV, None)
        packet = encode(spec, rows_PV, lengths_N, asked)
        nbytes += packet.nbytes
        signals.append(
            signal_of(
                spec,
                packet,
                world.student_PV,
                examples_P,
                lambda values_RV, _: Dense(values_RV),
                head=head_VH,
                examples=world.examples,
                shares_NK=shares_NK,
            )
        )
    return signals, nbytes


def factors(logits_PV: Tensor) -> tuple[Tensor, Tensor]:
    """Hidden states [P, H] and a head [V, H] with these logits as their product, up to rounding; P <= H."""
    noise_HP = torch.randn(HIDDEN, len(logits_PV), generator=torch.Generator().manual_seed(3))
    basis_PH = torch.linalg.qr(noise_HP).Q.T
    scale = math.sqrt(HIDDEN)
    return basis_PH * scale, logits_PV.T @ basis_PH / scale


def specs_of(name: str, count: int, vocabulary: int, temperature: float) -> list[PayloadSpec]:
    """Each teacher's spec by the name in the table."""
    kind, _, rest = name.partition(" ")
    if kind == "dense":
        return [PayloadSpec("dense", vocabulary, rest)] * count  # type: ignore[arg-type]
    if kind == "hidden":
        return [PayloadSpec("hidden", HIDDEN, rest)] * count  # type: ignore[arg-type]
    entries = int(rest.split()[0])
    if kind == "top-k":
        return [PayloadSpec("topk", vocabulary, "fp16", entries, temperature)] * count
    mixture = "m" if rest.endswith("shared") else ""
    return [
        PayloadSpec("sampled", vocabulary, "fp32", entries, temperature, 0 if mixture else k, mixture, k)
        for k in range(count)
    ]


def plain_top_k(world: World, count: int, k: int, temperature: float) -> tuple[Tensor, int]:
    """Gradient where the k probabilities are scaled to sum to 1 and the rest is forgotten."""
    student_PV = torch.softmax(world.student_PV / temperature, -1)
    for logits_PV in world.teachers[:count]:
        top_Pk, ids_Pk = (logits_PV / temperature).topk(k)
        student_PV.scatter_add_(1, ids_Pk, -torch.softmax(top_Pk, -1) / count)
    return student_PV * temperature, len(student_PV) * count * k * (id_bytes(student_PV.shape[1]) + 2)


def independent(world: World, count: int, draws: int, temperature: float) -> tuple[Tensor, int]:
    """Gradient on independent draws from the mixture."""
    generator = torch.Generator().manual_seed(5)
    target_PV = sum((torch.softmax(one / temperature, -1) for one in world.teachers[:count]), torch.zeros(()))
    ids_PN = torch.multinomial(target_PV, draws, replacement=True, generator=generator)
    student_PV = torch.softmax(world.student_PV / temperature, -1)
    student_PV.scatter_add_(1, ids_PN, torch.full(ids_PN.shape, -1 / draws))
    return student_PV * temperature, ids_PN.numel() * id_bytes(student_PV.shape[1])


NAMES = [
    "dense bf16",
    "dense int8",
    "hidden bf16",
    *(f"top-k {k} with tail" for k in (12, 25, 64)),
    *(f"top-k {k} plain" for k in (12, 25, 64)),
    *(f"draws {n} {how}" for n in (12, 50) for how in ("shared", "own", "independent")),
]


def one_way(name: str, world: World, count: int, temperature: float) -> tuple[Tensor, int]:
    """Gradient and bytes of one chunk by the name in the table."""
    how = name.split()
    if how[-1] == "plain":
        return plain_top_k(world, count, int(how[1]), temperature)
    if how[-1] == "independent":
        return independent(world, count, int(how[1]), temperature)
    signals, nbytes = send(world, specs_of(name, count, world.student_PV.shape[1], temperature))
    return gradient(world.student_PV, signals, temperature), nbytes


class Angles:
    """One table: some ways of sending, at one temperature, for some numbers of teachers."""

    def __init__(self, names: Sequence[str], temperature: float, counts: Sequence[int]) -> None:
        self._names, self._temperature, self._counts = names, temperature, counts
        self._found = {(name, k): Measured() for name in names for k in counts}
        self._exact: dict[int, Tensor] = {}

    def add(self, world: World) -> None:
        """Count one chunk."""
        for count in self._counts:
            dense = [Dense(one) for one in world.teachers[:count]]
            exact_PV = gradient(world.student_PV, dense, self._temperature)
            head_FV = world.hidden_PF.T @ exact_PV
            self._exact[count] = self._exact[count] + head_FV if count in self._exact else head_FV
            for name in self._names:
                slope_PV, nbytes = one_way(name, world, count, self._temperature)
                self._found[name, count].add(slope_PV, exact_PV, world.hidden_PF, nbytes)

    def batch(self, name: str, count: int) -> float:
        """Degrees between the sums so far."""
        head_FV = self._found[name, count].head
        assert head_FV is not None
        return angle(head_FV, self._exact[count])

    def show(self) -> None:
        """Print it as Markdown."""
        print(f"T = {self._temperature:g}: bytes a token of all teachers · degrees a position · of a batch\n")
        print("| payload |" + "".join(f" K = {k} |" for k in self._counts))
        print("|---|" + "---|" * len(self._counts))
        for name in self._names:
            cells = []
            for k in self._counts:
                one = self._found[name, k]
                size = one.bytes_sent / one.positions
                cells.append(f"{size:,.0f} · {one.degrees / one.positions:.1f} · {self.batch(name, k):.2f}")
            print(f"| {name} | " + " | ".join(cells) + " |")
        print()


def by_batch(vocabulary: int, chunks: Sequence[int], count: int = 3, temperature: float = 1.0) -> None:
    """How the angle of the sum falls with the positions in it."""
    names = ["top-k 12 plain", "top-k 12 with tail", "draws 12 shared", "draws 12 independent"]
    angles, rows = Angles(names, temperature, [count]), []
    for chunk in range(max(chunks)):
        angles.add(simulate(chunk, CHUNK, vocabulary, count))
        if chunk + 1 in chunks:
            rows.append([f"{angles.batch(name, count):.2f}" for name in names])
    print(f"K = {count}, T = {temperature:g}: degrees of a batch by its positions\n")
    print("| payload |" + "".join(f" {n * CHUNK:,} |" for n in chunks))
    print("|---|" + "---|" * len(chunks))
    for name, cells in zip(names, zip(*rows, strict=True), strict=True):
        print(f"| {name} | " + " | ".join(cells) + " |")
    print()


def costs(vocabulary: int) -> None:
    """Time of both ends for one teacher, the least of three."""
    world = simulate(0, CHUNK, vocabulary, 1)
    print(
        "one teacher, T = 1: µs a token\n\n| payload | teacher packs | student unpacks, loss and gradient |"
    )
    print("|---|---|---|")
    lengths_N = np.full(CHUNK // LENGTH, LENGTH, np.int32)
    ones = np.ones((len(lengths_N), 1), np.float32)
    for name in ("dense fp32", "dense bf16", "dense int8", "top-k 64 with tail", "draws 12 shared"):
        (spec,) = specs_of(name, 1, vocabulary, 1.0)
        asked = Request(batch_digest(world.examples), world.examples, lengths_N, spec, shares_NK=ones)
        packing, whole = [], []
        for _ in range(3):
            begin = time.perf_counter()
            encode(spec, world.teachers[0], lengths_N, asked)
            packing.append(time.perf_counter() - begin)
            begin = time.perf_counter()
            one_way(name, world, 1, 1.0)
            whole.append(time.perf_counter() - begin)
        rest = max(0.0, min(whole) - min(packing))
        print(f"| {name} | {1e6 * min(packing) / CHUNK:,.0f} | {1e6 * rest / CHUNK:,.0f} |")
    print()


def arithmetic() -> str:
    """Bytes a position of all teachers and the FLOP of their heads, as Markdown; nothing is measured."""
    cases = [("3 classes", 3, 768, 1), ("3 classes", 3, 768, 5)]
    cases += [
        (f"V = {v:,}, H = {h:,}", v, h, k) for v, h in ((32_000, 2048), (151_936, 4096)) for k in (1, 5)
    ]
    lines = ["| payload |" + "".join(f" {name}, K = {k} |" for name, _, _, k in cases)]
    lines.append("|---|" + "---:|" * len(cases))

    def row(name: str, cells: list[str]) -> None:
        lines.append(f"| {name} | " + " | ".join(cells) + " |")

    kinds: tuple[WireType, ...] = ("fp32", "bf16", "int8")
    for dtype in kinds:
        row(
            f"dense {dtype}",
            [f"{k * position_bytes(PayloadSpec('dense', v, dtype)):,}" for _, v, _, k in cases],
        )
    row("hidden bf16", [f"{k * position_bytes(PayloadSpec('hidden', h, 'bf16')):,}" for _, _, h, k in cases])
    row("... FLOP of the heads", [f"{2 * k * h * v / 1e6:,.2f} M" for _, v, h, k in cases])
    for entries in (12, 64):
        specs = [PayloadSpec("topk", v, "fp16", entries) for _, v, _, _ in cases]
        sizes = [k * position_bytes(spec) for spec, (_, _, _, k) in zip(specs, cases, strict=True)]
        listed = [f"{s:,}" if spec.width > entries else "-" for s, spec in zip(sizes, specs, strict=True)]
        row(f"top-{entries} fp16", listed)
    own = [k * position_bytes(PayloadSpec("sampled", v, entries=12)) for _, v, _, k in cases]
    row("12 draws of each teacher", [f"{size:,}" for size in own])
    shared = [position_bytes(PayloadSpec("sampled", v, entries=12, mixture="m")) for _, v, _, _ in cases]
    row("12 draws shared", [f"{size:,.0f}" for size in shared])
    return "\n".join(lines)


def shape(vocabulary: int) -> None:
    """Print what the simulated distributions are like."""
    p_PV = torch.softmax(simulate(0, CHUNK, vocabulary, 1).teachers[0], -1)
    quartiles = torch.quantile(p_PV.amax(-1), torch.tensor([0.25, 0.5, 0.75])).tolist()
    entropy = float(-torch.xlogy(p_PV, p_PV).sum(-1).mean())
    listed = ", ".join(f"{q:.2f}" for q in quartiles)
    print(f"most probable label at T = 1: quartiles {listed}; entropy: mean {entropy:.2f} nats\n")


def main() -> None:
    """Print the machine, the condition and the tables."""
    parser = argparse.ArgumentParser(description="Bytes a token and gradient angle of every payload.")
    parser.add_argument("--vocabulary", type=int, default=32_000)
    parser.add_argument("--positions", type=int, default=CHUNK)
    parser.add_argument("--arithmetic", action="store_true", help="print bytes and FLOP alone")
    given = parser.parse_args()
    if given.arithmetic:
        print(arithmetic())
        return
    begin = time.perf_counter()
    where = machine()
    print(f"{where.gpu or where.cpu}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(f"V = {given.vocabulary:,}, {given.positions} positions, simulated logits")
    shape(given.vocabulary)
    tables = [Angles(NAMES, 1.0, [1, 2, 3, 4, 5]), Angles(NAMES, 2.0, [1, 3, 5])]
    for chunk in range(given.positions // CHUNK):
        world = simulate(chunk, CHUNK, given.vocabulary)
        for one in tables:
            one.add(world)
    for one in tables:
        one.show()
    by_batch(given.vocabulary, [1, 4, 16])
    costs(given.vocabulary)
    print(f"{time.perf_counter() - begin:.0f} s")


if __name__ == "__main__":
    main()
