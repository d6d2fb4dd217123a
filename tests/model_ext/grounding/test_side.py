"""The side model `detector`: its tasks, batches of several tasks, and tasks that it rejects."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from model_ext.grounding.detector import Query
from model_ext.grounding.nouns import NounParser
from model_ext.grounding.side import GroundingModel
from model_ext.side import Cancelled, Json, SideData, Task, TaskError
from tests.model_ext.grounding.small import DIM, small_detector


@pytest.fixture(scope="module")
def model() -> GroundingModel:
    return GroundingModel(small_detector(), None, "cpu")


def detection(seed: int, frames: int, threshold: float | None) -> SideData:
    rng = np.random.default_rng(seed)
    pictures = rng.integers(0, 256, (frames, 30 + seed, 40, 3)).astype(np.uint8)
    vectors = rng.normal(size=(2, DIM)).astype(np.float32)
    document: Json = {
        "task": "detect",
        "threshold": threshold,
        "queries": [{"text": "one", "modality": "text"}, {"text": "", "modality": "audio"}],
    }
    return SideData(document, {"pictures": pictures, "vectors": vectors})


def test_tasks_of_a_batch_get_their_own_results(model: GroundingModel) -> None:
    tasks = [Task(detection(0, 1, 0.0)), Task(detection(1, 10, 0.3)), Task(detection(2, 3, None))]
    assert {model.kind(task.data.document) for task in tasks} == {"detect"}
    together = model.run(tasks)
    assert [len(result.document["frames"]) for result in together] == [1, 10, 3]
    assert together[2].document["threshold"] == small_detector().threshold
    for task, expected in zip(tasks, together, strict=True):
        (alone,) = model.run([task])
        for one, other in zip(alone.document["frames"], expected.document["frames"], strict=True):
            assert [each["query"] for each in one] == [each["query"] for each in other]
            for a, b in zip(one, other, strict=True):
                assert a["box"] == pytest.approx(b["box"], abs=1e-2)
                assert a["score"] > expected.document["threshold"]


def test_the_detector_gets_the_queries_of_each_task(model: GroundingModel) -> None:
    data = detection(3, 1, 0.0)
    (result,) = model.run([Task(data)])
    queries = [
        Query("one", data.arrays["vectors"][0], "text"),
        Query("", data.arrays["vectors"][1], "audio"),
    ]
    (expected,) = small_detector().detect([data.arrays["pictures"][0]], [queries], 0.0)
    (frame,) = result.document["frames"]
    assert [each["score"] for each in frame] == [each.score for each in expected]


def test_bad_tasks_are_rejected_and_cancelled_ones_stop(model: GroundingModel) -> None:
    with pytest.raises(TaskError, match=r"bindserve\[ground\]"):
        model.kind({"task": "nouns", "text": "a dog"})
    for document in ({}, {"task": "other"}, {"task": ["detect"]}):
        with pytest.raises(TaskError):
            model.kind(document)
    with pytest.raises(Cancelled):
        model.run([Task(detection(0, 1, 0.0), cancelled=True)])


def test_a_cancelled_task_does_not_stop_the_nouns_of_other_tasks() -> None:
    parser: Any = SimpleNamespace(nouns=lambda text: [])  # noqa: ARG005
    model = GroundingModel(small_detector(), parser, "cpu")
    data = SideData({"task": "nouns", "text": "A dog."})
    results = model.run([Task(data, cancelled=True), Task(data)])
    assert [result.document for result in results] == [{"nouns": []}] * 2
    with pytest.raises(Cancelled):
        model.run([Task(data, cancelled=True)])


def test_nouns_are_a_task() -> None:
    pytest.importorskip("spacy")
    model = GroundingModel(small_detector(), NounParser.load(), "cpu")
    document: Json = {"task": "nouns", "text": "A black dog runs."}
    assert model.kind(document) == "nouns"
    (result,) = model.run([Task(SideData(document))])
    (noun,) = result.document["nouns"]
    assert noun["text"] == "black dog"
    assert (noun["start"], noun["end"]) == (2, 11)
