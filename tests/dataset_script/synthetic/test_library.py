"""Photographed clips, from a library of a few pictures and tones made here."""

import hashlib
import json
import re
import wave
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image, ImageDraw

from dataset_script.checking import check_tree
from dataset_script.synthetic import SynthesisOptions, make_clip, synthesize
from dataset_script.synthetic.appearance import appearance_of
from dataset_script.synthetic.conditions import Condition, World
from dataset_script.synthetic.library import read_library
from dataset_script.synthetic.library_build import MANIFEST
from dataset_script.synthetic.photographs import render_stems
from dataset_script.synthetic.scene import Scene, SceneObject, Sound
from dataset_script.synthetic.sentences import ALL_TEMPLATES, conditions_of
from modeling_refavs.cli import main


SIDE = 64
THINGS = {"dog": 6, "cow": 5, "violin": 6, "cup": 5, "lion": 3}
SEEN = ("dog", "cow", "violin", "cup")
GROUPS = {
    "dog": ["animal"],
    "cow": ["animal"],
    "lion": ["animal"],
    "violin": ["musical instrument"],
}
DOES = {"dog": "barking", "cow": "mooing", "violin": "playing", "lion": "roaring"}


def write_sound(path: Path, pitch: float, seconds: float) -> None:
    time = np.arange(int(16000 * seconds)) / 16000
    tone = np.sin(2 * np.pi * pitch * time) * np.exp(-((time * 3) % 1) * 4)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes((tone * 20000).astype("<i2").tobytes())


def write_library(folder: Path) -> dict:
    for name in ("pictures", "sounds", "backgrounds"):
        (folder / name).mkdir(parents=True)
    origin = {"source": "drawn here", "licence": "CC0-1.0"}
    table = {
        "kinds": {},
        "pictures": [],
        "sounds": [],
        "backgrounds": [],
        "strange": ["piano", "ufo"],
    }
    for number, (kind, count) in enumerate(THINGS.items()):
        table["kinds"][kind] = {
            "super_category": "animal" if "animal" in GROUPS.get(kind, ()) else "object",
            "also": ["puppy"] if kind == "dog" else [],
            "groups": GROUPS.get(kind, []),
            "like": [],
            "unseen": kind == "lion",
        }
        for thing in range(count):
            picture = Image.new("RGBA", (60, 40 + 10 * number))
            box = (2, 2, 57, 37 + 10 * number)
            ImageDraw.Draw(picture).ellipse(box, (40 * number, 30 * thing, 200, 255))
            file = f"pictures/{kind}-{thing}.png"
            picture.save(folder / file)
            table["pictures"].append({"file": file, "kind": kind, "thing": file, **origin})
            if kind in DOES:
                file = f"sounds/{kind}-{thing}.wav"
                write_sound(folder / file, 200 * (number + 1) + 10 * thing, 1.0)
                row = {"file": file, "kind": kind, "voice": file, "does": DOES[kind]}
                table["sounds"].append({**row, **origin})
    for number in range(12):
        file = f"backgrounds/{number}.jpg"
        Image.new("RGB", (80, 70), (20 * number, 120, 90)).save(folder / file)
        table["backgrounds"].append({"file": file, **origin})
    (folder / "library.json").write_text(json.dumps(table))
    return table


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("library") / "things"
    write_library(folder)
    return folder


@pytest.fixture(scope="module")
def options(library) -> SynthesisOptions:
    return SynthesisOptions(seed=3, height=SIDE, width=SIDE, null_share=0.2, library=str(library))


@pytest.fixture(scope="module")
def tree(tmp_path_factory, options) -> Path:
    folder = tmp_path_factory.mktemp("photographed") / "tree"
    synthesize(folder, 30, options)
    return folder


@pytest.fixture(scope="module")
def stored(tree) -> dict[str, dict]:
    return {path.stem: json.loads(path.read_text()) for path in (tree / "scenes").iterdir()}


