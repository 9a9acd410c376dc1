"""The working process: the same as `refavs segment`, and never longer than its time."""

import json
import zipfile
from pathlib import Path

import av
import numpy as np
import pytest
from limits import LimitError

from modeling_refavs.cli import main

from ..media_kit import tone
from .conftest import FOLDER
from .test_limits import write_bomb


SENTENCES = ["the first object to make a sound", "the drum"]
CLIP = FOLDER / "examples" / "bell_first.mp4"


def ask(service, video, folder, sentences=SENTENCES, tell=lambda *_: None):
    folder.mkdir()
    asked = {"kind": "segment", "video": str(video), "expressions": sentences}
    return service.ask({**asked, "folder": str(folder)}, tell)


def test_it_answers_as_refavs_segment_does(service, tmp_path, capsys):
    told = []
    answer = ask(
        service, CLIP, tmp_path / "page", tell=lambda stage, part: told.append((stage, part))
    )
    output = tmp_path / "command" / "overlay.mp4"
    output.parent.mkdir()
    options = [
        "--output",
        str(output),
        "--masks",
        str(tmp_path / "masks"),
        "--summary",
        str(tmp_path / "summary.json"),
    ]
    assert (
        main(
            [
                "segment",
                str(CLIP),
                *SENTENCES,
                "--model",
                str(FOLDER / "synthetic_checkpoint"),
                *options,
            ]
        )
        == 0
    )
    summary = json.loads((tmp_path / "summary.json").read_text())
    del summary["throughput"], summary["video"]["path"], answer["summary"]["throughput"]
    assert answer["summary"]["video"].pop("name") == "bell_first.mp4"
    assert answer["summary"] == summary
    assert Path(answer["overlay"]).read_bytes() == output.read_bytes()
    with zipfile.ZipFile(answer["masks"]) as masks:
        for path in sorted((tmp_path / "masks").rglob("*.png")):
            assert masks.read(str(path.relative_to(tmp_path / "masks"))) == path.read_bytes()
    assert [stage for stage, part in told if part == 1] == ["segmenting", "drawing"]
    assert [second for _, second in answer["frames"]] == list(range(10))
    assert len(answer["wave"]) == 250
    assert max(answer["wave"]) > 0.1
    assert np.shape(answer["sounding"]) == (2, 10)
    assert answer["ratio"] == 1  # enlarged twice, and no wider than that
    coco = json.loads(Path(answer["coco"]).read_text())
    assert [category["name"] for category in coco["categories"]] == SENTENCES
    assert answer["nearest"][0] is None


def test_a_cut_out_is_what_refavs_segment_writes(service, tmp_path, write_clip):
    clip = write_clip("clip.mp4")
    asked = {"kind": "cutout", "video": str(clip), "expressions": ["the cat"]}
    answer = service.ask({**asked, "folder": str(tmp_path)}, lambda *_: None)
    output, model = tmp_path / "command.webm", str(FOLDER / "synthetic_checkpoint")
    options = ["--model", model, "--mode", "cutout", "--output", str(output)]
    assert main(["segment", str(clip), "the cat", *options]) == 0
    packets = []
    for path in (answer["cutout"], output):  # the files hold random numbers of their own
        with av.open(str(path)) as container:
            packets.append([bytes(packet) for packet in container.demux()])
    assert packets[0] == packets[1]
    assert len(packets[0]) > 3


@pytest.mark.parametrize("sound", [True, False])
def test_sound_is_suggested_where_there_is_some(service, write_clip, sound):
    clip = write_clip(
        "s.mp4", **({"sound": [(0.0, tone(3))], "sound_codec": "aac"} if sound else {})
    )
    answer = service.ask({"kind": "suggest", "video": str(clip)}, lambda *_: None)
    assert answer["sentences"] == (["The object that is making a sound"] if sound else [])


def test_it_refuses_and_goes_on(service, tmp_path, write_clip):
    bomb = write_bomb(tmp_path / "bomb.mov")
    with pytest.raises(LimitError, match="more than 1920x1200 pixels"):
        ask(service, bomb, tmp_path / "1")
    with pytest.raises(LimitError, match="say in words"):
        ask(service, bomb, tmp_path / "2", [" "])
    process = service.process
    answer = ask(service, write_clip("silent.mp4"), tmp_path / "3")
    assert answer["wave"] is answer["sounding"] is None
    assert answer["summary"]["video"]["has_audio"] is False
    assert service.process is process


SCRIPT = """
import json, os, sys, time
print(json.dumps({"ready": True}), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    if request["video"] == "slow": time.sleep(60)
    if request["video"] == "crash": os.abort()
    print(json.dumps({"stage": "drawing", "part": 0.5}), flush=True)
    print(json.dumps({"failed": "no luck"} if request["video"] == "failed" else {"answer": request}), flush=True)
"""  # noqa: E501


@pytest.mark.parametrize(
    ("video", "kind"), [("slow", "time"), ("crash", "crashed"), ("failed", "failed")]
)
def test_work_that_ends_badly_does_not_end_the_service(video, kind, tmp_path):
    from service import Service, StoppedError

    (tmp_path / "script.py").write_text(SCRIPT)
    service, told = Service("m", seconds=0.5, work=tmp_path / "script.py"), []
    with pytest.raises(StoppedError) as stopped:
        service.ask({"video": video}, lambda *reply: told.append(reply))
    assert stopped.value.kind == kind
    assert service.ask({"video": "good"}, lambda *reply: told.append(reply)) == {"video": "good"}
    assert ("drawing", 0.5) in told
    service.stop()


def test_a_model_that_is_not_there_is_told_in_one_line(capfd):
    from service import Service

    with pytest.raises(ValueError, match=r"--model nowhere/at/all: no folder with a config\.json"):
        Service("nowhere/at/all").wait()
    assert "Traceback" not in capfd.readouterr().err
