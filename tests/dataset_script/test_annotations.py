import pytest

from dataset_script.annotations import (
    group_clips,
    read_annotations,
    split_clip_id,
    write_annotations,
)


HEADER = "vid,uid,split,fid,exp"
GOOD = "abc_0_10000,abc_0_10000_dog_1,train,0,The dog."


def write(path, *lines, newline="\n", encoding="utf-8"):
    path.write_bytes((newline.join(lines) + newline).encode(encoding))
    return path


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_line_ends_and_byte_order_mark_do_not_matter(tmp_path, newline, encoding):
    rows = read_annotations(
        write(tmp_path / "m.csv", HEADER, GOOD, newline=newline, encoding=encoding)
    ).rows
    assert [(row.vid, row.uid, row.split, row.fid, row.raw_expression) for row in rows] == [
        ("abc_0_10000", "abc_0_10000_dog_1", "train", 0, "The dog.")
    ]


def test_written_as_read(tmp_path, make_rows):
    rows = make_rows("-a_bc_0_10000", "val", {0: "hair-dryer", 32: "man"}) + make_rows(
        "q_5_15", "TODO", {0: "car"}
    )
    write_annotations(tmp_path / "m.csv", rows)
    assert (tmp_path / "m.csv").read_bytes().startswith(b"vid,uid,split,fid,exp\r\n-a_bc_0_10000,")
    read = read_annotations(tmp_path / "m.csv")
    assert [row.line for row in read.rows] == [2, 3, 4, 5, 6, 7]
    assert [row.uid for row in read.rows] == [row.uid for row in rows[:6]]
    assert [row.uid for row in read.leftovers] == [row.uid for row in rows[6:]]
    write_annotations(tmp_path / "again.csv", [*read.rows, *read.leftovers])
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "m.csv").read_bytes()


def test_names_are_taken_from_the_uid_not_the_vid(make_rows):
    row = make_rows("null_m--9k2Z_hxYpU_155000_165000", "test_n", {0: "null"})[0]
    assert (row.clip_id, row.category, row.null_kind) == (
        "null_m--9k2Z_hxYpU_155000_165000",
        "null",
        "m",
    )
    assert row.vid == split_clip_id(row.clip_id)["source"] == "-9k2Z_hxYpU_155000_165000"
    assert split_clip_id(row.clip_id)["youtube_id"] == "-9k2Z_hxYpU"
    assert split_clip_id(row.clip_id)["start_ms"] == 155000
    assert split_clip_id("scene7") == {
        "null_kind": None,
        "source": "scene7",
        "youtube_id": "scene7",
        "start_ms": None,
        "end_ms": None,
    }


def test_expression_is_tidied_and_the_raw_one_kept(tmp_path):
    line = GOOD.replace("The dog.", " The object played by the man_producing  sound. ")
    row = read_annotations(write(tmp_path / "m.csv", HEADER, line)).rows[0]
    assert row.expression == "The object played by the man producing sound."
    assert row.raw_expression == " The object played by the man_producing  sound. "


def test_clips_keep_the_order_of_the_csv(make_rows):
    one, other = make_rows("a_0_10", "train", {0: "dog"}), make_rows("b_0_10", "train", {1: "cat"})
    clips = group_clips([one[0], other[0], *one[1:]])
    assert [(clip.clip_id, len(clip.rows), clip.fids) for clip in clips] == [
        ("a_0_10", 3, [0]),
        ("b_0_10", 1, [1]),
    ]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (GOOD.replace("train", "holdout"), "split 'holdout' is none of train"),
        (GOOD.replace(",0,", ",,"), "fid '' is not a number"),
        (GOOD.replace(",0,", ",-1,"), "fid '-1' is not a number"),
        (
            GOOD.replace(",0,", ",99999999999999999999,"),
            "fid '99999999999999999999' is not a number",
        ),
        (GOOD.replace(",0,", ",2147483648,"), "from 0 to 2147483647"),
        (GOOD.replace(",0,", ",\N{SUPERSCRIPT TWO},"), "is not a number"),
        (GOOD.replace("abc_0_10000_dog_1", "dog"), "uid 'dog' is not"),
        (GOOD.replace("abc_0_10000_dog_1", "../up_dog_1"), "uid '../up_dog_1' is not"),
        (
            GOOD.replace("abc_0_10000_dog_1", "a\0bc_0_10000_dog_1"),
            "is not <clip>_<category>_<number>",
        ),
        (GOOD.replace("The dog.", "  "), "expression is empty"),
        (GOOD + ",more", "number of fields"),
        ("abc_0_10000,abc_0_10000_dog_1,train", "number of fields"),
    ],
)
def test_malformed_rows_are_kept_with_their_reason(tmp_path, line, words):
    annotations = read_annotations(write(tmp_path / "m.csv", HEADER, GOOD, line))
    assert len(annotations.rows) == 1
    assert annotations.malformed[0].line == 3
    assert words in annotations.malformed[0].reason


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"vid,uid,split\n", "lacks the column fid, exp"),
        (b"vid,uid,split,fid,exp\r\n", "has a header and no rows"),
        (b"vid,uid,split,fid,exp\na,\xff\xfe,train,0,x\n", "is not a UTF-8 csv file"),
        (b'vid,uid,split,fid,exp\na,a_b_c,train,0,"open\n', "is not a UTF-8 csv file"),
        (
            b"vid,uid,split,fid,exp\na,a_b_c,train,0," + b"x" * 200_000 + b"\n",
            "is not a UTF-8 csv file",
        ),
    ],
)
def test_files_that_cannot_be_read(tmp_path, content, words):
    (tmp_path / "m.csv").write_bytes(content)
    with pytest.raises(ValueError, match=words):
        read_annotations(tmp_path / "m.csv")
