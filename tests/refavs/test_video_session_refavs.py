"""A session gives what the whole clip gives, in constant memory, by the names of Sam3Video."""

import inspect
import subprocess
import sys

import numpy as np
import pytest
import torch
from transformers.models.sam3_video.modeling_sam3_video import (
    Sam3VideoInferenceSession,
    Sam3VideoModel,
    Sam3VideoSegmentationOutput,
)
from transformers.models.sam3_video.processing_sam3_video import Sam3VideoProcessor

from modeling_refavs import RefAVSForSegmentation, RefAVSProcessor, RefAVSVideoInferenceSession
from modeling_refavs.video_session_refavs import RefAVSVideoSegmentationOutput, masks_to_boxes
from tests.conftest import SENTENCES, make_model


RATE = 16_000
CLIP = "spaces_demo/examples/bell_first.mp4"


@pytest.fixture(scope="module")
def model():
    return make_model(grounding_config={"use_iou_head": True}).double()


@pytest.fixture(scope="module")
def whole(model, processor, clip):
    with torch.no_grad():
        return model(**processor(text=SENTENCES, **clip).to(model.dtype))


def seconds(clip):
    audio = np.split(clip["audio"], len(clip["frames"]))
    return list(zip(clip["frames"], audio, strict=True))


def masks_of(outputs):
    """`(sentences, steps, h, w)` of the outputs of steps."""
    steps = [torch.cat(list(output.obj_id_to_mask.values())) for output in outputs]
    return torch.stack(steps, dim=1)


def test_propagated_and_live_steps_are_the_whole_clip(model, processor, clip, whole):
    session = processor.add_text_prompt(processor.init_video_session(**rename(clip)), SENTENCES)
    propagated = list(model.propagate_in_video_iterator(session))
    live = processor.add_text_prompt(processor.init_video_session(), SENTENCES)
    stepped = [
        model(inference_session=live, frame=frame, audio=audio) for frame, audio in seconds(clip)
    ]
    for outputs in (propagated, stepped):
        assert [output.frame_idx for output in outputs] == [0, 1, 2, 3]
        assert all(output.object_ids == [0, 1, 2, 3] for output in outputs)
        torch.testing.assert_close(masks_of(outputs), whole.mask_logits, rtol=1e-9, atol=1e-9)
        for name, expected in {
            "obj_id_to_score": whole.presence_logits.sigmoid(),
            "obj_id_to_iou_score": whole.iou_scores,
        }.items():
            scores = torch.tensor([list(output[name].values()) for output in outputs]).T
            torch.testing.assert_close(scores.double(), expected, rtol=0, atol=1e-5)


def rename(clip):
    return {"video" if name == "frames" else name: value for name, value in clip.items()}


def test_processed_outputs_are_those_of_the_whole_clip(model, processor, clip, whole):
    session = processor.add_text_prompt(processor.init_video_session(**rename(clip)), SENTENCES)
    expected = np.stack(processor.post_process_masks(whole, (120, 160)))
    presence = whole.presence_logits.sigmoid()
    for step, output in enumerate(model.propagate_in_video_iterator(session)):
        found = processor.postprocess_outputs(session, output)
        ids = [number for number in range(4) if expected[number, step].any()]
        assert found["object_ids"].tolist() == ids
        assert found["object_ids"].dtype == torch.int64
        np.testing.assert_array_equal(found["masks"].numpy(), expected[ids, step])
        torch.testing.assert_close(found["scores"].double(), presence[ids, step])
        torch.testing.assert_close(found["iou_scores"].double(), whole.iou_scores[ids, step])
        assert found["prompt_to_obj_ids"] == {SENTENCES[number]: [number] for number in ids}
        for mask, box in zip(found["masks"].numpy(), found["boxes"].tolist(), strict=True):
            rows, columns = np.nonzero(mask)
            assert box == [columns.min(), rows.min(), columns.max(), rows.max()]
    halved = processor.postprocess_outputs(session, output, original_sizes=[[60, 80]])
    assert halved["masks"].shape[1:] == (60, 80)
    surer = processor.postprocess_outputs(session, output, threshold=1 - 1e-9)
    assert [len(surer[name]) for name in ("object_ids", "scores", "boxes", "masks")] == [0] * 4
    assert (surer["boxes"].shape, surer["masks"].shape) == ((0, 4), (0, 120, 160))


def test_boxes_of_masks():
    masks = np.zeros((2, 5, 7), dtype=bool)
    masks[0, 1:3, 2:6] = masks[1, 4, 0] = True
    assert masks_to_boxes(masks).tolist() == [[2, 1, 5, 2], [0, 4, 0, 4]]


