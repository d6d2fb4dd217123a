"""The committed decoder, encoders and cache fit together: the cache recognizes what the decoder
draws.
"""

import json

import numpy as np
import torch
from torch import Generator
from torch.nn import functional as F

from model_ext.decoders.flow_file import load_flow
from model_ext.demo.prepare import CACHE, DECODERS, ENCODERS, HERE
from model_ext.demo.retrieval import enhanced
from model_ext.demo.splits import CONCEPTS
from model_ext.imagebind.model import ImageBind
from model_ext.imagebind.preprocess.config import PreprocessConfig
from model_ext.imagebind.preprocess.image import MEAN, STD
from model_ext.imagebind.preprocess.registry import preprocess


@torch.no_grad()
def test_most_pictures_of_words_are_named_by_the_cache() -> None:
    """The encoders are not an independent judge (`demo/judge.py` is): this test only shows that the
    committed files belong together. For random pictures, 1 of 64 names would be right.
    """
    encoders = ImageBind.from_folder(HERE / ENCODERS)
    cached = F.normalize(torch.from_numpy(np.load(HERE / CACHE / "vectors.npy")).float(), dim=-1)
    lines = (HERE / CACHE / "captions.jsonl").read_text().splitlines()
    names = [json.loads(line)["id"].rpartition("/")[2].removesuffix(".png") for line in lines]
    sizes = PreprocessConfig.of(encoders.config)
    texts = [preprocess("text", f"a {concept}".encode(), sizes) for concept in CONCEPTS]
    queries = enhanced(encoders.unit("text", torch.stack(texts)), cached, 0.5)
    flow = load_flow(HERE / DECODERS / "image")
    generators = [Generator().manual_seed(number) for number in range(len(CONCEPTS))]
    drawn = (flow.sample(queries, generators, flow.config.steps, flow.config.guidance) + 1) / 2
    pictures = F.interpolate(drawn, (sizes.image_size, sizes.image_size), mode="bicubic")
    inputs = (pictures.clamp(0, 1) - MEAN[:, None, None]) / STD[:, None, None]
    nearest = (encoders.unit("vision", inputs) @ cached.T).argmax(1).tolist()
    right = [names[row] == concept for row, concept in zip(nearest, CONCEPTS, strict=True)]
    assert sum(right) >= 32, [c for c, named in zip(CONCEPTS, right, strict=True) if not named]
