"""What is worth a warning in the rows of a job: figures beyond what is sane, each with advice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from tutelage.config import JobConfig
from tutelage.data.labels import fold_label
from tutelage.data.row_set import RowSet
from tutelage.data.token_facts import TokenFacts

UNKNOWN_SHARE = 0.02
CUT_SHARE = 0.2
BAD_SHARE = 0.05
REPEAT_SHARE = 0.2
TWO_LABELS_SHARE = 0.005
LARGEST_CLASS = 0.9
LEAK_SHARE = 0.02
"""Short phrases stand in both by nature: 1.1 % of the test texts of four sets of reviews."""
SHOWN_LABELS = 5


def concerns(job: JobConfig, rows: RowSet, facts: TokenFacts | None = None) -> list[str]:
    """A sentence for each concern; none where all is sane.

    Args:
        job: whose rows these are.
        rows: what was counted while they were read.
        facts: what the student's tokenizer makes of them, where that is known.
    """
    found = [*_labels(job, rows), *_early_stop(job, rows), *_rows(rows)]
    return [*found, *(_tokens(job, facts) if facts else [])]


def _share(part: int, whole: int) -> str:
    return f"{part:,} of {whole:,} ({100 * part / max(1, whole):.3g} %)"


def _labels(job: JobConfig, rows: RowSet) -> Iterator[str]:
    names = list(job.task.labels)
    alike = Counter(map(fold_label, names))
    same = [name for name in names if alike[fold_label(name)] > 1]
    if same:
        yield (
            f"task.labels: {', '.join(map(repr, same))} differ in case or white space alone; keep one and "
            "map the others to it in the source's `labels`"
        )
    if job.task.type != "sequence-classification":
        return
    for split in ("train", "validation", "test"):
        counts = {name: sum(parts[split][name] for parts in rows.classes.values()) for name in names}
        total = sum(counts.values())
        none = [name for name in names if not counts[name]]
        if total and none:
            more = f" and {len(none) - SHOWN_LABELS} more" if len(none) > SHOWN_LABELS else ""
            effect = "never learned" if split == "train" else "not measured"
            yield f"labels without a {split} row, so {effect}: {', '.join(none[:SHOWN_LABELS])}{more}"
        most = max(names, key=lambda name: counts[name])
        if split == "train" and counts[most] > LARGEST_CLASS * total and not none:
            yield (
                f"label '{most}' has {_share(counts[most], total)} labelled train rows; "
                "always saying it is as often right"
            )


def _early_stop(job: JobConfig, rows: RowSet) -> Iterator[str]:
    """Trainings that will be refused, since they stop by validation rows that have no label."""
    for key, stops, sources in trainings(job):
        if stops and not labelled(rows, "validation", sources):
            yield f"{key}.early_stop watches validation rows, and none of these has a label; remove it"


def trainings(job: JobConfig) -> Iterator[tuple[str, bool, list[str]]]:
    """Key of each `train` section, whether it stops early, and the sources that it would watch for that."""
    for teacher in job.teachers:
        if teacher.finetune:
            key = f"teachers.{teacher.name}.finetune.train"
            yield key, teacher.finetune.train.early_stop is not None, list(teacher.finetune.data)
    yield "train", job.train.early_stop is not None, list(job.data.sources)


def labelled(rows: RowSet, split: str, sources: list[str]) -> int:
    """Rows of one split with a label."""
    parts = [rows.classes[name][split] for name in sources if name in rows.classes]
    return sum(sum(counts.values()) - counts[""] for counts in parts)


def _rows(rows: RowSet) -> Iterator[str]:
    total = sum(sum(parts.values()) for parts in rows.counts.values())
    for name, parts in rows.counts.items():
        good, bad = sum(parts.values()), sum(rows.bad.get(name, {}).values())
        if bad > BAD_SHARE * (good + bad):
            yield f"{name}: {_share(bad, good + bad)} rows are bad and left out; see their reasons above"
        repeats = rows.repeats.get(name, 0)
        if repeats > REPEAT_SHARE * max(1, good):
            yield f"{name}: {_share(repeats, good)} rows repeat the text of another; write each text once"
    if rows.two_labels > TWO_LABELS_SHARE * max(1, total):
        yield (
            f"{rows.two_labels:,} {'text stands' if rows.two_labels == 1 else 'texts stand'} in several rows "
            "with different labels; no model is right on all of these: decide for one label, or remove them"
        )


def _tokens(job: JobConfig, facts: TokenFacts) -> Iterator[str]:
    for name, one in facts.sources.items():
        if one.unknown > UNKNOWN_SHARE * max(1, one.tokens):
            yield (
                f"{name}: {_share(one.unknown, one.tokens)} tokens are unknown to the student's tokenizer, "
                "which reads them all as one; take models that know the language of these texts"
            )
        if one.cut > CUT_SHARE * max(1, one.texts):
            yield (
                f"{name}: {_share(one.cut, one.texts)} texts are longer than data.max_tokens="
                f"{job.data.max_tokens} and cut; raise it where their ends matter"
            )
    leaks = facts.leaks
    if leaks.same + leaks.near > LEAK_SHARE * max(1, leaks.texts):
        yield (
            f"{_share(leaks.same + leaks.near, leaks.texts)} test texts stand in the training rows, "
            f"{leaks.same} word for word and {leaks.near} nearly ({'; '.join(leaks.examples[:2])}): "
            "accuracy on them is memory"
        )
