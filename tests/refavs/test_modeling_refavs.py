"""What the whole model must hold: above all, that any two ways to ask the same thing get the same
answer."""

import copy

import pytest
import torch
from transformers import Mask2FormerForUniversalSegmentation, RobertaModel

from modeling_refavs import RefAVSForSegmentation, RefAVSModel, RefAVSVggishModel
from modeling_refavs.grounding_refavs import grounding_criterion, pool_under_masks
from modeling_refavs.loss_refavs import set_criterion
from modeling_refavs.modeling_outputs_refavs import combine_queries
from tests.conftest import SENTENCES, make_config, make_model, stir


NAMES = ("mask_logits", "presence_logits", "masks_queries_logits", "class_queries_logits")


@pytest.fixture(scope="module")
def model():
    """In double precision, so that what should agree agrees to 1e-9 and not to the rounding of
    single precision."""
    return make_model().double()


@pytest.fixture(scope="module")
def inputs(processor, clip):
    """All sentences on one clip."""
    return processor(text=SENTENCES, **clip)


@pytest.fixture(scope="module")
def outputs(model, inputs):
    return ask(model, inputs)


@torch.no_grad()
def ask(model, inputs, **changes):
    inputs = {**inputs, **changes}
    floats = {name: value.to(model.dtype) for name, value in inputs.items() if is_float(value)}
    return model(**{**inputs, **floats})


def is_float(value):
    return isinstance(value, torch.Tensor) and value.is_floating_point()


def same(ours, theirs, rows=slice(None), frames=slice(None)):
    for name in NAMES:
        close(getattr(ours, name), getattr(theirs, name)[rows, frames])


def close(ours, theirs):
    tolerance = 1e-9 if ours.dtype == torch.double else 2e-5
    torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=tolerance)


def test_shapes(outputs):
    assert outputs.mask_logits.shape == (4, 4, 24, 24)
    assert outputs.presence_logits.shape == (4, 4)
    assert outputs.masks_queries_logits.shape == (4, 4, 10, 24, 24)
    assert outputs.class_queries_logits.shape == (4, 4, 10, 2)
    assert outputs.cue_hidden_states.shape[:2] == outputs.cue_mask.shape[:2] == (4, 4)
    assert outputs.loss is None


def test_sentences_matter_in_these_tests(outputs):
    """Else the tests below would hold for a model that ignores its input."""
    for other in (1, 2, 3):
        assert (outputs.mask_logits[0] - outputs.mask_logits[other]).abs().max() > 0.05
    assert (outputs.mask_logits[0, 0] - outputs.mask_logits[0, 3]).abs().max() > 0.05


@pytest.mark.parametrize("index", range(4))
def test_one_sentence_at_a_time(model, processor, clip, outputs, index):
    same(
        ask(model, processor(text=SENTENCES[index], **clip)), outputs, rows=slice(index, index + 1)
    )


def test_tokens_that_are_padding_change_nothing(model, inputs, outputs):
    padded = {
        "input_ids": torch.nn.functional.pad(inputs["input_ids"], (0, 5), value=1),
        "attention_mask": torch.nn.functional.pad(inputs["attention_mask"], (0, 5)),
    }
    same(ask(model, inputs, **padded), outputs)


def test_a_batch_of_two_clips_is_two_clips_of_one(model, processor, clip):
    """Of different lengths: the shorter is filled up with frames that are masked out."""
    short = {
        "frames": clip["frames"][::-1][:2],
        "audio": clip["audio"][::-1][:32_000].copy(),
        "sampling_rate": 16_000,
    }
    batch = processor(
        text=[SENTENCES[:2], SENTENCES[2:]],
        frames=[short["frames"], clip["frames"]],
        audio=[short["audio"], clip["audio"]],
        sampling_rate=16_000,
    )
    together = ask(model, batch)
    first, second = (
        ask(model, processor(text=SENTENCES[:2], **short)),
        ask(model, processor(text=SENTENCES[2:], **clip)),
    )
    same(first, together, slice(0, 2), slice(0, 2))
    same(second, together, slice(2, 4))
    assert (together.mask_logits[:2, 2:].sigmoid() == 0).all()
    torch.testing.assert_close(
        together.memory.visual.count, torch.tensor([2.0, 2.0, 4.0, 4.0]).double()
    )
    close(together.memory.visual.total[:2], first.memory.visual.total)


