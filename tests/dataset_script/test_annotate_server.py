"""The server of `refavs annotate`: what each action does, and who is let in."""

import json
import re
import threading
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dataset_script.annotate import server
from dataset_script.annotate.actions import draw_stroke, merge_intervals
from dataset_script.annotate.annotation import AnnotationStore
from dataset_script.annotate.clip_media import (
    draw_spectrogram,
    find_peaks,
    propose_shots,
    read_clip_frames,
    read_clip_samples,
)
from dataset_script.annotate.desk import Desk
from dataset_script.annotate.models import AnnotationModels
from dataset_script.checking import check_tree
from dataset_script.media_files import frame_paths
from modeling_refavs.mask_rle import decode_rle

from .annotation_kit import CUT, SIZE, SOUNDING, ColourTracker, draw_clip, make_models, true_masks


testclient = pytest.importorskip("starlette.testclient")
DOCUMENT = Path(__file__).parents[2] / "docs" / "annotate.md"
CLIP, TOKEN = "drawn_0_10000", "secret"


@pytest.fixture
def tree(tmp_path):
    draw_clip(tmp_path, CLIP)
    return tmp_path


class Page:
    """Asks as the page does."""

    def __init__(self, tree, annotator="ann", models=None, review=None):
        self.desk = Desk(tree, annotator, models or make_models(), review)
        app = server.make_app(self.desk, TOKEN)
        self.client = testclient.TestClient(app, "http://127.0.0.1:7870")
        self.headers = {"X-Token": TOKEN}

    def get(self, path):
        answer = self.client.get(path, headers=self.headers)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def send(self, path, **body):
        return self.client.post(path, headers=self.headers, json=body)

    def act(self, action, **body):
        answer = self.send(f"/api/clips/{CLIP}/{action}", **body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def work(self, kind, **body):
        answer = self.send(f"/api/clips/{CLIP}/start/{kind}", **body)
        assert answer.status_code == 200, answer.text
        return self.wait()

    def wait(self):
        while (job := self.get("/api/job"))["state"] == "running":
            time.sleep(0.01)
        return job

    def refused(self, action, **body):
        before = self.desk.store.read(CLIP)
        answer = self.send(f"/api/clips/{CLIP}/{action}", **body)
        assert answer.status_code == 400
        assert "\n" not in answer.json()["error"]
        assert str(self.desk.store.read(CLIP)) == str(before)
        return answer.json()["error"]


@pytest.fixture
def page(tree):
    return Page(tree)


@pytest.fixture
def marked(page):
    """With a ball that is marked on frame 2."""
    page.act("add_object", category="ball", super_category="thing")
    page.act("point", fid=0, step=2, points=[[46, 40, 1]])
    return page


def mask_of(clip, fid, step):
    counts = clip["objects"][fid]["masks"][str(step)]
    return decode_rle({"size": clip["size"], "counts": counts})


def near(mask, truth):
    return (mask & truth).sum() / (mask | truth).sum() > 0.95


# Clips


def test_clips_and_what_there_is_to_choose_from(page):
    tree = page.get("/api/clips")
    assert [(one["clip_id"], one["state"]) for one in tree["clips"]] == [(CLIP, "new")]
    assert tree["categories"]["dog"] == "animal"
    assert tree["can_detect"]
    assert tree["can_hear"]


def test_a_clip_begins_with_the_proposed_shots_and_nothing_on_disk(page):
    clip = page.get(f"/api/clips/{CLIP}")
    assert clip["shots"] == clip["proposed_shots"] == [CUT]
    assert clip["size"] == list(SIZE)
    assert clip["can"] == {"undo": False, "redo": False}
    assert not page.desk.store.clip_ids()


def test_a_folder_without_clips_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no clips"):
        Desk(tmp_path, "ann", make_models())


def test_a_damaged_frame_is_named(page, tree):
    frame_paths(tree, CLIP)[4].write_bytes(b"no picture")
    answer = page.client.get(f"/api/clips/{CLIP}", headers=page.headers)
    assert answer.status_code == 400
    assert "4.jpg" in answer.json()["error"]


def test_media_and_files_of_the_page(page, tree):
    def get(path):
        return page.client.get(path, headers=page.headers)

    frame = get(f"/api/clips/{CLIP}/frames/3.jpg")
    assert frame.content == frame_paths(tree, CLIP)[3].read_bytes()
    assert get(f"/api/clips/{CLIP}/audio.wav").headers["content-type"].endswith("wav")
    assert get(f"/api/clips/{CLIP}/spectrogram.png").content.startswith(b"\x89PNG")
    assert max(get(f"/api/clips/{CLIP}/sound").json()["peaks"]) == 1
    assert b"<title>" in get("/").content
    for name in ("page.js", "masks.js", "page.css"):
        assert get(f"/page/{name}").status_code == 200
    for path in (f"/api/clips/{CLIP}/frames/10.jpg", "/api/clips/other/frames/0.jpg"):
        assert get(path).status_code == 404


# What a person does


def test_each_action_is_on_disk_and_can_be_undone(marked):
    store = AnnotationStore(marked.desk.tree, "ann")  # as another process reads it
    assert near(store.read(CLIP).find(0).masks[2], true_masks(2)["ball"])
    clip = marked.act("undo")
    assert not store.read(CLIP).find(0).masks
    assert clip["can"] == {"undo": True, "redo": True}
    clip = marked.act("redo")
    assert near(mask_of(clip, 0, 2), true_masks(2)["ball"])


def test_the_first_action_can_be_undone(page):
    page.act("add_object", category="ball", super_category="thing")
    clip = page.act("undo")
    assert clip["objects"] == []
    assert clip["state"] == "new"


def test_points_add_and_take_away(marked):
    clip = marked.act("point", fid=0, step=2, points=[[46, 40, 1], [113, 90, 1]])
    both = true_masks(2)["ball"] | true_masks(2)["block"]
    assert near(mask_of(clip, 0, 2), both)
    clip = marked.act("point", fid=0, step=2, points=[[113, 90, 0]])
    assert near(mask_of(clip, 0, 2), true_masks(2)["ball"])


def test_a_box_begins_anew(marked):
    clip = marked.act("point", fid=0, step=2, box=[95, 70, 130, 110])
    assert near(mask_of(clip, 0, 2), true_masks(2)["block"])


def test_brush_and_eraser(marked):
    clip = marked.act("paint", fid=0, step=3, stroke=[[20, 20], [60, 20]], radius=5)
    assert np.array_equal(mask_of(clip, 0, 3), draw_stroke(SIZE, [(20, 20), (60, 20)], 5))
    clip = marked.act("paint", fid=0, step=3, stroke=[[60, 20]], radius=8, erase=True)
    mask = mask_of(clip, 0, 3)
    assert mask[20, 30]
    assert not mask[20, 60]


def test_a_stroke_has_its_width():
    mask = draw_stroke((60, 100), [(20, 30), (80, 30)], 6)
    assert mask[:, 50].sum() == pytest.approx(12, abs=1)
    assert mask[30].sum() == pytest.approx(72, abs=2)


def test_a_candidate_is_taken_by_its_runs(page):
    page.act("add_object", category="ball", super_category="thing")
    found = page.work("detect", step=1, text="")["result"]["candidates"]
    assert [one["label"] for one in found] == ["ball", "block"]
    clip = page.act("set_mask", fid=0, step=1, counts=found[1]["counts"])
    assert near(mask_of(clip, 0, 1), true_masks(1)["block"])
    assert len(page.work("detect", step=1, text="block.")["result"]["candidates"]) == 1


def test_states_of_steps(marked):
    marked.work("track", step=2, fids=[0])
    marked.act("hide", fid=0, step=0)
    marked.act("clear_mask", fid=0, step=1)
    marked.act("accept", fid=0, step=3)
    states = marked.get(f"/api/clips/{CLIP}")["objects"][0]["states"]
    assert states[:5] == ["corrected absent", "missing", "corrected", "corrected", "propagated"]
    states = marked.act("accept", fid=0)["objects"][0]["states"]
    assert states[4] == "corrected"


def test_not_visible_in_a_whole_shot_but_where_there_is_a_mask(marked):
    states = marked.act("hide", fid=0, step=4, shot=True)["objects"][0]["states"]
    assert states[2] == "corrected"
    assert states.count("corrected absent") == CUT - 1
    assert states[CUT:] == ["missing"] * (10 - CUT)


def test_every_key_is_in_the_document():
    page = (server.PAGE / "keys.js").read_text()
    keys = re.findall(r'^    \["([^"]+)", "', page, re.MULTILINE)
    assert len(keys) > 30
    text = DOCUMENT.read_text()
    table = text[text.index("## Keys") : text.index("## Review")]
    for key in keys:
        for name in {"ArrowLeft": ["←"], "ArrowRight": ["→"]}.get(key, key.split(" … ")):
            assert f"`{name}`" in table, name


def test_objects_are_changed_and_removed_with_their_sentences(marked):
    marked.act("add_object", category="block", super_category="thing")
    marked.act("add_sentence", text="The ball.", fid=0)
    marked.act("add_sentence", text="The block.", fid=1)
    clip = marked.act(
        "change_object", fid=1, category="box", super_category="thing", colour="#00ff00"
    )
    assert clip["objects"][1]["category"] == "box"
    clip = marked.act("remove_object", fid=0)
    assert [one["text"] for one in clip["sentences"]] == ["The block."]
    clip = marked.act("add_object", category="ball", super_category="thing")
    assert [thing["fid"] for thing in clip["objects"]] == [0, 1]  # the free number is given again


def test_sounding_intervals(marked):
    clip = marked.act("set_sounding", fid=0, intervals=[[4, 3], [3.5, 5], [7, 7.01], [9, 20]])
    assert clip["objects"][0]["sounding"] == [[3, 5], [9, 10]]
    clip = marked.act("propose_sounding", fid=0)
    assert clip["objects"][0]["sounding"] == [list(pair) for pair in SOUNDING]


def test_intervals_that_touch_become_one():
    assert merge_intervals([(2, 3), (3, 4), (0, 1)]) == ((0, 1), (2, 4))


def test_sentences(marked):
    clip = marked.act("add_sentence", text="  The  ball. ", fid=0)
    assert clip["sentences"][0]["text"] == "The ball."
    clip = marked.act("change_sentence", index=0, text="The dog.", fid=None)
    assert (clip["sentences"][0]["text"], clip["sentences"][0]["fid"]) == ("The dog.", None)
    judged = marked.send(f"/api/clips/{CLIP}/judge", text="The ball.", fid=0).json()
    assert {"remarks", "about"} <= judged.keys()
    marked.act("remove_sentence", index=0)
    taken = marked.send(f"/api/clips/{CLIP}/suggest", fid=0).json()["sentences"]
    for text in taken[:1]:
        marked.act("add_sentence", text=text, fid=0)
        again = marked.send(f"/api/clips/{CLIP}/suggest", fid=0).json()["sentences"]
        assert text not in again


def test_shots_and_split(page):
    assert page.act("toggle_shot", step=3)["shots"] == [3, CUT]
    assert page.act("toggle_shot", step=CUT)["shots"] == [3]
    assert page.act("set_split", split="val")["split"] == "val"


@pytest.mark.parametrize(
    ("action", "body", "words"),
    [
        ("fly", {}, "no action"),
        ("point", {"fid": 0, "step": 10, "points": [[1, 1, 1]]}, "step must lie between 0 and 9"),
        ("point", {"fid": 0, "step": 2.5, "points": [[1, 1, 1]]}, "whole number"),
        ("point", {"fid": 7, "step": 2, "points": [[1, 1, 1]]}, "no object 7"),
        ("point", {"fid": 0, "step": 2}, "points"),
        ("point", {"fid": 0, "step": 2, "points": [[1, 1]]}, "3 numbers"),
        ("point", {"fid": 0, "step": 2, "points": [["a", 1, 1]]}, "must be a number"),
        ("point", {"fid": 0, "step": 2, "points": "all"}, "list"),
        ("paint", {"fid": 0, "step": 5, "stroke": [[1, 1]], "radius": 3, "erase": 1}, "erase"),
        ("paint", {"fid": 0, "step": 5, "stroke": [[1, 1]], "radius": 1e9}, "radius"),
        ("set_mask", {"fid": 0, "step": 5, "counts": [5]}, "RLE"),
        ("set_mask", {"fid": 0, "step": 5, "counts": [-5, 5]}, "RLE"),
        ("accept", {"fid": 0, "step": 5}, "no mask"),
        ("add_object", {"category": "a_b", "super_category": "c"}, "a_b"),
        ("add_object", {"category": "", "super_category": "c"}, "category"),
        ("add_sentence", {"text": "", "fid": 0}, "one line"),
        ("add_sentence", {"text": "x" * 501, "fid": 0}, "500"),
        ("remove_sentence", {"index": 0}, "index"),
        ("set_split", {"split": "all"}, "split"),
        ("toggle_shot", {"step": 0}, "step"),
        ("start/track", {"step": 5, "fids": [0]}, "mark the object first"),
        ("start/track", {"step": 2, "fids": [0], "direction": "up"}, "direction"),
        ("start/dance", {}, "no work"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line_and_changes_nothing(marked, action, body, words):
    assert words in marked.refused(action, **body)


def test_what_is_no_json_is_refused(page, monkeypatch):
    path = f"/api/clips/{CLIP}/undo"
    for content in (b"{", b"[]"):
        answer = page.client.post(path, content=content, headers=page.headers)
        assert answer.status_code == 400
    monkeypatch.setattr(server, "MAX_BODY", 10)
    answer = page.client.post(path, content=json.dumps(list(range(9))), headers=page.headers)
    assert "at most 10 bytes" in answer.json()["error"]


# Models at work


def test_tracking_stays_in_its_shot(marked):
    job = marked.work("track", step=2, fids=[0])
    assert (job["state"], job["done"], job["total"]) == ("done", CUT - 1, CUT - 1)
    clip = marked.get(f"/api/clips/{CLIP}")
    assert clip["objects"][0]["states"][CUT:] == ["missing"] * (10 - CUT)
    for step in range(CUT):
        assert near(mask_of(clip, 0, step), true_masks(step)["ball"])


@pytest.mark.parametrize(
    ("direction", "steps"), [("forward", [2, 3, 4, 5]), ("backward", [0, 1, 2])]
)
def test_tracking_one_way(marked, direction, steps):
    marked.work("track", step=2, fids=[0], direction=direction)
    assert sorted(marked.desk.store.read(CLIP).find(0).masks) == steps


def test_tracking_ends_at_a_corrected_step(marked):
    marked.act("paint", fid=0, step=4, stroke=[[5, 5]], radius=3)
    marked.work("track", step=2, fids=[0])
    thing = marked.desk.store.read(CLIP).find(0)
    assert sorted(thing.masks) == [0, 1, 2, 3, 4]
    assert thing.corrected == {2, 4}
    assert thing.masks[4][5, 5]


def test_tracking_is_one_change_for_undo(marked):
    marked.work("track", step=2, fids=[0])
    marked.act("undo")
    assert sorted(marked.desk.store.read(CLIP).find(0).masks) == [2]


def test_several_objects_are_tracked_at_once(marked):
    marked.act("add_object", category="block", super_category="thing")
    marked.act("point", fid=1, step=2, points=[[113, 90, 1]])
    marked.work("track", step=2, fids=[0, 1])
    clip = marked.get(f"/api/clips/{CLIP}")
    assert near(mask_of(clip, 1, 5), true_masks(5)["block"])
    assert near(mask_of(clip, 0, 5), true_masks(5)["ball"])


class SlowTracker(ColourTracker):
    """Waits after its first frame until it is let go."""

    def __init__(self):
        self.begun, self.go = threading.Event(), threading.Event()

    def track(self, frames, pivot, masks):
        for number, found in enumerate(super().track(frames, pivot, masks)):
            yield found
            if number == 0:
                self.begun.set()
                assert self.go.wait(60)


@pytest.fixture
def slow(tree):
    tracker = SlowTracker()
    page = Page(tree, models=replace(make_models(), tracker=tracker))
    page.tracker = tracker
    page.act("add_object", category="ball", super_category="thing")
    page.act("point", fid=0, step=2, points=[[46, 40, 1]])
    page.send(f"/api/clips/{CLIP}/start/track", step=2, fids=[0])
    assert tracker.begun.wait(60)
    yield page
    tracker.go.set()
    page.wait()


def test_one_model_at_a_time_and_what_is_done_by_hand_meanwhile_stays(slow):
    job = slow.get("/api/job")
    assert (job["state"], job["done"], job["total"]) == ("running", 1, 5)
    assert "at work" in slow.refused("start/track", step=2, fids=[0])
    assert "at work" in slow.refused("point", fid=0, step=2, points=[[1, 1, 1]])
    slow.act("paint", fid=0, step=4, stroke=[[5, 5]], radius=3)
    slow.tracker.go.set()
    assert slow.wait()["state"] == "done"
    thing = slow.desk.store.read(CLIP).find(0)
    assert sorted(thing.masks) == [0, 1, 2, 3, 4, 5]
    assert thing.masks[4][5, 5]


def test_cancelled_work_changes_nothing(slow):
    slow.send("/api/cancel")
    slow.tracker.go.set()
    assert slow.wait()["state"] == "cancelled"
    assert sorted(slow.desk.store.read(CLIP).find(0).masks) == [2]


def test_a_model_that_fails_is_heard_of(tree):
    class Broken(ColourTracker):
        def track(self, frames, pivot, masks):
            raise RuntimeError("out of memory")

    page = Page(tree, models=replace(make_models(), tracker=Broken()))
    page.act("add_object", category="ball", super_category="thing")
    page.act("point", fid=0, step=2, points=[[46, 40, 1]])
    job = page.work("track", step=2, fids=[0])
    assert (job["state"], job["error"]) == ("failed", "track: out of memory")


def test_without_detector_and_sound_proposer(tree):
    models = make_models()
    page = Page(tree, models=AnnotationModels(models.segmenter, models.tracker))
    assert not page.get("/api/clips")["can_detect"]
    page.act("add_object", category="ball", super_category="thing")
    assert "--detector" in page.refused("start/detect", step=0)
    assert "hears" in page.refused("propose_sounding", fid=0)


# The whole


def annotate(page, shift=0.0):
    page.act("add_object", category="ball", super_category="thing")
    page.act("add_object", category="block", super_category="thing")
    for fid, step, x, y in ((0, 2, 46, 40), (1, 2, 113, 90), (0, 8, 94, 40)):
        page.act("point", fid=fid, step=step, points=[[x + shift, y, 1]])
        page.work("track", step=step, fids=[fid])
    for step in range(CUT, 10):
        page.act("hide", fid=1, step=step)
    page.act("set_sounding", fid=0, intervals=[[1, 3]])


def test_a_finished_tree_passes_the_check(page, tree):
    annotate(page)
    assert page.get("/api/clips")["clips"][0]["state"] == "begun"
    assert "unfinished" in page.send("/api/write").json()["error"]
    page.act("add_sentence", text="The ball that makes a sound.", fid=0)
    assert page.get("/api/clips")["clips"][0]["state"] == "ready"
    answer = page.send("/api/write").json()
    assert answer["can_train"], answer["report"]
    assert check_tree(tree).can_train


def test_a_review_hides_the_masks_and_then_says_how_they_agree(page, tree):
    annotate(page)
    reviewer = Page(tree, "second", review="ann")
    clip = reviewer.get(f"/api/clips/{CLIP}")
    assert [thing["category"] for thing in clip["objects"]] == ["ball", "block"]
    assert not any(thing["masks"] or thing["sounding"] for thing in clip["objects"])
    assert reviewer.get(f"/api/clips/{CLIP}/compare")["objects"] == []
    reviewer.act("point", fid=0, step=3, points=[[54, 40, 1]])
    reviewer.act("paint", fid=0, step=3, stroke=[[54, 62]], radius=8)
    answer = reviewer.get(f"/api/clips/{CLIP}/compare")
    assert [one["category"] for one in answer["objects"]] == ["ball"]
    assert list(answer["objects"][0]["masks"]) == ["3"]  # of no frame that was not done anew
    assert 0.5 < answer["objects"][0]["mean"] < 0.95


def test_a_review_needs_somebody_elses_annotations(page, tree):
    with pytest.raises(ValueError, match="no clip"):
        Desk(tree, "second", make_models(), "ann")
    annotate(page)
    with pytest.raises(ValueError, match="somebody else"):
        Desk(tree, "ann", make_models(), "ann")
    assert (
        "nobody is reviewed"
        in page.client.get(f"/api/clips/{CLIP}/compare", headers=page.headers).json()["error"]
    )


# Who is let in


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Token": "guessed"},
        {"X-Token": TOKEN, "Host": "evil.example"},
        {"X-Token": TOKEN, "Host": "127.0.0.1.evil.example:7870"},
        {"X-Token": TOKEN, "Origin": "https://evil.example"},
        {"X-Token": TOKEN, "Origin": "null"},
    ],
)
def test_who_is_not_let_in(page, headers):
    for path in ("/", "/api/clips", f"/api/clips/{CLIP}/frames/0.jpg"):
        assert page.client.get(path, headers=headers).status_code == 403
    answer = page.client.post(f"/api/clips/{CLIP}/hide", headers=headers, json={})
    assert answer.status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "localhost:9000", "Origin": "http://localhost:9000"},  # through ssh
        {"Host": "127.0.0.1:7870", "Origin": "http://127.0.0.1:7870"},
        {"Host": "[::1]:7870"},
    ],
)
def test_who_is_let_in(page, headers):
    assert page.client.get("/api/clips", headers={**headers, "X-Token": TOKEN}).is_success
    assert page.client.get(f"/?token={TOKEN}", headers=headers).is_success


