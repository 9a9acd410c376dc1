import csv
import hashlib
import io
import json
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from scipy.io import wavfile

from dataset_script.synthetic import SynthesisOptions, make_clip, synthesize
from dataset_script.synthetic.sentences import FAMILIES
from modeling_refavs.cli import main


UNSEEN = {"harp", "tambourine", "drill", "owl"}


def digest(folder):
    """Every file's bytes, by path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def read_rows(folder):
    with open(folder / "metadata.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_same_seed_same_bytes_whatever_the_workers_and_the_number_of_clips(tmp_path):
    synthesize(tmp_path / "one", 9, SynthesisOptions(seed=4), workers=1)
    synthesize(tmp_path / "two", 6, SynthesisOptions(seed=4), workers=2)
    synthesize(tmp_path / "two", 9, SynthesisOptions(seed=4), workers=2)
    synthesize(tmp_path / "other", 9, SynthesisOptions(seed=5), workers=1)
    one, two, other = (digest(tmp_path / name) for name in ("one", "two", "other"))
    assert one == two
    assert one["metadata.csv"] != other["metadata.csv"]


def test_a_stopped_run_goes_on_where_it_was(tmp_path, monkeypatch):
    synthesize(tmp_path / "whole", 6, SynthesisOptions(seed=4))
    replace, calls = Path.replace, []

    def stop_in_the_third_clip(source, target):
        calls.append(target)
        if len(calls) == 85:
            raise KeyboardInterrupt
        return replace(source, target)

    monkeypatch.setattr(Path, "replace", stop_in_the_third_clip)
    with pytest.raises(KeyboardInterrupt):
        synthesize(tmp_path / "stopped", 6, SynthesisOptions(seed=4))
    monkeypatch.undo()
    finished = {
        path: path.stat().st_mtime_ns for path in (tmp_path / "stopped" / "scenes").iterdir()
    }
    assert 1 <= len(finished) < 6
    assert not (tmp_path / "stopped" / "metadata.csv").exists()
    synthesize(tmp_path / "stopped", 6, SynthesisOptions(seed=4))
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    assert digest(tmp_path / "stopped") == digest(tmp_path / "whole")


def test_splits_of_a_tree_alone_are_those_of_the_whole(tmp_path):
    synthesize(tmp_path / "whole", 15, SynthesisOptions(seed=4))
    synthesize(tmp_path / "part", 15, SynthesisOptions(seed=4), splits=("val", "test_n"))
    whole, part = digest(tmp_path / "whole"), digest(tmp_path / "part")
    rows = read_rows(tmp_path / "part")
    assert {row["split"] for row in rows} == {"val", "test_n"}
    assert rows == [
        row for row in read_rows(tmp_path / "whole") if row["split"] in ("val", "test_n")
    ]
    assert {name: part[name] for name in part if name != "metadata.csv"}.items() <= whole.items()


def test_more_null_references_leave_all_other_clips_as_they_are():
    few = [make_clip(SynthesisOptions(seed=4), index) for index in range(120)]
    many = [make_clip(SynthesisOptions(seed=4, null_share=0.5), index) for index in range(120)]
    learned = [
        (one, other) for one, other in zip(few, many, strict=True) if one.split in ("train", "val")
    ]
    null = [other.name.startswith("null_") for _, other in learned]
    assert np.mean(null) == pytest.approx(0.5, abs=0.15)
    assert all(
        one == other for (one, other), is_null in zip(learned, null, strict=True) if not is_null
    )
    assert all(
        one == other for one, other in zip(few, many, strict=True) if one.split.startswith("test")
    )


def test_a_tree_of_before_shares_were_options_is_gone_on_with(tmp_path):
    synthesize(tmp_path, 2, SynthesisOptions(seconds=1))
    note = json.loads((tmp_path / "synthesis.json").read_text())
    del note["null_share"], note["novelty_share"]
    (tmp_path / "synthesis.json").write_text(json.dumps(note))
    synthesize(tmp_path, 3, SynthesisOptions(seconds=1))
    assert len(list((tmp_path / "scenes").iterdir())) == 3


def test_layout_is_that_of_the_real_one(benchmark_folder, stored_clips):
    assert (benchmark_folder / "metadata.csv").read_bytes().startswith(b"vid,uid,split,fid,exp\r\n")
    rows = read_rows(benchmark_folder)
    assert len({row["uid"] for row in rows}) == len(rows)
    assert len(rows) == sum(len(stored["expressions"]) for stored in stored_clips.values())
    for row in rows:
        clip, category, number = row["uid"].rsplit("_", 2)
        media = benchmark_folder / "media" / clip
        assert int(number) >= 1
        assert clip.removeprefix("null_c-").removeprefix("null_m-") == row["vid"]
        assert (category == "null") == clip.startswith("null_")
        assert {path.name for path in (media / "frames").iterdir()} == {
            f"{n}.jpg" for n in range(10)
        }
        assert Image.open(media / "frames" / "0.jpg").size == (96, 96)
        assert wavfile.read(media / "audio.wav")[1].shape == (160_000,)
        masks = benchmark_folder / "gt_mask" / clip / f"fid_{row['fid']}"
        assert {path.name for path in masks.iterdir()} == {f"{n:05d}.png" for n in range(10)}
        area = sum(np.asarray(Image.open(path)).astype(bool).sum() for path in masks.iterdir())
        assert (area == 0) == (category == "null")


def test_splits_are_by_category(benchmark_folder, stored_clips):
    taxonomy = json.loads((benchmark_folder / "taxonomy.json").read_text())
    assert set(taxonomy["unseen"]) == UNSEEN
    seen_kinds = {kind for name, kind in taxonomy["categories"].items() if name not in UNSEEN}
    assert {taxonomy["categories"][name] for name in UNSEEN} <= seen_kinds
    splits = {stored["split"] for stored in stored_clips.values()}
    assert splits == {"train", "val", "test_s", "test_u", "test_n"}
    for name, stored in stored_clips.items():
        objects = stored["scene"]["objects"]
        for expression in stored["expressions"]:
            if stored["split"] == "test_u":
                assert objects[expression["fid"]]["category"] in UNSEEN
            else:
                assert not UNSEEN & {item["category"] for item in objects}
                assert not any(word in expression["text"] for word in UNSEEN)
        assert name.startswith("null_") == (stored["expressions"][0]["fid"] is None)
        assert stored["split"] != "test_n" or name.startswith("null_")
    assert all(
        kind in taxonomy["categories"] for stored in stored_clips.values() for kind in kinds(stored)
    )


def kinds(stored):
    return [item["category"] for item in stored["scene"]["objects"]]


def test_clips_hold_what_the_task_needs(undrawn_clips):
    """By the numbers of the paper."""
    clips = undrawn_clips
    counts = np.array([len(clip.scene.objects) for clip in clips])
    assert np.mean(counts >= 2) == pytest.approx(0.56, abs=0.06)
    assert np.mean(counts >= 3) == pytest.approx(0.13, abs=0.05)
    photographed = {"semantic + acoustic"}  # which drawings have no sentence of
    families = {e.family for clip in clips for e in clip.expressions}
    assert families == set(FAMILIES) - photographed
    assert all(clip.expressions for clip in clips)
    assert (
        sum(
            len(c.scene.objects) > 1 and sum(o.sound is not None for o in c.scene.objects) == 1
            for c in clips
        )
        > 60
    )
    smaller_sounds = 0
    for scene in (clip.scene for clip in clips):
        sounding = [item.radius for item in scene.objects if item.sound]
        smaller_sounds += len(sounding) == 1 and sounding[0] < max(
            item.radius for item in scene.objects
        )
    assert smaller_sounds > 30


def test_two_of_a_kind_never_sound_while_both_are_seen(undrawn_clips):
    for scene in (clip.scene for clip in undrawn_clips):
        for item in scene.objects:
            twins = [o for o in scene.objects if o.category == item.category and o.fid != item.fid]
            if item.sound and twins:
                for twin in twins:
                    assert (
                        twin.presence[1] < item.presence[0] or item.presence[1] < twin.presence[0]
                    )


def test_null_sentences_are_said_of_other_clips(undrawn_clips):
    """A null sentence's words are those of true sentences; what the clip lacks makes it one."""
    clips = undrawn_clips
    true = {e.template for clip in clips for e in clip.expressions if e.fid is not None}
    nulls = [e.template for clip in clips for e in clip.expressions if e.fid is None]
    assert np.mean([name in true for name in nulls]) > 0.95
    muted = [clip.name.startswith("null_m") for clip in clips if clip.name.startswith("null_")]
    assert 0.2 < np.mean(muted) < 0.6
    silent = [
        all(o.sound is None for o in c.scene.objects) for c in clips if c.name.startswith("null_m")
    ]
    assert all(silent)


