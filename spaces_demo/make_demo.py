"""Draw two clips and fit a small checkpoint to them, for tests and benchmarks: `OMP_NUM_THREADS=1 python spaces_demo/make_demo.py`, seven minutes.

The two clips show the same: a guitar, a cat and a kettle. In one the cat is heard first, in the other the guitar. The model is
fitted to these clips and knows nothing else; that "the first object to make a sound" is another object in each, it can only hear.

As in the paper, Mask2Former comes first: it learns to find every object, without any sentence. Only then is EEMC trained, with
text and audio encoder frozen. In trials of 1,200 to 1,500 steps, EEMC on a Mask2Former that found nothing answered every
sentence with all objects at once; with those encoders trained from scratch, it so answered what only the sound decides.
"""

import argparse
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import ByteLevelBPETokenizer
from torch import nn
from tqdm import trange
from transformers import BatchFeature, RobertaTokenizer, ViTImageProcessorPil
from transformers.models.mask2former.modeling_mask2former import Mask2FormerLoss

from dataset_script.synthetic.drawing import draw
from dataset_script.synthetic.scene import Scene, SceneObject, Sound
from dataset_script.synthetic.sounds import SAMPLE_RATE, render_sound
from dataset_script.synthetic.video import encode_video
from modeling_refavs import RefAVSConfig, RefAVSFeatureExtractor, RefAVSForSegmentation, RefAVSProcessor


ROOM = Path(__file__).parent
SECONDS, SIZE = 8, (240, 320)  # s; height and width of the clip, pixels
MODEL_SIZE = 96  # pixels
LOOKS = {
    "guitar": ("red", "plain", 0.19),
    "cat": ("yellow", "plain", 0.17),
    "kettle": ("blue", "striped", 0.17),
}  # colour, surface, radius
STROKES = {"guitar": 3.0, "cat": 2.0}  # a second
PLACES = {"guitar": (0.28, 0.6), "cat": (0.68, 0.35), "kettle": (1.06, 0.65)}  # centre; the height of the frame is 1
CLIPS = {"clip": ("cat", "guitar"), "clip_other_sound": ("guitar", "cat")}  # who is heard in which half
SILENT = "kettle"
HEARD = ("the first object to make a sound", "the last object to make a sound")


@dataclass
class Example:
    """A clip, its sentences, their answers `masks (expressions, seconds, height, width)` and what is there to be seen,
    `objects (objects, seconds, height, width)`."""

    scene: Scene
    frames: list[np.ndarray]
    audio: np.ndarray
    sentences: list[str]
    masks: np.ndarray
    objects: np.ndarray


def make_scene(order: tuple[str, str]) -> Scene:
    """The first of `order` sounds in the first half, the second in the second."""
    halves = dict(zip(order, [(0.0, SECONDS / 2), (SECONDS / 2, float(SECONDS))], strict=True))
    whole = (0.0, float(SECONDS))
    objects = []
    for fid, (category, (colour, surface, radius)) in enumerate(LOOKS.items()):
        sound = None
        if category in halves:
            sound = Sound((halves[category],), (-18.0, -18.0), (STROKES[category],) * 2, 1.0)
        place = PLACES[category]
        objects.append(SceneObject(fid, category, colour, surface, radius, place, "swaying", fid, whole, fid, sound))
    return Scene(0, float(SECONDS), SIZE[1] / SIZE[0], 1.0, tuple(objects))


def make_example(order: tuple[str, str]) -> Example:
    scene = make_scene(order)
    answers = {f"the {category}": category for category in LOOKS}
    answers |= {f"the {colour} object": category for category, (colour, *_) in LOOKS.items()}
    answers |= {"the object on the left": "guitar", "the object on the right": "kettle"}
    answers |= dict(zip(HEARD, order, strict=True)) | {f"the sounding {SILENT}": None}
    answers |= {f"the sounding {category}": category for category in order}
    answers |= {"the drum": None, "the green object": None}
    drawn = [draw(scene, float(second), *SIZE) for second in range(SECONDS)]
    visible = np.stack([masks for _, masks in drawn], axis=1)  # (objects, seconds, height, width)
    nothing = np.zeros_like(visible[0])
    masks = [nothing if category is None else visible[list(LOOKS).index(category)] for category in answers.values()]
    frames = [frame for frame, _ in drawn]
    return Example(scene, frames, render_sound(scene), list(answers), np.stack(masks), visible)


