"""Rows with their tokens: made once for a tokenizer and a length, then memory-mapped by every worker."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc

from tutelage.config.task import Task
from tutelage.data.encode import TOKEN_FIELDS, Encoder, encoder
from tutelage.data.examples import (
    MAX_TOKENS_KEY,
    TASK_KEY,
    VOCABULARY_KEY,
    Batch,
    Examples,
    Selection,
)
from tutelage.data.folders import whole_folder
from tutelage.data.rows import ROWS_SCHEMA, RowSet, task_of
from tutelage.data.table import MappedTable
from tutelage.errors import DataError
from tutelage.files import digest_text
from tutelage.progress import Stage
from tutelage.tokenizer import check_fast, id_reader, identity, load_tokenizer

FORMAT = "tokens-2"
"""Raised when the same rows and tokenizer would give another file."""

TASK_FORMAT = "task-tokens-2"
"""The same, for all tasks but sequence-classification."""
READ_COLUMNS = ("text", "label", "pair", "spans", "span_labels", "prompt_end")
Encode = Callable[[list[str]], list[list[int]]]


def tokenise(
    rows: RowSet, tokenizer_folder: str, max_tokens: int, home: Path, stage: Stage | None = None
) -> Path:
    """The Arrow IPC file of all rows plus `input_ids` (list<int32>, at most max_tokens with special ones).

    A second call with the same rows, tokenizer files and length tokenises nothing.

    Args:
        rows: the rows of the job.
        tokenizer_folder: a folder that `load_tokenizer` reads.
        max_tokens: longer texts are cut here.
        home: the file is kept below home/tokens.

    Raises:
        ModelError: no usable tokenizer.
        DataError: a text that the tokenizer turns into nothing.
    """
    table = MappedTable(rows.path)
    task = task_of(table.schema)
    if task is not None:
        return _tokenise_for(task, rows, table, tokenizer_folder, max_tokens, home, stage)
    tokenizer = load_tokenizer(tokenizer_folder)
    check_fast(tokenizer, tokenizer_folder)
    digest = digest_text(FORMAT, rows.fingerprint, identity(tokenizer), str(max_tokens))
    target = home / "tokens" / digest[:32]
    if not (target / "tokens.arrow").is_file():
        with whole_folder(target) as folder:
            _write(table, id_reader(tokenizer, max_tokens), max_tokens, folder / "tokens.arrow", stage)
    return target / "tokens.arrow"


def _tokenise_for(
    task: Task, rows: RowSet, table: MappedTable, tokenizer_folder: str, max_tokens: int, home: Path,
    stage: Stage | None,
) -> Path:  # fmt: skip
    """The file of any other task; its tokenizer is asked where its tokens stand."""
    tokenizer = load_tokenizer(tokenizer_folder)
    check_fast(tokenizer, tokenizer_folder)
    digest = digest_text(TASK_FORMAT, rows.fingerprint, identity(tokenizer), str(max_tokens))
    target = home / "tokens" / digest[:32]
    if not (target / "tokens.arrow").is_file():
        read = encoder(task, tokenizer, max_tokens, tokenizer_folder)
        about = {MAX_TOKENS_KEY: str(max_tokens), TASK_KEY: task.type}
        about[VOCABULARY_KEY] = str(1 + max(tokenizer.get_vocab().values()))
        typed = task.type == "question-answering" and "token_type_ids" in tokenizer.model_input_names
        schema = _task_schema(table.schema, task, typed).with_metadata(about)
        with whole_folder(target) as folder:
            _write_for(table, read, schema, folder / "tokens.arrow", stage)
    return target / "tokens.arrow"


def _task_schema(rows: pa.Schema, task: Task, typed: bool) -> pa.Schema:
    extra: list[Any] = [*rows, pa.field("input_ids", pa.list_(pa.int32())), *TOKEN_FIELDS[task.type]]
    return pa.schema([*extra, ("token_types", pa.list_(pa.int32()))] if typed else extra)


def _write_for(table: MappedTable, read: Encoder, schema: pa.Schema, path: Path, stage: Stage | None) -> None:
    done = tokens = reached = 0
    needed = [name for name in READ_COLUMNS if name in table.schema.names]
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for batch in table.batches:
            found = read({name: batch.column(name).to_pylist() for name in needed})
            made = {"input_ids": [row.ids for row in found]}
            made |= {name: [row.columns[name] for row in found] for name in found[0].columns}
            columns = [
                pa.array(made[field.name], field.type) if field.name in made else batch.column(field.name)
                for field in schema
            ]
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))
            done += batch.num_rows
            tokens += sum(len(row.ids) for row in found)
            reached += sum(row.columns["positions"] > 0 for row in found)
            if stage:
                stage.update(done, len(table), tokens=tokens)
    if not reached:
        raise DataError(
            "data: no row has a position to predict within data.max_tokens",
            fix="raise data.max_tokens, or check the columns: completions that are cut off teach nothing",
        )
    if stage and reached < done:
        stage.note(f"{done - reached} rows have no position within data.max_tokens and are not used")


def _write(table: MappedTable, encode: Encode, max_tokens: int, path: Path, stage: Stage | None) -> None:
    schema = ROWS_SCHEMA.append(pa.field("input_ids", pa.list_(pa.int32())))
    schema = schema.with_metadata({MAX_TOKENS_KEY: str(max_tokens)})
    done = tokens = 0
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for batch in table.batches:
            ids = encode(batch.column("text").to_pylist())
            if not all(ids):
                raise _no_token(batch.slice([bool(row) for row in ids].index(False), 1).to_pylist()[0])
            tokens += sum(map(len, ids))
            column = pa.array(ids, pa.list_(pa.int32()))
            writer.write_batch(pa.RecordBatch.from_arrays([*batch.columns, column], schema=schema))
            done += batch.num_rows
            if stage:
                stage.update(done, len(table), tokens=tokens)


def _no_token(row: dict[str, Any]) -> DataError:
    return DataError(
        f"data.sources.{row['source']}: the tokenizer turns row {row['row']} into no token: "
        f"{row['text'][:60]!r}",
        fix="remove the row, or use a tokenizer that knows its characters",
    )


__all__ = ["Batch", "Examples", "Selection", "tokenise"]
