"""Masks in COCO's and CVAT's files: read back they are the masks, of the pictures that they
name."""

import json
from dataclasses import replace
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from modeling_refavs.inference.export import (
    bounding_box,
    cvat_mask,
    labels_of,
    write_coco,
    write_cvat,
)
from modeling_refavs.inference.segment import Timeline, segment_video
from modeling_refavs.mask_rle import decode_rle


LONG = (
    "the dog that sits on the left of the red sofa and barks before anybody else in the room does"
)
SENTENCES = ["the left half", "everything", LONG]


@pytest.fixture
def result(write_clip, fake_model):
    """Three seconds of a variable frame rate; the second sentence's object is not to be seen in the
    second one."""
    path = write_clip(times=(0, 0.4, 0.9, 1.3, 1.999, 2.0, 2.5), end=3.0, size=(62, 46))
    result = segment_video(*fake_model, path, SENTENCES)
    result.presence[1, 1] = 0.1
    return result


def test_the_pictures_are_those_on_display(result):
    items = list(result.masked_frames())
    starts = {item.step: item for item in items if item.starts_step}
    assert {step: item.frame.index for step, item in starts.items()} == {0: 0, 1: 2, 2: 5}
    assert [item.frame.index for item in items if item.is_shown] == list(range(7))
    assert [item.step for item in items if item.is_shown] == [0, 0, 0, 1, 1, 2, 2]
    for step, item in starts.items():
        assert item.frame.time <= step < item.frame.end
    for item in items:
        np.testing.assert_array_equal(item.masks, result.masks(item.step))


def test_masks_are_up_sampled_once_a_step(result, fake_model, monkeypatch):
    sizes = []
    post_process = fake_model[1].post_process_masks
    monkeypatch.setattr(
        fake_model[1], "post_process_masks", lambda *args: sizes.append(1) or post_process(*args)
    )
    assert len(list(result.masked_frames())) > 3
    assert len(sizes) == 3


def test_masks_at_the_videos_frame_rate_have_a_picture_each(write_clip, fake_model):
    result = segment_video(*fake_model, write_clip(), SENTENCES)
    presence = np.repeat(result.presence, 10, axis=1)
    dense = replace(result, timeline=Timeline(10, 1), presence=presence)
    items = list(dense.masked_frames())
    assert [(item.frame.index, item.step) for item in items] == [(step, step) for step in range(30)]
    assert all(item.starts_step and item.is_shown for item in items)


def test_coco_holds_the_masks(result, tmp_path):
    write_coco(result, tmp_path / "coco.json")
    coco = json.loads((tmp_path / "coco.json").read_text())
    assert [category["name"] for category in coco["categories"]] == SENTENCES
    assert [image["file_name"] for image in coco["images"]] == [
        "frame_000000.png",
        "frame_000002.png",
        "frame_000005.png",
    ]
    assert [image["seconds"] for image in coco["images"]] == [0, 1, 2]
    masks = {(entry["image_id"], entry["category_id"]): entry for entry in coco["annotations"]}
    assert len(masks) == len(coco["annotations"])
    for step in range(3):
        for expression, mask in enumerate(result.masks(step)):
            entry = masks.pop((step + 1, expression + 1), None)
            assert (entry is not None) == mask.any()
            if entry:
                np.testing.assert_array_equal(decode_rle(entry["segmentation"]), mask)
                left, top, width, height = entry["bbox"]
                assert (
                    mask[top : top + height, left : left + width].sum()
                    == mask.sum()
                    == entry["area"]
                )
                assert entry["score"] == pytest.approx(result.presence[expression, step], abs=1e-4)
    assert not masks


def test_pycocotools_opens_it(result, tmp_path):
    coco_tools = pytest.importorskip("pycocotools.coco")
    mask_tools = pytest.importorskip("pycocotools.mask")
    write_coco(result, tmp_path / "coco.json")
    coco = coco_tools.COCO(str(tmp_path / "coco.json"))
    assert coco.getImgIds() == [1, 2, 3]
    for entry in coco.loadAnns(coco.getAnnIds()):
        mask = result.masks(entry["image_id"] - 1)[entry["category_id"] - 1]
        np.testing.assert_array_equal(coco.annToMask(entry), mask)
        assert mask_tools.area(entry["segmentation"]) == entry["area"]
        assert mask_tools.toBbox(entry["segmentation"]).tolist() == entry["bbox"]
    detections = coco.loadRes(
        [{**entry} for entry in coco.dataset["annotations"]]
    )  # as COCO's evaluation reads them
    assert len(detections.getAnnIds()) == len(coco.getAnnIds())


def read_cvat_mask(element: ET.Element, size: tuple[int, int]) -> np.ndarray:
    """As CVAT does it: whole numbers, runs along the rows of the box, zeros first."""
    left, top, width, height = (
        int(element.get(name)) for name in ("left", "top", "width", "height")
    )
    runs = [int(run) for run in element.get("rle").split(",")]
    assert sum(runs) == width * height
    pixels = [value for index, run in enumerate(runs) for value in [index % 2] * run]
    mask = np.zeros(size, dtype=bool)
    mask[top : top + height, left : left + width] = np.reshape(pixels, (height, width))
    return mask


def test_cvat_holds_the_masks(result, tmp_path):
    write_cvat(result, tmp_path / "cvat.xml")
    root = ET.parse(tmp_path / "cvat.xml").getroot()
    assert (root.tag, root.findtext("version")) == ("annotations", "1.1")
    labels = [label.findtext("name") for label in root.findall("meta/task/labels/label")]
    assert labels == labels_of(SENTENCES)
    assert root.findtext("meta/task/size") == "7"
    assert root.findtext("meta/task/original_size/width") == "62"
    images = root.findall("image")
    assert [image.attrib for image in images] == [
        {"id": str(frame), "name": f"frame_{frame:06d}.png", "width": "62", "height": "46"}
        for frame in (0, 2, 5)
    ]
    for step, image in enumerate(images):
        found = {element.get("label"): element for element in image}
        for label, mask in zip(labels, result.masks(step), strict=True):
            assert (label in found) == mask.any()
            if mask.any():
                element = found[label]
                assert (element.tag, element.get("source")) == ("mask", "auto")
                assert {"occluded", "z_order"} <= set(element.attrib)
                np.testing.assert_array_equal(read_cvat_mask(element, (46, 62)), mask)


def test_cvat_reads_masks_of_any_shape():
    mask = np.zeros((9, 12), dtype=bool)
    mask[2:7, 3] = mask[6, 3:10] = mask[4, 8] = True
    np.testing.assert_array_equal(
        read_cvat_mask(ET.Element("mask", cvat_mask(mask)), mask.shape), mask
    )


def test_labels_are_short_enough_for_cvat_and_differ():
    labels = labels_of((LONG, f"{LONG} twice", "a dog"))
    assert all(len(label) <= 64 for label in labels)
    assert len(set(labels)) == 3
    assert labels[2] == "a dog"


def test_the_box_is_tight():
    mask = np.zeros((5, 7), dtype=bool)
    mask[1:3, 2:6] = True
    mask[4, 3] = True
    assert bounding_box(mask) == (2, 1, 4, 4)
