"""`ditflow report`: what a run says in the page, and what is said of a run that cannot be shown."""

from __future__ import annotations

import io
import json
import shutil
import sys
from dataclasses import replace

import numpy
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

from ditflow.resources import home
from ditflow.visual import Mark, flow_colours, still
from ditflow.visual.rendering import COLOURS
from tests.runs import KINDS, METHODS, write_run
from trainers.benchmark.folder import Item
from trainers.benchmark.methods import methods_of
from trainers.cli import main as ditflow
from trainers.commands.report import main
from trainers.report.checked_json import ReportError
from trainers.report.numbers import loss_chart, tables
from trainers.report.page import page_of, section
from trainers.report.parts import motion_pictures, reach_of, reference_pictures
from trainers.report.run import read_flow, read_run

MARKS = {name: Mark(index) for index, name in enumerate(METHODS)}
SHARE = 10**6


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def run(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "run")
    return tmp_path / "run"


def change(file, **fields) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def panels(run, clip="pan"):
    read = read_run(run)
    shown = section(
        read, clip, [result for result in read.results() if result.item.clip == clip], MARKS, SHARE
    )
    return {
        (panel.label, group.kind): panel for group in shown.groups for panel in group.panels
    }, shown.reference


def test_means_are_over_clips_and_the_best_is_bold(whole):
    read = read_run(whole)
    means, differences = tables(read, list(read.results()), MARKS)
    fidelity = means.columns.index("Motion fidelity")
    assert [row[fidelity].value for row in means.rows] == [
        pytest.approx((10 * m + 1.5) / 100) for m in range(2)
    ]  # over 2 clips and 3 kinds
    assert [row[fidelity].best for row in means.rows] == [False, True]
    assert (
        differences.rows[0][0].text == "backbone"
        and differences.rows[0][1].text == "-0.100"
        and differences.rows[0][1].best
    )


def test_nothing_is_better_where_all_are_equal(whole):
    read = read_run(whole)
    means, _ = tables(read, list(read.results()), MARKS)
    memory = next(index for index, column in enumerate(means.columns) if "memory" in column)
    assert not any(row[memory].best or row[memory].share for row in means.rows)


def test_means_say_their_intervals_and_the_number_of_videos(run):
    change(
        run / "results/ditflow-latents/pan--scene.json",
        seconds=7.5,
        metrics={"motion_fidelity": None},
    )
    read = read_run(run)
    means, differences = tables(read, list(read.results()), MARKS)
    row = dict(zip(means.columns, means.rows[1], strict=True))
    assert (
        row["Seconds"].text == "3.3" and row["Seconds"].note == "2.5 to 4.2, n = 6"
    )  # of the clips' means, 4.17 and 2.5
    assert row["Forwards"].note == "n = 6"  # always the same
    assert row["Motion fidelity"].note.endswith(", n = 5") and differences.rows[0][1].note.endswith(
        ", n = 5"
    )


def test_leakage_with_a_caption_is_not_judged(whole):
    """A caption describes the reference: looking like it is right there."""
    read = read_run(whole)
    means, differences = tables(read, list(read.results()), MARKS)
    leakage = means.columns.index("Leakage")
    cells = [row[leakage] for row in means.rows]
    assert [cell.best for cell in cells] == [False, False] and [
        cell.note.split(", ")[1] for cell in cells
    ] == ["n = 2", "n = 4"]
    assert [cell.value for cell in cells] == [
        pytest.approx(0.525),
        pytest.approx(0.62),
    ]  # of subjects and scenes; of the backbone one clip is unknown
    for table in means, differences:
        assert (
            "lower is better for new prompts" in table.hints[table.columns.index("Leakage")]
            and "caption" not in table.hints[1]
        )
    found, _ = panels(whole, "zoom")
    judged = {kind: dict(found["backbone", kind].numbers)["Leakage"].best for kind in KINDS}
    assert judged == {"caption": False, "subject": True, "scene": True}


def test_leakage_is_judged_where_all_prompts_are_new(run):
    change(run / "run.json", prompt_kinds=["subject", "scene"])
    read = read_run(run)
    means, _ = tables(read, list(read.results()), MARKS)
    leakage = means.columns.index("Leakage")
    assert [row[leakage].best for row in means.rows] == [True, False] and means.hints[
        leakage
    ] == "lower is better"


