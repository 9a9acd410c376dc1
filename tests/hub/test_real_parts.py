"""What the published weights recognise.

They need what `refavs parts fetch DIR` wrote, REFAVS_PARTS=DIR; photographs and recordings need the
Debian packages `tuxpaint-stamps-default` and `gcompris-qt-data` (`apt-get download`), both unpacked
(`dpkg-deb -x`) into one folder, REFAVS_MEDIA.
"""

import io
import json
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    AutoFeatureExtractor,
    AutoImageProcessor,
    AutoModel,
    AutoModelForAudioClassification,
    AutoModelForImageClassification,
    AutoTokenizer,
)

import modeling_refavs.auto  # noqa: F401, it registers the classes
from modeling_refavs import RefAVSPairedBackbone
from modeling_refavs.hub.parts import SOUND_MAKERS


PARTS, MEDIA = (Path(os.environ.get(name, "")) for name in ("REFAVS_PARTS", "REFAVS_MEDIA"))
STAMPS = MEDIA / "usr/share/tuxpaint/stamps"
GCOMPRIS = MEDIA / "usr/share/gcompris-qt/rcc"

pytestmark = pytest.mark.skipif(
    not (PARTS / "parts.json").is_file(), reason="REFAVS_PARTS names no folder of parts"
)
needs_media = pytest.mark.skipif(
    not (STAMPS.is_dir() and GCOMPRIS.is_dir()), reason="REFAVS_MEDIA names no unpacked packages"
)


@pytest.fixture(scope="module")
def look():
    """Photograph -> probability of each class of ImageNet."""
    model = AutoModelForImageClassification.from_pretrained(PARTS / "vision").eval()
    processor = AutoImageProcessor.from_pretrained(PARTS / "vision")

    def probabilities(picture: Image.Image) -> dict[str, float]:
        with torch.no_grad():
            logits = model(**processor(picture, return_tensors="pt")).logits[0]
        return name_all(model, logits.softmax(-1))

    return probabilities


@pytest.fixture(scope="module")
def listen():
    """Samples at 16 kHz -> probability of each class of AudioSet, the mean over the seconds."""
    model = AutoModelForAudioClassification.from_pretrained(PARTS / "audio").eval()
    extractor = AutoFeatureExtractor.from_pretrained(PARTS / "audio")

    def probabilities(samples: np.ndarray) -> dict[str, float]:
        features = extractor(samples, 16_000, return_tensors="pt")["input_features"][0]
        with torch.no_grad():
            return name_all(model, model(features).logits.sigmoid().mean(0))

    return probabilities


def name_all(model, probabilities: torch.Tensor) -> dict[str, float]:
    return {model.config.id2label[index]: p for index, p in enumerate(probabilities.tolist())}


def square_on_white(path: Path) -> Image.Image:
    stamp = Image.open(path).convert("RGBA")
    size = max(stamp.size)
    picture = Image.new("RGBA", (size, size), "white")
    place = ((size - stamp.width) // 2, (size - stamp.height) // 2)
    picture.alpha_composite(stamp, place)
    return picture.convert("RGB")


def read_sound(file) -> np.ndarray:
    """`(samples,)` float32, mono, at 16 kHz."""
    resampler = av.AudioResampler("flt", "mono", 16_000)
    with av.open(file) as container:
        frames = [*container.decode(audio=0), None]
        pieces = [piece for frame in frames for piece in resampler.resample(frame)]
    return np.concatenate([piece.to_ndarray()[0] for piece in pieces])


def read_resources(path: Path) -> dict[str, bytes]:
    """The files of a Qt resource bundle, by their names without folders."""
    data = path.read_bytes()
    _, version, tree, contents, names = struct.unpack(">4sIIII", data[:20])
    node_size = 22 if version >= 2 else 14

    def walk(node: int) -> Iterator[tuple[str, bytes]]:
        start = tree + node * node_size
        name_offset, flags = struct.unpack(">IH", data[start : start + 6])
        if flags & 2:  # a folder
            count, first = struct.unpack(">II", data[start + 6 : start + 14])
            for child in range(first, first + count):
                yield from walk(child)
            return
        (offset,) = struct.unpack(">I", data[start + 10 : start + 14])
        (size,) = struct.unpack(">I", data[contents + offset : contents + offset + 4])
        content = data[contents + offset + 4 :][:size]
        (length,) = struct.unpack(">H", data[names + name_offset : names + name_offset + 2])
        name = data[names + name_offset + 6 :][: 2 * length].decode("utf-16-be")
        yield name, zlib.decompress(content[4:]) if flags & 1 else content

    return dict(walk(0))


@needs_media
@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("animals/mammals/equines/zebra.png", "zebra"),
        ("hobbies/music/string/cello.png", "cello"),
        ("animals/mammals/cats/tiger.png", "tiger"),
    ],
)
def test_photographs_are_recognised(look, file, name):
    probabilities = look(square_on_white(STAMPS / file))
    assert max(probabilities, key=probabilities.get) == name
    assert probabilities[name] > 0.4


