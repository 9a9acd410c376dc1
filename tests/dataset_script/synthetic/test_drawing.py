from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from dataset_script.synthetic import Scene
from dataset_script.synthetic.drawing import draw
from dataset_script.synthetic.objects import CATEGORIES, SILHOUETTES
from dataset_script.synthetic.scene import SceneObject


def make_object(fid=0, category="bell", place=(0.5, 0.5), radius=0.2, **changes):
    item = SceneObject(fid, category, "red", "plain", radius, place, "still", 0.0, (0.0, 10.0), fid)
    return replace(item, **changes)


def make_scene(*objects, width=1.0, height=1.0):
    return Scene(seed=3, seconds=10.0, width=width, height=height, objects=objects)


def test_stored_masks_are_what_the_stored_scene_draws(benchmark_folder, stored_clips):
    for name, stored in list(stored_clips.items())[:20]:
        scene = Scene.from_json(stored["scene"])
        assert Scene.from_json(scene.to_json()) == scene
        for number in range(10):
            _, expected = draw(scene, float(number), 96, 96)
            for path in sorted((benchmark_folder / "gt_mask" / name).iterdir()):
                mask = np.asarray(Image.open(path / f"{number:05d}.png"))
                fid = int(path.name.removeprefix("fid_"))
                assert set(np.unique(mask)) <= {0, 255}
                null = name.startswith("null_")
                np.testing.assert_array_equal(mask > 0, expected[fid] & (not null))


def test_masks_never_overlap_and_are_empty_off_stage_only(stored_clips):
    hidden = 0
    for name, stored in stored_clips.items():
        if name.startswith("null_"):
            continue
        scene = Scene.from_json(stored["scene"])
        for time in range(10):
            _, masks = draw(scene, float(time), 96, 96)
            assert masks.sum(0).max() <= 1
            for item, mask in zip(scene.objects, masks, strict=True):
                on_stage = item.presence[0] <= time <= item.presence[1]
                assert mask.any() == on_stage, (name, item.fid, time)
                hidden += not on_stage
    assert hidden > 20


def test_an_object_is_never_mostly_hidden(stored_clips):
    shares = []
    for stored in stored_clips.values():
        scene = Scene.from_json(stored["scene"])
        for time in (0.0, 5.0, 9.0):
            _, masks = draw(scene, time, 96, 96)
            for item in scene.objects:
                alone = replace(scene, objects=(replace(item, fid=0),))
                whole = draw(alone, time, 96, 96)[1].sum()
                if whole:
                    shares.append(masks[item.fid].sum() / whole)
    assert min(shares) > 0.3
    assert np.mean(np.array(shares) < 0.98) > 0.03, "occlusion happens"


def test_the_nearer_object_covers_the_farther():
    near, far = make_object(0, place=(0.45, 0.5)), make_object(1, "drum", place=(0.65, 0.5))
    _, masks = draw(make_scene(near, far), 0.0, 96, 96)
    _, other = draw(make_scene(replace(near, depth=1), replace(far, depth=0)), 0.0, 96, 96)
    assert masks[0].sum() > other[0].sum()
    assert masks[1].sum() < other[1].sum()


def test_the_farther_object_shows_through_no_edge():
    frame, masks = draw(make_scene(make_object()), 0.0, 96, 96)
    red = frame[..., 0].astype(int) - frame[..., 1]
    assert red[masks[0]].min() > red[~masks[0]].mean()


@pytest.mark.parametrize("category", CATEGORIES)
def test_silhouettes_are_large_and_unlike_each_other(category):
    assert set(SILHOUETTES) == set(CATEGORIES)
    own = draw(make_scene(make_object(category=category)), 0.0, 96, 96)[1][0]
    assert 0.2 < own.sum() / (0.4 * 96) ** 2 < 1.0
    for other in set(CATEGORIES) - {category}:
        mask = draw(make_scene(make_object(category=other)), 0.0, 96, 96)[1][0]
        assert (own & mask).sum() / (own | mask).sum() < 0.87, other


def test_front_and_behind_are_seen_to_overlap(stored_clips):
    for stored in stored_clips.values():
        scene = Scene.from_json(stored["scene"])
        for said in stored["expressions"]:
            if said["fid"] is None or said["slots"].get("place") not in ("in front", "behind"):
                continue
            mark = next(i.fid for i in scene.objects if i.category == said["slots"]["other"])
            rear = mark if said["slots"]["place"] == "in front" else said["fid"]
            front = said["fid"] if rear == mark else mark
            pair = (replace(scene.objects[rear], fid=0), replace(scene.objects[front], fid=1))
            _, both = draw(replace(scene, objects=pair), 0.0, 96, 96)
            _, alone = draw(replace(scene, objects=pair[:1]), 0.0, 96, 96)
            assert both[0].sum() < alone[0].sum()


def test_any_size_shows_the_same_scene():
    scene = make_scene(make_object(place=(0.9, 0.4)), width=1.5)
    small, large = draw(scene, 2.0, 64, 96)[1][0], draw(scene, 2.0, 256, 384)[1][0]
    assert small.shape == (64, 96)
    shrunk = np.asarray(Image.fromarray(large).resize((96, 64), Image.Resampling.BOX))
    assert (small & shrunk).sum() / (small | shrunk).sum() > 0.9


def test_frames_of_a_clip_differ_by_noise_and_motion_only():
    scene = make_scene(make_object(motion="spinning"), make_object(1, place=(0.2, 0.2), radius=0.1))
    (first, before), (second, after) = draw(scene, 0.0, 96, 96), draw(scene, 1.0, 96, 96)
    assert (before[0] != after[0]).sum() > 50
    np.testing.assert_array_equal(before[1], after[1])
    background = ~(before | after).any(0)
    change = first[background].astype(int) - second[background]
    assert 2 < change.std() < 8
    np.testing.assert_array_equal(first, draw(scene, 0.0, 96, 96)[0])
