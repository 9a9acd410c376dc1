import numpy as np
import pytest
from transformers import AutoFeatureExtractor
from transformers.audio_utils import spectrogram

from modeling_refavs import RefAVSFeatureExtractor
from modeling_refavs.feature_extraction_refavs import log_mel_spectrogram


RNG = np.random.default_rng(0)
NOISE = (0.1 * RNG.standard_normal(160_000)).astype(np.float32)


def mel(frequency):
    return 1127.0 * np.log(1 + frequency / 700.0)


def log_mel_of_one_window(samples, log_offset=0.01):
    """From the definition alone: a discrete Fourier transform written out, triangles straight in
    mel."""
    hann = 0.5 * (1 - np.cos(2 * np.pi * np.arange(400) / 400))
    turns = np.outer(np.arange(257), np.arange(400)) / 512
    magnitude = np.abs((samples * hann * np.exp(-2j * np.pi * turns)).sum(axis=1))
    edges = np.linspace(mel(125.0), mel(7500.0), 66)
    bins = mel(np.arange(257) * 16_000 / 512)
    bands = []
    for low, centre, high in zip(edges[:-2], edges[1:-1], edges[2:], strict=True):
        triangle = np.clip(
            np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre)), 0, None
        )
        bands.append(np.log(triangle @ magnitude + log_offset))
    return np.array(bands)


def test_log_mel_equals_the_definition():
    ours = log_mel_spectrogram(NOISE[:16_000])
    assert ours.shape == (98, 64)
    for frame in (0, 41, 97):
        np.testing.assert_allclose(
            ours[frame], log_mel_of_one_window(NOISE[160 * frame :][:400]), atol=1e-5
        )


def test_log_mel_equals_the_spectrogram_of_transformers():
    from modeling_refavs.feature_extraction_refavs import _mel_filters

    hann = np.hanning(401)[:-1]
    theirs = spectrogram(
        NOISE, hann, 400, 160, 512, power=1.0, center=False, mel_filters=_mel_filters()
    )
    np.testing.assert_allclose(log_mel_spectrogram(NOISE), np.log(theirs.T + 0.01), atol=1e-5)


@pytest.mark.parametrize(
    ("samples", "examples"),
    [(153_840, 10), (153_839, 9), (160_000, 10), (169_199, 10), (169_200, 11), (399, 0)],
)
def test_contiguous_examples_drop_an_incomplete_tail(samples, examples):
    assert RefAVSFeatureExtractor(mode="contiguous").count_examples(samples) == examples


def test_contiguous_examples_are_the_spectrogram_cut_in_pieces():
    features = RefAVSFeatureExtractor(mode="contiguous")(NOISE, sampling_rate=16_000)[
        "input_features"
    ]
    np.testing.assert_array_equal(features[0], log_mel_spectrogram(NOISE)[:960].reshape(10, 96, 64))


def test_aligned_examples_begin_each_second_and_need_no_other():
    extractor = RefAVSFeatureExtractor()
    features = extractor(NOISE, sampling_rate=16_000)["input_features"][0]
    assert features.shape == (10, 96, 64)
    for second in (0, 3, 9):
        alone = extractor(NOISE[16_000 * second :][:15_600], sampling_rate=16_000)[
            "input_features"
        ][0, 0]
        np.testing.assert_array_equal(features[second], alone)


@pytest.mark.parametrize("mode", ["aligned", "contiguous"])
@pytest.mark.parametrize("samples", [0, 100, 8_000, 16_000, 40_000, 200_000])
def test_n_seconds_give_n_examples_and_the_mask_says_what_is_padding(mode, samples):
    sound = np.resize(NOISE, samples)
    inputs = RefAVSFeatureExtractor(mode=mode)(sound, sampling_rate=16_000, num_examples=4)
    assert inputs["input_features"].shape == (1, 4, 96, 64)
    silence = np.log(np.float32(0.01))
    padding = inputs["input_features_mask"][0] == 0
    np.testing.assert_allclose(inputs["input_features"][0][padding], silence, atol=1e-6)
    hop = 16_000 if mode == "aligned" else 15_360
    starts = hop * np.arange(4)[:, None] + 160 * np.arange(96)
    np.testing.assert_array_equal(padding, starts >= samples)


