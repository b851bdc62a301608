"""The job that all contenders run: five teachers of MiniLM's six layers, one student of some of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from actors.distill import teacher_specs
from actors.evaluate import student_examples
from actors.finetune import Finetuned
from actors.teacher import TeacherSpec
from actors.training import learning_rate
from actors.workspace import Workspace
from tutelage.config import JobConfig
from tutelage.config.schedule import value_at
from tutelage.data.batches import BatchPlan
from tutelage.data.examples import Batch, Examples, Selection
from tutelage.models.load import load_classifier, prepare_for_training

DOMAINS = ("movies", "amazon", "nyt", "tweets")
TEMPERATURE = 2.0


def job(rows: int, epochs: int, layers: list[int]) -> JobConfig:
    """A specialist for each domain and one that saw a little of each; the student reads `rows` a domain."""
    tuned = {"method": {"type": "partial", "freeze_layers": 3}}
    train = {"epochs": 1, "lr": 6e-4, "cpus_per_worker": 1}
    sources = {
        name: {"type": "catalog", "dataset": f"reviews/{name}", "splits": {"validation": 150, "test": 500}}
        for name in DOMAINS
    }
    taught: dict[str, dict[str, Any]] = {name: {name: {"rows": 1200}} for name in DOMAINS}
    taught["all"] = {name: {"rows": 300} for name in DOMAINS}
    teachers = [
        {
            "name": name,
            "model": "catalog:minilm",
            "num_cpus": 0.2,
            "threads": 1,
            "finetune": {"data": data, "train": train, **tuned},
        }
        for name, data in taught.items()
    ]
    return JobConfig.model_validate(
        {
            "name": "wall-clock",
            "seed": 1,
            "task": {"labels": ["negative", "positive"]},
            "data": {"max_tokens": 48, "sources": sources},
            "teachers": teachers,
            "student": {
                "model": "catalog:minilm",
                "layers": layers,
                "method": {"type": "partial"},
                "data": {name: {"rows": rows} for name in DOMAINS},
            },
            "objectives": [{"type": "kl", "temperature": TEMPERATURE}],
            "train": {"epochs": epochs, "lr": 6e-4, "dropout": 0, "threads": 2, "cpus_per_worker": 1},
        }
    )


@dataclass(frozen=True)
class Course:
    """What every contender reads: the same batches in the same order, and the same start."""

    space: Workspace
    specs: list[TeacherSpec]
    examples: Examples
    chosen: Selection
    plan: BatchPlan

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole training."""
        return self.space.job.train.epochs * self.plan.steps_per_epoch

    def epoch(self, number: int) -> list[Batch]:
        """The batches of one epoch."""
        return [
            self.examples.batch(self.chosen.rows[places], self.chosen.labelled[places], 0)
            for places in self.plan.epoch(number)
        ]

    def student(self) -> Any:
        """The student before its training."""
        job = self.space.job
        model = load_classifier(self.space.student.folder, job.task.labels, dropout=0.0)
        return prepare_for_training(model, job.student.method, job.student.layers).train()

    def optimizer(self, model: Any) -> torch.optim.Optimizer:
        """AdamW over what is trained, as the job says."""
        train = self.space.job.train
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        return torch.optim.AdamW(
            trained, lr=value_at(train.lr, 0), weight_decay=train.weight_decay, fused=True
        )

    def rate(self, step: int) -> float:
        """The learning rate of a step."""
        return learning_rate(self.space.job.train, step, self.steps)


def course(space: Workspace, made: dict[str, Finetuned]) -> Course:
    """The course of a job whose teachers are made."""
    examples = student_examples(space)
    chosen = examples.select("train", space.job.student.data)
    plan = BatchPlan(examples.lengths(chosen.rows), space.job.train.batch_size, space.job.seed)
    return Course(space, teacher_specs(space, made), examples, chosen, plan)


def tensors(batch: Batch) -> dict[str, Tensor]:
    """What a classifier is called with."""
    return {
        "input_ids": torch.from_numpy(batch.input_ids_BT),
        "attention_mask": torch.from_numpy(batch.attention_mask_BT),
    }


def kl(student_BC: Tensor, target_BC: Tensor) -> Tensor:
    """T^2 KL(target || student), the mean over the batch."""
    log_q_BC = torch.log_softmax(student_BC / TEMPERATURE, -1)
    entropy_B = torch.xlogy(target_BC, target_BC).sum(-1)
    loss: Tensor = (entropy_B - (target_BC * log_q_BC).sum(-1)).mean() * TEMPERATURE**2
    return loss


def mean_target(logits: list[Tensor]) -> Tensor:
    """The uniform mixture of the teachers at the temperature."""
    return torch.stack([torch.softmax(each / TEMPERATURE, -1) for each in logits]).mean(0)


def keep(model: Any, folder: Path) -> Path:
    """Save a trained student for the judge."""
    model.eval().save_pretrained(folder)
    return folder


def padded(batch: Batch) -> int:
    """Tokens with padding."""
    return int(np.prod(batch.input_ids_BT.shape))