def test_the_kind_that_is_shown_first_has_videos_of_all_methods(tmp_path):
    read = read_run(write_run(tmp_path, ("pan",), (*METHODS, "smm-zero-shot")))
    page = page_of(read, list(read.results()), SHARE)
    assert page.kinds == KINDS and page.kind == "subject"  # zero-shot methods have none of captions
    assert [mark for _, mark in page.labels] == [Mark(0), Mark(1), Mark(2, dashed=True)]
    assert page_of(replace(read, kinds=("scene",)), [], SHARE).kinds == ()


def test_a_row_of_all_numbers_leads_to_its_clip_and_prompt(whole):
    read = read_run(whole)
    page = page_of(read, list(read.results()), SHARE)
    places = [group.anchor for shown in page.sections for group in shown.groups]
    targets = {(row[0].text, row[2]): row[0].target for row in page.appendix[0].rows}
    assert (
        len(set(places)) == 6
        and set(targets.values()) == set(places)
        and targets["zoom", "scene"] == "clip-2-3"
    )


def test_every_method_of_the_shipped_benchmark_has_a_colour_of_its_own():
    shipped = yaml.safe_load(
        (home("configs") / "benchmarks" / "synthetic.yaml").read_text(encoding="utf-8")
    )
    assert len(methods_of(shipped["setups"], shipped["zero_shot"], "caption")) <= COLOURS


def test_losses_are_relative_to_their_start(whole):
    read = read_run(whole)
    (chart,) = loss_chart(read, list(read.results()), MARKS)
    (curve,) = chart.curves  # the backbone has none
    assert (
        curve.label == "ditflow-latents"
        and curve.values[0] == 1
        and curve.values[-1] == pytest.approx(2.718281828 ** (-19 / 12))
    )


def test_each_panel_has_its_own_numbers_motion_and_curve(whole):
    found, reference = panels(whole)
    assert list(found) == [(method, kind) for kind in KINDS for method in METHODS]
    panel = found["ditflow-latents", "scene"]
    assert panel.video == (
        whole / "results/ditflow-latents/pan--scene.mp4"
    ).read_bytes() and panel.shape == (64, 64)
    assert (
        dict(panel.numbers)["Motion fidelity"].text == "0.120"
        and dict(panel.numbers)["Motion fidelity"].best
    )
    assert dict(found["backbone", "scene"].numbers)["Leakage"].text == "–"
    assert [picture.label for picture in panel.pictures] == [
        "motion",
        "difference",
    ] and panel.pictures[0].tiles == 6
    assert len(panel.curve.values) == 20 and found["backbone", "scene"].curve is None
    assert reference.video is not None and [picture.label for picture in reference.pictures] == [
        "motion",
        "directions",
    ]


def test_one_broken_result_does_not_lose_the_others(run, capsys):
    files = run / "results/ditflow-latents"
    (files / "pan--caption.json").write_text("{")
    (files / "pan--subject.mp4").write_bytes(b"no video")
    (files / "pan--scene.safetensors").write_bytes(b"no tensors")
    (run / "results/backbone/pan--caption.json").unlink()
    change(
        run / "results/backbone/pan--subject.json",
        error="the clip has no point to track",
        metrics={"motion_fidelity": None},
    )
    change(
        run / "results/backbone/pan--scene.json",
        metrics={"motion_fidelity": float("nan"), "prompt_fidelity": "high"},
        losses=[[1, None], "x"],
        seed=None,
    )
    found, _ = panels(run)
    assert (
        "damaged: delete it" in found["ditflow-latents", "caption"].problem
        and found["backbone", "caption"].problem == "made, but not measured yet"
    )
    (run / "results/backbone/pan--caption.mp4").unlink()
    assert panels(run)[0]["backbone", "caption"].problem == "not made yet"
    assert (
        "pan--subject.mp4 is not a video" in found["ditflow-latents", "subject"].problem
        and found["ditflow-latents", "subject"].video is None
    )
    assert (
        "pan--scene.safetensors cannot be read" in found["ditflow-latents", "scene"].problem
        and found["ditflow-latents", "scene"].video
    )
    assert (
        found["backbone", "subject"].problem == "the clip has no point to track"
        and found["backbone", "subject"].video
    )
    assert dict(found["backbone", "scene"].numbers)["Motion fidelity"].text == "–" and found[
        "backbone", "scene"
    ].curve.values == (1.0,)
    assert main([str(run)]) == 0
    assert "3 of 12 results are missing or lack something" in capsys.readouterr().err


