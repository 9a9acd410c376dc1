"""Models of transformers in place of the embedded default: tiny ones with random weights, as
folders."""

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from transformers import (
    BertConfig,
    BertTokenizer,
    CLIPTokenizer,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    GroundingDinoProcessor,
    Owlv2Config,
    Owlv2ForObjectDetection,
    Owlv2ImageProcessorPil,
    Owlv2Processor,
    SwinConfig,
)

from dataset_script.annotate.models import Prompt


pytest.importorskip("cv2")

from modeling_refavs.inference.annotation_models import load_annotation_models


SIZE = (48, 80)  # (height, width) of frames
WIDTH = 128  # of the models; they want it twice that of a memory, 64
DECODER = {
    "hidden_size": WIDTH,
    "mlp_dim": 16,
    "num_attention_heads": 2,
    "iou_head_hidden_dim": 16,
}
MEMORY = {
    "memory_attention_hidden_size": WIDTH,
    "memory_attention_num_layers": 1,
    "memory_attention_feed_forward_hidden_size": 16,
    "memory_attention_rope_feat_sizes": [4, 4],
    "memory_encoder_hidden_size": WIDTH,
    "mask_downsampler_embed_dim": WIDTH,
    "memory_fuser_num_layers": 1,
    "memory_fuser_embed_dim": WIDTH,
    "memory_fuser_intermediate_dim": 16,
}
SIZES = {"fpn_hidden_size": WIDTH, "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]]}
SAM2_VISION = {
    "model_type": "sam2_vision_model",
    "backbone_config": {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": 8,
        "image_size": [64, 64],
        "blocks_per_stage": [1, 1, 2, 1],
        "embed_dim_per_stage": [8, 16, 32, 64],
        "num_attention_heads_per_stage": [1, 1, 2, 2],
        "window_size_per_stage": [4, 4, 4, 4],
        "window_positional_embedding_background_size": [4, 4],
        "global_attention_blocks": [3],
    },
    "backbone_channel_list": [64, 32, 16, 8],
    **SIZES,
}
SAM3_VISION = {
    "model_type": "sam3_vision_model",
    "backbone_config": {
        "model_type": "sam3_vit_model",
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 56,
        "patch_size": 14,
        "pretrain_image_size": 56,
        "window_size": 2,
        "global_attn_indexes": [0],
    },
    **SIZES,
}
# vision, image size and patch size; EdgeTAM's own backbone is timm's, and Hiera fits it too
EDGETAM_MEMORY = {
    "perceiver_resampler_num_latents": 4,
    "perceiver_resampler_num_latents_2d": 4,
    "memory_attention_rope_k_sizes": [2, 2],
}
FAMILIES = {
    "Sam2": (SAM2_VISION, 64, 16),
    "EdgeTam": (SAM2_VISION, 64, 16),
    "Sam3Tracker": (SAM3_VISION, 56, 14),
}
FRAMES = [
    np.random.default_rng(place).integers(0, 255, (*SIZE, 3), dtype=np.uint8) for place in range(4)
]
MASK = np.zeros(SIZE, bool)
MASK[10:30, 10:30] = True
OTHER = np.roll(MASK, (10, 40), axis=(0, 1))
PROMPTS = {
    "click": Prompt(points=((20, 20),), labels=(True,)),
    "clicks": Prompt(points=((20, 20), (60, 30)), labels=(True, False)),
    "box": Prompt(box=(5, 5, 40, 40)),
    "mask": Prompt(mask=MASK),
    "all": Prompt(((20, 20), (60, 30)), (True, False), (5, 5, 40, 40), MASK),
}


def save_sam(folder: Path, family: str, video: bool) -> str:
    """A tiny SAM, whose objects are seen in every frame."""
    vision, size, patch = FAMILIES[family]
    kind = family + ("Video" if video else "")
    prompts = {"hidden_size": WIDTH, "image_size": size, "patch_size": patch}
    config = getattr(transformers, f"{kind}Config")(
        vision_config=vision,
        prompt_encoder_config={**prompts, "mask_input_channels": 4},
        mask_decoder_config=DECODER,
        **({**MEMORY, "image_size": size} if video else {}),
        **(EDGETAM_MEMORY if kind == "EdgeTamVideo" else {}),
    )
    torch.manual_seed(0)
    model = getattr(transformers, f"{kind}Model")(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("pred_obj_score_head.proj_out.bias"):
                parameter.fill_(5.0)
    model.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module", params=FAMILIES)
def folders(request, tmp_path_factory) -> tuple[str, str]:
    """One for frames and one for videos."""
    folder = tmp_path_factory.mktemp(request.param)
    return (
        save_sam(folder / "frames", request.param, False),
        save_sam(folder / "videos", request.param, True),
    )


def test_a_sam_is_asked_with_clicks_boxes_and_masks(folders):
    segmenter = load_annotation_models(segmenter=folders[0], device="cpu").segmenter
    masks = {name: segmenter.segment(FRAMES[0], prompt) for name, prompt in PROMPTS.items()}
    for name, mask in masks.items():
        assert (mask.shape, mask.dtype) == (SIZE, bool)
        fresh = load_annotation_models(segmenter=folders[0], device="cpu").segmenter
        np.testing.assert_array_equal(fresh.segment(FRAMES[0], PROMPTS[name]), mask)
    assert len({mask.tobytes() for mask in masks.values()}) == len(PROMPTS)
    assert (segmenter.segment(FRAMES[1], PROMPTS["box"]) != masks["box"]).any()
    with pytest.raises(ValueError, match="nothing is pointed at"):
        segmenter.segment(FRAMES[0], Prompt())


def track(folder: str, pivot: int, masks: dict[int, np.ndarray]) -> dict:
    tracker = load_annotation_models(tracker=folder, device="cpu").tracker
    return dict(tracker.track(FRAMES, pivot, masks))


def test_a_sam_tracks_objects_forward_and_backward(folders):
    known = {3: MASK, 5: OTHER, 7: np.zeros(SIZE, bool)}
    found = track(folders[1], 2, known)
    assert sorted(found) == [0, 1, 3]
    for masks in found.values():
        assert sorted(masks) == [3, 5, 7]
        assert {(mask.shape, mask.dtype) for mask in masks.values()} == {(SIZE, np.dtype(bool))}
        assert not (masks[3] & masks[5]).any()
        assert not masks[7].any()
        assert masks[3].any() or masks[5].any()
    again = track(folders[1], 2, known)
    for place, masks in found.items():
        for fid, mask in masks.items():
            np.testing.assert_array_equal(mask, again[place][fid])


def test_the_first_and_the_last_frame_may_be_the_pivot(folders):
    assert sorted(track(folders[1], 0, {1: MASK})) == [1, 2, 3]
    assert sorted(track(folders[1], 3, {1: MASK})) == [0, 1, 2]
    nothing = track(folders[1], 1, {1: np.zeros(SIZE, bool)})
    assert not any(masks[1].any() for masks in nothing.values())


def test_weights_for_videos_segment_frames_and_not_the_reverse(folders):
    models = load_annotation_models(segmenter=folders[1], device="cpu")
    assert models.segmenter.segment(FRAMES[0], PROMPTS["box"]).shape == SIZE
    with pytest.raises(ValueError, match=r"--tracker .*frames: a \w+ model: it must be one"):
        load_annotation_models(tracker=folders[0], device="cpu")


def test_other_folders_are_refused(tmp_path):
    BertConfig().save_pretrained(tmp_path)
    for option in ("segmenter", "tracker", "detector"):
        with pytest.raises(ValueError, match=rf"--{option} \S+: a bert model: it must be one"):
            load_annotation_models(**{option: str(tmp_path)}, device="cpu")
        with pytest.raises(ValueError, match=f"--{option} nowhere/at/all: no folder"):
            load_annotation_models(**{option: "nowhere/at/all"}, device="cpu")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"--tracker \S+: cannot be loaded"):
        load_annotation_models(tracker=str(tmp_path), device="cpu")


# Detectors

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "dog", "piano", "object", ".", "a"]