def test_clip_index_asks_any_sentence_of_any_clip(model, inputs, outputs):
    order = torch.tensor([2, 0, 3])
    two_clips = {
        name: inputs[name].repeat_interleave(2, dim=0)
        for name in ("pixel_values", "input_features", "frame_mask")
    }
    two_clips["pixel_values"] = (
        two_clips["pixel_values"] * torch.tensor([0.0, 1.0])[:, None, None, None, None]
    )
    two_clips["input_features_mask"] = inputs["input_features_mask"].repeat(2, 1, 1)
    text = {name: inputs[name][order] for name in ("input_ids", "attention_mask")}
    answer = ask(model, {**two_clips, **text, "clip_index": torch.tensor([1, 0, 1])})
    for name in NAMES:
        close(getattr(answer, name)[0], getattr(outputs, name)[2])
        close(getattr(answer, name)[2], getattr(outputs, name)[3])
    assert not torch.allclose(answer.mask_logits[1], outputs.mask_logits[0], atol=1e-2)


def test_forward_is_encode_clips_and_then_segment(model, inputs, outputs):
    with torch.no_grad():
        clips = model.encode_clips(
            inputs["pixel_values"].double(),
            inputs["input_features"].double(),
            inputs["input_features_mask"],
            inputs["frame_mask"],
        )
        answer = model.segment(
            clips, inputs["input_ids"], inputs["attention_mask"], inputs["clip_index"]
        )
    same(answer, outputs)


def test_backbone_pixel_decoder_and_vggish_run_once_a_clip(model, inputs):
    rows = {}
    pixel_level = model.model.mask2former.pixel_level_module
    parts = {
        "frames": pixel_level.encoder,
        "maps": pixel_level.decoder,
        "sound": model.model.audio_encoder,
    }

    def count(name: str, first: torch.Tensor | list[torch.Tensor]) -> None:
        rows.setdefault(name, []).append(
            first[0].shape[:1] if isinstance(first, list) else first.shape[:-2]
        )

    hooks = [
        part.register_forward_pre_hook(lambda _, args, name=name: count(name, args[0]))
        for name, part in parts.items()
    ]
    ask(model, inputs)
    for hook in hooks:
        hook.remove()
    assert rows == {
        "frames": [(4, 3)],
        "maps": [(4,)],
        "sound": [(4,)],
    }  # four frames once, not once for each of four sentences


def test_a_later_frame_never_changes_an_earlier_mask(model, inputs, outputs):
    for second in (1, 2, 3):
        changed = {name: inputs[name].clone() for name in ("pixel_values", "input_features")}
        for value in changed.values():
            value[:, second:] = torch.randn(value[:, second:].shape)
        answer = ask(model, inputs, **changed)
        close(answer.mask_logits[:, :second], outputs.mask_logits[:, :second])
        assert not torch.allclose(
            answer.mask_logits[:, second], outputs.mask_logits[:, second], atol=1e-3
        )


@pytest.mark.parametrize("pieces", [[1, 1, 1, 1], [3, 1]])
def test_a_clip_in_pieces_is_the_whole_clip(model, inputs, outputs, pieces):
    memory, start, answers = None, 0, []
    for size in pieces:
        part = {
            name: inputs[name][:, start : start + size]
            for name in ("pixel_values", "input_features", "input_features_mask", "frame_mask")
        }
        answer = ask(model, inputs, **part, memory=memory)
        same(answer, outputs, frames=slice(start, start + size))
        memory, start = answer.memory, start + size
        answers.append(answer.mask_logits)
    close(memory.audio.total, outputs.memory.audio.total)


def test_without_memory_the_pieces_would_differ(model, inputs, outputs):
    part = {
        name: inputs[name][:, 3:]
        for name in ("pixel_values", "input_features", "input_features_mask", "frame_mask")
    }
    assert not torch.allclose(
        ask(model, inputs, **part).mask_logits, outputs.mask_logits[:, 3:], atol=1e-3
    )


def test_features_computed_before_stand_in_for_the_encoders(model, inputs, outputs):
    with torch.no_grad():
        encoded = model.model.audio_encoder(inputs["input_features"].double())
        audio_features = encoded.last_hidden_state
        text = model.model.text_encoder(
            inputs["input_ids"], attention_mask=inputs["attention_mask"]
        )
    given = {"audio_features": audio_features, "text_features": text.last_hidden_state}
    same(ask(model, inputs, **given, input_features=None, input_ids=None), outputs)


