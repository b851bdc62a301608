"""A remote teacher in Ray actors: replicas answer alike; a server that is away is an error with its name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from actors.host import Seat, start_host
from actors.reasons import reason
from actors.remote.setup import remote_spec
from actors.session import Session
from tests.e2e import remote_process
from tests.unit.remote_samples import texts_request
from tutelage.config.models import TeacherConfig
from tutelage.config.task import SequenceClassification
from tutelage.signals.payloads import fault
from tutelage.signals.spec import PayloadSpec
from tutelage.testing import LABELS, tiny_classifier, tiny_texts

pytestmark = pytest.mark.ray


def test_replicas_of_a_server_answer_alike_until_it_is_gone(cluster: Session, tmp_path: Path) -> None:
    import ray

    classifier = tiny_classifier(tmp_path / "classifier")
    task = SequenceClassification(labels=list(LABELS))
    request = texts_request([row["text"] for row in tiny_texts(8)], PayloadSpec("dense", len(LABELS)))
    seats: list[Seat] = []
    try:
        with remote_process.serving("--classifier", classifier, "--busy-every", "4") as url:
            remote = {"type": "oip", "url": url, "retries": 2, "timeout_s": 20}
            config = TeacherConfig.model_validate(
                {
                    "name": "judge",
                    "model": "classifier",
                    "labels": list(LABELS),
                    "remote": remote,
                    "num_cpus": 0.1,
                }
            )
            spec = remote_spec(config, task, tokenizer="", max_tokens=64, deadline_s=120)
            seats = [Seat(start_host([(spec, config)]), "judge") for _ in range(3)]
            cards = ray.get([seats[n].load(spec, f"judge-{n}") for n in range(2)], timeout=60)
            assert [(card["replica"], card["device"]) for card in cards] == [
                ("judge-0", url),
                ("judge-1", url),
            ]
            replies = ray.get([seat.score.remote(request) for seat in seats[:2]], timeout=60)
            assert [fault(request, reply) for reply in replies] == [None, None]
            first, second = (reply.packet.columns["logits"].values for reply in replies)
            assert np.array_equal(first, second)
            with pytest.raises(ray.exceptions.RayError) as changed:
                ray.get(seats[2].load(replace(spec, fingerprint="0" * 16), "judge-2"), timeout=60)
            assert "another one here" in reason(changed.value)
        with pytest.raises(ray.exceptions.RayError) as gone:
            ray.get(seats[0].score.remote(request), timeout=60)
        assert f"{url}/v2/models/classifier/infer: no answer in 3 attempts (ConnectError" in reason(
            gone.value
        )
    finally:
        for seat in seats:
            ray.kill(seat.host)
