import struct

import numpy as np
import pytest
from PIL import Image

from dataset_script.media_files import (
    empty_mask_png,
    read_mask,
    read_sound_header,
    sound_path,
    write_mask,
)


def test_a_mask_survives_the_disk(tmp_path):
    mask = np.random.default_rng(0).random((9, 16)) > 0.5
    write_mask(tmp_path / "m.png", mask)
    assert np.array_equal(read_mask(tmp_path / "m.png"), mask)


def test_any_value_above_zero_is_the_object(tmp_path):
    Image.fromarray(np.array([[0, 1], [7, 255]], dtype=np.uint8)).save(tmp_path / "m.png")
    assert read_mask(tmp_path / "m.png").tolist() == [[False, True], [True, True]]


def test_the_mask_of_nothing_is_empty(tmp_path):
    (tmp_path / "m.png").write_bytes(empty_mask_png(16, 9))
    assert read_mask(tmp_path / "m.png").shape == (9, 16)
    assert not read_mask(tmp_path / "m.png").any()


def test_sound_header(tree):
    sound = sound_path(tree, "ccccccccccc_0_10000").read_bytes()
    header = read_sound_header(sound)
    assert (header.sampling_rate, header.channels, header.duration_ms, header.missing_bytes) == (
        2000,
        1,
        10_000,
        0,
    )
    assert read_sound_header(sound[:-100]).missing_bytes == 100
    assert read_sound_header(sound[:64], len(sound)) == header


def test_sounds_that_the_standard_library_refuses():
    # 32-bit float (format 3) with a chunk of odd length before the sound, and a size left open by a
    # stream
    start = b"RIFF\xff\xff\xff\xffWAVE" + b"LIST\x03\0\0\0abc\0"
    start += b"fmt \x10\0\0\0" + struct.pack("<HHIIHH", 3, 2, 44100, 44100 * 8, 8, 32)
    header = read_sound_header(start + b"data\xff\xff\xff\xff" + bytes(44100 * 8))
    assert (header.sampling_rate, header.channels, header.duration_ms, header.missing_bytes) == (
        44100,
        2,
        1000,
        0,
    )


@pytest.mark.parametrize(
    "sound", [b"", b"ID3 an mp3", b"RIFF\0\0\0\0WAVE", b"RIFF\0\0\0\0WAVEdata\4\0\0\0abcd"]
)
def test_no_sound(sound):
    with pytest.raises(ValueError, match="WAV"):
        read_sound_header(sound)