def test_swins_stages_stand_in_for_the_frames(model, inputs, outputs):
    swin = model.model.mask2former.pixel_level_module.encoder
    with torch.no_grad():
        stages = swin(inputs["pixel_values"].flatten(0, 1).double()).feature_maps
    same(
        ask(
            model,
            inputs,
            pixel_values=None,
            vision_features=tuple(s.unflatten(0, (1, 4)) for s in stages),
        ),
        outputs,
    )


def test_what_cues_are_made_of_spares_the_steps_that_are_not_wanted(inputs):
    model = make_model()
    steps = torch.tensor([1, 3])
    whole = ask(model, inputs, step_index=steps)
    with torch.no_grad():
        clips = model.encode_clips(inputs["pixel_values"], decode=False)
    given = {
        "frame_features": clips.frame_features,
        "pixel_values": inputs["pixel_values"][:, steps],
    }
    same(ask(model, inputs, **given, step_index=steps), whole)
    same(whole, ask(model, inputs), frames=steps.tolist())


def test_audio_memory_cue_depends_on_earlier_sound(inputs):
    model = make_model(grounding_config={"use_audio_memory_cue": True})
    before = ask(model, inputs)
    assert before.cue_mask.shape[-1] == ask(make_model(), inputs).cue_mask.shape[-1] + 1
    model.model.cached_memory.beta = 0.0  # Q_A is the second's alone: of what was, C_A knows
    earlier = inputs["input_features"].clone()
    earlier[:, 0] = earlier[:, 0].flip(1)
    first, second = (
        ask(model, inputs, input_features=features)
        for features in (inputs["input_features"], earlier)
    )
    assert not torch.allclose(first.mask_logits[:, -1], second.mask_logits[:, -1], atol=1e-4)
    silent = {"input_features": None, "input_features_mask": None}
    assert ask(model, inputs, **silent).mask_logits.isfinite().all()


def test_no_sound_track_is_the_same_however_it_is_said(model, processor, clip, inputs):
    nothing = ask(model, inputs, input_features=None, input_features_mask=None)
    unheard = ask(
        model, inputs, input_features_mask=torch.zeros_like(inputs["input_features_mask"])
    )
    processed = ask(model, processor(text=SENTENCES, frames=clip["frames"], audio=None))
    same(nothing, unheard)
    same(processed, unheard)
    silent = ask(model, processor(text=SENTENCES, **{**clip, "audio": 0 * clip["audio"]}))
    assert not torch.allclose(
        silent.mask_logits, unheard.mask_logits, atol=1e-4
    )  # silence is heard, no track is not


@pytest.mark.parametrize("steps", [[0, 1, 2, 3], [1, 3], [2]])
def test_steps_that_are_not_wanted_only_feed_the_memory(model, inputs, outputs, steps):
    labels, index = square_labels(), torch.tensor(steps)
    answer = ask(model, inputs, step_index=index, mask_labels=labels[:, steps])
    same(answer, outputs, frames=steps)
    for ours, theirs in zip(answer.memory.values(), outputs.memory.values(), strict=True):
        close(ours.total, theirs.total)
    maps = (
        outputs.masks_queries_logits[:, steps].flatten(0, 1),
        outputs.class_queries_logits[:, steps].flatten(0, 1),
    )
    last_layer = set_criterion(
        *maps, labels[:, steps].flatten(0, 1), model.config.mask2former_config
    )
    assert answer.loss > sum(last_layer.values()) > 0


def test_one_frame(model, processor, clip, outputs):
    first = processor(
        text=SENTENCES,
        frames=clip["frames"][:1],
        audio=clip["audio"][:16_000],
        sampling_rate=16_000,
    )
    same(ask(model, first), outputs, frames=slice(0, 1))


