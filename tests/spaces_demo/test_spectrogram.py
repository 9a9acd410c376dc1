"""The picture of the sound."""

import numpy as np
from spectrogram import COLUMNS, draw_spectrogram

from modeling_refavs.video_refavs import probe_video
from tests.media_kit import tone


def test_a_hum_is_a_line_low_in_the_picture_while_it_lasts(write_clip):
    picture = draw_spectrogram(probe_video(write_clip(sound=[(0.0, tone(2))])), 3.0)
    assert picture.size == (3 * COLUMNS, 64)
    opacity = np.asarray(picture)[..., 3]
    assert opacity[:, 10].argmax() > 50  # 250 Hz, low tones below
    assert opacity[:, 10].max() > 200
    assert opacity[:, 2 * COLUMNS + 5 :].max() == 0


def test_silence_is_clear_and_no_sound_is_none(write_clip):
    picture = draw_spectrogram(probe_video(write_clip(sound=[(0.0, tone(3, loudness=0.0))])), 3.0)
    assert np.asarray(picture)[..., 3].max() == 0
    assert draw_spectrogram(probe_video(write_clip("silent.mp4")), 3.0) is None
