"""Second by second gives what the whole clip gives; sentences come and go; the state goes to disk
and back."""

import numpy as np
import pytest
import torch

from modeling_refavs.eemc import RefAVSMemory
from modeling_refavs.modeling_outputs_refavs import mask_scores
from modeling_refavs.streaming_refavs import RefAVSStream
from tests.conftest import SENTENCES, make_model, make_released_model


RATE = 16_000
NAMING = {
    "loss_weight": 1.0,
    "grounding_weight": 1.0,
    "use_alignment": True,
    "vocabulary_size": 7,
}


@pytest.fixture(scope="module")
def model():
    return make_model().double()


@pytest.fixture(scope="module")
def seconds(clip) -> list[tuple[np.ndarray, np.ndarray]]:
    """90 seconds, no two alike; the sound ends in the middle of the last but one."""
    rng = np.random.default_rng(1)
    frames = [np.roll(clip["frames"][index % 4], 3 * index, axis=1) for index in range(90)]
    audio = [
        rng.normal(0, 0.02 + 0.1 * (index % 7), RATE).astype(np.float32) for index in range(88)
    ]
    return list(zip(frames, [*audio, audio[0][:5000], audio[0][:0]], strict=True))


def ask_whole(model, processor, seconds, text):
    frames, audio = zip(*seconds, strict=True)
    inputs = processor(
        text=text, frames=list(frames), audio=np.concatenate(audio), sampling_rate=RATE
    )
    with torch.no_grad():
        return model(**inputs.to(model.dtype))


def run(stream, seconds):
    return [stream.step(*second) for second in seconds]


@pytest.fixture(scope="module")
def answers(model, processor, seconds):
    return run(RefAVSStream(model, processor, SENTENCES[:1]), seconds)


@pytest.mark.parametrize("num_steps", [3, 10, 90])
def test_the_stream_is_the_whole_clip(model, processor, seconds, answers, num_steps):
    whole = ask_whole(model, processor, seconds[:num_steps], SENTENCES[:1])
    logits = torch.stack([answer.mask_logits for answer in answers[:num_steps]], dim=1)
    torch.testing.assert_close(logits, whole.mask_logits, rtol=1e-9, atol=1e-9)
    masks = np.stack([answer.masks for answer in answers[:num_steps]], axis=1)
    np.testing.assert_array_equal(masks, np.stack(processor.post_process_masks(whole, (120, 160))))
    presence = np.stack([answer.presence for answer in answers[:num_steps]], axis=1)
    np.testing.assert_allclose(presence, whole.presence_logits.sigmoid(), atol=1e-6)
    assert [answer.step for answer in answers[:num_steps]] == list(range(num_steps))


def test_memory_matters_in_these_tests(model, processor, seconds):
    first, again = (
        run(RefAVSStream(model, processor, SENTENCES[:1]), [seconds[5], seconds[0]])[1],
        seconds[0],
    )
    alone = RefAVSStream(model, processor, SENTENCES[:1]).step(*again)
    assert (first.mask_logits - alone.mask_logits).abs().max() > 1e-3


def test_the_state_does_not_grow(model, processor, seconds):
    def size(stream):
        return sum(tensor.nbytes for tensor in stream.state_dict()["memory"].values())

    stream = RefAVSStream(model, processor, SENTENCES[:2])
    run(stream, seconds[:1])
    after_one = size(stream)
    run(stream, seconds[1:12])
    assert size(stream) == after_one


def test_a_new_sentence_begins_as_if_the_clip_began_there_and_the_others_do_not_notice(
    model, processor, seconds
):
    alone = run(RefAVSStream(model, processor, SENTENCES[:1]), seconds[:5])
    late = run(RefAVSStream(model, processor, SENTENCES[1:2]), seconds[2:5])
    stream = RefAVSStream(model, processor, SENTENCES[:1])
    answers = run(stream, seconds[:2])
    stream.add(SENTENCES[1])
    answers += run(stream, seconds[2:4])
    stream.remove(SENTENCES[0])
    answers += run(stream, seconds[4:5])
    assert [answer.expressions for answer in answers[1:]] == [
        tuple(SENTENCES[:1]),
        *[tuple(SENTENCES[:2])] * 2,
        (SENTENCES[1],),
    ]
    for answer, expected in zip(answers[:4], alone, strict=False):
        torch.testing.assert_close(
            answer.mask_logits[0], expected.mask_logits[0], rtol=1e-9, atol=1e-9
        )
    for answer, expected in zip(answers[2:], late, strict=True):
        torch.testing.assert_close(
            answer.mask_logits[-1], expected.mask_logits[0], rtol=1e-9, atol=1e-9
        )


def test_a_new_sentence_knows_no_objects_of_before(processor, seconds):
    model = make_model(grounding_config={**NAMING, "object_head_size": 16}).double()
    stream = RefAVSStream(model, processor, SENTENCES[:1])
    run(stream, seconds[:2])
    stream.add(SENTENCES[1])
    answer = run(stream, seconds[2:4])[1]
    stream.remove(SENTENCES[0])
    last = run(stream, seconds[4:5])[0]
    alone = run(RefAVSStream(model, processor, SENTENCES[1:2]), seconds[2:5])
    torch.testing.assert_close(answer.mask_logits[1:], alone[1].mask_logits)
    torch.testing.assert_close(last.mask_logits, alone[2].mask_logits)