def test_nothing_that_is_kept_grows(model, processor, clip):
    def kept(value, seen):
        """The number of objects that can be reached from a session, but for the model, the
        processor and plain values, and the bytes of the arrays among them."""
        plain = value is None or isinstance(value, (str, int, float))
        if plain or id(value) in seen or value is model or value is processor:
            return np.zeros(2, dtype=int)
        seen.add(id(value))
        if isinstance(value, (torch.Tensor, np.ndarray)):
            return np.array([1, value.nbytes])
        parts = value if isinstance(value, (dict, tuple, list)) else vars(value)
        parts = parts.values() if isinstance(parts, dict) else parts
        return sum((kept(part, seen) for part in parts), np.array([1, 0]))

    session = processor.add_text_prompt(processor.init_video_session(), SENTENCES[:2])
    sizes = []
    for step in range(50):
        frame, audio = seconds(clip)[step % 4]
        model(inference_session=session, frame=frame, audio=audio)
        sizes.append(tuple(kept(session, set())))
    assert sizes[0][1] > 4 * 2 * (1 + 9) * 32  # the memory is among it
    assert set(sizes[1:]) == {sizes[1]}


def test_a_later_sentence_knows_what_came_since_and_a_new_pass_knows_all(
    model, processor, clip, whole
):
    late = processor(text=SENTENCES[1], frames=clip["frames"][2:], audio=clip["audio"][2 * RATE :],
                     sampling_rate=RATE)  # fmt: skip
    with torch.no_grad():
        late = model(**late.to(model.dtype)).mask_logits[0]
    session = processor.add_text_prompt(processor.init_video_session(**rename(clip)), SENTENCES[0])
    outputs = []
    for output in model.propagate_in_video_iterator(session):
        outputs.append(output)
        if output.frame_idx == 1:
            processor.add_text_prompt(session, [SENTENCES[1], SENTENCES[0]])
    assert [output.object_ids for output in outputs] == [[0], [0], [0, 1], [0, 1]]
    for step, output in enumerate(outputs):  # the first does not notice
        torch.testing.assert_close(output.obj_id_to_mask[0][0], whole.mask_logits[0, step])
    found = torch.stack([output.obj_id_to_mask[1][0] for output in outputs[2:]])
    torch.testing.assert_close(found, late)
    assert (late - whole.mask_logits[1, 2:]).abs().max() > 1e-3  # the past matters
    again = masks_of(model.propagate_in_video_iterator(session))
    torch.testing.assert_close(again, whole.mask_logits[:2])


def test_objects_are_removed_and_their_numbers_are_not_given_twice(model, processor, clip, whole):
    session = processor.add_text_prompt(processor.init_video_session(), SENTENCES[:2])
    steps = seconds(clip)
    first = model(inference_session=session, frame=steps[0][0], audio=steps[0][1])
    session.remove_object(0)
    session.remove_object(7)
    assert 0 not in processor.postprocess_outputs(session, first)["object_ids"].tolist()
    processor.add_text_prompt(session, SENTENCES[2])
    second = model(inference_session=session, frame=steps[1][0], audio=steps[1][1])
    assert (session.obj_ids, session.prompts) == ([1, 2], dict(enumerate(SENTENCES[1:3], 1)))
    torch.testing.assert_close(second.obj_id_to_mask[1][0], whole.mask_logits[1, 1])
    session.reset_tracking_data()
    again = model(inference_session=session, frame=steps[0][0], audio=steps[0][1])
    assert (again.frame_idx, again.object_ids) == (0, [1, 2])
    torch.testing.assert_close(again.obj_id_to_mask[2][0], whole.mask_logits[2, 0])
    session.reset_state()
    empty = model(inference_session=session, frame=steps[0][0])
    found = processor.postprocess_outputs(session, empty)
    assert (empty.object_ids, found["masks"].shape) == ([], (0, 120, 160))
    assert session.add_prompt(SENTENCES[0]) == session.add_prompt(SENTENCES[0]) == 0


def test_a_part_of_a_file_is_a_video_of_its_own(processor):
    model = make_model()
    session = processor.add_text_prompt(processor.init_video_session(CLIP), "the bell")
    assert (session.video_height, session.video_width) == (320, 320)
    outputs = model.propagate_in_video_iterator(session, 1, 2, show_progress_bar=True)
    outputs = list(outputs)
    assert [output.frame_idx for output in outputs] == [1, 2]
    assert outputs[0].obj_id_to_iou_score is None
    assert "iou_scores" not in processor.postprocess_outputs(session, outputs[0])
    from modeling_refavs.video_refavs import read_steps

    steps = list(read_steps(CLIP))[1:3]
    whole = model(
        **processor(
            text="the bell",
            frames=[step.frame for step in steps],
            audio=np.concatenate([step.audio for step in steps]),
            sampling_rate=RATE,
        )
    )
    torch.testing.assert_close(masks_of(outputs), whole.mask_logits, rtol=1e-3, atol=1e-3)
    assert not list(model.propagate_in_video_iterator(session, start_frame_idx=99))


