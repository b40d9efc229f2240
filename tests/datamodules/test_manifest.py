"""Manifests and prompts: what is read, and one sentence with the line for what is not."""

from __future__ import annotations

import json

import pytest

from datamodules.manifest import MotionTask, read_manifest, tasks_of_videos
from datamodules.prompts import Pairing, read_prompts, video_name
from datamodules.rows import ManifestError
from ditflow.video import VideoError, video_sha256


@pytest.fixture
def write(tmp_path):
    def write(name: str, text: str | bytes):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_manifest_as_csv(write, tmp_path):
    path = write(
        "clips.csv",
        'video,prompt,name,negative_prompt,start,stride,seed,tags\na.mp4,"red, '
        'blue",first,ugly,3,2,7,x; y\nsub/my clip.mp4,,,,,,,\n',
    )
    first, second = read_manifest(path, negative_prompt="bad", seed=5)
    assert first == MotionTask(
        "first", str(tmp_path / "a.mp4"), "red, blue", "ugly", 3, 2, 7, ("x", "y")
    )
    assert second == MotionTask(
        "my-clip", str(tmp_path / "sub/my clip.mp4"), "", "bad", 0, 1, 5, ()
    )


def test_manifest_as_jsonl_keeps_empty_values_as_values(write):
    rows = [
        {"video": "/a.mp4", "prompt": "red", "seed": 0, "negative_prompt": "", "tags": ["x"]},
        {"video": "/b.mp4", "prompt": ""},
    ]
    first, second = read_manifest(
        write("clips.jsonl", "\n".join(map(json.dumps, rows)) + "\n\n"),
        negative_prompt="bad",
        seed=5,
    )
    assert first == MotionTask("a", "/a.mp4", "red", "", seed=0, tags=("x",))
    assert second == MotionTask("b", "/b.mp4", "", "bad", seed=5)