def test_a_batch_is_its_waveforms_one_by_one():
    extractor = RefAVSFeatureExtractor()
    batch = extractor([NOISE, NOISE[:50_000], None], sampling_rate=16_000, num_examples=5)
    for index, waveform in enumerate([NOISE, NOISE[:50_000], None]):
        alone = extractor(waveform, sampling_rate=16_000, num_examples=5)
        np.testing.assert_array_equal(batch["input_features"][index], alone["input_features"][0])
        np.testing.assert_array_equal(
            batch["input_features_mask"][index], alone["input_features_mask"][0]
        )
    assert not batch["input_features_mask"][2].any()


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_other_rates_are_resampled(rate):
    def tone(sampling_rate):
        return 0.5 * np.sin(2 * np.pi * 1_000 * np.arange(2 * sampling_rate) / sampling_rate)

    extractor = RefAVSFeatureExtractor()
    resampled = extractor(tone(rate), sampling_rate=rate)["input_features"]
    reference = extractor(tone(16_000), sampling_rate=16_000)["input_features"]
    band = reference[0, 0].mean(0).argmax()
    assert resampled.shape == reference.shape
    np.testing.assert_allclose(resampled[..., band], reference[..., band], atol=0.02)


def test_channels_are_averaged_and_integers_scaled():
    extractor = RefAVSFeatureExtractor()
    stereo = np.stack([NOISE, 0.5 * NOISE])
    mono = extractor(stereo.mean(axis=0), sampling_rate=16_000)["input_features"]
    np.testing.assert_array_equal(extractor(stereo, sampling_rate=16_000)["input_features"], mono)
    np.testing.assert_array_equal(extractor(stereo.T, sampling_rate=16_000)["input_features"], mono)
    integers = (NOISE * 2**15).astype(np.int16)
    scaled = extractor(integers, sampling_rate=16_000)["input_features"]
    np.testing.assert_array_equal(
        scaled, extractor(integers / np.float32(2**15), sampling_rate=16_000)["input_features"]
    )


def test_it_is_saved_and_loaded(tmp_path):
    RefAVSFeatureExtractor(mode="contiguous", log_offset=0.001).save_pretrained(tmp_path)
    loaded = AutoFeatureExtractor.from_pretrained(tmp_path)
    assert (loaded.mode, loaded.log_offset) == ("contiguous", 0.001)


def test_an_extractor_saved_without_an_offset_has_vggish_s(tmp_path):
    (tmp_path / "preprocessor_config.json").write_text(
        '{"feature_extractor_type": "RefAVSFeatureExtractor", "mode": "aligned"}'
    )
    assert RefAVSFeatureExtractor.from_pretrained(tmp_path).log_offset == 0.01


def test_the_offset_is_added_before_the_logarithm():
    """YAMNet's front end is VGGish's but for this."""
    extractor = RefAVSFeatureExtractor(log_offset=0.001)
    features = extractor(NOISE[:16_000], sampling_rate=16_000, num_examples=2)["input_features"][0]
    for frame in (0, 95):
        expected = log_mel_of_one_window(NOISE[160 * frame :][:400], log_offset=0.001)
        np.testing.assert_allclose(features[0, frame], expected, atol=1e-5)
    np.testing.assert_allclose(features[1], np.log(0.001), atol=1e-5)


def test_an_offset_that_is_not_positive_is_refused():
    with pytest.raises(ValueError, match="log_offset must be above 0"):
        RefAVSFeatureExtractor(log_offset=0.0)


@pytest.mark.parametrize(
    ("audio", "rate", "words"),
    [
        (np.array([0.0, np.nan, 1.0]), 16_000, "NaN"),
        (np.array([0.0, np.inf, 1.0]), 16_000, "infinite"),
        (NOISE, None, "sampling_rate must be given"),
        (NOISE, -1, "sampling_rate must be given"),
        (np.zeros((2, 3, 4)), 16_000, "audio must be"),
    ],
)
def test_bad_sound_is_refused(audio, rate, words):
    with pytest.raises(ValueError, match=words):
        RefAVSFeatureExtractor()(audio, sampling_rate=rate)


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="'aligned' or 'contiguous'"):
        RefAVSFeatureExtractor(mode="alined")


def test_it_is_one_of_transformers_sequence_feature_extractors(tmp_path):
    extractor = RefAVSFeatureExtractor()
    assert (extractor.feature_size, extractor.sampling_rate, extractor.padding_value) == (
        64,
        16_000,
        0.0,
    )
    extractor.save_pretrained(tmp_path)
    assert RefAVSFeatureExtractor.from_pretrained(tmp_path).to_dict() == extractor.to_dict()
    examples = [extractor(np.ones(16_000 * n), 16_000)["input_features"][0] for n in (1, 3)]
    padded = extractor.pad({"input_features": examples}, return_tensors="np")
    assert padded["input_features"].shape == (2, 3, 96, 64)
    assert not padded["input_features"][0, 1:].any()
