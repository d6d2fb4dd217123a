"""Folders of tiny detectors of transformers with random weights."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

# Ids that Grounding DINO's code expects: BERT's ids of [CLS], [SEP], "." and "?".
BERT_IDS = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, ".": 1012, "?": 1029}
WORDS = ("a", "black", "dog", "cat", "that", "is", "running", "red", "car", "thing", "tree")


def tokenizer(**special: str) -> PreTrainedTokenizerFast:
    vocabulary = dict(BERT_IDS) | {word: 200 + index for index, word in enumerate(WORDS)}
    own = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    own.normalizer = normalizers.Lowercase()
    own.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    own.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[(name, BERT_IDS[name]) for name in ("[CLS]", "[SEP]")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=own,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        **special,
    )


def write_owlv2(folder: Path) -> None:
    from transformers import Owlv2Config, Owlv2ForObjectDetection
    from transformers.models.owlv2.image_processing_pil_owlv2 import Owlv2ImageProcessorPil

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    config = Owlv2Config(
        text_config={
            **sizes,
            **{"num_attention_heads": 2, "vocab_size": 1100, "max_position_embeddings": 16},
        },
        vision_config={**sizes, "num_attention_heads": 2, "image_size": 64, "patch_size": 16},
        projection_dim=16,
    )
    Owlv2ForObjectDetection(config).eval().save_pretrained(folder)
    Owlv2ImageProcessorPil(size={"height": 64, "width": 64}).save_pretrained(folder)
    tokenizer().save_pretrained(folder)


def tiny_swin() -> Any:
    from transformers import SwinConfig

    return SwinConfig(
        image_size=64,
        embed_dim=8,
        depths=[1, 1, 1, 1],
        num_heads=[1, 1, 1, 1],
        window_size=2,
        out_features=["stage2", "stage3", "stage4"],
    )


def write_grounding_dino(folder: Path) -> None:
    from transformers import (
        BertConfig,
        GroundingDinoConfig,
        GroundingDinoForObjectDetection,
    )
    from transformers.models.grounding_dino.image_processing_pil_grounding_dino import (
        GroundingDinoImageProcessorPil,
    )

    torch.manual_seed(0)
    config = GroundingDinoConfig(
        backbone_config=tiny_swin(),
        text_config=BertConfig(
            vocab_size=1100,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
        ),
        d_model=32,
        encoder_layers=1,
        decoder_layers=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        num_queries=12,
        max_text_len=24,
    )
    GroundingDinoForObjectDetection(config).eval().save_pretrained(folder)
    size = {"shortest_edge": 64, "longest_edge": 128}
    GroundingDinoImageProcessorPil(size=size).save_pretrained(folder)
    tokenizer().save_pretrained(folder)


def write_omdet(folder: Path) -> None:
    from transformers import (
        CLIPTextConfig,
        OmDetTurboConfig,
        OmDetTurboForObjectDetection,
    )
    from transformers.models.detr.image_processing_pil_detr import DetrImageProcessorPil

    torch.manual_seed(0)
    config = OmDetTurboConfig(
        backbone_config=tiny_swin(),
        text_config=CLIPTextConfig(
            vocab_size=1100,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            bos_token_id=BERT_IDS["[CLS]"],
            eos_token_id=BERT_IDS["[SEP]"],
        ),
        apply_layernorm_after_vision_backbone=False,
        image_size=64,
        text_projection_in_dim=16,
        text_projection_out_dim=16,
        task_encoder_hidden_dim=16,
        class_embed_dim=16,
        num_queries=12,
        vision_features_channels=[32, 32, 32],
        encoder_in_channels=[16, 32, 64],
        encoder_hidden_dim=32,
        encoder_attention_heads=2,
        encoder_dim_feedforward=16,
        decoder_hidden_dim=32,
        decoder_num_heads=2,
        decoder_num_layers=2,
        decoder_dim_feedforward=16,
    )
    model = OmDetTurboForObjectDetection(config).eval()
    # transformers initializes biases with zeros. With such biases, padding with zeros would have no
    # effect on the selection of boxes, unlike in a trained model.
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    DetrImageProcessorPil(size={"height": 64, "width": 64}).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