def test_saved_and_loaded_it_answers_the_same(model, inputs, outputs, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = RefAVSForSegmentation.from_pretrained(tmp_path, dtype=torch.double)
    same(ask(loaded, inputs), outputs)
    assert {n for n, p in loaded.named_parameters() if p.requires_grad} == {
        n for n, p in model.named_parameters() if p.requires_grad
    }
    trunk = RefAVSModel.from_pretrained(tmp_path, dtype=torch.double)
    with torch.no_grad():
        masks = ask(trunk, inputs).masks_queries_logits
    torch.testing.assert_close(
        masks.unflatten(0, (4, 4)), outputs.masks_queries_logits, atol=2e-5, rtol=1e-4
    )


def test_the_callers_batch_is_left_as_it_was(model, inputs):
    before = copy.deepcopy(dict(inputs))
    ask(model, inputs, mask_labels=torch.ones(4, 4, 96, 96))
    assert all(torch.equal(before[name], inputs[name]) for name in before)


def test_tuples_are_returned_on_request(model, inputs, outputs):
    torch.testing.assert_close(ask(model, inputs, return_dict=False)[0], outputs.mask_logits)


# Training


def test_gradients_flow_where_they_belong_and_nowhere_else(inputs):
    model = make_model().train()
    model(**inputs, mask_labels=square_labels()).loss.backward()
    frozen = ("mask2former.pixel_level_module.encoder.", "text_encoder.", "audio_encoder.")
    for name, parameter in model.named_parameters():
        if name.removeprefix("model.").startswith(frozen):
            assert parameter.grad is None, name
        else:
            assert parameter.grad is not None, name


@pytest.mark.parametrize("part", ["vision", "text", "audio"])
def test_each_encoder_can_be_unfrozen(inputs, part):
    model = make_model(**{f"freeze_{part}_encoder": False}).train()
    model(**inputs, mask_labels=square_labels()).loss.backward()
    encoder = model.model._modules.get(
        f"{part}_encoder", model.model.mask2former.pixel_level_module.encoder
    )
    assert encoder.training
    gradients = [parameter.grad for parameter in encoder.parameters() if parameter.grad is not None]
    assert sum(gradient.abs().sum() for gradient in gradients) > 0


def test_a_frozen_mask_decoder_trains_its_adapters(inputs):
    model = make_model(freeze_mask_decoder=True).train()
    trained = {
        name
        for name, parameter in model.model.mask2former.named_parameters()
        if parameter.requires_grad
    }
    assert trained
    assert all(".adapter." in name for name in trained)


def test_a_frozen_pixel_decoder_stays_as_it_was():
    model = make_model(freeze_pixel_decoder=True).train()
    decoder = model.model.mask2former.pixel_level_module.decoder
    assert not any(parameter.requires_grad for parameter in decoder.parameters())
    assert all(
        parameter.requires_grad
        for parameter in model.model.mask2former.transformer_module.parameters()
    )


def test_frozen_encoders_stay_still_in_train_mode(inputs):
    """Swin would drop paths and RoBERTa would drop out."""
    model = make_model()
    calm = ask(model, inputs)
    same(ask(model.train(), inputs), calm)
    assert not model.model.text_encoder.training
    assert model.model.catf.training
    loose = make_model(freeze_text_encoder=False, freeze_vision_encoder=False).train()
    assert not torch.allclose(ask(loose, inputs).mask_logits, calm.mask_logits, atol=1e-3)


def test_the_loss_is_the_criterion_at_every_layer_of_the_decoder(model, inputs):
    labels = square_labels()
    outputs = ask(model, inputs, mask_labels=labels)
    torch.testing.assert_close(sum(outputs.loss_parts.values()), outputs.loss)
    trunk = ask(model.model, inputs)
    decoder = model.model.mask2former.transformer_module
    assert len(trunk.query_hidden_states) == model.config.mask2former_config.decoder_layers
    with torch.no_grad():
        layers = [
            set_criterion(
                decoder.predict_masks(states, trunk.mask_features),
                model.class_predictor(states),
                labels.flatten(0, 1),
                model.config.mask2former_config,
            )
            for states in trunk.query_hidden_states
        ]
    torch.testing.assert_close(outputs.loss, sum(sum(layer.values()) for layer in layers))


@pytest.mark.parametrize(
    "ablation",
    [{}, {"use_audio_cues": False}, {"use_modality_encoding": False}, {"use_text_cues": False}],
)
def test_grounding_loss_reads_visual_cues_and_changes_no_mask(inputs, ablation):
    plain, model = (
        make_model(**ablation),
        make_model(grounding_config={"loss_weight": 2.0}, **ablation),
    )
    model.load_state_dict(plain.state_dict(), strict=False)
    labels = square_labels()
    theirs, ours = (each(**inputs, mask_labels=labels) for each in (plain, model))
    close(ours.mask_logits, theirs.mask_logits)
    assert set(ours.loss_parts) - set(theirs.loss_parts) == {"loss_cue"}
    cues = model.model(**inputs)
    assert cues.visual_cues.shape == (4, 4, 9, 32)
    first = {"use_audio_cues": 0, "use_modality_encoding": 1}.get(next(iter(ablation), ""), 2)
    close(cues.visual_cues, cues.cue_hidden_states[:, :, first : first + 9])
    tokens = model.cue_predictor(cues).flatten(0, 1)
    torch.testing.assert_close(
        ours.loss_parts["loss_cue"], 2 * grounding_criterion(tokens, labels.flatten(0, 1)).detach()
    )
    torch.testing.assert_close(ours.loss, theirs.loss + ours.loss_parts["loss_cue"])


def test_a_clip_without_the_object_is_learned_from_too(inputs):
    model = make_model().train()
    outputs = model(**inputs, mask_labels=torch.zeros(4, 4, 48, 48))
    assert outputs.loss_parts["loss_mask"] == outputs.loss_parts["loss_dice"] == 0
    outputs.loss.backward()
    assert model.class_predictor.weight.grad.abs().sum() > 0


def test_frames_that_are_padding_are_not_learned_from(model, inputs):
    labels = square_labels()
    mask = inputs["frame_mask"].clone()
    mask[:, 3] = 0
    losses = []
    for last in (labels[:, 3], 1 - labels[:, 3]):
        torch.manual_seed(0)
        losses.append(
            ask(
                model,
                inputs,
                frame_mask=mask,
                mask_labels=torch.cat([labels[:, :3], last[:, None]], 1),
            ).loss
        )
    assert losses[0] == losses[1]


def test_gradient_checkpointing_changes_no_gradient(inputs):
    gradients = []
    for checkpointing in (False, True):
        model = make_model().train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        torch.manual_seed(0)
        model(**inputs, mask_labels=square_labels()).loss.backward()
        gradients.append(model.model.catf.layers[0].attention.key_projection.weight.grad)
    torch.testing.assert_close(*gradients)


def square_labels():
    labels = torch.zeros(4, 4, 96, 96)
    labels[:3, :, 30:60, 20:70] = 1
    return labels


# Ablations and backbones


@pytest.mark.parametrize(
    ("ablation", "gone"),
    [
        ("use_text_cues", ["text_encoder", "cue_projection.text"]),
        (
            "use_audio_cues",
            ["audio_encoder", "audio_fusion", "cue_projection.audio", "integration.audio_tag"],
        ),
        ("use_modality_encoding", ["integration.audio_tag", "integration.visual_tag"]),
        ("use_cached_memory", []),
    ],
)
@pytest.mark.parametrize("use_audio_memory_cue", [False, True])
def test_an_ablation_takes_its_part_out(inputs, outputs, ablation, gone, use_audio_memory_cue):
    model = make_model(
        **{ablation: False}, grounding_config={"use_audio_memory_cue": use_audio_memory_cue}
    )
    heard = ablation not in ("use_audio_cues", "use_cached_memory")
    assert (model.model.integration.past_encoding is not None) == (use_audio_memory_cue and heard)
    names = list(model.model.state_dict())
    assert not [name for name in names if name.startswith(tuple(gone))] or not gone
    answer = ask(model, inputs)
    assert answer.mask_logits.shape == outputs.mask_logits.shape
    same(ask(model, inputs), answer)
    model.train()(**inputs, mask_labels=square_labels()).loss.backward()
    unused = [
        name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and parameter.grad is None
    ]
    assert not unused  # or DDP would wait for them


def test_what_an_ablation_takes_away_no_longer_matters(inputs):
    deaf, blind_to_text, forgetful = (
        make_model(**{field: False})
        for field in ("use_audio_cues", "use_text_cues", "use_cached_memory")
    )
    noise = torch.randn_like(inputs["input_features"])
    same(ask(deaf, inputs, input_features=noise), ask(deaf, inputs))
    words = torch.randint(5, 300, inputs["input_ids"].shape)
    same(ask(blind_to_text, inputs, input_ids=words), ask(blind_to_text, inputs))
    pixels = inputs["pixel_values"].clone()
    pixels[:, 0] = 0
    torch.testing.assert_close(
        ask(forgetful, inputs, pixel_values=pixels).mask_logits[:, 1:],
        ask(forgetful, inputs).mask_logits[:, 1:],
    )


def test_from_backbones_every_weight_arrives(tmp_path):
    config = make_config()
    config.mask2former_config.num_labels = 150
    parts = {
        "mask2former": Mask2FormerForUniversalSegmentation(config.mask2former_config),
        "text_model": RobertaModel(config.text_config),
        "vggish": RefAVSVggishModel(config.audio_config),
    }
    for name, part in parts.items():
        stir(part)
        part.save_pretrained(tmp_path / name)
    folders = {name: tmp_path / name for name in parts}
    small = {"hidden_size": 32, "num_attention_heads": 4, "num_cue_layers": 1, "adapter_size": 8}
    model = RefAVSForSegmentation.from_backbones(
        **folders, **small, mask2former_config={"class_weight": 7.0}
    )
    assert model.config.mask2former_config.class_weight == 7
    assert model.config.mask2former_config.num_queries == config.mask2former_config.num_queries
    arrived = {
        "mask2former": (parts["mask2former"].model, model.model.mask2former),
        "text_model": (parts["text_model"], model.model.text_encoder),
        "vggish": (parts["vggish"], model.model.audio_encoder),
    }
    for source, target in arrived.values():
        state = target.state_dict()
        for name, value in source.state_dict().items():
            if not name.startswith("pooler."):
                assert torch.equal(state[name], value), name
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert not [
        name for name in trained if "text_encoder" in name or "pixel_level_module.encoder." in name
    ]
    model.save_pretrained(tmp_path / "whole")
    again = RefAVSForSegmentation.from_pretrained(tmp_path / "whole")
    assert all(
        torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items()
    )


# Readout and bad input


def combine_one_frame(masks, classes):
    """`combine_queries`, a query at a time."""
    sure = classes.softmax(-1)[:, 0]
    best = int(sure.argmax())
    combined, presence = torch.zeros(masks.shape[1:]), 0.0
    for query, mask in enumerate(masks):
        area, shared = (mask > 0).sum(), ((mask > 0) & (masks[best] > 0)).sum()
        if query == best or shared > area / 2:
            combined, presence = combined + sure[query] * mask.sigmoid(), presence + sure[query]
    return combined / max(presence, 1.0), min(presence, torch.tensor(1.0))


def test_combine_queries_equals_a_loop_over_queries():
    masks, classes = 4 * torch.randn(2, 30, 5, 3, 3), 2 * torch.randn(2, 30, 5, 2)
    masks[0, 0] = -5.0  # no query has a mask
    mask_logits, presence_logits = combine_queries(masks, classes)
    pairs = zip(masks.flatten(0, 1), classes.flatten(0, 1), strict=True)
    combined, presence = zip(*(combine_one_frame(*pair) for pair in pairs), strict=True)
    torch.testing.assert_close(
        mask_logits.sigmoid().flatten(0, 1), torch.stack(combined), rtol=1e-4, atol=2e-6
    )
    torch.testing.assert_close(
        presence_logits.sigmoid().flatten(), torch.stack(presence), rtol=1e-4, atol=2e-6
    )
    extreme, _ = combine_queries(torch.full((1, 2, 2), 1e4), torch.tensor([[1e4, -1e4]]))
    assert torch.isfinite(extreme).all()


def test_combine_queries_gives_one_of_two_uncertain_objects():
    left, right = (torch.full((4, 4), -8.0) for _ in range(2))
    left[:, :2] = right[:, 2:] = 8.0
    masks = torch.stack([left, right, left])
    classes = torch.tensor([[0.5, 0.0], [0.3, 0.0], [-0.5, 0.0]])
    sure = classes.softmax(-1)[:, 0]
    mask_logits, presence_logits = combine_queries(masks, classes)
    torch.testing.assert_close(presence_logits.sigmoid(), sure[0] + sure[2])
    assert (mask_logits[:, :2] > 0).all()
    assert (mask_logits[:, 2:] < -5).all()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pixel_values": torch.zeros(4, 3, 96, 96)}, "pixel_values must be"),
        ({"pixel_values": None}, "pass pixel_values or vision_features"),
        ({"clip_index": None}, "4 sentences on 1 clips: pass clip_index"),
        ({"clip_index": torch.tensor([0])}, "one entry for each of 4 sentences, got 1"),
        ({"input_ids": None}, "pass input_ids or text_features"),
        ({"input_features": torch.zeros(1, 3, 96, 64)}, "each frame needs one second of sound"),
        ({"mask_labels": torch.zeros(4, 3, 96, 96)}, "mask_labels must be"),
    ],
)
def test_bad_input_is_refused(model, inputs, changes, words):
    with pytest.raises(ValueError, match=words):
        ask(model, inputs, **changes)


