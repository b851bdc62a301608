"""Cards and folders for the tests of the registry."""

from __future__ import annotations

from pathlib import Path

from tutelage.registry import Lineage, VersionCard


def card(*, seed: int = 1, accuracy: float = 0.83) -> VersionCard:
    lineage = Lineage(
        run_id="distill-1",
        job_digest="d" * 64,
        config_yaml="name: reviews\n",
        data_fingerprint="f" * 32,
        teachers={"movies": "aa", "tweets": "bb"},
        base_model="minilm",
        packages={"torch": "2.13.0"},
        seed=seed,
    )
    return VersionCard(
        task="sequence-classification",
        labels=["negative", "positive"],
        metrics={"accuracy": {"mean": accuracy, "movies": 0.8}},
        sizes={"int8": 17},
        lineage=lineage,
    )


def model_folder(path: Path, weights: bytes = b"weights") -> Path:
    (path / "sub").mkdir(parents=True, exist_ok=True)
    (path / "model.onnx").write_bytes(weights)
    (path / "sub" / "labels.txt").write_text("negative\npositive\n")
    return path
