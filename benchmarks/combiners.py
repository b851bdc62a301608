"""What each combiner makes of the same teachers, on the test rows of a job whose student is distilled.

    python -m benchmarks.combiners [JOB]      (after `tutelage quickstart` or `tutelage distill JOB`)

The teachers' logits come from the signal store; nothing is trained or asked.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from actors.distill import teacher_specs
from actors.evaluate import labelled_rows, student_examples
from actors.finetune import finished_teachers
from actors.payloads import dense_specs, signal_folders
from actors.tally import in_order
from actors.workspace import Workspace, open_workspace
from tutelage.cli.quickstart import example
from tutelage.config.load import load_job
from tutelage.config.objectives import Combiner, Confidence, Uniform, Validated
from tutelage.data.examples import Examples
from tutelage.files import home
from tutelage.objectives import Dense, build_combiner, mixture
from tutelage.progress import Silent
from tutelage.signals.exchange import Logits
from tutelage.signals.store import ArrowStore

COMBINERS: list[Combiner] = [
    Uniform(),
    *(Confidence(type="confidence", sharpness=s) for s in (2, 4, 8)),
    *(Validated(type="validated", sharpness=s) for s in (2, 4, 8)),
]


def stored(space: Workspace, examples: Examples, split: str) -> tuple[Logits, np.ndarray, np.ndarray]:
    """Logits [K, N, C], labels [N] and slices [N] of a split's labelled rows."""
    rows = labelled_rows(examples, split)
    specs = teacher_specs(space, finished_teachers(space))
    folders = signal_folders(space.signals, specs, dense_specs(space, specs))
    found = [ArrowStore(Path(folder)).get(examples.digests(rows)) for folder in folders.values()]
    if any(packet is None for packet in found):
        raise SystemExit(
            f"the signal store lacks {split} rows: run `tutelage distill` with combiner.type=validated"
        )
    return (
        np.stack([packet.columns["logits"].values for packet in found if packet is not None]),
        examples.labels(rows),
        np.array(examples.slices(rows)),
    )


def main() -> None:
    """Print accuracy by slice for each combiner."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("job", nargs="?", type=Path, default=example())
    space = open_workspace(load_job(parser.parse_args().job).job, home(), Silent())
    examples = student_examples(space)
    names = [teacher.name for teacher in space.job.teachers]
    checked_KNC, checked, parts = stored(space, examples, "validation")
    log_KNC = torch.log_softmax(torch.from_numpy(checked_KNC), -1).numpy()
    nll_KN = -log_KNC[:, np.arange(len(checked)), checked]
    measured = {
        part: {name: float(nll_KN[k, parts == part].mean()) for k, name in enumerate(names)}
        for part in in_order(parts.tolist())
    }
    logits_KNC, labels, slices = stored(space, examples, "test")
    teachers_KNC = torch.from_numpy(logits_KNC)
    signals, each_N = [Dense(logits_NC) for logits_NC in teachers_KNC], torch.arange(len(labels))
    print(f"{'':24s}" + "".join(f"{part:>9s}" for part in in_order(slices.tolist())) + f"{'mean':>9s}")
    rows = [(f"teacher {name}", logits_KNC[k]) for k, name in enumerate(names)]
    for section in COMBINERS:
        rule = build_combiner(section, names, measured)
        mixed = mixture(teachers_KNC, rule.weights(signals, slices.tolist(), each_N)).numpy()
        sharpness = getattr(section, "sharpness", None)
        rows.append((section.type + (f", sharpness {sharpness:g}" if sharpness else ""), mixed))
    for name, found in rows:
        right = found.argmax(-1) == labels
        by_slice = [float(right[slices == part].mean()) for part in in_order(slices.tolist())]
        print(f"{name:24s}" + "".join(f"{v:9.3f}" for v in by_slice) + f"{np.mean(by_slice):9.4f}")


if __name__ == "__main__":
    main()