def test_sound_at_another_rate_is_resampled(model, processor, clip):
    session = processor.add_text_prompt(
        processor.init_video_session(sampling_rate=8000), SENTENCES[1]
    )
    frame, audio = seconds(clip)[1]
    found = model(inference_session=session, frame=frame, audio=audio[::2])
    inputs = processor(text=SENTENCES[1], frames=[frame], audio=audio[::2], sampling_rate=8000)
    with torch.no_grad():
        expected = model(**inputs.to(model.dtype)).mask_logits[0]
    torch.testing.assert_close(found.obj_id_to_mask[0], expected)


def test_names_and_their_order_are_those_of_sam3_video():
    def names(function):
        return list(inspect.signature(function).parameters)

    theirs = names(Sam3VideoModel.propagate_in_video_iterator)
    assert names(RefAVSForSegmentation.propagate_in_video_iterator) == theirs
    for name in ("add_text_prompt", "postprocess_outputs"):
        theirs = names(getattr(Sam3VideoProcessor, name))
        assert names(getattr(RefAVSProcessor, name))[: len(theirs)] == theirs
    for name in ("add_prompt", "remove_object", "reset_tracking_data", "reset_inference_session",
                 "reset_state"):  # fmt: skip
        theirs = names(getattr(Sam3VideoInferenceSession, name))
        assert names(getattr(RefAVSVideoInferenceSession, name)) == theirs
    ours = RefAVSVideoSegmentationOutput.__dataclass_fields__.keys()
    assert ours - Sam3VideoSegmentationOutput.__dataclass_fields__.keys() == {"obj_id_to_iou_score"}


def test_placement_of_sam3_video_is_taken(processor):
    names = set(inspect.signature(Sam3VideoProcessor.init_video_session).parameters)
    processor.init_video_session(**dict.fromkeys(names - {"self", "video"}))
    with pytest.raises(TypeError, match="unexpected keyword argument 'vidoe'"):
        processor.init_video_session(vidoe=CLIP)


def test_mistakes(model, processor, clip):
    live = processor.add_text_prompt(processor.init_video_session(), SENTENCES[0])
    session = processor.init_video_session(clip["frames"])
    frame, audio = seconds(clip)[0]
    used = processor.add_text_prompt(processor.init_video_session(), SENTENCES[0])
    model(inference_session=used, frame=frame)
    mistakes = {
        "has no video": lambda: model.propagate_in_video_iterator(live),
        "looks only back": lambda: model.propagate_in_video_iterator(session, reverse=True),
        "at least 0, got -1": lambda: model.propagate_in_video_iterator(session, -1),
        "a step needs a frame": lambda: model(inference_session=live),
        "at most 16000 samples": lambda: model(
            inference_session=live, frame=frame, audio=np.tile(audio, 2)
        ),
        "of another model": lambda: make_model()(inference_session=used, frame=frame),
        "sentence 1 is empty": lambda: processor.add_text_prompt(live, ["the dog", " "]),
        "no sentence was given": lambda: processor.add_text_prompt(live, []),
        "no object 9": lambda: live.remove_object(9, strict=True),
        "has its own sound": lambda: processor.init_video_session(CLIP, audio=audio),
        "audio without a video": lambda: processor.init_video_session(audio=audio),
        "come one by one": lambda: processor.init_video_session(iter(clip["frames"])),
        "got list": lambda: processor.init_video_session([]),
        r"got ndarray \(120, 160, 3\)": lambda: processor.init_video_session(frame),
        "must be a number of Hz": lambda: processor.init_video_session(sampling_rate=0),
        "sampling_rate": lambda: processor.init_video_session(clip["frames"], audio, None),
        "no_such_file": lambda: processor.init_video_session("no_such_file.mp4"),
    }
    for words, mistake in mistakes.items():
        with pytest.raises((ValueError, OSError), match=words):
            mistake()
    assert (live.prompts, live.frame_idx) == ({0: SENTENCES[0]}, 0)


CLEAN_ROOM = """
import sys

sys.modules |= dict.fromkeys(["modeling_refavs", "dataset_script"])  # not installed here
import numpy as np
from transformers import AutoModel, AutoProcessor

model = AutoModel.from_pretrained("refavs", trust_remote_code=True)
processor = AutoProcessor.from_pretrained("refavs", trust_remote_code=True)
session = processor.init_video_session(np.zeros((2, 48, 64, 3), np.uint8))
processor.add_text_prompt(session, "the red circle")
outputs = list(model.propagate_in_video_iterator(session))
print(len(outputs), sorted(processor.postprocess_outputs(session, outputs[1])))
"""


def test_a_published_folder_brings_its_session_along(processor, tmp_path):
    make_model().save_pretrained(tmp_path / "refavs")
    processor.save_pretrained(tmp_path / "refavs")
    answer = subprocess.run(
        [sys.executable, "-c", CLEAN_ROOM],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert not answer.returncode, answer.stderr
    keys = ["boxes", "masks", "object_ids", "prompt_to_obj_ids", "scores"]
    assert answer.stdout.strip() == f"2 {keys}"