@pytest.fixture(scope="module")
def grounding_dino(tmp_path_factory) -> str:
    return save_grounding_dino(tmp_path_factory.mktemp("grounding_dino"))


def save_grounding_dino(folder: Path) -> str:
    text = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
    )
    backbone = SwinConfig(
        image_size=64,
        embed_dim=8,
        depths=[1, 1, 1, 1],
        num_heads=[1, 1, 2, 2],
        window_size=4,
        out_features=["stage2", "stage3", "stage4"],
    )
    config = GroundingDinoConfig(
        backbone_config=backbone,
        text_config=text,
        d_model=32,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        num_queries=6,
    )
    torch.manual_seed(0)
    GroundingDinoForObjectDetection(config).save_pretrained(folder)
    images = transformers.GroundingDinoImageProcessorPil(
        size={"shortest_edge": 64, "longest_edge": 96}
    )
    tokenizer = BertTokenizer(vocab={word: index for index, word in enumerate(WORDS)})
    GroundingDinoProcessor(images, tokenizer).save_pretrained(folder)
    return str(folder)


def test_boxes_of_a_text_become_masks(grounding_dino):
    detector = load_annotation_models(detector=grounding_dino, device="cpu").detector
    candidates = detector.detect(FRAMES[0], "dog. piano.")
    assert candidates
    scores = [candidate.score for candidate in candidates]
    assert scores == sorted(scores, reverse=True)
    for candidate in candidates:
        assert (candidate.mask.shape, candidate.mask.dtype) == (SIZE, bool)
        assert candidate.label in ("dog", "piano", "")
        assert 0.25 < candidate.score <= 1
    assert {candidate.label for candidate in candidates} >= {"dog", "piano"}
    again = detector.detect(FRAMES[0], "dog. piano.")
    assert [candidate.label for candidate in again] == [one.label for one in candidates]
    assert isinstance(detector.detect(FRAMES[0]), list)  # of objects of any kind