def test_a_stream_without_sentences_goes_on_counting(model, processor, seconds):
    stream = RefAVSStream(model, processor)
    empty = stream.step(*seconds[0])
    assert (empty.masks.shape, empty.presence.shape, empty.scores.shape) == (
        (0, 120, 160),
        (0,),
        (0,),
    )
    stream.add(SENTENCES[0])
    answer = stream.step(*seconds[1])
    assert (answer.step, answer.masks.shape) == (1, (1, 120, 160))


def test_the_state_goes_to_disk_and_back(model, processor, seconds, tmp_path):
    stream = RefAVSStream(model, processor, SENTENCES[:2])
    run(stream, seconds[:3])
    stream.save(tmp_path / "state.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["state.safetensors"]
    (tmp_path / "usual").touch()
    assert (tmp_path / "state.safetensors").stat().st_mode == (tmp_path / "usual").stat().st_mode
    expected = run(stream, seconds[3:5])
    again = RefAVSStream(model, processor)
    again.restore(tmp_path / "state.safetensors")
    assert (again.num_steps, again.expressions) == (3, tuple(SENTENCES[:2]))
    for answer, other in zip(run(again, seconds[3:5]), expected, strict=True):
        torch.testing.assert_close(answer.mask_logits, other.mask_logits, rtol=0, atol=0)
        assert answer.step == other.step


@pytest.mark.parametrize(
    "variant",
    [
        {"use_cached_memory": False},
        {"use_audio_cues": False},
        {"use_text_cues": False},
        {"grounding_config": {"use_audio_memory_cue": True}},
        {"grounding_config": NAMING},
        {"grounding_config": {**NAMING, "object_head_size": 16, "refine_masks": True}},
        {"grounding_config": {**NAMING, "object_head_size": 16}, "use_cached_memory": False},
    ],
)
def test_variants_stream_too(processor, seconds, tmp_path, variant):
    model = make_model(**variant).double()
    stream = RefAVSStream(model, processor, SENTENCES[:2])
    answers = run(stream, seconds[:2])
    stream.save(tmp_path / "state.safetensors")
    again = RefAVSStream(model, processor)
    again.restore(tmp_path / "state.safetensors")
    answers += run(again, seconds[2:3])
    for number, answer in enumerate(answers, start=1):  # what comes after changes an object head's
        whole = ask_whole(model, processor, seconds[:number], SENTENCES[:2])
        last = whole.mask_logits[:, -1]
        torch.testing.assert_close(answer.mask_logits, last, rtol=1e-9, atol=1e-9)


def test_bfloat16_remembers_in_single_precision(processor, seconds):
    model = make_model(grounding_config={**NAMING, "object_head_size": 16}).bfloat16()
    stream = RefAVSStream(model, processor, SENTENCES[:1])
    answer = run(stream, seconds[:2])[1]
    assert {tensor.dtype for tensor in stream.state_dict()["memory"].values()} == {torch.float32}
    assert answer.mask_logits.dtype == torch.float32


def test_memory_by_name_and_back(model, processor, seconds):
    memory = ask_whole(model, processor, seconds[:2], SENTENCES[:1]).memory
    tensors = memory.to_dict()
    assert list(tensors) == ["audio.total", "audio.count", "visual.total", "visual.count"]
    assert RefAVSMemory.from_dict(tensors) == memory
    assert RefAVSMemory.from_dict({}) is None
    with_head = make_model(grounding_config={**NAMING, "object_head_size": 16}).double()
    tensors = ask_whole(with_head, processor, seconds[:2], SENTENCES[:1]).memory.to_dict()
    assert list(tensors)[4:] == ["objects.tracks", "objects.heard", "objects.claims"]
    assert RefAVSMemory.from_dict(tensors).to_dict() == tensors


def test_scores_are_the_mean_probability_inside_a_mask():
    logits = torch.tensor([[[2.0, -1.0], [0.5, -3.0]], [[-1.0, -1.0], [-2.0, -9.0]]])
    inside = torch.tensor([2.0, 0.5]).sigmoid().mean()
    torch.testing.assert_close(mask_scores(logits, 0.5), torch.stack([inside, torch.tensor(0.0)]))


def test_mistakes(model, processor, seconds, tmp_path):
    stream = RefAVSStream(model, processor, SENTENCES[:1])
    (tmp_path / "notes").write_bytes(b"Dear diary")
    frame, audio = seconds[0]
    mistakes = {
        "asked already": lambda: stream.add(SENTENCES[0]),
        "is empty": lambda: stream.add(" "),
        "is not asked": lambda: stream.remove("the dog"),
        "at most 16000 samples, got 32000": lambda: stream.step(frame, np.tile(audio, 2)),
        "must be a list": lambda: RefAVSStream(model, processor, "the dog"),
        "whole clips": lambda: RefAVSStream(make_released_model(), processor),
        "not a safetensors file": lambda: stream.restore(tmp_path / "notes"),
    }
    for words, mistake in mistakes.items():
        with pytest.raises(ValueError, match=words):
            mistake()
    assert (stream.num_steps, stream.expressions) == (0, (SENTENCES[0],))


def test_a_state_of_another_model_is_refused(model, processor, seconds):
    stream = RefAVSStream(make_model(visual_grid_size=2).double(), processor, SENTENCES[:1])
    run(stream, seconds[:1])
    with pytest.raises(
        ValueError, match=r"another model: visual.total is \(1, 4, 32\), not \(1, 9, 32\)"
    ):
        RefAVSStream(model, processor).load_state_dict(stream.state_dict())
