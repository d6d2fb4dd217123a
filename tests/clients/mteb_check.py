"""Let mteb evaluate the model in mteb_model.py on local pictures, and compare mteb's accuracy with
a plain calculation.

    python -m tests.clients.mteb_check          (in the environment of `make clients`)
"""

import json
from pathlib import Path
from typing import Any

import mteb
import numpy as np
from datasets import Dataset, DatasetDict, Features, Image, Value
from mteb.abstasks.zeroshot_classification import AbsTaskZeroShotClassification

from tests.clients.mteb_model import Bindserve

FOLDER = Path("tests/fixtures/evaluation")
ROWS = [json.loads(line) for line in (FOLDER / "questions.jsonl").read_text().splitlines()]
PICTURES = [row for row in ROWS if row.get("image")]
WORDS = sorted({row["answers"][0] for row in PICTURES})


class DemoPictures(AbsTaskZeroShotClassification):  # type: ignore[misc]
    metadata = mteb.TaskMetadata(
        name="DemoPictures",
        description="Name the things in the demonstration model's pictures.",
        reference=None,
        dataset={"path": str(FOLDER), "revision": "1"},
        type="ZeroShotClassification",
        category="i2t",
        modalities=["image", "text"],
        eval_splits=["test"],
        eval_langs=["eng-Latn"],
        main_score="accuracy",
    )

    def load_data(self, **_: Any) -> None:
        columns = {
            "image": [str(FOLDER / row["image"]) for row in PICTURES],
            "label": [WORDS.index(row["answers"][0]) for row in PICTURES],
        }
        features = Features({"image": Image(), "label": Value("int64")})
        self.dataset = DatasetDict({"test": Dataset.from_dict(columns, features=features)})
        self.data_loaded = True

    def get_candidate_labels(self) -> list[str]:
        return WORDS


def plain_accuracy() -> float:
    """Compute the same accuracy as mteb, without mteb."""
    from PIL import Image as Pictures

    model = Bindserve()
    pictures = model.embed({"image": [Pictures.open(FOLDER / row["image"]) for row in PICTURES]})
    nearest = (pictures @ model.embed({"text": WORDS}).T).argmax(1)
    truth = [WORDS.index(row["answers"][0]) for row in PICTURES]
    return float(np.mean(nearest == truth))


def main() -> None:
    result = mteb.evaluate(Bindserve(), DemoPictures(), cache=None, co2_tracker=False)
    (task,) = result.task_results
    score, expected = task.get_score(), plain_accuracy()
    print(f"mteb {score:.4f}, plain {expected:.4f} on {len(PICTURES)} pictures")
    assert score == expected


if __name__ == "__main__":
    main()