def test_object_score_bias_changes_outputs_and_not_the_loss(model, inputs, outputs):
    masks = (torch.rand(4, 4, 24, 24) > 0.5).double()
    model.config.grounding_config.object_score_bias = 1.5
    try:
        biased, expected = ask(model, inputs, mask_labels=masks), outputs.class_queries_logits
    finally:
        model.config.grounding_config.object_score_bias = 0.0
    close(biased.class_queries_logits, expected + torch.tensor([1.5, 0.0]))
    mask_logits, presence_logits = combine_queries(
        biased.masks_queries_logits, biased.class_queries_logits
    )
    close(biased.mask_logits, mask_logits)
    close(biased.presence_logits, presence_logits)
    assert not torch.allclose(biased.mask_logits, outputs.mask_logits, atol=1e-4)
    close(biased.loss, ask(model, inputs, mask_labels=masks).loss)


def test_mask_score_is_the_mean_grounding_logit_of_covered_tokens():
    masks = torch.full((1, 3, 8, 8), -1.0)
    masks[0, 0, :4, :4] = 1.0  # all of the first token
    masks[0, 1, :4, 2:6] = 1.0  # half of the first and of the second
    tokens = torch.tensor([[4.0, -2.0, 7.0, 7.0]]).unsqueeze(-1)
    scores = pool_under_masks(masks, tokens).squeeze(-1)
    torch.testing.assert_close(scores, torch.tensor([[4.0, 1.0, 0.0]]))  # the third shows nothing
    masks[0, 1, :4, 6] = 1.0  # of the second three quarters now: (0.25 * 4 + 0.5625 * -2) / 0.8125
    assert float(pool_under_masks(masks, tokens)[0, 1]) == pytest.approx(-0.125 / 0.8125)


