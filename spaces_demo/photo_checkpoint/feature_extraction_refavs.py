"""Sound in, log-mel examples out: the front end of VGGish and YAMNet, one example for each second
of video."""

import functools
from typing import Literal

import numpy as np
from transformers import BatchFeature, SequenceFeatureExtractor
from transformers.audio_utils import mel_filter_bank
from transformers.utils import is_scipy_available


SAMPLING_RATE = 16_000  # Hz, what VGGish was trained at
MIN_SAMPLING_RATE = 1000  # Hz; a lower one is meant in kHz, and resampled it would fill the memory
WINDOW_LENGTH = 400  # samples, 25 ms
HOP_LENGTH = 160  # samples, 10 ms
FFT_LENGTH = 512
NUM_MEL_BANDS = 64
MIN_FREQUENCY, MAX_FREQUENCY = 125.0, 7500.0  # Hz
LOG_OFFSET = 0.01  # VGGish's; YAMNet's is 0.001
NUM_MEL_FRAMES = 96  # in an example, 0.96 s
EXAMPLE_SPAN = (
    NUM_MEL_FRAMES - 1
) * HOP_LENGTH + WINDOW_LENGTH  # samples that one example covers, 0.975 s
EXAMPLE_HOP = {
    "aligned": SAMPLING_RATE,
    "contiguous": NUM_MEL_FRAMES * HOP_LENGTH,
}  # samples between two examples