def test_no_other_page_may_show_this_one_or_learn_its_address(page):
    headers = page.client.get(f"/?token={TOKEN}").headers
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["referrer-policy"] == "no-referrer"
    assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize("name", ["..", "%2e%2e%2fmedia", "..%2f..%2fsecret"])
def test_no_file_beside_the_clips_is_served(page, tree, name):
    (tree.parent / "secret").mkdir(exist_ok=True)
    answer = page.client.get(f"/api/clips/{name}/audio.wav", headers=page.headers)
    assert answer.status_code == 404
    answer = page.client.get("/page/%2e%2e%2fserver.py", headers=page.headers)
    assert answer.status_code == 404


def test_one_process_an_annotator(page, tree):
    with ExitStack() as first, ExitStack() as second:
        server.lock_annotator(page.desk, first)
        with pytest.raises(ValueError, match="another `refavs annotate` serves ann"):
            server.lock_annotator(Desk(tree, "ann", make_models()), second)
        server.lock_annotator(Desk(tree, "other", make_models()), second)


def test_a_port_in_use_is_refused():
    with server.open_port(0) as listener:
        listener.listen()
        assert listener.getsockname()[0] == "127.0.0.1"
        with pytest.raises(ValueError, match="in use"):
            server.open_port(listener.getsockname()[1])


# Media


def test_shots_are_proposed_where_colours_change(tree):
    frames = read_clip_frames(tree, CLIP)
    assert propose_shots(frames) == (CUT,)
    assert propose_shots(frames[:CUT]) == ()


def test_the_sound_is_drawn_where_it_is(tree):
    samples = read_clip_samples(tree, CLIP)
    peaks = np.array(find_peaks(samples))
    assert peaks[110:290].min() > 0.9
    assert peaks[310:640].max() < 0.1
    assert draw_spectrogram(samples).startswith(b"\x89PNG")
    assert draw_spectrogram(np.zeros_like(samples)).startswith(b"\x89PNG")