def test_a_zero_shot_method_lacks_no_video_of_the_prompt_it_was_optimised_with(run):
    file = run / "run.json"
    methods = json.loads(file.read_text())["methods"]
    change(file, methods=[methods[0], methods[1] | {"zero_shot": True}])
    assert (
        len(page_of(read_run(run), [], SHARE).paragraphs) == 2
    )  # says that its means are over fewer prompts
    for suffix in (".json", ".mp4"):
        (run / f"results/ditflow-latents/pan--caption{suffix}").unlink()
    assert [result for result in read_run(run).results() if result.problem] == []
    assert ("ditflow-latents", "caption") not in panels(run)[0]


@pytest.mark.parametrize("clip", ["../../../secret", "/etc/passwd", "a\0b"])
def test_names_that_lead_out_of_the_run_are_refused(run, clip, tmp_path):
    change(run / "run.json", clips=[clip])
    with pytest.raises(ReportError, match="outside of it"):
        list(read_run(run).results())


def test_a_link_out_of_the_run_is_refused(run, tmp_path):
    (tmp_path / "secret.mp4").write_bytes(b"secret")
    (run / "references/pan.mp4").unlink()
    (run / "references/pan.mp4").symlink_to(tmp_path / "secret.mp4")
    with pytest.raises(ReportError, match="outside of it"):
        read_run(run).reference("pan")