def test_manifest_may_begin_with_a_byte_order_mark_and_hold_line_breaks(write):
    (task,) = read_manifest(
        write("clips.csv", b'\xef\xbb\xbfvideo,prompt\r\na.mp4,"two\r\nlines"\r\n')
    )
    assert task.prompt.splitlines() == ["two", "lines"]


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("clips.csv", "", "has no rows: it needs the columns prompt, video"),
        ("clips.csv", "video,prompt\n", "has no rows"),
        ("clips.csv", "video,text\na.mp4,red\n", "line 2 has no column prompt"),
        (
            "clips.csv",
            "video,prompt,colour\na.mp4,red,blue\n",
            "line 2 has an unknown column colour",
        ),
        (
            "clips.csv",
            "video,prompt\na.mp4,red,blue\n",
            "unknown column (more cells than the header)",
        ),
        ("clips.csv", 'video,prompt\na.mp4,"red\n', "is not CSV"),
        ("clips.csv", "video,prompt\n,red\n", "line 2 names no video"),
        ("clips.csv", "video,prompt,name\na.mp4,red,../x\n", "the name '../x' is not one of"),
        (
            "clips.csv",
            "video,prompt,start\na.mp4,red,soon\n",
            "line 2: start is 'soon', but it must be a whole number",
        ),
        ("clips.csv", "video,prompt,stride\na.mp4,red,0\n", "stride is 0"),
        (
            "clips.csv",
            "video,prompt,fps\na.mp4,red,fast\n",
            "line 2: fps is 'fast', but it must be a finite number above 0",
        ),
        (
            "clips.csv",
            "video,prompt,fps\na.mp4,red,0\n",
            "line 2: fps is '0', but it must be a finite number above 0",
        ),
        ("clips.csv", "video,prompt,fps\na.mp4,red,inf\n", "fps is 'inf'"),
        ("clips.csv", "video,prompt,fps\na.mp4,red,nan\n", "fps is 'nan'"),
        ("clips.jsonl", '{"video": "a.mp4", "prompt": "", "fps": true}\n', "fps is True"),
        (
            "clips.csv",
            "video,prompt,fps,stride\na.mp4,red,8,2\n",
            "line 2: stride is 2 and fps is 8: both say which frames to take",
        ),
        ("clips.csv", "video,prompt\na.mp4,red\nb/a.mp4,blue\n", "names two clips 'a'"),
        ("clips.csv", b"video,prompt\na.mp4,\xff\xfe\n", "is not UTF-8 text"),
        (
            "clips.csv",
            "video,prompt, prompt\na.mp4,red,blue\n",
            "line 1: it has the column 'prompt' more than once",
        ),
        (
            "clips.jsonl",
            '{"video": "a.mp4", "prompt": "red", "prompt": "blue"}\n',
            "line 1 is not JSON (it has the column 'prompt' more than once)",
        ),
        (
            "clips.csv",
            f"video,prompt,seed\na.mp4,red,\nb.mp4,red,{1 << 64}\n",
            "line 3: seed must be an integer from",
        ),
        (
            "clips.csv",
            f"video,prompt,start\na.mp4,red,{1 << 64}\n",
            "line 2: start must be an integer from",
        ),
        (
            "clips.csv",
            f"video,prompt\na.mp4,{'x' * 65537}\n",
            "line 2: prompt must be text of at most 65536 characters, not 'xx",
        ),
        (
            "clips.csv",
            f"video,prompt,tags\na.mp4,red,pan;{'x' * 257}\n",
            "line 2: tags must be text of at most 256 characters",
        ),
        (
            "clips.jsonl",
            '{"video": "a.mp4", "prompt": "", "negative_prompt": "\\ud800"}\n',
            "line 1: negative_prompt must be text",
        ),
        ("clips.jsonl", "[1]\n", "line 1 is not an object"),
        ("clips.jsonl", '{"video": "a.mp4"\n', "line 1 is not JSON"),
        ("clips.jsonl", '{"video": "a.mp4", "prompt": 3}\n', "prompts must be text"),
        ("clips.jsonl", "[" * 100_000, "is not JSON"),
        ("clips.jsonl", '{"video": "a.mp4", "prompt": "", "seed": 1.5}\n', "seed is 1.5"),
        ("clips.jsonl", '{"video": "a.mp4", "prompt": "", "seed": true}\n', "seed is True"),
    ],
)
def test_bad_manifests(write, name, text, sentence):
    with pytest.raises(ManifestError) as error:
        read_manifest(write(name, text))
    assert sentence in str(error.value)


def test_frames_a_second(write):
    """A row's own stride or rate comes before what is asked for all."""
    path = write(
        "clips.csv",
        "video,prompt,fps,stride\na.mp4,red,8,\nb.mp4,red,,2\nc.mp4,red,,\nd.mp4,red,12.5,1\n",
    )
    assert [(task.fps, task.stride) for task in read_manifest(path)] == [
        (8.0, 1),
        (None, 2),
        (None, 1),
        (12.5, 1),
    ]
    assert [(task.fps, task.stride) for task in read_manifest(path, fps=16)] == [
        (8.0, 1),
        (None, 2),
        (16, 1),
        (12.5, 1),
    ]


def test_null_means_none(write):
    (task,) = read_manifest(
        write("clips.jsonl", '{"video": "/a.mp4", "prompt": "", "tags": null, "seed": null}\n'),
        seed=5,
    )
    assert task == MotionTask("a", "/a.mp4", "", None, seed=5)


