"""Small folders of each data set, in the layout of LVLM-eHub."""

import json
from pathlib import Path
from typing import Any

VQA = "VQA_Datasets"


def write(root: Path, files: dict[str, Any]) -> None:
    """Write files. A text is written unchanged, None as an empty picture, and any other value as
    JSON.
    """
    for name, value in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = value if isinstance(value, str) else "" if value is None else json.dumps(value)
        path.write_text(text, encoding="utf-8")


FLICKR = "a.jpg#0\tA dog .\na.jpg#1\tA cat .\n"
VSR = '{"image": "a.jpg", "caption": "The cat.", "label": 1}\n'
TEN = [{"answer": "surf"}] * 10
DATA_SETS: dict[str, dict[str, Any]] = {
    "SVT": {
        "OCR_Datasets/SVT/test_label.txt": "SVT/a.jpg EXIT sign\n\nSVT/b.jpg $5\n",
        "OCR_Datasets/SVT/a.jpg": None,
        "OCR_Datasets/SVT/b.jpg": None,
    },
    "SROIE": {
        "KIE_Datasets/SROIE/gt_answers/x.txt": {"total": "9.00", "company": "ABC"},
        "KIE_Datasets/SROIE/images/x.jpg": None,
    },
    "FUNSD": {
        "KIE_Datasets/FUNSD/testing_data/annotations/x.json": {
            "form": [
                {"id": 0, "label": "question", "text": "Name:", "linking": [[0, 2], [0, 1]]},
                {"id": 1, "label": "answer", "text": "Doe", "linking": [[0, 1]]},
                {"id": 2, "label": "answer", "text": "Jo", "linking": [[0, 2]]},
                {"id": 3, "label": "question", "text": "Empty:", "linking": [[3, 9]]},
                {"id": 4, "label": "question", "text": "None:", "linking": []},
            ]
        },
        "KIE_Datasets/FUNSD/testing_data/images/x.png": None,
    },
    "NoCaps": {
        "Caption_Datasets/NoCaps/nocaps_val_4500_captions.json": {
            "images": [{"id": 7, "file_name": "a.jpg"}],
            "annotations": [{"image_id": 7, "caption": "A dog."}, {"image_id": 7, "caption": "B"}],
        },
        "Caption_Datasets/NoCaps/val_imgs/a.jpg": None,
    },
    "Flickr-30k": {
        "Caption_Datasets/Flickr_30k/results_20130124.token": FLICKR,
        "Caption_Datasets/Flickr_30k/flickr30k-images/a.jpg": None,
    },
    "DocVQA": {
        f"{VQA}/DocVQA/val/val_v1.0.json": {
            "data": [{"question": "Q?", "answers": ["a", "b"], "image": "documents/a.png"}]
        },
        f"{VQA}/DocVQA/val/documents/a.png": None,
    },
    "TextVQA": {
        f"{VQA}/TextVQA/TextVQA_0.5.1_val.json": {
            "data": [{"question": "Q?", "answers": ["a"] * 10, "image_id": "i"}]
        },
        f"{VQA}/TextVQA/train_images/i.jpg": None,
    },
    "STVQA": {
        f"{VQA}/STVQA/train_task_3.json": {
            "data": [{"question": "Q?", "answers": ["a"], "dataset": "coco", "file_name": "c.jpg"}]
        },
        f"{VQA}/STVQA/train_imgs/coco/c.jpg": None,
    },
    "OCR-VQA": {
        f"{VQA}/OCRVQA/dataset.json": {
            "12": {
                "imageURL": "http://x/51.jpg",
                "split": 2,
                "questions": ["Q1?", "Q2?"],
                "answers": ["Jo", "No"],
            },
            "13": {"imageURL": "http://x/52.jpg", "split": 1, "questions": [], "answers": []},
        },
        f"{VQA}/OCRVQA/images/12.jpg": None,
    },
    "OKVQA": {
        f"{VQA}/OKVQA/OpenEnded_mscoco_val2014_questions.json": {
            "questions": [{"question_id": 5, "image_id": 42, "question": "Q?"}]
        },
        f"{VQA}/OKVQA/mscoco_val2014_annotations.json": {
            "annotations": [{"question_id": 5, "answers": TEN}]
        },
        f"{VQA}/OKVQA/val2014/COCO_val2014_000000000042.jpg": None,
    },
    "GQA": {
        f"{VQA}/GQA/questions/testdev_balanced_questions.json": {
            "q": {"imageId": "n1", "question": "Q?", "answer": "red"}
        },
        f"{VQA}/GQA/images/n1.jpg": None,
    },
    "Visdial": {
        f"{VQA}/Visdial/visdial_1.0_val.json": {
            "data": {
                "questions": ["is it big", "is it red"],
                "answers": ["no", "yes", "blue"],
                "dialogs": [
                    {
                        "image_id": 9,
                        "dialog": [{"question": 1, "gt_index": 1, "answer_options": [2, 0]}],
                    }
                ],
            }
        },
        f"{VQA}/Visdial/images_val2018/VisualDialog_val2018_000000000009.jpg": None,
    },
    "IconQA": {
        f"{VQA}/IconQA/datasets/test/choose_txt/{n}/data.json": {
            "question": f"Q{n}?",
            "choices": ["left", "top right"],
            "answer": 1,
        }
        for n in (10, 9)
    }
    | {f"{VQA}/IconQA/datasets/test/choose_txt/{n}/image.png": None for n in (10, 9)},
    "VSR": {
        f"{VQA}/VSR/all_vsr_validated_data.jsonl": VSR,
        f"{VQA}/VSR/images/a.jpg": None,
    },
    "ScienceQA IMG": {
        f"{VQA}/ScienceQA/test_anns.json": [
            {"question": "Q?", "choices": ["a", "b"], "answer": 0, "image_path": "/old/0001.png"},
            {"question": "Question: P", "answer": "b", "image_path": "0001.png"},
        ],
        f"{VQA}/ScienceQA/test_imgs/0001.png": None,
    },
    "VizWiz": {
        f"{VQA}/VizWiz/val_grounding.json": {"v.jpg": {"question": "Q?", "answers": ["a"] * 10}},
        f"{VQA}/VizWiz/val/v.jpg": None,
    },
}
