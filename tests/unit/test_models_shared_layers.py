"""Models that are the same up to some layer run it once: same bits, fewer calls, bounded memory."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tutelage.models.layers import encoder_layers
from tutelage.models.load import load_model
from tutelage.models.shared_layers import SharedLayers
from tutelage.testing import tiny_model

pytestmark = pytest.mark.unit

LAYERS = 4
KINDS = ("bert", "distilbert", "llama", "gpt2")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    top = tmp_path_factory.mktemp("shared")
    return {
        kind: tiny_model(top / kind, task_of(kind), architecture=kind, layers=LAYERS)  # type: ignore[arg-type]
        for kind in KINDS
    }


def task_of(kind: str) -> Any:
    return "causal-lm" if kind in ("llama", "gpt2") else "sequence-classification"


def tuned(folder: str, kind: str, frozen: int, seed: int) -> Any:
    """The model of the folder, with every layer above the frozen ones changed by the seed."""
    model = load_model(folder, task_of(kind))
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in encoder_layers(model)[2][frozen:]:
            for weights in layer.parameters():
                weights.add_(torch.randn(weights.shape, generator=rng), alpha=0.1)
    return model


def tokens(seed: int, rows: int = 3, width: int = 8) -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    mask = torch.ones(rows, width, dtype=torch.int64)
    mask[0, width // 2 :] = 0
    return {
        "input_ids": torch.randint(4, 12, (rows, width), generator=rng),
        "attention_mask": mask,
    }


def logits(model: Any, batch: dict[str, Tensor]) -> Tensor:
    extra = {"use_cache": False} if model.config.model_type in ("llama", "gpt2") else {}
    with torch.inference_mode():
        found: Tensor = model(**batch, **extra).logits
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_models_tuned_above_frozen_layers_share_those_and_answer_as_alone(
    kind: str, folders: dict[str, str]
) -> None:
    """Two frozen layers of four, three models, two batches: 4 computed calls and 8 taken, same bits."""
    makes = [(folders[kind], kind, 2, seed) for seed in (1, 2, 3)]
    layers = SharedLayers()
    models = [tuned(*make) for make in makes]
    assert [layers.add(model) for model in models] == [0, 2, 2]
    for seed in (5, 6):
        for make, model in zip(makes, models, strict=True):
            assert torch.equal(logits(model, tokens(seed)), logits(tuned(*make), tokens(seed)))
    assert (layers.computed, layers.recalled) == (2 * 2, 2 * 2 * 2)
    assert layers.held_bytes == 0


def test_each_pair_shares_as_far_as_it_is_the_same(folders: dict[str, str]) -> None:
    """A head alone apart: all four layers; one layer; none. Weights are held once."""
    layers = SharedLayers()
    first = tuned(folders["bert"], "bert", 4, 0)
    assert layers.add(first) == 0
    head = tuned(folders["bert"], "bert", 4, 0)
    with torch.no_grad():
        head.classifier.bias += 1
    assert layers.add(head) == 4
    assert layers.add(tuned(folders["bert"], "bert", 1, 1)) == 1
    assert layers.add(tuned(folders["bert"], "bert", 0, 2)) == 0
    assert torch.equal(logits(head, tokens(1)), logits(first, tokens(1)) + 1)
    assert encoder_layers(head)[2][3] is encoder_layers(first)[2][3]
    assert head.get_input_embeddings() is first.get_input_embeddings()


@pytest.mark.parametrize(
    "other", ["embeddings", "setting", "architecture"], ids=["other words", "other setting", "other kind"]
)
def test_models_that_differ_before_their_layers_share_nothing(other: str, folders: dict[str, str]) -> None:
    layers, kind = SharedLayers(), "distilbert" if other == "architecture" else "bert"
    layers.add(tuned(folders["bert"], "bert", 4, 0))
    model = tuned(folders[kind], kind, 4, 0)
    if other == "embeddings":
        with torch.no_grad():
            model.get_input_embeddings().weight[5] += 1
    if other == "setting":
        model.config.layer_norm_eps = 1e-3
    assert layers.add(model) == 0


def test_the_same_layers_on_other_input_are_computed(folders: dict[str, str]) -> None:
    """Positions are no part of what is compared at the start, and still nothing wrong is taken."""
    layers = SharedLayers()
    models = [tuned(folders["bert"], "bert", 4, 0) for _ in range(2)]
    with torch.no_grad():
        models[1].bert.embeddings.position_embeddings.weight += 0.5
    alone = logits(models[1], tokens(1))
    assert [layers.add(model) for model in models] == [0, 4]
    logits(models[0], tokens(1))
    assert torch.equal(logits(models[1], tokens(1)), alone)
    assert (layers.computed, layers.recalled) == (8, 0)


@pytest.mark.parametrize(
    "change",
    [
        lambda config: setattr(config, "output_hidden_states", True),
        lambda config: setattr(config, "model_type", "rwkv"),
        lambda config: setattr(config, "_attn_implementation", "eager"),
    ],
    ids=["listens inside", "layers that nobody read", "other kernel"],
)
def test_models_that_sharing_could_change_share_nothing(change: Any, folders: dict[str, str]) -> None:
    layers = SharedLayers()
    layers.add(tuned(folders["bert"], "bert", 4, 0))
    model = tuned(folders["bert"], "bert", 4, 0)
    change(model.config)
    assert layers.add(model) == 0


@pytest.mark.parametrize("kind", ["gemma2", "qwen3", "modernbert"])
def test_layers_of_several_types_answer_as_alone(kind: str) -> None:
    """Sliding-window layers between full ones, each with its own mask and rotary table."""
    import transformers

    small = {
        "vocab_size": 20, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": LAYERS,
        "num_attention_heads": 2, "num_labels": 2, "pad_token_id": 0,
    }  # fmt: skip
    heads = {"num_key_value_heads": 1, "head_dim": 8, "sliding_window": 4}
    heads |= {"use_sliding_window": True, "max_window_layers": 2} if kind == "qwen3" else {}
    extra = {"local_attention": 4, "global_attn_every_n_layers": 3} if kind == "modernbert" else heads
    config = transformers.AutoConfig.for_model(kind, **small, **extra)
    config.use_cache = False
    auto: Any = transformers.AutoModelForSequenceClassification
    made = [auto.from_config(config).eval() for _ in range(2)]
    made[1].load_state_dict(made[0].state_dict())
    head = [
        weights for name, weights in made[1].named_parameters() if name.startswith(("score", "classifier"))
    ]
    with torch.no_grad():
        for weights in head:
            weights.add_(1)
    wanted = [logits(model, tokens(1, width=12)) for model in made]
    layers = SharedLayers()
    assert [layers.add(model) for model in made] == [0, LAYERS]
    for model, alone in zip(made, wanted, strict=True):
        assert torch.equal(logits(model, tokens(1, width=12)), alone)
    assert (layers.computed, layers.recalled) == (LAYERS, LAYERS)


def test_many_threads_compute_each_layer_once(folders: dict[str, str]) -> None:
    """Five models asked at once, twenty batches each, by five threads: 2 x 20 computed calls."""
    layers, batches = SharedLayers(), [tokens(seed) for seed in range(20)]
    models = [tuned(folders["bert"], "bert", 2, seed) for seed in range(5)]
    wanted = [[logits(model, batch) for batch in batches] for model in models]
    for model in models:
        layers.add(model)
    start = threading.Barrier(5)

    def answer(model: Any) -> list[Tensor]:
        start.wait()
        return [logits(model, batch) for batch in batches]

    with ThreadPoolExecutor(5) as pool:
        found = list(pool.map(answer, models))
    assert all(
        torch.equal(torch.stack(one), torch.stack(two)) for one, two in zip(found, wanted, strict=True)
    )
    assert (layers.computed, layers.recalled) == (2 * 20, 2 * 20 * 4)
    assert layers.held_bytes == 0


def twins(folder: str) -> tuple[SharedLayers, list[Any], Tensor]:
    """Two equal models that share all layers, and their logits of the first tokens."""
    layers = SharedLayers()
    models = [tuned(folder, "bert", 4, 0) for _ in range(2)]
    wanted = logits(models[0], tokens(1))
    for model in models:
        layers.add(model)
    return layers, models, wanted


def test_who_waits_for_a_call_that_fails_computes_it_itself(folders: dict[str, str]) -> None:
    """The first model is held inside a layer until the second has asked for it, and then fails."""
    layers, models, wanted = twins(folders["bert"])
    inside, go_on, failed = threading.Event(), threading.Event(), threading.Event()

    def hold(*_: Any) -> None:
        if not failed.is_set():
            failed.set()
            inside.set()
            go_on.wait(20)
            raise RuntimeError("out of memory")

    encoder_layers(models[0])[2][2].attention.register_forward_hook(hold)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(logits, models[0], tokens(1))
        assert inside.wait(20)
        second = pool.submit(logits, models[1], tokens(1))
        end = time.monotonic() + 20
        while layers.recalled < 3 and time.monotonic() < end:
            time.sleep(0.001)
        assert layers.recalled == 3
        go_on.set()
        with pytest.raises(RuntimeError, match="out of memory"):
            first.result(20)
        assert torch.equal(second.result(20), wanted)


def test_models_answer_while_others_are_added(folders: dict[str, str]) -> None:
    layers, batches = SharedLayers(), [tokens(seed) for seed in range(60)]
    first, *others = (tuned(folders["bert"], "bert", 2, seed) for seed in range(6))
    wanted = [logits(first, batch) for batch in batches]
    layers.add(first)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(lambda: [logits(first, batch) for batch in batches])
        assert [layers.add(model) for model in others] == [2] * 5
        assert torch.equal(torch.stack(asked.result(60)), torch.stack(wanted))


def test_a_failure_is_each_models_own(folders: dict[str, str]) -> None:
    """The first call of a layer fails: its model fails, the next one computes the layer again."""
    _, models, wanted = twins(folders["bert"])
    hook = encoder_layers(models[0])[2][2].attention.register_forward_hook(_out_of_memory)
    with pytest.raises(RuntimeError, match="out of memory"):
        logits(models[0], tokens(1))
    hook.remove()
    assert torch.equal(logits(models[1], tokens(1)), wanted)


def _out_of_memory(*_: Any) -> None:
    raise RuntimeError("out of memory")


def test_results_that_nobody_fetches_stay_within_the_budget(folders: dict[str, str]) -> None:
    """One of two models is asked alone: old results go, and its neighbour still answers right."""
    width = 3 * 8 * 16 * 4
    layers = SharedLayers(budget_bytes=20 * width)
    models = [tuned(folders["bert"], "bert", 2, seed) for seed in (1, 2)]
    wanted = [logits(models[1], tokens(seed)) for seed in range(30)]
    for model in models:
        layers.add(model)
    for seed in range(30):
        logits(models[0], tokens(seed))
        assert layers.held_bytes <= 20 * width
    assert layers.held_bytes > 0
    for seed, one in enumerate(wanted):
        assert torch.equal(logits(models[1], tokens(seed)), one)


def test_calls_with_a_cache_or_a_gradient_are_not_remembered(folders: dict[str, str]) -> None:
    """They change something besides their result."""
    layers = SharedLayers()
    models = [tuned(folders["llama"], "llama", 4, 0) for _ in range(2)]
    for model in models:
        layers.add(model)
    with torch.inference_mode():
        one, two = (model(**tokens(1), use_cache=True) for model in models)
    assert torch.equal(one.logits, two.logits)
    assert two.past_key_values.get_seq_length() == 8
    models[0](**tokens(1), use_cache=False).logits.sum().backward()
    assert (layers.computed, layers.recalled) == (0, 0)


def test_an_architecture_without_a_list_of_layers_stays_as_it_is(tmp_path: Path) -> None:
    from tutelage.testing import tiny_classifier

    folder = tiny_classifier(tmp_path, architecture="albert")
    layers = SharedLayers()
    assert [layers.add(load_model(folder, "sequence-classification")) for _ in range(2)] == [0, 0]