def test_grounding_weight_adds_mask_scores_to_object_scores(inputs):
    model = make_model(grounding_config={"loss_weight": 1.0, "grounding_weight": 0.7}).double()
    grounded = ask(model, inputs)
    model.config.grounding_config.grounding_weight = 0.0
    plain = ask(model, inputs)
    with torch.no_grad():
        clips = model.encode_clips(
            inputs["pixel_values"].double(), inputs["input_features"].double()
        )
        text = {name: inputs[name] for name in ("input_ids", "attention_mask", "clip_index")}
        cues = model.model.segment(clips, **text)
        scores = pool_under_masks(
            plain.masks_queries_logits.flatten(0, 1),
            model.cue_predictor(cues).flatten(0, 1).unsqueeze(-1),
        ).squeeze(-1)
    added = torch.stack([0.7 * scores, torch.zeros_like(scores)], dim=-1).unflatten(0, (4, 4))
    close(grounded.class_queries_logits, plain.class_queries_logits + added)
    close(grounded.masks_queries_logits, plain.masks_queries_logits)
    assert not torch.allclose(grounded.mask_logits, plain.mask_logits, atol=1e-4)


def test_class_loss_reaches_the_grounding_head(inputs):
    """With a grounding weight the cross-entropy of an empty frame has a gradient in the head."""
    labels, gradients = torch.zeros(4, 4, 24, 24), []
    for weight in (0.0, 1.0):
        model = make_model(grounding_config={"loss_weight": 1e-9, "grounding_weight": weight})
        model(**inputs, mask_labels=labels).loss.backward()
        gradients.append(float(model.cue_predictor.weight.grad.norm()))
    assert gradients[1] > 1e3 * gradients[0]