@pytest.mark.parametrize(
    "options",
    [
        SynthesisOptions(height=64, width=128, seconds=3.0, fps=4.0),
        SynthesisOptions(height=150, width=50, seconds=31.5, fps=0.5),
        SynthesisOptions(height=32, width=32, seconds=1.0),
    ],
)
def test_any_size_rate_and_length(tmp_path, options):
    synthesize(tmp_path / "out", 5, options)
    frames = int(options.seconds * options.fps)
    for media in (tmp_path / "out" / "media").iterdir():
        assert len(list((media / "frames").iterdir())) == frames
        assert Image.open(media / "frames" / f"{frames - 1}.jpg").size == (
            options.width,
            options.height,
        )
        assert len(wavfile.read(media / "audio.wav")[1]) == round(options.seconds * 16_000)


def test_an_mp4_shows_and_sounds_the_same_clip(tmp_path):
    synthesize(tmp_path / "out", 1, SynthesisOptions(seconds=2.0, video=True))
    (media,) = (tmp_path / "out" / "media").iterdir()
    with av.open(io.BytesIO((media / "video.mp4").read_bytes())) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert container.streams.video[0].average_rate == 25
    with av.open(str(media / "video.mp4")) as container:
        samples = sum(frame.samples for frame in container.decode(audio=0))
    assert len(frames) == 50
    assert samples == pytest.approx(32_000, abs=2048)
    still = np.asarray(Image.open(media / "frames" / "1.jpg")).astype(float)
    assert np.abs(frames[25] - still).mean() < 6


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--clips", "0"], "clips must be 1 or more"),
        (["--clips", "1", "--workers", "0"], "workers must be 1 or more"),
        (["--clips", "1", "--size", "big"], "size must be a number of pixels"),
        (["--clips", "1", "--size", "8"], "height must be 32 or more"),
        (["--clips", "1", "--size", "40x400"], "3 times as long"),
        (["--clips", "1", "--fps", "nan"], "fps must give a frame"),
        (["--clips", "1", "--seconds", "inf"], "seconds must be 1 or more"),
        (["--clips", "1", "--seed", "-1"], "seed must be 0 or more"),
        (["--clips", "1", "--size", "97", "--video"], "even sides"),
        (["--clips", "1", "--null-share", "2"], "null_share must lie in [0, 1]"),
        (["--clips", "1", "--novelty-share", "-1"], "novelty_share must lie in [0, 1]"),
        (
            ["--clips", "1", "--splits", "trian"],
            "splits must be of train, val, test_s, test_u, test_n, got trian",
        ),
    ],
)
def test_a_mistake_meets_one_clear_line(tmp_path, capsys, arguments, words):
    assert main(["synthesize", str(tmp_path / "out"), *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_folder_with_something_else_is_refused(tmp_path, capsys):
    assert main(["synthesize", str(tmp_path / "out"), "--clips", "1", "--seconds", "1"]) == 0
    assert main(["synthesize", str(tmp_path / "out"), "--clips", "1", "--seconds", "2"]) == 2
    assert "other options" in capsys.readouterr().err
    (tmp_path / "out" / "synthesis.json").write_text("{}[")
    assert main(["synthesize", str(tmp_path / "out"), "--clips", "1", "--seconds", "1"]) == 2
    assert "other options" in capsys.readouterr().err
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    assert main(["synthesize", str(tmp_path / "mine"), "--clips", "1"]) == 2
    assert "not empty" in capsys.readouterr().err
