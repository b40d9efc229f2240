"""What was run of each model, made from the tests and the presets: `python -m docs.site.models`.

A feature counts as run on tiny weights where a test takes the tiny model as its parameter; the
table says which test that is. So the page cannot claim what no test does.
"""

from __future__ import annotations

from importlib import import_module

from ditflow.models import Model, ModelError
from ditflow.models.presets import presets
from ditflow.resources import shipped
from ditflow.sampling.guidance import MotionGuidance
from ditflow.sampling.image import check_image
from ditflow.sampling.variables import VARIABLES
from tests.registry import BACKBONES, SIGNALS, signal_of, tiny_backbone

TESTS = {  # the test that runs a feature on every tiny model that it names
    "loading and a plain video": (
        "ditflow.models.test_model.test_plain_sampling_is_the_stock_pipeline"
    ),
    "Python of README": "test_readme_models.test_python",
    "`fit` and `predict` of README": "test_readme_models.test_fit_and_predict",
    "`test` of README": "test_readme_models.test_benchmark",
    "instant motion": (
        "ditflow.sampling.test_instant.test_a_field_without_motion_leaves_the_model_its_own_places"
    ),
    "injection of an entry": "ditflow.test_transfer.test_inject_motion",
    "a picture to begin with": "ditflow.models.test_pictured.test_what_is_shown_of_a_picture",
    "LoRA": (
        "ditflow.models.weights.test_lora.test_it_is_the_product_of_its_matrices_in_the_weights"
    ),
    "bfloat16": "ditflow.models.test_taps.test_stock_position_gives_the_stock_output_bit_by_bit",
    "float16": "ditflow.models.test_model.test_the_model_runs_in_its_dtype_and_answers_in_float32",
    "two ranks, one bank": "trainers.motion.test_kinds.test_two_ranks_make_the_bank_of_one",
    "killed, and gone on": (
        "trainers.motion.test_kinds.test_killed_in_a_clip_a_fit_goes_on_to_the_same_bank"
    ),
    "offload by accelerate": "ditflow.models.test_offload.test_motion_is_transferred_bit_by_bit",
}
OPTIMISED = (
    "ditflow.sampling.test_optimise.test_losses_fall_in_the_window_and_positions_are_stock_after_it"
)
FOLLOWED = "ditflow.motion.test_signals.test_its_loss_falls_and_clips_are_independent"
LEGEND = """\
"tiny": a test runs it on a tiny model of the real class with random weights. "no": it is refused,
with a sentence. "-": no test runs it. `cogvideox15-i2v` has the picture of `cogvideox-i2v` and the
tokens of `cogvideox15`, and stands for them where a test takes long. Offload is of the transformer,
whole and layer by layer, and was run on a CPU."""
RUN = """\
Settings are those of a paper ("published"), of [BENCHMARKS.md](../BENCHMARKS.md) ("measured here"),
or of a relative ("never run"). Weights that are not in this repository were never run here."""


def page() -> str:
    """Both tables, with what their words mean."""
    return "\n\n".join((features(), LEGEND, checkpoints(), RUN))


def features() -> str:
    """A row for each feature, a column for each tiny model of the tests."""
    models = [tiny_backbone(kind) for kind in BACKBONES]
    head = ("", *(f"`{kind}`: {_described(m)}" for kind, m in zip(BACKBONES, models, strict=True)))
    fitting = {
        "a picture to begin with": [model.spec.picture != "none" for model in models],
        "`test` of README": [_begins_without_a_picture(model) for model in models],
    }
    rows = [(name, *_status(_kinds(test), fitting.get(name))) for name, test in TESTS.items()]
    for name, variable in VARIABLES.items():
        fits = [variable.needs in (None, model.spec.position) for model in models]
        rows.append((f"optimise `{name}`", *_status(_kinds(OPTIMISED, name), fits)))
    for kind in dict.fromkeys(kind for kind, _ in SIGNALS.values()):
        fits = [_follows(model, kind) for model in models]
        rows.append((f"signal `{kind}`", *_status(_kinds(FOLLOWED), fits)))
    return _table(head, rows)


def checkpoints() -> str:
    """A row for each preset."""
    rows = []
    for preset in sorted(presets(), key=lambda preset: "/" in preset.checkpoint):
        here = shipped("checkpoints", preset.checkpoint) is not None
        advice = preset.recommended
        setting = f"`{advice.variable}`, `amf` at block {advice.block}"
        weights = "run here" if here else "never run on real weights"
        rows.append((f"`{preset.checkpoint}`", setting, preset.status, weights))
    return _table(("Model", "Optimised by default", "Settings", "Weights"), rows)


def _described(model: Model) -> str:
    spec = model.spec
    family = spec.transformer.removesuffix("Transformer3DModel")
    return f"{family}, {spec.position}, {spec.scheduler.removesuffix('Scheduler')}"


def _kinds(test: str, variable: str | None = None) -> set[str]:
    """The tiny models that a test is run on, from its parameters; with one variable, or any."""
    module, _, name = f"tests.{test}".rpartition(".")
    for mark in getattr(import_module(module), name).pytestmark:
        names, values = mark.args
        if names == "kind":
            return set(values)
        if "kind" in names:
            return {
                value[names.index("kind")]
                for value in values
                if variable is None or variable in value
            }
    raise AssertionError(f"{test} is not run on a kind of model")


def _begins_without_a_picture(model: Model) -> bool:
    try:
        check_image(model.spec, False, "a benchmark has none")
    except ModelError:
        return False
    return True


def _follows(model: Model, signal: str) -> bool:
    """Whether a signal can be read on a model."""
    try:
        MotionGuidance(signal_of(signal), "latents").check(model, model.schedule(4))
    except ModelError as error:
        assert "signal" in str(error)
        return False
    return True


def _status(tested: set[str], fits: list[bool] | None = None) -> list[str]:
    pairs = zip(BACKBONES, fits or [True] * len(BACKBONES), strict=True)
    return [("tiny" if kind in tested else "-") if fit else "no" for kind, fit in pairs]


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    print(page())