@needs_media
@pytest.mark.parametrize(
    ("bundle", "file", "name", "least"),
    [
        ("instruments", "accordion.ogg", "Accordion", 0.6),
        ("instruments", "violin.ogg", "Violin, fiddle", 0.2),
        ("explore_farm_animals", "cow.ogg", "Cattle, bovinae", 0.6),
    ],
)
def test_recordings_are_recognised(listen, bundle, file, name, least):
    """The best of what is no genus ("Music", "Animal") is the thing that sounds."""
    sound = read_resources(GCOMPRIS / f"{bundle}.rcc")[file]
    probabilities = listen(read_sound(io.BytesIO(sound)))
    genera = ("Music", "Musical instrument", "Animal", "Bowed string instrument")
    species = {name: p for name, p in probabilities.items() if name not in genera}
    assert max(species, key=species.get) == name
    assert species[name] > least


@pytest.mark.parametrize(
    ("name", "samples"),
    [
        ("Silence", np.zeros(32_000)),
        ("White noise", np.random.default_rng(0).normal(0, 0.1, 32_000)),
        ("Sine wave", 0.3 * np.sin(2 * np.pi * 1000 * np.arange(32_000) / 16_000)),
    ],
)
def test_sounds_that_need_no_recording(listen, name, samples):
    probabilities = listen(samples.astype(np.float32))
    assert name in sorted(probabilities, key=probabilities.get)[-3:]


def test_makers_are_of_sounds_that_there_are():
    classes = AutoModelForAudioClassification.from_pretrained(PARTS / "audio").config.id2label
    makers = json.loads(SOUND_MAKERS.read_text())
    assert {sound for sounds in makers.values() for sound in sounds} <= set(classes.values())


def test_names_of_one_kind_are_near():
    tokenizer = AutoTokenizer.from_pretrained(PARTS / "text")
    model = AutoModel.from_pretrained(PARTS / "text").eval()
    tokens = tokenizer(["a cow", "a bull", "a violin"], padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden_states = model(**tokens).last_hidden_state
    mask = tokens["attention_mask"][..., None]
    cow, bull, violin = torch.nn.functional.normalize((hidden_states * mask).sum(1), dim=-1)
    assert cow @ bull > cow @ violin + 0.2


@pytest.mark.skipif(not (PARTS / "paired").is_dir(), reason="fetched without --paired")
def test_mobile_sams_encoder_gives_what_its_onnx_file_gives():
    """Compared with ONNX Runtime 1.32 on a picture of 1024x1024, the only size that the file
    takes."""
    pixels = np.sin(np.arange(3 * 1024 * 1024) * 0.001).astype(np.float32)
    encoder = RefAVSPairedBackbone.from_pretrained(PARTS / "paired").eval().fine
    with torch.no_grad():
        maps = encoder(torch.from_numpy(pixels.reshape(1, 3, 1024, 1024))).feature_maps[-1][0]
    expected = [-0.1, -0.176, -0.0743, -0.0173, 0.0365, -0.0263]
    np.testing.assert_allclose(maps[:6, 31, 17], expected, atol=1e-4)
    assert maps.std().item() == pytest.approx(0.09974, abs=1e-4)