def test_alignment_is_the_likeness_of_a_token_with_words_and_sound():
    """Ours: at the start with the words alone; a second without sound is not listened to."""
    head = make_model(
        grounding_config={"loss_weight": 1.0, "use_alignment": True}
    ).model.alignment.double()
    torch.nn.init.zeros_(head.gates.weight)
    torch.nn.init.zeros_(head.gates.bias)
    generator = torch.Generator().manual_seed(0)
    visual, text, audio = (
        torch.randn(shape, generator=generator, dtype=torch.double)
        for shape in ((2, 3, 9, 32), (2, 5, 32), (2, 3, 1, 32))
    )
    text_mask, heard = torch.ones(2, 5).bool(), torch.tensor([[1, 0, 1], [1, 1, 1]]).bool()
    text_mask[1, 3:] = False
    words = torch.stack([text[0].mean(0), text[1, :3].mean(0)])
    likeness = torch.einsum("etnd,ed->etn", *(standardised(part) for part in (visual, words)))
    close(head(visual, text, text_mask, audio, heard), likeness / 32**0.5)
    head.gates.bias.data[:] = torch.tensor([-1.0, 2.0])  # the sound alone, twice
    likeness = torch.einsum("etnd,etd->etn", standardised(visual), standardised(audio.squeeze(2)))
    close(head(visual, text, text_mask, audio, heard), 2 * likeness / 32**0.5 * heard[..., None])
    assert not head(visual, text, text_mask, None, heard).any()
    grounding = {"loss_weight": 1.0, "use_alignment": True, "alignment_weight": 2.5}
    weighted = make_model(grounding_config=grounding).model.alignment.double()
    weighted.load_state_dict(head.state_dict())
    close(
        weighted(visual, text, text_mask, audio, heard),
        2.5 * head(visual, text, text_mask, audio, heard),
    )


