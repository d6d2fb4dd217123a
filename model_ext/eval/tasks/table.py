"""The paper's 27 data sets in the order of tables 1 and 2, MME's 14 subtasks, and POPE's three
subsets, which are not in the paper.
"""

from collections.abc import Mapping
from types import MappingProxyType

from model_ext.eval.tasks import prompts
from model_ext.eval.tasks.task import Kind, Metric, Task, slug

CAPTION_TOKENS = 16


def ocr(name: str, size: int, exact_size: bool = True) -> Task:
    return Task(
        name=name,
        kind="OCR",
        metric="ocr_containment",
        strict="ocr_letters",
        prompt=prompts.OCR,
        files=(f"OCR_Datasets/{name}/test_label.txt",),
        size=size,
        exact_size=exact_size,
    )


def vqa(
    name: str,
    strict: Metric,
    *files: str,
    split: str,
    kind: Kind = "VQA",
    metric: Metric = "vqa_containment",
    prompt: str = "{question}",
    size: int | None = None,
    exact_size: bool = False,
    draw: int | None = None,
) -> Task:
    return Task(
        name=name,
        kind=kind,
        metric=metric,
        strict=strict,
        files=tuple(f"VQA_Datasets/{file}" for file in files),
        prompt=prompt,
        size=size,
        exact_size=exact_size,
        draw=draw,
        split=split,
    )


def mme(name: str, size: int) -> Task:
    return Task(
        name=f"MME/{name}",
        kind="MME",
        metric="mme",
        strict="mme_strict",
        files=(f"MME_Benchmark_release_version/{name}/",),
        size=size,
        exact_size=True,
    )


def pope(name: str, size: int) -> Task:
    """A subset of POPE: yes-or-no questions about things. `name` is the rule that chose the absent
    things.
    """
    return Task(
        name=f"POPE/{name}",
        kind="Other",
        metric="pope",
        strict="pope_f1",
        files=(f"POPE/coco_pope_{name}.json", "POPE/val2014/"),
        size=size,
    )