class RefAVSFeatureExtractor(SequenceFeatureExtractor):
    """Waveform to log-mel examples.

    Args:
        mode: `"aligned"`: example k is the first 0.96 s of second k, so n seconds give n examples
            and none needs a later second (the paper's "clips at 1-second intervals").
            `"contiguous"`: examples follow one another every 0.96 s, as in VGGish itself and in the
            features that the authors released.
        log_offset: added to every mel magnitude before the logarithm: 0.01 for VGGish, 0.001 for
            YAMNet, which otherwise share their front end.
    """

    model_input_names = ["input_features", "input_features_mask"]  # noqa: RUF012

    def __init__(
        self,
        mode: Literal["aligned", "contiguous"] = "aligned",
        log_offset: float = LOG_OFFSET,
        **kwargs,
    ):
        fixed = {"feature_size": NUM_MEL_BANDS, "sampling_rate": SAMPLING_RATE}
        super().__init__(**{"padding_value": 0.0, **kwargs, **fixed})
        if mode not in EXAMPLE_HOP:
            raise ValueError(f"mode must be 'aligned' or 'contiguous', got {mode!r}")
        if not log_offset > 0:
            raise ValueError(f"log_offset must be above 0, silence has no logarithm: {log_offset}")
        self.mode = mode
        self.log_offset = log_offset

    def __call__(
        self,
        audio: np.ndarray | list,
        sampling_rate: int | None = None,
        num_examples: int | None = None,
        return_tensors: str | None = None,
    ) -> BatchFeature:
        """
        Args:
            audio: one waveform or a list of them: mono `(samples,)`, or `(channels, samples)` or
                `(samples, channels)`, floats in [-1, 1] or integers; None for a clip without a
                sound track.
            sampling_rate: of `audio`, in Hz; other rates than 16 kHz are resampled.
            num_examples: how many each waveform gives: a longer one is cut, a shorter one filled up
                with silence.
                Default: as many as the longest waveform has, a last one that is cut short included.
            return_tensors: `"pt"`, `"np"` or None.

        Returns:
            `input_features (clips, examples, 96, 64)` and `input_features_mask (clips, examples,
            96)`, 0 where a mel frame covers padding alone.

        Raises:
            ValueError: an unknown rate, NaN in the sound, or a waveform of more than two
                dimensions.
        """
        waveforms = [self.prepare(waveform, sampling_rate) for waveform in _as_batch(audio)]
        if num_examples is None:
            num_examples = max(self.count_examples(len(waveform)) for waveform in waveforms)
        features = np.stack(
            [self._log_mel_examples(waveform, num_examples) for waveform in waveforms]
        )
        masks = np.stack([self._mask(len(waveform), num_examples) for waveform in waveforms])
        return BatchFeature(
            {"input_features": features, "input_features_mask": masks}, tensor_type=return_tensors
        )

    def _pad(self, processed_features: dict[str, np.ndarray], *args, **kwargs) -> dict:
        """The examples `(examples, 96, 64)` as rows, since transformers' own pads rows alone."""
        name = self.model_input_names[0]
        examples = np.asarray(processed_features[name])
        processed_features[name] = examples.reshape(len(examples), -1)
        padded = super()._pad(processed_features, *args, **kwargs)
        padded[name] = padded[name].reshape(-1, *examples.shape[1:])
        return padded

    def count_examples(self, num_samples: int) -> int:
        """How many examples `num_samples` samples at 16 kHz give.

        `contiguous` drops an incomplete last one, as VGGish does; `aligned` keeps it, padded.
        """
        if self.mode == "contiguous":
            num_frames = 1 + (num_samples - WINDOW_LENGTH) // HOP_LENGTH
            return max(num_frames, 0) // NUM_MEL_FRAMES
        return -(-num_samples // SAMPLING_RATE)

    def _log_mel_examples(self, waveform: np.ndarray, num_examples: int) -> np.ndarray:
        """`(samples,)` -> `(examples, 96, 64)`."""
        hop = EXAMPLE_HOP[self.mode]
        length = max(num_examples - 1, 0) * hop + EXAMPLE_SPAN
        waveform = np.pad(waveform[:length], (0, max(length - len(waveform), 0)))
        spans = np.lib.stride_tricks.sliding_window_view(waveform, EXAMPLE_SPAN)[::hop][
            :num_examples
        ]
        return log_mel_spectrogram(spans, self.log_offset)

    def _mask(self, num_samples: int, num_examples: int) -> np.ndarray:
        """`(examples, 96)`: 1 where a mel frame starts inside the sound."""
        starts = (
            np.arange(num_examples)[:, None] * EXAMPLE_HOP[self.mode]
            + np.arange(NUM_MEL_FRAMES) * HOP_LENGTH
        )
        return (starts < num_samples).astype(np.int64)

    def prepare(self, waveform: np.ndarray | None, sampling_rate: int | None) -> np.ndarray:
        """See [`prepare_waveform`]; to 16 kHz."""
        return prepare_waveform(waveform, sampling_rate, SAMPLING_RATE)


def prepare_waveform(
    waveform: np.ndarray | None, sampling_rate: int | None, to: int = SAMPLING_RATE
) -> np.ndarray:
    """Any waveform -> `(samples,)` float32, mono, at `to` Hz; no samples where there is none.

    Raises:
        ValueError: an unknown rate, NaN in the sound, or more than two dimensions.
    """
    if waveform is None:
        return np.zeros(0, dtype=np.float32)
    waveform = _to_mono(np.asarray(waveform))
    if not np.isfinite(waveform).all():
        raise ValueError(
            "the sound holds NaN or infinite samples "
            f"({np.count_nonzero(~np.isfinite(waveform))} of {waveform.size}): "
            "repair it, for example with numpy.nan_to_num"
        )
    return _resample(waveform, sampling_rate, to)


def extract_seconds(
    feature_extractor: SequenceFeatureExtractor,
    waveforms: list,
    sampling_rate: int | None,
    num_seconds: int,
) -> dict[str, np.ndarray]:
    """What a feature extractor of transformers, such as AST's or Whisper's, makes of each second
    alone, padded to its own window: no second needs a later one.

    Args:
        waveforms: as in [`RefAVSFeatureExtractor`].

    Returns:
        `input_features (clips, seconds, ...)` and `input_features_mask (clips, seconds, 1)`, 0
        where there is no sound.
    """
    rate = feature_extractor.sampling_rate
    seconds = np.zeros((len(waveforms), num_seconds * rate), dtype=np.float32)
    mask = np.zeros((len(waveforms), num_seconds, 1), dtype=np.int64)
    for index, waveform in enumerate(waveforms):
        waveform = prepare_waveform(waveform, sampling_rate, rate)[: num_seconds * rate]
        seconds[index, : len(waveform)] = waveform
        mask[index, : -(-len(waveform) // rate)] = 1
    examples = list(seconds.reshape(-1, rate))
    features = feature_extractor(examples, sampling_rate=rate, return_tensors="np")
    features = features[feature_extractor.model_input_names[0]]
    features = features.reshape(len(waveforms), num_seconds, *features.shape[1:])
    return {"input_features": features, "input_features_mask": mask}


def log_mel_spectrogram(waveform: np.ndarray, log_offset: float = LOG_OFFSET) -> np.ndarray:
    """`(..., samples)` at 16 kHz -> `(..., mel frames, 64)`: log(mel magnitude + offset), 25 ms
    windows every 10 ms."""
    windows = np.lib.stride_tricks.sliding_window_view(waveform, WINDOW_LENGTH, axis=-1)[
        ..., ::HOP_LENGTH, :
    ]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW_LENGTH) / WINDOW_LENGTH)  # periodic
    magnitude = np.abs(np.fft.rfft(windows * hann, FFT_LENGTH))
    # Not `@`: for so small a product OpenBLAS wakes a thread that then spins for 0.1 s, and what
    # comes out would depend on how many examples there are.
    mel = np.einsum("...wf,fb->...wb", magnitude, _mel_filters())
    return np.log(mel + log_offset).astype(np.float32)


@functools.cache
def _mel_filters() -> np.ndarray:
    """`(257, 64)` triangles that are straight in mel (HTK), not in Hz."""
    return mel_filter_bank(
        num_frequency_bins=FFT_LENGTH // 2 + 1,
        num_mel_filters=NUM_MEL_BANDS,
        min_frequency=MIN_FREQUENCY,
        max_frequency=MAX_FREQUENCY,
        sampling_rate=SAMPLING_RATE,
        mel_scale="htk",
        triangularize_in_mel_space=True,
    )


def _as_batch(audio) -> list:
    if audio is None or isinstance(audio, np.ndarray) or hasattr(audio, "numpy"):
        return [audio]
    if isinstance(audio, (list, tuple)) and audio and np.isscalar(audio[0]):
        return [np.asarray(audio)]
    return list(audio)


def _to_mono(waveform: np.ndarray) -> np.ndarray:
    if np.issubdtype(waveform.dtype, np.signedinteger):
        waveform = waveform / np.float32(np.iinfo(waveform.dtype).max + 1)
    if waveform.ndim == 2:
        waveform = waveform.mean(
            axis=int(np.argmin(waveform.shape))
        )  # there are fewer channels than samples
    if waveform.ndim != 1:
        raise ValueError(
            "audio must be (samples,), (channels, samples) or (samples, channels), got "
            f"{waveform.shape}"
        )
    return waveform.astype(np.float32)


def _resample(waveform: np.ndarray, sampling_rate: int | None, to: int) -> np.ndarray:
    if sampling_rate is None or not sampling_rate >= MIN_SAMPLING_RATE:
        raise ValueError(
            f"sampling_rate must be given in Hz, at least {MIN_SAMPLING_RATE}, got "
            f"{sampling_rate}: the audio encoder was trained at {to} Hz, other rates are resampled"
        )
    if sampling_rate == to or not len(waveform):
        return waveform
    if is_scipy_available():  # here, since it takes long to import and is seldom needed
        from scipy.signal import resample_poly
    else:
        raise ValueError(
            f"to resample from {sampling_rate} to {to} Hz scipy is needed: pip install scipy"
        )
    divisor = np.gcd(int(sampling_rate), to)
    return resample_poly(waveform, to // divisor, int(sampling_rate) // divisor).astype(np.float32)


RefAVSFeatureExtractor.register_for_auto_class()


__all__ = [
    "RefAVSFeatureExtractor",
    "extract_seconds",
    "log_mel_spectrogram",
    "prepare_waveform",
]