def digest(tree: Path) -> dict[str, str]:
    files = [path for path in sorted(tree.rglob("*")) if path.is_file()]
    return {str(p.relative_to(tree)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_the_checker_takes_the_tree_and_finds_nothing_shared_by_two_splits(tree):
    report = check_tree(tree)
    assert report.can_train
    assert not report.counts.keys() - {"fid_gap"}
    assert all(report.rows[split] for split in ("train", "val", "test_s", "test_u", "test_n"))


def test_the_checker_names_a_picture_that_two_splits_share(tree, tmp_path):
    (tmp_path / "scenes").mkdir()
    (tmp_path / "metadata.csv").write_bytes((tree / "metadata.csv").read_bytes())
    train = next(p for p in sorted((tree / "scenes").iterdir()) if '"train"' in p.read_text())
    copied = json.loads(train.read_text())
    picture = copied["scene"]["objects"][0]["picture"]
    for split in ("train", "test_s"):
        (tmp_path / "scenes" / f"{split}.json").write_text(json.dumps({**copied, "split": split}))
    report = check_tree(tmp_path)
    assert f"{picture} in test_s and train" in report.examples["leaked_media"]


def test_the_same_seed_gives_the_same_bytes(tmp_path, tree, options):
    synthesize(tmp_path / "again", 30, options, workers=2)
    assert digest(tmp_path / "again") == digest(tree)


def test_a_second_run_takes_the_rows_from_what_is_there(tree, options, monkeypatch):
    before = digest(tree)
    monkeypatch.setattr("dataset_script.synthetic.generate.make_clip", None)
    synthesize(tree, 30, options)
    assert digest(tree) == before


def test_splits_share_no_file_and_unseen_kinds_are_test_u_alone(library):
    splits = read_library(library).splits
    for name in ("pictures", "recordings"):
        files = [
            row.file for m in splits.values() for rows in getattr(m, name).values() for row in rows
        ]
        assert len(files) == len(set(files))
    grounds = [ground.file for media in splits.values() for ground in media.grounds]
    assert len(grounds) == len(set(grounds)) == 12
    assert set(splits["test_u"].pictures) == set(splits["test_u"].recordings) == {"lion"}
    assert set(splits["test_s"].pictures) == set(splits["train"].pictures) == set(SEEN)
    assert not set(splits["test_n"].strange) & set(splits["train"].strange)


def test_a_lone_long_recording_is_cut_so_that_test_hears_another_part(tmp_path):
    table = write_library(tmp_path / "l")
    table["sounds"] = [row for row in table["sounds"] if row["file"] != "sounds/dog-0.wav"]
    table["sounds"] = [row for row in table["sounds"] if row["kind"] != "dog"]
    write_sound(tmp_path / "l/sounds/dog.wav", 300, 6.0)
    row = {"file": "sounds/dog.wav", "kind": "dog", "voice": "v", "does": "barking"}
    table["sounds"].append({**row, "source": "here", "licence": "CC0-1.0"})
    (tmp_path / "l/library.json").write_text(json.dumps(table))
    splits = read_library(tmp_path / "l").splits
    parts = sorted((r.start, r.end) for m in splits.values() for r in m.recordings.get("dog", ()))
    assert len(parts) == 4
    assert parts[0][0] == 0
    assert parts[-1][1] == 6
    assert all(one[1] == two[0] for one, two in pairwise(parts))


def test_every_stored_sentence_is_clearly_true_of_its_object_alone(stored):
    for clip in stored.values():
        world = World(Scene.from_json(clip["scene"]))
        for said in clip["expressions"]:
            conditions = conditions_of(ALL_TEMPLATES[said["template"]], said["slots"])
            margins = world.together(conditions)
            if said["fid"] is None:
                assert (margins <= -1).all(), said
            else:
                assert world.refer(conditions) == said["fid"], said


def test_unseen_names_are_read_in_test_u_alone_and_synonyms_are_said(stored):
    said = {
        split: " ".join(
            e["text"].lower()
            for c in stored.values()
            if c["split"] == split
            for e in c["expressions"]
        )
        for split in ("train", "test_u")
    }
    assert "lion" in said["test_u"]
    assert "lion" not in said["train"]
    assert re.search(r"\bpuppy\b", said["train"])
    assert re.search(r"\bdog\b", said["train"])


def test_nulls_name_absent_kinds_strange_things_and_unheard_sounds(options):
    nulls = [make_clip(options, index) for index in range(4, 600, 15)]
    said = [e for clip in nulls for e in clip.expressions]
    assert {e.fid for e in said} == {None}
    assert any(e.slots.get("thing") in ("piano", "ufo") for e in said)
    assert any(e.slots.get("thing") in SEEN for e in said)
    assert any(e.family.startswith("acoustic") for e in said)


def test_a_mask_is_where_the_picture_shows(options, library):
    scene = Scene(
        5, 10.0, 1.0, 1.0, (thing("cow", place=(0.5, 0.5), radius=0.3),), "backgrounds/0.jpg"
    )
    alone = appearance_of(str(library)).draw(scene, 0.0, 96, 96)
    frame, (mask,) = alone
    empty, _ = appearance_of(str(library)).draw(
        Scene(**{**vars(scene), "objects": ()}), 0.0, 96, 96
    )
    change = np.abs(frame.astype(int) - empty.astype(int)).sum(-1)
    assert np.median(change[mask]) > 4 * np.median(change[~mask])
    rows, columns = np.nonzero(mask)
    assert abs(rows.mean() - 48) < 4
    assert abs(columns.mean() - 48) < 4
    assert 0.4 < (np.ptp(columns) + 1) / 96 < 0.75


def test_the_nearer_picture_covers_the_other(library):
    near = thing("dog", 0, place=(0.30, 0.5), radius=0.25, depth=0)
    far = thing("cow", 1, place=(0.6, 0.5), radius=0.25, depth=1)
    scene = Scene(1, 10.0, 1.0, 1.0, (near, far), "backgrounds/0.jpg")
    _, (one, two) = appearance_of(str(library)).draw(scene, 3.0, 96, 96)
    assert not (one & two).any()
    lone = Scene(1, 10.0, 1.0, 1.0, (near,), "backgrounds/0.jpg")
    assert (one == appearance_of(str(library)).draw(lone, 3.0, 96, 96)[1][0]).all()


def test_a_recording_is_heard_in_its_intervals_at_its_level(library):
    sound = Sound(
        ((1.0, 3.0), (6.0, 9.0)), (-30.0, -30.0), None, 1.0, "sounds/dog-0.wav", (0.0, 1.0)
    )
    scene = Scene(2, 10.0, 1.0, 1.0, (thing("dog", sound=sound),), "backgrounds/0.jpg")
    (stem,) = render_stems(library, scene)
    loud = 20 * np.log10(np.sqrt((stem.reshape(10, -1) ** 2).mean(1)) + 1e-9)
    assert (loud[[0, 3, 4, 5, 9]] < -100).all()
    heard = np.sqrt((np.concatenate([stem[16000:48000], stem[96000:144000]]) ** 2).mean())
    assert abs(20 * np.log10(heard) + 30) < 0.1


def test_what_is_heard_tells_two_of_the_same_group_apart():
    sound = Sound(((0.0, 10.0),), (-30.0, -30.0), None, 1.0, does="barking")
    dog, cow = thing("dog", 0, sound=sound), thing("cow", 1, place=(0.8, 0.5))
    world = World(Scene(1, 10.0, 1.0, 1.0, (dog, cow)))
    assert world.refer((Condition("does", "barking"),)) == 0
    assert world.refer((Condition("group", "animal"),)) is None
    assert world.refer((Condition("group", "animal"), Condition("sounding"))) == 0
    assert world.refer((Condition("leftmost"),)) == 0


def test_a_name_is_unclear_of_what_could_be_taken_for_it():
    dog, fox = thing("dog", 0), thing("fox", 1, place=(0.8, 0.5), like=("dog",))
    world = World(Scene(1, 10.0, 1.0, 1.0, (dog, fox)))
    assert world.refer((Condition("category", "dog"),)) is None
    assert world.refer((Condition("category", "fox"),)) == 1


def test_masks_of_coco_become_a_library_as_the_documents_say(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    marks, images = [], []
    for number in range(12):
        Image.new("RGB", (200, 180), (10 * number, 90, 60)).save(f"images/{number}.jpg")
        images.append({"id": number, "file_name": f"{number}.jpg", "width": 200, "height": 180})
        polygon = [20, 20, 150, 20, 150, 160, 20, 160]
        about = {"area": 130 * 140, "bbox": [20, 20, 130, 140], "iscrowd": 0}
        mark = {"id": number, "image_id": number, "category_id": number % 2, **about}
        marks.append({**mark, "segmentation": [polygon]})
    names = ({"id": 0, "name": "cat"}, {"id": 1, "name": "zebra"})
    categories = [{**name, "supercategory": "animal"} for name in names]
    written = {"images": images, "annotations": marks, "categories": categories}
    Path("instances.json").write_text(json.dumps(written))
    text = (Path(__file__).parents[3] / "docs/data.md").read_text()
    (code,) = re.findall(r"```python\n# needs COCO\n(import json\n.*?)```", text, re.DOTALL)
    exec(compile(code, "docs/data.md", "exec"), {})
    table = json.loads(Path("my_library/library.json").read_text())
    table["backgrounds"] = [
        {"file": f"../images/{number}.jpg", "source": "", "licence": ""} for number in range(12)
    ]
    Path("my_library/library.json").write_text(json.dumps(table))
    library = read_library("my_library")
    assert library.kinds["zebra"].unseen
    assert {row.kind for row in library.pictures} == {"cat", "zebra"}
    assert Image.open("my_library/pictures/0.png").size == (130, 140)
    # one seen kind without a sound: what cannot be a clip is said, and nothing goes on for ever
    options = SynthesisOptions(library="my_library")
    assert make_clip(options, 0).expressions
    with pytest.raises(ValueError, match=r"true of the objects of test_n: it has too few kinds"):
        make_clip(options, 4)


def test_the_manifest_lets_no_word_of_an_unseen_kind_be_read_elsewhere():
    manifest = yaml.safe_load(MANIFEST.read_text())
    kinds = {name: about for kinds in manifest["kinds"].values() for name, about in kinds.items()}
    unseen = set(manifest["unseen"])
    assert unseen < set(kinds)
    kept = {word for name in unseen for word in (name, *kinds[name].get("also", ()))}
    said = [*manifest["strange"]]
    for name, about in kinds.items():
        assert set(about.get("like", ())) < set(kinds)
        if name not in unseen:
            said += [name, *about.get("also", ()), *about.get("groups", ())]
    for word in kept:
        assert not [text for text in said if re.search(rf"\b{word}\b", text)], word
    assert not set(manifest["strange"]) & {
        w for n, a in kinds.items() for w in (n, *a.get("also", ()))
    }


def test_the_manifest_names_no_picture_sound_or_ground_twice_nor_what_is_kept_for_a_test():
    names = re.findall(
        r'"((?:tuxpaint|scratch|gcompris):[^"= ][^"=]*?)(?: = \w+)?"', MANIFEST.read_text()
    )
    assert len(names) > 350
    assert "explore_farm_animals" not in MANIFEST.read_text()
    assert "explore_world_animals" not in MANIFEST.read_text()
    # a stamp's picture and its sound have one name
    assert max(Counter(names).values()) <= 2


def thing(kind: str, fid: int = 0, **fields) -> SceneObject:
    known = {
        "place": (0.3, 0.5),
        "radius": 0.15,
        "depth": fid,
        "groups": ("animal",),
        "picture": f"pictures/{kind}-0.png",
    }
    return SceneObject(
        fid, kind, "", "", motion="still", phase=0.0, presence=(0.0, 10.0), **{**known, **fields}
    )


def spoil_kind(table: dict, folder: Path) -> None:
    table["pictures"][0]["kind"] = "wolf"


def spoil_file(table: dict, folder: Path) -> None:
    (folder / table["sounds"][0]["file"]).unlink()


def spoil_sound(table: dict, folder: Path) -> None:
    (folder / table["sounds"][0]["file"]).write_bytes(b"RIFF")


def spoil_table(table: dict, folder: Path) -> None:
    table.pop("kinds")


def spoil_grounds(table: dict, folder: Path) -> None:
    table["backgrounds"] = table["backgrounds"][:3]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (spoil_kind, "the kind 'wolf'"),
        (spoil_file, "which is missing"),
        (spoil_sound, "is no WAV file"),
        (spoil_table, "is not a library's table"),
        (spoil_grounds, "leaves no grounds for"),
    ],
)
def test_a_bad_library_is_one_clear_line(tmp_path, capsys, spoil, said):
    folder = tmp_path / "l"
    table = write_library(folder)
    spoil(table, folder)
    (folder / "library.json").write_text(json.dumps(table))
    arguments = ["synthesize", str(tmp_path / "out"), "--clips", "5", "--library", str(folder)]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_folder_without_a_table_is_no_library(tmp_path, capsys):
    assert (
        main(["synthesize", str(tmp_path / "o"), "--clips", "5", "--library", str(tmp_path)]) == 2
    )
    assert "refavs library build" in capsys.readouterr().err


def test_another_library_is_not_mixed_into_a_tree(tmp_path, tree, options):
    write_library(tmp_path / "other")
    table = json.loads((tmp_path / "other/library.json").read_text())
    table["strange"] = ["harp"]
    (tmp_path / "other/library.json").write_text(json.dumps(table))
    with pytest.raises(ValueError, match="other options"):
        synthesize(
            tree, 30, SynthesisOptions(**{**vars(options), "library": str(tmp_path / "other")})
        )