PERCEPTION = {
    "existence": 60,
    "count": 60,
    "position": 60,
    "color": 60,
    "posters": 294,
    "celebrity": 340,
    "scene": 400,
    "landmark": 400,
    "artwork": 400,
    "OCR": 40,
}
COGNITION = {
    "commonsense_reasoning": 140,
    "numerical_calculation": 40,
    "text_translation": 40,
    "code_reasoning": 40,
}
DATA_SETS = (
    ocr("IIIT5K", 3000),
    ocr("IC13", 848),
    ocr("IC15", 2077, exact_size=False),
    ocr("Total-Text", 2215),
    ocr("CUTE80", 288),
    ocr("SVT", 647),
    ocr("SVTP", 645, exact_size=False),
    ocr("COCO-Text", 9896, exact_size=False),
    ocr("WordArt", 1511),
    ocr("CTW", 1572),
    ocr("HOST", 2416),
    ocr("WOST", 2416),
    Task(
        name="SROIE",
        kind="KIE",
        metric="kie_words",
        strict="kie_entities",
        files=("KIE_Datasets/SROIE/gt_answers/", "KIE_Datasets/SROIE/images/"),
    ),
    Task(
        name="FUNSD",
        kind="KIE",
        metric="kie_words",
        strict="kie_entities",
        prompt=prompts.FUNSD,
        files=(
            "KIE_Datasets/FUNSD/testing_data/annotations/",
            "KIE_Datasets/FUNSD/testing_data/images/",
        ),
        split="testing",
    ),
    Task(
        name="NoCaps",
        kind="Caption",
        metric="cider_raw",
        strict="cider_ptb",
        prompt=prompts.CAPTION,
        max_tokens=CAPTION_TOKENS,
        files=(
            "Caption_Datasets/NoCaps/nocaps_val_4500_captions.json",
            "Caption_Datasets/NoCaps/val_imgs/",
        ),
        size=4500,
        split="val",
    ),
    Task(
        name="Flickr-30k",
        kind="Caption",
        metric="cider_raw",
        strict="cider_ptb",
        prompt=prompts.CAPTION,
        max_tokens=CAPTION_TOKENS,
        files=(
            "Caption_Datasets/Flickr_30k/results_20130124.token",
            "Caption_Datasets/Flickr_30k/flickr30k-images/",
        ),
        size=1000,
        draw=31783,
        split="all",
    ),
    vqa(
        "DocVQA",
        "anls",
        "DocVQA/val/val_v1.0.json | VQA_Datasets/DocVQA/val.json",
        size=5349,
        exact_size=True,
        split="val",
    ),
    vqa(
        "TextVQA",
        "vqa_consensus",
        "TextVQA/TextVQA_0.5.1_val.json",
        "TextVQA/train_images/",
        size=5000,
        exact_size=True,
        split="val",
    ),
    vqa(
        "STVQA",
        "anls",
        "STVQA/train_task_3.json",
        "STVQA/train_imgs/",
        size=4000,
        exact_size=True,
        draw=26308,
        split="train",
    ),
    vqa("OCR-VQA", "vqa_exact", "OCRVQA/dataset.json", "OCRVQA/images/", split="validation"),
    vqa(
        "OKVQA",
        "vqa_consensus",
        "OKVQA/OpenEnded_mscoco_val2014_questions.json",
        "OKVQA/mscoco_val2014_annotations.json",
        "OKVQA/val2014/",
        size=5046,
        exact_size=True,
        split="val2014",
    ),
    vqa(
        "GQA",
        "vqa_exact",
        "GQA/questions/testdev_balanced_questions.json",
        "GQA/images/",
        size=12578,
        split="testdev balanced",
    ),
    vqa(
        "Visdial",
        "visdial_exact",
        "Visdial/visdial_1.0_val.json",
        "Visdial/images_val2018/",
        metric="visdial_rank",
        size=20640,
        split="v1.0 val",
    ),
    vqa(
        "IconQA",
        "vqa_exact",
        "IconQA/dataset/test/choose_txt/ | VQA_Datasets/IconQA/datasets/test/choose_txt/",
        prompt=prompts.CHOICE,
        size=6316,
        exact_size=True,
        split="test, multi-text-choice",
    ),
    vqa(
        "VSR",
        "vqa_exact",
        "VSR/all_vsr_validated_data.jsonl",
        "VSR/images/",
        prompt=prompts.VSR,
        size=10972,
        split="all validated",
    ),
    vqa(
        "ScienceQA IMG",
        "vqa_exact",
        "ScienceQA/test_anns.json",
        "ScienceQA/test_imgs/",
        kind="KGID",
        prompt=prompts.CHOICE,
        size=2017,
        exact_size=True,
        split="test, with picture",
    ),
    vqa(
        "VizWiz",
        "vqa_consensus",
        "VizWiz/val_grounding.json",
        "VizWiz/val/",
        kind="KGID",
        size=1131,
        split="val of VizWiz-Grounding",
    ),
)
MME = tuple(mme(name, size) for name, size in (PERCEPTION | COGNITION).items())
POPE = tuple(pope(name, 3000) for name in ("random", "popular", "adversarial"))
TASKS = {task.name: task for task in DATA_SETS + MME + POPE}
# names that LVLM-eHub's answer files use for some tasks, and a name for all tasks of MME
ALIASES = {
    "flickr": ("Flickr-30k",),
    "scienceqa": ("ScienceQA IMG",),
    "mme": tuple(task.name for task in MME),
    "pope": tuple(task.name for task in POPE),
}


class UnknownTask(ValueError):
    """The list of tasks is empty or contains an unknown name."""


def select_tasks(names: str, others: Mapping[str, Task] = MappingProxyType({})) -> tuple[Task, ...]:
    """Return the tasks of a comma-separated list, without duplicates. Case and punctuation are
    ignored.

    `others`: further tasks (name -> task) that the list may contain.

    Raises UnknownTask: when the list names no task, or a name that is not in the table.
    """
    tasks = {**TASKS, **others}
    by_slug = {task.slug: (task.name,) for task in tasks.values()} | ALIASES
    selected: dict[str, Task] = {}
    for name in filter(None, (part.strip() for part in names.split(","))):
        if slug(name) not in by_slug:
            valid = ", ".join(
                ["mme", "pope", *(task.slug for task in (*DATA_SETS, *others.values()))]
            )
            raise UnknownTask(f"tasks: unknown task {name!r}; choose from {valid}")
        selected |= {key: tasks[key] for key in by_slug[slug(name)]}
    if not selected:
        raise UnknownTask("tasks: the list is empty; name at least one task")
    return tuple(selected.values())