def test_owlv2_is_a_detector_too(tmp_path):
    sizes = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    letters = ["!", *"adginopbject", "!</w>", *(f"{letter}</w>" for letter in "adginopbject")]
    words = {word: index for index, word in enumerate(dict.fromkeys(letters))}
    words |= {word: len(words) + n for n, word in enumerate(("<|startoftext|>", "<|endoftext|>"))}
    text = {"vocab_size": len(words), "max_position_embeddings": 16, **sizes}
    text |= {"bos_token_id": len(words) - 2, "eos_token_id": len(words) - 1, "pad_token_id": 0}
    config = Owlv2Config(
        text_config=text,
        vision_config={"image_size": 32, "patch_size": 16, **sizes},
        projection_dim=16,
    )
    torch.manual_seed(0)
    model = Owlv2ForObjectDetection(config)
    with torch.no_grad():
        model.class_head.logit_shift.bias.fill_(5.0)  # of every box
        for parameter in model.box_head.dense2.parameters():
            parameter.zero_()  # each box is a cell of the grid
    model.save_pretrained(tmp_path)
    tokenizer = CLIPTokenizer(vocab=words, merges=[], model_max_length=16)
    images = Owlv2ImageProcessorPil(size={"height": 32, "width": 32})
    Owlv2Processor(images, tokenizer).save_pretrained(tmp_path)
    detector = load_annotation_models(detector=str(tmp_path), device="cpu").detector
    candidates = detector.detect(FRAMES[0], "dog. piano.")
    assert all(candidate.label in ("dog", "piano") for candidate in candidates)
    assert all(candidate.mask.shape == SIZE for candidate in candidates)
    assert candidates
