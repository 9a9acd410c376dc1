import torch

from modeling_refavs import RefAVSAudioConfig, RefAVSVggishModel


def test_parameters_are_those_of_the_public_port():
    with torch.device("meta"):
        model = RefAVSVggishModel(RefAVSAudioConfig())
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    assert sum(parameter.numel() for parameter in model.parameters()) == 72_141_184
    convolutions = {
        0: (64, 1),
        3: (128, 64),
        6: (256, 128),
        8: (256, 256),
        11: (512, 256),
        13: (512, 512),
    }
    linears = {0: (4096, 12288), 2: (4096, 4096), 4: (128, 4096)}
    expected = {f"features.{index}.weight": (*shape, 3, 3) for index, shape in convolutions.items()}
    expected |= {f"embeddings.{index}.weight": shape for index, shape in linears.items()}
    assert {name: shape for name, shape in shapes.items() if name.endswith("weight")} == expected
    assert len(shapes) == 2 * len(expected)


def test_a_position_on_the_map_feeds_the_weights_that_tensorflow_fed():
    """The last map is flattened time first, then band, then channel; and no ReLU follows the last
    layer."""
    config = RefAVSAudioConfig(hidden_sizes=[2, 3, 4, 5], intermediate_size=16)
    model = RefAVSVggishModel(config).eval()
    examples = torch.randn(2, 3, 96, 64)
    maps = model.features(examples.reshape(6, 1, 96, 64))
    assert maps.shape == (6, 5, 6, 4)
    flat = torch.stack(
        [maps[:, c, t, b] for t in range(6) for b in range(4) for c in range(5)], dim=1
    )
    out = model(examples).last_hidden_state
    assert out.shape == (2, 3, 128)
    torch.testing.assert_close(out, model.embeddings(flat).reshape(2, 3, 128))
    assert (out < 0).any()


def test_it_is_saved_and_loaded(tmp_path):
    model = RefAVSVggishModel(
        RefAVSAudioConfig(hidden_sizes=[2, 3, 4, 5], intermediate_size=16)
    ).eval()
    model.save_pretrained(tmp_path)
    examples = torch.randn(1, 96, 64)
    loaded = RefAVSVggishModel.from_pretrained(tmp_path)(examples)
    torch.testing.assert_close(loaded.last_hidden_state, model(examples).last_hidden_state)


def test_it_returns_an_output_or_a_tuple():
    model = RefAVSVggishModel(RefAVSAudioConfig(hidden_sizes=[2, 3, 4, 5], intermediate_size=16))
    examples = torch.randn(3, 96, 64)
    (vectors,) = model(examples, return_dict=False)
    torch.testing.assert_close(vectors, model(examples).last_hidden_state)