def make_tokenizer(sentences: list[str]) -> RobertaTokenizer:
    trained = ByteLevelBPETokenizer()
    special_tokens = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trained.train_from_iterator(sentences, 350, min_frequency=1, special_tokens=special_tokens, show_progress=False)
    merges = json.loads(trained.to_str())["model"]["merges"]
    return RobertaTokenizer(vocab=trained.get_vocab(), merges=[tuple(merge) for merge in merges])


def make_config(vocab_size: int) -> RefAVSConfig:
    """EEMC with every part small. Text and audio encoder stay frozen, as in the paper, though at random values: trained from
    scratch they forget what tells two sentences or two sounds apart before the rest has learned to ask for it."""
    swin = {"model_type": "swin", "image_size": MODEL_SIZE, "embed_dim": 16, "depths": [1, 1, 2, 1]}
    swin |= {"num_heads": [1, 2, 4, 8], "window_size": 3, "drop_path_rate": 0.0, "initializer_range": 0.1}
    swin |= {"out_features": ["stage1", "stage2", "stage3", "stage4"]}
    sizes = {"feature_size": 32, "mask_feature_size": 32, "hidden_dim": 32, "encoder_feedforward_dim": 64}
    sizes |= {"dim_feedforward": 64, "encoder_layers": 2, "decoder_layers": 4, "num_attention_heads": 4}
    text = {"vocab_size": vocab_size, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    text |= {"intermediate_size": 64, "max_position_embeddings": 30, "type_vocab_size": 1, "initializer_range": 0.1}
    text |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return RefAVSConfig(
        mask2former_config={"backbone_config": swin, "num_queries": 8, "train_num_points": 1024, **sizes},
        text_config=text,
        audio_config={"hidden_sizes": [8, 16, 16, 32], "intermediate_size": 64, "embedding_size": 64},
        hidden_size=32,
        num_cue_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        adapter_size=8,
        visual_grid_size=3,
        freeze_vision_encoder=False,
    )


def pretrain(model: RefAVSForSegmentation, batches: list[dict], steps: int, learning_rate: float) -> None:
    """Mask2Former alone: all objects in every second of one clip a step."""
    mask2former = model.model.mask2former
    weights = {"loss_mask": 5.0, "loss_dice": 5.0, "loss_cross_entropy": 2.0}  # Supp. B.1
    criterion = Mask2FormerLoss(mask2former.config, weights)
    queries = mask2former.transformer_module.queries_features.weight

    def loss_of(batch: dict) -> torch.Tensor:
        pixels = mask2former.pixel_level_module(batch["pixel_values"][0])
        decoded = mask2former.transformer_module(
            queries.expand(SECONDS, -1, -1), pixels.decoder_hidden_states, pixels.decoder_last_hidden_state
        )
        classes = [model.class_predictor(states.transpose(0, 1)) for states in decoded.intermediate_hidden_states]
        layers = [
            {"masks_queries_logits": masks, "class_queries_logits": logits}
            for masks, logits in zip(decoded.masks_queries_logits, classes, strict=True)
        ]
        objects = [masks[masks.flatten(1).any(1)].float() for masks in batch["objects"].transpose(0, 1)]
        labels = [torch.zeros(len(masks), dtype=torch.long) for masks in objects]
        losses = criterion(**layers[-1], mask_labels=objects, class_labels=labels, auxiliary_predictions=layers[:-1])
        return sum(weights[name] * part for key, part in losses.items() for name in weights if key.startswith(name))

    descend(model, lambda: loss_of(random.choice(batches)), steps, learning_rate)


@torch.no_grad()
def centre_sounds(model: RefAVSForSegmentation, input_features: torch.Tensor) -> None:
    """Shift and scale VGGish's last layer: random, it gives every sound nearly the same long vector."""
    last_layer = model.model.audio_encoder.embeddings[-1]
    features = model.model.audio_encoder(input_features).flatten(0, 1)
    mean, deviation = features.mean(0), features.std(0) + 1e-3
    last_layer.bias.copy_((last_layer.bias - mean) / deviation)
    last_layer.weight.div_(deviation[:, None])


def fit(model: RefAVSForSegmentation, batches: list[dict], steps: int, learning_rate: float) -> None:
    """The whole of EEMC: both clips a step, of each the two sentences that only the sound decides and two others."""
    clips = {name: torch.cat([batch[name] for batch in batches]) for name in ("pixel_values", "input_features")}
    clip_index = torch.arange(len(batches)).repeat_interleave(4)

    def loss_of_a_step() -> torch.Tensor:
        chosen = [torch.cat([batch["heard"], torch.randperm(len(batch["clip_index"]))[:2]]) for batch in batches]
        asked = {
            name: torch.cat([batch[name][rows] for batch, rows in zip(batches, chosen, strict=True)])
            for name in ("input_ids", "attention_mask", "mask_labels")
        }
        return model(**clips, **asked, clip_index=clip_index).loss

    centre_sounds(model, clips["input_features"])
    descend(model, loss_of_a_step, steps, learning_rate)


def descend(
    model: RefAVSForSegmentation, loss_of_a_step: Callable[[], torch.Tensor], steps: int, learning_rate: float
) -> None:
    """AdamW with a warm start and a linear end; Mask2Former, which is ahead, moves more slowly."""
    groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups["mask2former" in name].append(parameter)
    optimizer = torch.optim.AdamW(
        [{"params": groups[True], "lr": 0.3 * learning_rate}, {"params": groups[False], "lr": learning_rate}],
        weight_decay=0.01,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / 50, (steps - step) / (0.3 * steps))
    )
    model.train()
    for step in (bar := trange(steps)):
        loss = loss_of_a_step()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        if step % 20 == 0:
            bar.set_postfix(loss=f"{loss.item():.2f}")


