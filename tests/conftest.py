"""One tiny model and one synthetic clip for all tests."""

import json
import os

import numpy as np
import pytest
import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import RobertaTokenizer, ViTImageProcessorPil

from modeling_refavs import (
    RefAVSConfig,
    RefAVSFeatureExtractor,
    RefAVSForSegmentation,
    RefAVSProcessor,
    RefAVSReleasedConfig,
    RefAVSReleasedForSegmentation,
)

from .media_kit import fake_model, rotate, write_clip  # noqa: F401, fixtures


# Here and in child processes: two workers share the cores, and sums of two threads round otherwise
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"

SLOW = os.environ.get("REFAVS_SLOW_TESTS") == "1"


def pytest_collection_modifyitems(items):
    for item in items:
        if item.get_closest_marker("slow") and not SLOW:
            item.add_marker(pytest.mark.skip(reason="set REFAVS_SLOW_TESTS=1"))


IMAGE_SIZE = 96
VOCABULARY = 340
SENTENCES = [
    "the red circle",
    "the blue square that is making a sound",
    "the first object to make a sound",
    "the object on the left of the circle",
]


def make_config(**overrides) -> RefAVSConfig:
    """Every part of EEMC, small."""
    return RefAVSConfig(
        **{
            "mask2former_config": {
                "backbone_config": {
                    "model_type": "swin",
                    "image_size": IMAGE_SIZE,
                    "embed_dim": 16,
                    "depths": [1, 1, 1, 1],
                    "num_heads": [1, 2, 4, 8],
                    "window_size": 3,
                    "drop_path_rate": 0.3,
                    "initializer_range": 0.1,
                    "out_features": ["stage1", "stage2", "stage3", "stage4"],
                },
                "feature_size": 32,
                "mask_feature_size": 32,
                "hidden_dim": 32,
                "encoder_feedforward_dim": 64,
                "dim_feedforward": 64,
                "encoder_layers": 2,
                "decoder_layers": 4,
                "num_attention_heads": 4,
                "num_queries": 10,
                "train_num_points": 512,
            },
            "text_config": {
                "vocab_size": VOCABULARY,
                "hidden_size": 32,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "intermediate_size": 64,
                "max_position_embeddings": 40,
                "type_vocab_size": 1,
                "initializer_range": 0.1,
            },
            "audio_config": {"hidden_sizes": [4, 8, 8, 8], "intermediate_size": 32},
            "hidden_size": 32,
            "num_cue_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 64,
            "adapter_size": 8,
            "visual_grid_size": 3,
            **overrides,
        }
    )


def make_model(**overrides) -> RefAVSForSegmentation:
    """A tiny model in eval mode whose answers differ from sentence to sentence, as a trained one's
    do."""
    torch.manual_seed(0)
    model = RefAVSForSegmentation(make_config(**overrides)).eval()
    stir(model)
    return model


def make_released_model(encoders: bool = True, **overrides) -> RefAVSReleasedForSegmentation:
    """The released model of the same sizes; without encoders it is what the released checkpoint
    holds."""
    config = make_config()
    config.mask2former_config.num_labels = 5
    config.mask2former_config.backbone_config.drop_path_rate = 0.0
    if encoders:
        overrides = {
            "text_config": config.text_config,
            "audio_config": config.audio_config,
            **overrides,
        }
    sizes = {
        "hidden_size": 128,
        "intermediate_size": 48,
        "adapter_size": 8,
        "text_feature_size": 32,
    }
    torch.manual_seed(0)
    model = RefAVSReleasedForSegmentation(
        RefAVSReleasedConfig(mask2former_config=config.mask2former_config, **{**sizes, **overrides})
    ).eval()
    stir(model)
    return model


def stir(model: torch.nn.Module) -> None:
    """Move every parameter off its start, the zeros of adapters and CATF too, so that no path is
    silent in a test."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.2)


def make_tokenizer() -> RobertaTokenizer:
    trained = ByteLevelBPETokenizer()
    special_tokens = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trained.train_from_iterator(
        SENTENCES, VOCABULARY, min_frequency=1, special_tokens=special_tokens, show_progress=False
    )
    merges = json.loads(trained.to_str())["model"]["merges"]
    return RobertaTokenizer(vocab=trained.get_vocab(), merges=[tuple(merge) for merge in merges])


@pytest.fixture(scope="session")
def processor() -> RefAVSProcessor:
    image_processor = ViTImageProcessorPil(size={"height": IMAGE_SIZE, "width": IMAGE_SIZE})
    return RefAVSProcessor(image_processor, RefAVSFeatureExtractor(), make_tokenizer())


@pytest.fixture(scope="session")
def model() -> RefAVSForSegmentation:
    return make_model()


@pytest.fixture(scope="session")
def clip() -> dict:
    """Four seconds: a red circle and a blue square that hums from the second on; 120 x 160 pixels,
    16 kHz."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:120, :160]
    frames = []
    for second in range(4):
        frame = rng.integers(0, 40, (120, 160, 3), dtype=np.uint8)
        frame[(rows - 60) ** 2 + (columns - 40 - 8 * second) ** 2 < 20**2] = (220, 30, 30)
        frame[30:70, 100:140] = (30, 30, 220)
        frames.append(frame)
    time = np.arange(4 * 16_000) / 16_000
    audio = 0.3 * np.sin(2 * np.pi * 440 * time) * (time >= 1) + 0.01 * rng.standard_normal(
        len(time)
    )
    return {"frames": frames, "audio": audio.astype(np.float32), "sampling_rate": 16_000}
