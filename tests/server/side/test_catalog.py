"""The list of side models: which of them the settings enable, and with which options."""

from importlib import import_module
from inspect import signature
from pathlib import Path

import numpy as np
import pytest

from model_ext.experts.labels import read_labels
from model_ext.side import SideData, Task
from server.settings import Settings
from server.side.catalog import SIDES, Side, enabled, named
from tests.model_ext.experts.tiny_classifier import write_classifier

FOLDER = Path("folder")
ALL = {
    **{"model": FOLDER, "speech_model": FOLDER, "ocr": True, "objects": "folder"},
    **{"detector": FOLDER, "voice": True, "decoder": "model"},
}


def test_side_models_are_off_by_default() -> None:
    assert not list(enabled(Settings(model=FOLDER)))
    assert list(enabled(Settings.load(**ALL))) == list(SIDES)


@pytest.mark.parametrize("side", SIDES, ids=lambda side: side.name)
def test_the_options_are_parameters_of_the_function_that_loads(side: Side) -> None:
    module, function = side.load.split(":")
    options = side.options(Settings.load(**ALL))
    assert options is not None
    signature(getattr(import_module(module), function)).bind(**options)


def test_a_detector_that_is_an_expert_expects_its_labels() -> None:
    detector = named("detector")

    def max_queries(**settings: object) -> int:
        options = detector.options(Settings.load(model=FOLDER, detector=FOLDER, **settings))
        assert options is not None
        return int(options["max_queries"])

    labels = len(read_labels(None))
    assert labels > 64
    assert max_queries() == 64
    assert max_queries(objects="detector") == labels
    assert max_queries(objects="detector", max_ground_nouns=100) == 100
    assert [side.name for side in enabled(Settings.load(**{**ALL, "objects": "detector"}))] == [
        side.name for side in SIDES if side.name != "objects"
    ]


def test_the_settings_of_the_classifier_have_effect(tmp_path: Path) -> None:
    folder = write_classifier(tmp_path, several=True)
    task = Task(SideData({}, {"pictures": np.zeros((1, 8, 8, 3), np.uint8)}))
    labels = {}
    for threshold in (0.0, 1.0):
        settings = Settings(model=FOLDER, objects=str(folder), objects_threshold=threshold)
        model = named("objects").open(settings)
        assert (model.device, model.gpu_bytes) == ("cpu", 0)
        labels[threshold] = model.run([task])[0].document["labels"]
    assert (len(labels[0.0]), labels[1.0]) == (5, [])
