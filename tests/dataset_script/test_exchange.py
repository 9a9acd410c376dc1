"""Own videos in other data sets' forms become a tree, and a tree becomes theirs."""

import json
import wave
import xml.etree.ElementTree as ET
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dataset_script.annotations import read_annotations
from dataset_script.checking import check_tree
from dataset_script.export_videos import davis_palette, export_videos
from dataset_script.import_videos import import_videos
from dataset_script.media_files import frame_paths, mask_paths, read_mask, sound_path, write_mask
from dataset_script.taxonomy import read_taxonomy
from dataset_script.video_forms import FORMS
from modeling_refavs.cli import main
from modeling_refavs.inference import loading
from tests.media_kit import (
    FakeModel,
    FakeProcessor,
    beep_of,
    beeps,
    counter,
    number_of,
    write_clip,
    write_movie,
)


__all__ = ["write_clip"]  # a fixture


@pytest.fixture
def apart(tree: Path) -> Path:
    """A tree whose objects do not overlap, and are not all to be seen all the time."""
    for clip_id in ("-aaaaaaaaaa_0_10000", "ddddddddddd_0_10000"):
        for step, (first, second) in enumerate(
            zip(mask_paths(tree, clip_id, 0), mask_paths(tree, clip_id, 1), strict=True)
        ):
            write_mask(second, read_mask(second) & ~read_mask(first) & (step != 4))
    return tree


def rows_of(tree: Path) -> list[tuple]:
    rows = read_annotations(tree / "metadata.csv").rows
    return [(row.split, row.vid, row.uid, row.fid, row.raw_expression) for row in rows]


@pytest.mark.parametrize("form", FORMS)
def test_there_and_back_is_the_same_tree(form, apart, tmp_path):
    assert export_videos(form, apart, tmp_path / "out") == {"clips": 6, "sentences": 25}
    counts = import_videos(form, tmp_path / "out", tmp_path / "back")
    assert counts == {"videos": 6, "clips": 6, "sentences": 25, "silent_videos": 0}
    back = tmp_path / "back"
    assert rows_of(back) == rows_of(apart)
    clips = {row[2].rsplit("_", 2)[0]: row[3] for row in rows_of(apart)}
    for clip_id in clips:
        for paths in (frame_paths, lambda *place: [sound_path(*place)]):
            for one, other in zip(paths(back, clip_id), paths(apart, clip_id), strict=True):
                assert one.read_bytes() == other.read_bytes()
    for _, _, uid, fid, _ in rows_of(apart):
        if not uid.startswith("null_"):
            pairs = (mask_paths(root, uid.rsplit("_", 2)[0], fid) for root in (back, apart))
            for one, other in zip(*pairs, strict=True):
                np.testing.assert_array_equal(read_mask(one), read_mask(other))
    assert {path.name for path in (back / "media").iterdir()} == clips.keys()
    assert read_taxonomy(back).categories.items() <= read_taxonomy(apart).categories.items()
    before, after = check_tree(apart), check_tree(back)
    assert after.can_train
    assert set(after.counts) <= {*before.counts, "seen_in_test_u", "null_without_masks"}


def test_masks_and_boxes_are_those_of_coco(apart, tmp_path):
    coco = pytest.importorskip("pycocotools.mask")
    for form in ("youtube-vis", "coco", "mevis"):
        export_videos(form, apart, tmp_path / form)
    clip_id = "-aaaaaaaaaa_0_10000"
    truth = [read_mask(path) for path in mask_paths(apart, clip_id, 1)]
    youtube = json.loads((tmp_path / "youtube-vis/instances.json").read_text())
    assert youtube["videos"][0]["file_names"][9] == f"{clip_id}/00009.jpg"
    row = youtube["annotations"][1]
    images = json.loads((tmp_path / "coco/instances.json").read_text())
    place = {image["file_name"]: image["id"] for image in images["images"]}
    mevis = json.loads((tmp_path / "mevis/meta_expressions.json").read_text())["videos"][clip_id]
    (name,) = mevis["expressions"]["3"]["anno_id"]
    runs = json.loads((tmp_path / "mevis/mask_dict.json").read_text())[str(name)]
    for step, mask in enumerate(truth):
        found = [
            entry
            for entry in images["annotations"]
            if entry["image_id"] == place[f"{clip_id}/{step:05d}.jpg"] and entry["track_id"] == 1
        ]
        if not mask.any():
            assert row["segmentations"][step] is row["bboxes"][step] is runs[step] is None
            assert not found
            continue
        rles = [row["segmentations"][step], found[0]["segmentation"], runs[step]]
        for rle in rles:
            np.testing.assert_array_equal(coco.decode(rle), mask)
            assert row["areas"][step] == found[0]["area"] == coco.area(rle)
            assert row["bboxes"][step] == found[0]["bbox"] == coco.toBbox(rle).tolist()


