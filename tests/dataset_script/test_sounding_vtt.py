"""Sounding intervals leave as WebVTT and come back."""

from dataclasses import replace

import pytest

from dataset_script.annotate.annotation import Annotation, AnnotationStore, ObjectAnnotation
from dataset_script.annotate.sounding_vtt import export_vtt, import_vtt, read_vtt, vtt_text
from dataset_script.annotate.tree import read_tree_annotation
from modeling_refavs.cli import main


CLIP = "-aaaaaaaaaa_0_10000"  # of the fixture `tree`: a cello and a man
DOG = ObjectAnnotation(0, "dog & <cat>", "pet", "#e6194b", sounding=((0.5, 2.25), (4.0, 10.0)))
MAN = ObjectAnnotation(12, "man", "human", "#3cb44b", sounding=((0.25, 0.999),))


def annotate(tree) -> AnnotationStore:
    store, annotation = AnnotationStore(tree, "ann"), read_tree_annotation(tree, CLIP)
    cello, man = annotation.objects
    store.save(annotation.with_object(replace(cello, sounding=((1.25, 2.5), (3.0, 9.999)))))
    assert man.sounding == ()
    return store


def test_text():
    annotation = Annotation(CLIP, (4, 4), objects=(DOG, MAN))
    assert vtt_text(annotation) == (
        "WEBVTT\n\n"
        "00:00:00.250 --> 00:00:00.999\n<v object 12>man</v>\n\n"
        "00:00:00.500 --> 00:00:02.250\n<v object 0>dog &amp; &lt;cat&gt;</v>\n\n"
        "00:00:04.000 --> 00:00:10.000\n<v object 0>dog &amp; &lt;cat&gt;</v>\n"
    )
    assert vtt_text(Annotation(CLIP, (4, 4))) == "WEBVTT\n"


def test_read_as_written(tmp_path):
    path = tmp_path / "a.vtt"
    path.write_text(vtt_text(Annotation(CLIP, (4, 4), objects=(DOG, MAN))), encoding="utf-8")
    found = read_vtt(path)
    assert found == {0: (DOG.category, [*DOG.sounding]), 12: ("man", [*MAN.sounding])}
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert read_vtt(path) == found


def test_what_an_editor_makes_of_it(tmp_path):
    path = tmp_path / "a.vtt"
    path.write_text(
        "\ufeffWEBVTT - barks\n\nNOTE made by hand\n\nSTYLE\n::cue { color: red }\n\n"
        "first\n01:02.500 --> 01:03.000 align:start\n<v object 3>dog\n",
        encoding="utf-8",
    )
    assert read_vtt(path) == {3: ("dog", [(62.5, 63.0)])}


def test_there_and_back(tree, tmp_path):
    store = annotate(tree)
    before = store.read(CLIP)
    assert export_vtt(tree, "ann", tmp_path / "out") == {"clips": 1, "intervals": 2}
    assert import_vtt(tmp_path / "out", tree, "bob") == {"clips": 1, "intervals": 2}
    assert AnnotationStore(tree, "bob").read(CLIP) == before
    store.save(replace(before, objects=tuple(replace(t, sounding=()) for t in before.objects)))
    import_vtt(tmp_path / "out" / f"{CLIP}.vtt", tree, "ann")
    assert store.read(CLIP) == before


def test_cues_in_any_order(tree, tmp_path):
    path = tmp_path / f"{CLIP}.vtt"
    later, earlier = CUE.replace("01.0", "03.0").replace("02.0", "04.0"), CUE
    path.write_text(f"WEBVTT\n\n{later}\n\n{earlier}\n", encoding="utf-8")
    import_vtt(path, tree, "ann")
    cello = AnnotationStore(tree, "ann").read(CLIP).find(0)
    assert cello.sounding == ((1.0, 2.0), (3.0, 4.0))


def test_commands(tree, tmp_path, capsys):
    annotate(tree)
    out = str(tmp_path / "out")
    command = ["dataset", "export", str(tree), out, "--form", "webvtt"]
    assert main(command) == 2
    assert "--annotator NAME belongs to the form webvtt" in capsys.readouterr().err
    assert main([*command, "--annotator", "ann"]) == 0
    assert "2 intervals of 1 clips" in capsys.readouterr().out
    assert main([*command, "--annotator", "ann"]) == 2
    assert "exists: give a new folder" in capsys.readouterr().err
    assert main(["dataset", "import", "webvtt", out, str(tree), "--annotator", "bob"]) == 0
    assert AnnotationStore(tree, "bob").clip_ids() == [CLIP]
    assert main(["dataset", "export", str(tree), out + "2", "--annotator", "ann"]) == 2


CUE = "00:00:01.000 --> 00:00:02.000\n<v object 0>cello</v>"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (CUE, "does not begin with WEBVTT"),
        ("WEBVTT\n\n00:00:01 --> 00:00:02\n<v object 0>cello</v>", "a cue must be such as"),
        ("WEBVTT\n\n00:00:01.000 --> 00:00:02.000\ncello", "a cue must be such as"),
        (f"WEBVTT\n\n{CUE}\n\n{CUE.replace('cello', 'dog')}", "object 0 is cello and dog"),
        (f"WEBVTT\n\n{CUE.replace('cello', 'dog')}", "object 0 dog, which is cello"),
        (f"WEBVTT\n\n{CUE.replace('0>', '7>')}", "object 7 cello, which is not there"),
        (f"WEBVTT\n\n{CUE}\n\n{CUE}", "in order and apart"),
        (f"WEBVTT\n\n{CUE.replace('00:02.', '00:12.')}", "in order and apart"),
    ],
)
def test_mistakes_are_named_and_nothing_is_changed(text, words, tree, tmp_path):
    (tmp_path / f"{CLIP}.vtt").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=words) as caught:
        import_vtt(tmp_path / f"{CLIP}.vtt", tree, "ann")
    assert f"{CLIP}.vtt" in str(caught.value)
    assert AnnotationStore(tree, "ann").clip_ids() == []


def test_files_that_are_not_there(tree, tmp_path):
    with pytest.raises(ValueError, match=r"no \.vtt is in it"):
        import_vtt(tree, tree, "ann")
    with pytest.raises(ValueError, match="has no clip away"):
        import_vtt(tmp_path / "away.vtt", tree, "ann")
    with pytest.raises(ValueError, match="nothing is annotated yet"):
        export_vtt(tree, "ann", tmp_path / "out")