def test_a_tilde_is_the_home_folder(write, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.mp4").touch()
    write("clips.csv", "video,prompt\na.mp4,red\n")
    write("prompts.txt", "red\n")
    assert (
        read_manifest("~/clips.csv")
        == tasks_of_videos("~/*.mp4", "red")
        == [MotionTask("a", str(tmp_path / "a.mp4"), "red")]
    )
    assert read_prompts("~/prompts.txt") == ["red"]


def test_the_home_folder_of_nobody_is_a_missing_file(write):
    for read in (read_manifest, read_prompts):
        with pytest.raises(ManifestError, match="there is no file ~nobody-of-that-name/clips.csv"):
            read("~nobody-of-that-name/clips.csv")
    with pytest.raises(ManifestError, match="no file matches"):
        tasks_of_videos("~nobody-of-that-name/*.mp4", "")
    (task,) = read_manifest(write("clips.csv", "video,prompt\n~nobody-of-that-name/a.mp4,red\n"))
    with pytest.raises(VideoError, match="There is no file or folder .*~nobody-of-that-name/a.mp4"):
        video_sha256(task.video)


def test_videos_by_pattern_with_what_no_entry_can_hold(tmp_path):
    (tmp_path / "a.mp4").touch()
    with pytest.raises(ManifestError, match="seed must be an integer"):
        tasks_of_videos(str(tmp_path / "*.mp4"), "red", seed=1 << 64)


def test_pairs_with_a_seed_out_of_range(write):
    with pytest.raises(ManifestError, match="line 2: seed must be an integer"):
        read_prompts(write("pairs.csv", f"entry,prompt,seed\na,red,{1 << 64}\n"))


def test_missing_manifest(tmp_path):
    with pytest.raises(ManifestError, match="there is no file"):
        read_manifest(tmp_path / "none.csv")


def test_videos_by_pattern(tmp_path):
    for name in ("b.mp4", "a.mp4", "a.txt"):
        (tmp_path / name).touch()
    tasks = tasks_of_videos(str(tmp_path / "*.mp4"), "red", seed=3)
    assert [(task.name, task.prompt, task.seed) for task in tasks] == [
        ("a", "red", 3),
        ("b", "red", 3),
    ]
    with pytest.raises(ManifestError, match="no file matches"):
        tasks_of_videos(str(tmp_path / "*.gif"), "")


def test_prompts(write):
    assert read_prompts(write("prompts.txt", "red\n  blue \n\n\n")) == ["red", "blue"]
    assert read_prompts(write("pairs.csv", "entry,prompt,seed\na,red,4\nb,,\n")) == [
        Pairing("a", "red", 4),
        Pairing("b", "", None),
    ]
    assert read_prompts(write("pairs.jsonl", '{"entry": "a", "prompt": "red"}')) == [
        Pairing("a", "red")
    ]


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\u0085", "\x0c", "\x1e"])
def test_only_a_line_break_ends_a_line(write, mark):
    """Text may hold what else Unicode counts as the end of a line."""
    prompt = f"red{mark}blue"
    rows = [{"video": "/a.mp4", "prompt": prompt}, {"video": "/b.mp4", "prompt": ""}]
    text = "\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    assert [task.prompt for task in read_manifest(write("clips.jsonl", text))] == [prompt, ""]
    assert read_prompts(write("prompts.txt", f"{prompt}\r\ngreen\r\n")) == [prompt, "green"]


@pytest.mark.parametrize(
    "row",
    [
        '{"entry": "a", "prompt": null}',
        '{"entry": null, "prompt": "red"}',
        '{"entry": 3, "prompt": "red"}',
    ],
)
def test_pairs_are_of_texts(write, row):
    with pytest.raises(
        ManifestError, match="line 1: entry is .* and prompt .*, but they must be text"
    ):
        read_prompts(write("pairs.jsonl", row))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("red\n\nblue\n", "line 2 is blank"),
        ("\nred\n", "line 1 is blank"),
        ("", "holds no prompt"),
        (" \n\n", "holds no prompt"),
    ],
)
def test_blank_prompts_are_refused_but_at_the_end(write, text, sentence):
    with pytest.raises(ManifestError, match=sentence):
        read_prompts(write("prompts.txt", text))


def test_video_names_tell_entry_prompt_and_seed():
    assert video_name("car", "A red disc, fast!", 3).startswith("car-a-red-disc-fast-")
    assert video_name("car", "A red disc, fast!", 3).endswith("-seed3.mp4")
    assert video_name("car", "", 0).startswith("car-no-prompt-")
    names = {
        video_name("car", prompt, 0)
        for prompt in ("red", "Red", "red!", "x" * 400, "x" * 401, "赤", "青", "../red")
    }
    assert len(names) == 8 and not [name for name in names if "/" in name or len(name) > 255]