def test_pictures_of_numbers_have_the_colours_of_davis(apart, tmp_path):
    colours = davis_palette()
    known = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128)]
    assert [tuple(colour) for colour in colours[:6].tolist()] == known
    assert colours[[8, 20, 255]].tolist() == [[64, 0, 0], [0, 64, 128], [224, 224, 192]]
    export_videos("ref-youtube-vos", apart, tmp_path / "out")
    path = tmp_path / "out/Annotations/-aaaaaaaaaa_0_10000/00003.png"
    with Image.open(path) as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(
            np.asarray(image) == 2, read_mask(mask_paths(apart, "-aaaaaaaaaa_0_10000", 1)[3])
        )
        assert image.getpalette()[:9] == [0, 0, 0, 128, 0, 0, 0, 128, 0]


def test_objects_that_overlap_fit_in_no_picture_of_numbers(tree, tmp_path):
    with pytest.raises(ValueError, match=r"-aaaaaaaaaa_0_10000, step 0: object 2 overlaps"):
        export_videos("ref-youtube-vos", tree, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# Sources as others make them


def write_json(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_numbers(folder: Path, names: list[str], size=(64, 48)) -> None:
    """Object 1 is as many columns wide as the frame's number says, object 2 the column after."""
    folder.mkdir(parents=True)
    for name in names:
        picture = np.zeros(size[::-1], dtype=np.uint8)
        picture[:, : int(name) % 60] = 1
        picture[:, int(name) % 60] = 2
        image = Image.fromarray(picture, mode="P")
        image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
        image.save(folder / f"{name}.png")


def write_frames(folder: Path, names: list[str], suffix: str = ".jpg") -> None:
    folder.mkdir(parents=True)
    for name in names:
        picture = Image.fromarray(counter(int(name), (64, 48)))
        picture.save(folder / f"{name}{suffix}", quality=95)


def shown(tree: Path, clip_id: str) -> list[int]:
    return [
        number_of(np.asarray(Image.open(path).convert("RGB")))
        for path in frame_paths(tree, clip_id)
    ]


def heard(tree: Path, clip_id: str) -> list[int | None]:
    with wave.open(str(sound_path(tree, clip_id))) as file:
        rate, data = file.getframerate(), file.readframes(file.getnframes())
    samples = np.frombuffer(data, dtype="<i2") / 32768
    assert len(samples) == 10 * rate
    return [beep_of(second, rate) for second in np.split(samples, 10)]


def widths(tree: Path, clip_id: str, fid: int) -> list[int]:
    return [int(read_mask(path).any(axis=0).sum()) for path in mask_paths(tree, clip_id, fid)]


def test_ref_youtube_vos_as_it_is_published(tmp_path):
    """Every fifth of 30 frames a second, expressions in a folder beside, no sound, 4 s."""
    names = [f"{number:05d}" for number in range(0, 125, 5)]
    write_frames(tmp_path / "train/JPEGImages/0a1b", names)
    write_numbers(tmp_path / "train/Annotations/0a1b", names)
    expressions = {
        "0": {"exp": "a giant panda", "obj_id": "1"},
        "1": {"exp": "the  cub", "obj_id": "2"},
    }
    videos = {"0a1b": {"expressions": expressions, "frames": names}}
    write_json(tmp_path / "meta_expressions/train/meta_expressions.json", {"videos": videos})
    objects = {"1": {"category": "giant_panda", "frames": names}}
    write_json(tmp_path / "train/meta.json", {"videos": {"0a1b": {"objects": objects}}})
    tree = tmp_path / "tree"
    counts = import_videos("ref-youtube-vos", tmp_path / "train", tree, frame_rate=30)
    assert counts == {"videos": 1, "clips": 1, "sentences": 2, "silent_videos": 1}
    clip_id = "0a1b_0_10000"
    assert shown(tree, clip_id) == [0, 30, 60, 90, 120, 120, 120, 120, 120, 120]
    assert widths(tree, clip_id, 0) == [0, 30, 0, 30, 0, 0, 0, 0, 0, 0]
    assert heard(tree, clip_id) == [None] * 10
    assert rows_of(tree) == [
        ("train", clip_id, f"{clip_id}_giant panda_1", 0, "a giant panda"),
        ("train", clip_id, f"{clip_id}_object_1", 1, "the  cub"),
    ]
    assert check_tree(tree).can_train


def test_mevis_with_several_objects_and_none(tmp_path):
    """Objects count from 0; a sentence may mean two, or nothing."""
    names = [f"{number:05d}" for number in range(10)]
    write_frames(tmp_path / "JPEGImages/v", names)
    blocks = np.zeros((2, 48, 64), dtype=bool)
    blocks[0, :, :8], blocks[1, :10, 20:30] = True, True
    runs = [{"size": [48, 64], "counts": [0, 8 * 48, 56 * 48]}, None]
    runs = [[runs[0]] * 10, [{"size": [48, 64], "counts": column_runs(blocks[1])}] * 9 + [None]]
    write_json(tmp_path / "mask_dict.json", {"1166": runs[0], "1167": runs[1]})
    expressions = {
        "0": {"exp": "moving left", "obj_id": [0], "anno_id": [1166]},
        "1": {"exp": "both", "obj_id": [0, 1], "anno_id": [1166, 1167]},
        "2": {"exp": "nothing", "obj_id": [], "anno_id": []},
        "3": {"exp": "the other", "obj_id": [1], "anno_id": [1167]},
    }
    entry = {"expressions": expressions, "frames": names, "fps": 1}
    write_json(tmp_path / "meta_expressions.json", {"videos": {"v": entry}})
    import_videos("mevis", tmp_path, tmp_path / "tree", split="val")
    rows = rows_of(tmp_path / "tree")
    assert [(row[2], row[3]) for row in rows] == [
        ("null_c-v_0_10000_null_1", 0),
        ("v_0_10000_object_1", 0),
        ("v_0_10000_object_2", 2),
        ("v_0_10000_object_3", 1),
    ]
    masks = [
        [read_mask(path) for path in mask_paths(tmp_path / "tree", "v_0_10000", fid)]
        for fid in range(3)
    ]
    np.testing.assert_array_equal(masks[0][0], blocks[0])
    np.testing.assert_array_equal(masks[1][8], blocks[1])
    np.testing.assert_array_equal(masks[2][8], blocks[0] | blocks[1])
    np.testing.assert_array_equal(masks[2][9], blocks[0])
    report = check_tree(tmp_path / "tree")
    assert set(report.counts) <= {"null_without_masks", "leaked_clip", "leaked_video"}


def column_runs(mask: np.ndarray) -> list[int]:
    """COCO's uncompressed runs, one pixel after the other."""
    runs, value = [0], False
    for pixel in mask.ravel(order="F"):
        if pixel != value:
            runs.append(0)
            value = pixel
        runs[-1] += 1
    return runs


@pytest.mark.parametrize("beside", [False, True], ids=["its own sound", "a WAV beside it"])
def test_a_video_of_more_than_ten_seconds(tmp_path, beside):
    """Masks of every fourth of its 8 frames a second; the second clip is held and falls silent."""
    movie = tmp_path / "videos/v.mkv"
    movie.parent.mkdir()
    pictures = [counter(number) for number in range(98)]  # 12.25 s
    sound = None if beside else beeps(12)
    write_movie(movie, pictures, rate=8, sound=sound, sound_codec="pcm_s16le", options={"crf": "4"})
    if beside:
        with wave.open(str(tmp_path / "audio.wav"), "wb") as file:
            file.setparams((1, 2, 16000, 0, "NONE", ""))
            file.writeframes((beeps(12)[0] * 32767).astype("<i2").tobytes())
        (tmp_path / "audio.wav").rename(tmp_path / "videos/v.wav")
    names = [f"{number:05d}" for number in range(0, 98, 4)]
    write_numbers(tmp_path / "Annotations/v", names)
    entry = {"expressions": {"0": {"exp": "it", "obj_id": 1}}, "frames": names}
    write_json(tmp_path / "meta_expressions.json", {"videos": {"v": entry}})
    tree = tmp_path / "tree"
    assert import_videos("ref-youtube-vos", tmp_path, tree)["clips"] == 2
    assert shown(tree, "v_0_10000") == list(range(0, 80, 8))
    assert shown(tree, "v_10000_20000") == [80, 88] + [96] * 8
    assert widths(tree, "v_10000_20000", 0) == [20, 28] + [36] * 8
    assert heard(tree, "v_0_10000") == list(range(10))
    assert heard(tree, "v_10000_20000") == [10, 11] + [None] * 8
    assert check_tree(tree).can_train


@pytest.mark.parametrize(("rate", "first"), [(Fraction(30000, 1001), 30), (25, 25), (7, 7)])
def test_the_frame_nearest_to_each_second_is_taken(tmp_path, rate, first):
    write_movie(tmp_path / "v.mkv", [counter(n) for n in range(60)], rate=rate)
    names = [f"{number:05d}" for number in range(60)]
    write_numbers(tmp_path / "Annotations/v", names)
    entry = {"expressions": {"0": {"exp": "it", "obj_id": 1}}, "frames": names}
    write_json(tmp_path / "meta_expressions.json", {"videos": {"v": entry}})
    import_videos("ref-youtube-vos", tmp_path, tmp_path / "tree")
    assert shown(tmp_path / "tree", "v_0_10000")[1] == first


def test_what_segment_wrote_is_read_again(write_clip, tmp_path, monkeypatch):
    """`refavs segment --coco`, mended by hand, is data to learn from."""
    monkeypatch.setattr(loading, "load_model", lambda *_: (FakeModel(), FakeProcessor()))
    movie = write_clip("clip.mkv", sound=[(0.0, beeps(3))])
    coco = movie.with_suffix(".json")
    words = ["the left half", "everything", "nothing", "--model", "m"]
    outputs = ["--coco", str(coco), "--masks", str(tmp_path / "masks")]
    outputs += ["--output", str(tmp_path / "out.mp4")]
    assert main(["segment", str(movie), *words, *outputs]) == 0
    tree = tmp_path / "tree"
    assert main(["dataset", "import", "coco", str(coco), str(tree)]) == 0
    rows = rows_of(tree)
    assert [(row[2], row[3], row[4]) for row in rows] == [
        ("clip_0_10000_object_1", 0, "the left half"),
        ("clip_0_10000_object_2", 1, "everything"),
    ]
    for fid, name in enumerate(("1_the-left-half", "2_everything")):
        paths = mask_paths(tree, "clip_0_10000", fid)
        for step in range(10):
            answer = read_mask(tmp_path / "masks" / name / f"{min(step, 2):05d}.png")
            assert answer.any()
            np.testing.assert_array_equal(read_mask(paths[step]), answer)
    assert heard(tree, "clip_0_10000") == [0, 1, 2] + [None] * 7


def test_annotations_hold_their_own_sentences(tmp_path):
    names = [f"{number:05d}" for number in range(10)]
    write_frames(tmp_path / "JPEGImages/v", names, ".png")
    rle = {"size": [48, 64], "counts": [0, 48 * 64]}
    annotation = {
        "id": 7,
        "video_id": 3,
        "category_id": 1,
        "segmentations": [rle] * 10,
        "expressions": ["the dog", "what barks"],
    }
    content = {
        "videos": [{"id": 3, "file_names": [f"v/{name}.jpg" for name in names]}],
        "annotations": [annotation],
        "categories": [{"id": 1, "name": "dog", "supercategory": "animal"}],
    }
    write_json(tmp_path / "instances.json", content)
    import_videos("youtube-vis", tmp_path, tmp_path / "tree", frame_rate=1)
    rows = rows_of(tmp_path / "tree")
    assert [(row[2], row[4]) for row in rows] == [
        ("v_0_10000_dog_1", "the dog"),
        ("v_0_10000_dog_2", "what barks"),
    ]
    assert read_taxonomy(tmp_path / "tree").super_category("dog") == "animal"


def test_a_camera_writes_its_endings_large(tmp_path):
    movie = write_movie(tmp_path / "v.mkv", [counter(n) for n in range(20)], rate=2)
    movie.rename(tmp_path / "v.MKV")
    names = [f"{number:05d}" for number in range(20)]
    write_numbers(tmp_path / "Annotations/v", names)
    entry = {"expressions": {"0": {"exp": "it", "obj_id": 1}}, "frames": names}
    write_json(tmp_path / "meta_expressions.json", {"videos": {"v": entry}})
    import_videos("ref-youtube-vos", tmp_path, tmp_path / "tree")
    assert shown(tmp_path / "tree", "v_0_10000") == list(range(0, 20, 2))


def test_a_share_of_the_videos_is_for_validation(apart, tmp_path):
    export_videos("mevis", apart, tmp_path / "out")
    path = tmp_path / "out/meta_expressions.json"
    content = json.loads(path.read_text())
    for entry in content["videos"].values():
        del entry["split"]
    write_json(path, content)
    import_videos("mevis", tmp_path / "out", tmp_path / "tree", val_share=0.34)
    splits = {row[1]: row[0] for row in rows_of(tmp_path / "tree")}
    assert list(splits.values()).count("val") == 2


# Mistakes


@pytest.fixture
def source(tmp_path) -> Path:
    """A small Ref-YouTube-VOS."""
    names = [f"{number:05d}" for number in range(3)]
    write_frames(tmp_path / "own/JPEGImages/v", names)
    write_numbers(tmp_path / "own/Annotations/v", names)
    entry = {"expressions": {"0": {"exp": "it", "obj_id": "1"}}, "frames": names, "fps": 1}
    write_json(tmp_path / "own/meta_expressions.json", {"videos": {"v": entry}})
    return tmp_path / "own"


def change(**fields):
    def mend(folder: Path) -> None:
        path = folder / "meta_expressions.json"
        content = json.loads(path.read_text())
        content["videos"]["v"] |= fields
        path.write_text(json.dumps(content))

    return mend


MISTAKES = {
    "no annotations": (
        lambda folder: (folder / "meta_expressions.json").unlink(),
        "no meta_expressions.json is in it",
    ),
    "no JSON": (
        lambda folder: (folder / "meta_expressions.json").write_text("{"),
        "cannot be read as JSON",
    ),
    "a list": (
        lambda folder: (folder / "meta_expressions.json").write_text("[]"),
        "must hold an object, got list",
    ),
    "no frames": (change(frames=[]), "its frames must be named"),
    "frames twice": (change(frames=["00000", "00000"]), "each once and in order"),
    "a frame without number": (change(frames=["first"]), "frame 'first' has no number"),
    "no rate": (change(fps=None), r"Say --fps, or fps in the entry"),
    "rate 0": (change(fps=0), "fps must be above 0"),
    "an unknown split": (change(split="dev"), "split must be one of train"),
    "an empty sentence": (
        change(expressions={"4": {"exp": " ", "obj_id": 1}}),
        "expression 4: the sentence is empty",
    ),
    "no sentence": (
        change(expressions={"4": {"obj_id": 1}}),
        "expression 4: exp must be str, got null",
    ),
    "no object": (change(expressions={"4": {"exp": "it"}}), "which object does it mean"),
    "an object below 0": (
        change(expressions={"4": {"exp": "it", "obj_id": -1}}),
        "expression 4: 'it': which object does it mean",
    ),
    "sentences in a list": (change(expressions=[]), "expressions must be dict, got"),
    "a broken sound": (
        lambda folder: (folder / "v.wav").write_bytes(b"RIFF"),
        "v.wav: not a WAV file",
    ),
    "no sentences": (change(expressions={}), "no video has a sentence"),
    "a frame that is not there": (change(frames=["00000", "00007"]), "00007.jpg is not there"),
    "a gap": (change(fps=0.4), "within half a second of 1 s"),
    "no picture of masks": (
        lambda folder: (folder / "Annotations/v/00001.png").unlink(),
        "video v: the mask of object 1 in frame 00001 cannot be read",
    ),
    "a picture of colours": (
        lambda folder: Image.new("RGB", (64, 48)).save(folder / "Annotations/v/00002.png"),
        "must be numbers of objects, got RGB",
    ),
    "no media": (
        lambda folder: (folder / "JPEGImages").rename(folder / "elsewhere"),
        "neither a folder of frames nor a video v",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_names_file_and_entry_and_leaves_nothing(mistake, source, tmp_path, capsys):
    spoil, words = MISTAKES[mistake]
    spoil(source)
    with pytest.raises(ValueError, match=words):
        import_videos("ref-youtube-vos", source, tmp_path / "tree")
    assert main(["dataset", "import", "ref-youtube-vos", str(source), str(tmp_path / "tree")]) == 2
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith("refavs dataset: ")
    assert not (tmp_path / "tree").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"own"}


CVAT = """<annotations><version>1.1</version><meta><task>
<name>kitchen task</name><source>kitchen.mkv</source>
<start_frame>0</start_frame><stop_frame>80</stop_frame><frame_filter>step=8</frame_filter>
<original_size><width>64</width><height>48</height></original_size></task></meta>
<track id="0" label="kettle" source="manual">
<polygon frame="0" outside="0" keyframe="1" points="4.0,4.0;19.0,4.0;19.0,9.0;4.0,9.0">
<attribute name="sentences">the kettle\nthe first to whistle</attribute></polygon>
<polygon frame="16" outside="0" keyframe="1" points="30,4;39,4;39,9;30,9"/>
<polygon frame="32" outside="1" keyframe="1" points="30,4;39,4;39,9;30,9"/></track>
<track id="1" label="red_cat" group_id="4">
<mask frame="8" outside="0" rle="1, 2, 3" left="10" top="20" width="3" height="2">
<attribute name="sentences">2. the cat</attribute></mask>
<mask frame="16" outside="1" rle="1, 2, 3" left="10" top="20" width="3" height="2"/></track>
<track id="2" label="red_cat" group_id="4">
<mask frame="8" outside="0" rle="0, 2" left="40" top="20" width="3" height="2"/>
<mask frame="9" outside="1" rle="0, 2" left="40" top="20" width="3" height="2"/></track>
<track id="3" label="null"><points frame="0" points="0,0">
<attribute name="sentences">1. the dog</attribute></points></track></annotations>"""


@pytest.fixture
def kitchen(tmp_path):
    """A task of a video file, of which every eighth frame was annotated."""
    folder = tmp_path / "own"
    (folder / "videos").mkdir(parents=True)
    write_movie(folder / "videos/kitchen.mkv", [counter(n) for n in range(81)], rate=8)
    (folder / "annotations.xml").write_text(CVAT, encoding="utf-8")
    return folder


def test_polygons_and_masks_of_cvat(kitchen, tmp_path):
    tree = tmp_path / "tree"
    import_videos("cvat", kitchen / "annotations.xml", tree)
    clip_id = "kitchen_0_10000"
    assert rows_of(tree)[0][2:] == (f"null_c-{clip_id}_null_1", 0, "the dog")
    assert [row[2:] for row in rows_of(tree)[1:4]] == [
        (f"{clip_id}_kettle_1", 0, "the kettle"),
        (f"{clip_id}_kettle_2", 0, "the first to whistle"),
        (f"{clip_id}_red cat_1", 1, "the cat"),
    ]
    assert shown(tree, clip_id) == list(range(0, 80, 8))
    # a shape stays until the next; PIL fills corners and edges
    assert widths(tree, clip_id, 0) == [16, 16, 10, 10, 0, 0, 0, 0, 0, 0]
    cat = [read_mask(path) for path in mask_paths(tree, clip_id, 1)]
    assert [mask.any() for mask in cat] == [False, True] + [False] * 8
    assert np.argwhere(cat[1]).tolist() == [[20, 11], [20, 12], [20, 40], [20, 41]]
    assert check_tree(tree).can_train


def test_what_cvat_reads_of_a_tree(apart, tmp_path):
    """Each mask is in its box, along the rows; its object is an attribute and a group."""
    clip_id = "-aaaaaaaaaa_0_10000"
    for path in mask_paths(apart, clip_id, 0):
        corner = np.add.outer(range(36), range(48)) < 20
        write_mask(path, read_mask(path) & corner)
    export_videos("cvat", apart, tmp_path / "out")
    root = ET.parse(tmp_path / f"out/{clip_id}.xml").getroot()
    assert root.findtext("meta/task/name") == clip_id
    tracks = [track for track in root.findall("track") if track.get("group_id") == "1"]
    assert [int(track[0].get("frame")) for track in tracks] == list(range(10))
    for track in tracks:
        shape, end = track[0], track[1] if len(track) > 1 else None
        assert end is None or (end.get("outside"), int(end.get("frame"))) == (
            "1",
            int(shape.get("frame")) + 1,
        )
        left, top, width, height = (
            int(shape.get(key)) for key in ("left", "top", "width", "height")
        )
        truth = read_mask(mask_paths(apart, clip_id, 0)[int(shape.get("frame"))])
        box, value = [], 0
        for run in shape.get("rle").split(", "):
            box += [value] * int(run)
            value = 1 - value
        drawn = np.zeros(truth.shape, dtype=bool)
        drawn[top : top + height, left : left + width] = np.reshape(box, (height, width))
        np.testing.assert_array_equal(drawn, truth)
        values = {element.get("name"): element.text for element in shape}
        assert values["object"] == "1"
        lines = values["sentences"].splitlines()
        assert [line[:3] for line in lines] == ["1. ", "2. ", "3. "]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("</annotations>", "", "cannot be read as XML"),
        ("annotations>", "notes>", "it is not of CVAT for video"),
        ("<start_frame>0</start_frame>", "", "must say start_frame"),
        ('rle="1, 2, 3"', 'rle="1, 2, 9"', "track 1: the mask of frame 8 does not fit its box"),
        ('left="10"', 'left="62"', "track 1: the mask of frame 8 does not fit"),
        ('rle="0, 2"', 'rle="0, x"', "track 2: invalid literal"),
        ('frame="16" outside="0"', 'outside="0"', "track 0: 'frame'"),
        ('id="2" label="red_cat"', 'id="2" label="dog"', "track 2: object 4 is red_cat and dog"),
        ("polygon", "box", "its shapes must be masks or polygons, got box"),
    ],
)
def test_mistakes_in_cvat(old, new, words, kitchen, tmp_path):
    path = kitchen / "annotations.xml"
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    with pytest.raises(ValueError, match=words):
        import_videos("cvat", kitchen, tmp_path / "tree")
    assert not (tmp_path / "tree").exists()


def test_cvat_keeps_an_object_that_is_never_seen(apart, tmp_path):
    for path in mask_paths(apart, "bbb_bbbbbbb_5000_15000", 0):
        write_mask(path, read_mask(path) & False)
    export_videos("cvat", apart, tmp_path / "out")
    import_videos("cvat", tmp_path / "out", tmp_path / "back")
    assert rows_of(tmp_path / "back") == rows_of(apart)


RLE = {"size": [48, 64], "counts": [0, 48 * 64]}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"segmentation": [[1, 2, 3, 4, 5, 6]]}, "it must be an RLE of size and counts"),
        ({"segmentation": {"size": [48, 64], "counts": [5]}}, "the RLE is damaged"),
        ({"category_id": 9}, "annotation 7: no category has id 9"),
        ({"expressions": [3]}, "annotation 7: exp must be str, got 3"),
        ({"track_id": "first"}, "invalid literal for int"),
        ({"track_id": -4}, "which object does it mean"),
        ({"category_id": None}, "is not in the form coco"),
    ],
)
def test_mistakes_in_tables(tmp_path, changes, words):
    write_frames(tmp_path / "own/JPEGImages/v", ["00000"])
    annotation = {"id": 7, "image_id": 1, "category_id": 1, "segmentation": RLE}
    content = {
        "images": [{"id": 1, "file_name": "v/00000.jpg"}],
        "annotations": [{**annotation, "expressions": ["it"], **changes}],
        "categories": [{"id": 1, "name": "dog"}],
    }
    write_json(tmp_path / "own/instances.json", content)
    with pytest.raises(ValueError, match=words):
        import_videos("coco", tmp_path / "own", tmp_path / "tree", frame_rate=1)
    assert not (tmp_path / "tree").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"form": "davis"}, "form must be one of ref-youtube-vos"),
        ({"split": "dev"}, "split must be one of"),
        ({"val_share": 1.0}, "val_share must lie in"),
        ({"frame_rate": -1.0}, "frame_rate must be above 0"),
        ({"tree": "own"}, "exists: give a new folder"),
    ],
)
def test_options(options, words, source, tmp_path):
    options = {"form": "ref-youtube-vos", "tree": "tree", **options}
    form, tree = options.pop("form"), tmp_path / options.pop("tree")
    with pytest.raises(ValueError, match=words):
        import_videos(form, source, tree, **options)


def test_an_export_overwrites_nothing(apart, tmp_path, capsys):
    command = ["dataset", "export", str(apart), str(tmp_path / "out"), "--form", "mevis"]
    assert main(command) == 0
    assert "6 clips, 25 sentences" in capsys.readouterr().out
    assert main(command) == 2
    assert "exists: give a new folder" in capsys.readouterr().err