@pytest.mark.parametrize("classes", [7, 28])  # of the latter each word names about half
def test_naming_is_the_probability_of_the_classes_that_the_expression_names(inputs, classes):
    """Ours: of what is seen under a query's mask; added to its object score, and frozen. A word
    that names more than ten classes counts for less."""
    grounding = {"loss_weight": 1.0, "use_alignment": True}
    named = {"vocabulary_size": classes, "naming_weight": 2.5}
    model = make_model(grounding_config={**grounding, **named})
    plain = make_model(grounding_config=grounding)
    plain.load_state_dict(model.state_dict(), strict=False)
    head = model.model.naming
    assert not [name for name, weight in head.named_parameters() if weight.requires_grad]
    with torch.no_grad():
        outputs, without = model(**inputs), plain(**inputs)
        added = outputs.class_queries_logits - without.class_queries_logits
        close(outputs.masks_queries_logits, without.masks_queries_logits)
        states = model.model.text_encoder(
            inputs["input_ids"], attention_mask=inputs["attention_mask"]
        ).last_hidden_state
        frames = model.encode_clips(inputs["pixel_values"]).frame_features
        for row, clip in enumerate(inputs["clip_index"].tolist()):
            words = states[row][inputs["attention_mask"][row] > 0]
            named = head.naming(words).sigmoid()
            counts = named.sum(1, keepdim=True)
            assert ((counts > 10) == (classes > 20)).all()
            named = (named * (counts.clamp(min=10) / 10) ** -0.15).amax(0)
            grid = torch.nn.functional.adaptive_avg_pool2d(frames[clip], 3).flatten(2)
            masks = (outputs.masks_queries_logits[row] > 0).float()
            cover = torch.nn.functional.adaptive_avg_pool2d(masks, 3).flatten(2) ** 2
            for frame in range(len(cover)):
                for query, weights in enumerate(cover[frame]):
                    seen = grid[frame] @ weights / weights.sum().clamp(min=1e-6)
                    expected = 2.5 * head.classifier(seen).softmax(-1) @ named
                    close(added[row, frame, query], torch.stack([expected, 0 * expected]))
    model.train()(**inputs, mask_labels=torch.ones(4, 4, 24, 24)).loss.backward()


def test_a_vocabulary_without_alignment_is_refused():
    with pytest.raises(ValueError, match="vocabulary_size needs use_alignment"):
        make_model(grounding_config={"loss_weight": 1.0, "vocabulary_size": 7})


def standardised(tokens):
    centred = tokens - tokens.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
