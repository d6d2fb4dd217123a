"""A server with the demonstration model, which the test builds from committed files, names the
objects in the demonstration's media files.

Its answers equal those of the training code.
"""

import asyncio
from pathlib import Path

import pytest
import torch

from model_ext.demo import evaluate, prepare
from model_ext.demo.base import write_base
from model_ext.demo.questions import CLIP, CLOUD, LINE, MEDIA, PICTURE, WHAT, WORD, request
from model_ext.eval.data import ALL, load_named
from model_ext.eval.results import read_results
from model_ext.imagebind.config import ENCODER_OF
from model_ext.imagebind.model import ImageBind
from model_ext.imagebind.preprocess.config import PreprocessConfig
from model_ext.imagebind.preprocess.registry import preprocess
from model_ext.prompt import alpaca_prompt
from model_ext.train.config import TrainConfig
from model_ext.train.data.embeddings import SINGLE_WEIGHT
from model_ext.train.lm.base import ADAPTER_FILE, load_adapter, open_base
from model_ext.train.lm.generate import generate
from model_ext.train.lm.model import ConditionedLlama
from model_ext.train.run import make_model
from model_ext.train.tokenizer import TextTokenizer, open_tokenizer
from server.cli.eval.run import RunSettings, run
from tests.serving.launch import Server
from tests.serving.record_evaluation import QUESTIONS

pytestmark = pytest.mark.engine

SHOWN = {  # the modality and the object of each file
    PICTURE: ("image", "cat"),
    WORD: ("audio", "penguin"),
    CLOUD: ("point", "airplane"),
    CLIP: ("video", "umbrella"),
}
STEPS = 24


@pytest.fixture(scope="module")
def trained(folder: Path) -> tuple[ConditionedLlama, TextTokenizer]:
    """The model in the training code, with the committed weights, and its tokenizer."""
    base = folder.parent / "base"
    write_base(base)
    encoders = prepare.HERE / prepare.ENCODERS
    paths = {"out": folder, "base": base, "start": folder, "encoders": encoders, "data": [folder]}
    sizes = {"injected_layers": 12, "lora_rank": 24, "max_tokens": 512}
    config = TrainConfig.of({**paths, **sizes}, "finetune").model_copy(update={"start": None})
    model = make_model(open_base(base), config, "finetune", torch.float32)
    load_adapter(model, prepare.HERE / prepare.WEIGHTS / ADAPTER_FILE)
    return model.eval(), open_tokenizer(base / "tokenizer.json")


def chat(server: Server, name: str, question: str, **more: object) -> dict[str, object]:
    body = request([name], question) | {"max_tokens": STEPS, "return_token_ids": True}
    return server.chat(**{**body, "model": "any", **more})


@pytest.mark.parametrize("name", SHOWN)
def test_it_names_what_it_is_shown(server: Server, name: str) -> None:
    answer = chat(server, name, WHAT)
    text = answer["choices"][0]["message"]["content"]  # type: ignore[index]
    assert evaluate.is_correct(text, SHOWN[name][1]), text


@pytest.mark.parametrize("question", [WHAT, LINE])
@pytest.mark.parametrize("name", SHOWN)
def test_vllm_answers_as_the_training_module(
    server: Server,
    trained: tuple[ConditionedLlama, TextTokenizer],
    name: str,
    question: str,
) -> None:
    model, tokenizer = trained
    modality = SHOWN[name][0]
    encoders = ImageBind.from_folder(prepare.HERE / prepare.ENCODERS)
    tensor = preprocess(modality, (MEDIA / name).read_bytes(), PreprocessConfig.of(encoders.config))
    with torch.no_grad():
        unit = encoders.unit(ENCODER_OF[modality], tensor[None])
    prompt = [tokenizer.bos, *tokenizer.encode(alpaca_prompt(question))]
    (ids,) = generate(model, prompt, unit * SINGLE_WEIGHT, STEPS, tokenizer.eos)
    answer = chat(server, name, question, imagebind={"cache": False})
    assert answer["prompt_token_ids"] == prompt
    (choice,) = answer["choices"]  # type: ignore[misc, attr-defined]
    assert [i for i in choice["token_ids"] if i != tokenizer.eos] == ids


# processors round sums differently, which can change the choice between two almost equal tokens
MIN_EQUAL = 0.98


def test_greedy_answers_equal_the_recorded_ones(server: Server, tmp_path: Path) -> None:
    """`bindserve eval` sends 200 questions. Its answers equal the recorded answers.
    record_evaluation.py describes how to record them.
    """
    _, recorded = read_results(QUESTIONS.parent)
    tasks, questions = load_named(QUESTIONS, ALL)
    settings = RunSettings(
        base=f"{server.url}/v1", out=tmp_path / "run", decoding="greedy", concurrency=64
    )
    asyncio.run(run(settings, tasks, questions))
    _, answers = read_results(tmp_path / "run")
    assert answers.keys() == recorded.keys()
    assert len(recorded) == 200
    different = [
        f"{task}, question {key}: {recorded[task, key].answer!r} became {result.answer!r}"
        for (task, key), result in answers.items()
        if result.answer != recorded[task, key].answer
    ]
    print("\n".join(different))
    assert len(different) <= (1 - MIN_EQUAL) * len(recorded), "\n".join(different)