@torch.no_grad()
def evaluate(model: RefAVSForSegmentation, processor: RefAVSProcessor, example: Example) -> dict[str, float]:
    """IoU of each sentence over the clip; 1 where nothing fits and nothing is found."""
    outputs = model.eval()(**encode(processor, example))
    scores = {}
    for sentence, mask, truth in zip(
        example.sentences, processor.post_process_masks(outputs, SIZE), example.masks, strict=True
    ):
        union = (mask | truth).sum()
        scores[sentence] = round(float((mask & truth).sum() / union), 3) if union else 1.0
    return scores


def encode(processor: RefAVSProcessor, example: Example) -> BatchFeature:
    return processor(text=example.sentences, frames=example.frames, audio=example.audio, sampling_rate=SAMPLE_RATE)


def make_batch(processor: RefAVSProcessor, example: Example) -> dict:
    return {
        **encode(processor, example),
        "mask_labels": torch.from_numpy(example.masks),
        "objects": torch.from_numpy(example.objects),
        "heard": torch.tensor([example.sentences.index(sentence) for sentence in HEARD]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    random.seed(args.seed)
    torch.manual_seed(args.seed)
    examples = {name: make_example(order) for name, order in CLIPS.items()}
    tokenizer = make_tokenizer(sorted({sentence for example in examples.values() for sentence in example.sentences}))
    image_processor = ViTImageProcessorPil(size={"height": MODEL_SIZE, "width": MODEL_SIZE})
    processor = RefAVSProcessor(image_processor, RefAVSFeatureExtractor(), tokenizer)
    model = RefAVSForSegmentation(make_config(len(tokenizer)))
    batches = [make_batch(processor, example) for example in examples.values()]
    pretrain(model, batches, args.steps // 4, args.learning_rate)
    fit(model, batches, args.steps, args.learning_rate)
    save(model, processor, examples)


def save(model: RefAVSForSegmentation, processor: RefAVSProcessor, examples: dict[str, Example]) -> None:
    """Into this folder: checkpoint/ with its scores, examples/ with the clips."""
    for folder in ("checkpoint", "examples"):
        (ROOM / folder).mkdir(exist_ok=True)  # beside them lie the card and the page's table of examples
    model.save_pretrained(ROOM / "checkpoint")
    processor.save_pretrained(ROOM / "checkpoint")
    for copy_of_the_code in (ROOM / "checkpoint").glob("*.py"):  # it stands in this repository already
        copy_of_the_code.unlink()
    scores = {name: evaluate(model, processor, example) for name, example in examples.items()}
    (ROOM / "checkpoint" / "scores.json").write_text(json.dumps(scores, indent=1) + "\n")
    for name, example in examples.items():
        (ROOM / "examples" / f"{name}.mp4").write_bytes(encode_video(example.scene, example.audio, *SIZE))


if __name__ == "__main__":
    main()