@pytest.mark.parametrize(
    ("prepare", "sentence"),
    [
        (
            lambda run: shutil.rmtree(run),
            "There is no folder .*: give the one that `ditflow test` wrote",
        ),
        (lambda run: (run / "run.json").unlink(), "holds no run.json, so it is no run"),
        (
            lambda run: (run / "run.json").write_text("{"),
            "run.json is damaged and cannot be read as JSON",
        ),
        (
            lambda run: (run / "run.json").write_text("[" * 10**5),
            "run.json is damaged and cannot be read as JSON",
        ),
        (
            lambda run: (run / "run.json").write_text("[]"),
            "run.json holds a list, but an object was wanted",
        ),
        (lambda run: change(run / "run.json", schema=2), "has schema 2, but this version reads 1"),
        (
            lambda run: change(run / "run.json", clips=[]),
            "names no clips: there is nothing to show",
        ),
        (lambda run: change(run / "run.json", clips=[1]), "'clips' must be a list of names"),
        (
            lambda run: change(run / "run.json", methods=["x"]),
            "'methods' must be a list of objects",
        ),
        (lambda run: change(run / "run.json", methods=[{"name": "x"}]), "has no 'label'"),
    ],
)
def test_what_is_no_run_is_said_in_one_sentence(run, prepare, sentence, capsys):
    prepare(run)
    assert ditflow(["report", str(run)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said.startswith("ditflow: ")
    with pytest.raises(ReportError, match=sentence):
        read_run(run)


def test_the_page_is_made_where_it_is_wanted_and_says_its_weight(run, tmp_path, capsys):
    assert ditflow(["report", str(run)]) == 0
    page = run / "index.html"
    assert capsys.readouterr().out.startswith(f"{page} (") and page.stat().st_size > 10**5
    assert (
        ditflow(["report", str(run), "--out", str(tmp_path / "other.html"), "--megabytes", "0.01"])
        == 0
    )
    assert (tmp_path / "other.html").stat().st_size < page.stat().st_size
    assert ditflow(["report", str(run), "--out", str(tmp_path / "none" / "page.html")]) == 2
    assert "none" in capsys.readouterr().err


def test_a_still_picture_has_a_row_for_the_reference_and_each_method(run):
    """Seven frames of 128 x 128 in a row. A video that cannot be read has no row."""
    for rows in (3, 2):
        assert main([str(run)]) == 0
        with Image.open(run / "still.png") as picture:
            assert picture.size == (7 * 130 - 2, rows * 130 - 2)
        for kind in KINDS:
            (run / f"results/backbone/pan--{kind}.mp4").write_bytes(b"no video")


def test_only_kinds_of_prompts_that_a_method_makes_are_missing(run):
    """Where no kind has videos of all methods, all kinds are shown."""
    methods = json.loads((run / "run.json").read_text())["methods"]
    kinds = (["caption"], ["subject", "scene"])
    change(
        run / "run.json",
        methods=[row | {"kinds": of} for row, of in zip(methods, kinds, strict=True)],
    )
    for name in ("backbone/pan--subject", "ditflow-latents/pan--caption", "backbone/pan--caption"):
        for suffix in (".json", ".mp4"):
            (run / f"results/{name}{suffix}").unlink()
    for file in (*run.glob("results/backbone/*--s*"), *run.glob("results/ditflow-latents/*--c*")):
        file.unlink()
    read = read_run(run)
    results = list(read.results())
    assert [one.item.name for one in results if one.problem] == ["pan--caption"]
    assert page_of(read, results, SHARE).kind == ""


@pytest.mark.parametrize("megabytes", ["0", "-1", "nan", "inf", "many"])
def test_a_weight_must_be_a_positive_number(run, megabytes, capsys):
    with pytest.raises(SystemExit) as refused:
        main([str(run), "--megabytes", megabytes])
    assert refused.value.code == 2 and "is not a positive number" in capsys.readouterr().err


def test_options_are_understood_before_anything_heavy_is_imported():
    import subprocess

    code = (
        "import sys; from trainers.commands.report import main\ntry: main(['--help'])\n"
        "except SystemExit: pass\nassert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_pictures_of_one_row_share_the_references_reach():
    reference = torch.zeros(2, 2, 3, 4)
    reference[..., 0, :, :] = 3.0
    assert reach_of(reference) == 3.0 and reach_of(torch.zeros(1, 2, 2, 2)) > 0
    film, directions = reference_pictures(reference)
    assert film.tiles == 2 and directions.tiles == 1
    same, difference = motion_pictures(reference, reference)
    assert same == film and difference != film
    assert motion_pictures(reference / 2, reference)[0] != film
    assert (
        len(motion_pictures(reference[:1], reference)) == 1
        and len(motion_pictures(reference, None)) == 1
    )  # of another length, or of nothing, no difference


def test_a_film_has_few_colours_and_hardly_differs_from_the_exact_one():
    flow = torch.nn.functional.interpolate(
        torch.randn(3, 2, 4, 5, generator=torch.Generator().manual_seed(0)),
        (30, 45),
        mode="bicubic",
    )
    reach = reach_of(flow)
    picture = Image.open(io.BytesIO(motion_pictures(flow, flow)[0].png))
    assert picture.mode == "P" and picture.size == (3 * 45, 30)
    shown = torch.from_numpy(numpy.asarray(picture.convert("RGB")).copy()).permute(2, 0, 1).float()
    exact = still(flow_colours(flow, reach), gap=0).float()
    assert (
        (shown - exact).abs().mean() < 255 / 14 / 2
    )  # components are rounded to a 7th of the reach, so they are at most a 14th off


@pytest.mark.parametrize(
    "flow",
    [
        torch.zeros(3, 2, 4),
        torch.zeros(2, 3, 4, 4),
        torch.zeros(0, 2, 4, 4),
        torch.zeros(1, 2, 4, 4, dtype=torch.int32),
    ],
)
def test_a_flow_of_another_form_is_refused(flow, tmp_path):
    save_file({"flow": flow}, tmp_path / "a.safetensors")
    with pytest.raises(ReportError, match="a displacement has"):
        read_flow(tmp_path / "a.safetensors")


def test_a_flow_may_hold_what_is_not_finite(tmp_path):
    save_file(
        {"flow": torch.full((1, 2, 2, 2), float("nan"), dtype=torch.float16)},
        tmp_path / "a.safetensors",
    )
    assert (read_flow(tmp_path / "a.safetensors") == 0).all()


def test_the_page_names_the_instruments(whole):
    read = read_run(whole)
    facts = dict(page_of(read, list(read.results()), SHARE).facts)
    assert len(page_of(read, [], SHARE).paragraphs) == 1
    assert (
        facts["tracker"] == "lucas-kanade"
        and facts["CLIP"] == "tiny-clip"
        and facts["frames × height × width"] == "25×64×64"
    )
    assert read.folder.video(Item("backbone", "pan", "scene")).is_file()
