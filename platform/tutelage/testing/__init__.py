"""Tiny models and data for tests of jobs: a word decides the label, and a model loads in milliseconds.

Nothing here is fetched; every file is a function of the arguments. The in-memory twins stand beside what
they replace: `MemoryStore` in `tutelage.signals.store`, `ScriptedTeacher` in `actors.teacher`, `Silent` in
`tutelage.progress`. Importing this package loads neither torch nor transformers.
"""

from tutelage.testing.classification import (
    DOMAINS,
    LABELS,
    POSITIONS,
    SPECIAL,
    tiny_classifier,
    tiny_rows,
    tiny_texts,
    tiny_words,
)
from tutelage.testing.families import FAMILIES, each_config, tiny_family
from tutelage.testing.models import tiny_model
from tutelage.testing.rows import (
    TAGS,
    tiny_answers,
    tiny_completions,
    tiny_tagged,
    tiny_task_rows,
    tiny_task_words,
)
from tutelage.testing.tokenizers import sentences, small_tokenizer

__all__ = [
    "DOMAINS",
    "FAMILIES",
    "LABELS",
    "POSITIONS",
    "SPECIAL",
    "TAGS",
    "each_config",
    "sentences",
    "small_tokenizer",
    "tiny_answers",
    "tiny_classifier",
    "tiny_completions",
    "tiny_family",
    "tiny_model",
    "tiny_rows",
    "tiny_tagged",
    "tiny_task_rows",
    "tiny_task_words",
    "tiny_texts",
    "tiny_words",
]
