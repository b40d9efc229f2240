"""The command `ditflow`: it finds the command, and says each mistake in one sentence.

Nothing heavy is imported before it is needed, so that help answers at once.

Exit codes: 0 all done, 1 some clips failed or remain, 2 something asked for cannot be done (one
sentence on stderr), 143 after SIGTERM.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Sequence

from trainers.extras import missing
from trainers.lasting import lasting

TOP_HELP = """\
usage: ditflow [-h] [--version] {fit,predict,motion,bank,video,app,test,ablate,report,demo} ...

Motion transfer with video diffusion transformers: reference clips -> motion bank -> new videos.

commands:
  fit       take the motion of clips into a bank
              ditflow fit --config configs/tiny-rope.yaml --data.manifest clips.csv --bank bank/
  predict   make videos from a bank's motions and new prompts, without the clips
              ditflow predict --config configs/tiny-rope.yaml --bank bank/ --data.prompts new.txt
  motion    draw the motion of a clip, in words, as a picture and as a page
              ditflow motion clip.mp4
  bank      look into a bank (list, show, search, gallery, status, verify), keep it in order
            (reindex, merge, compose, export, rm, gc) and share it (push, pull)
              ditflow bank search bank/ --words "slow pan left, subject moves up"
              ditflow bank gallery bank/ --out gallery/
  video     how a video was made: prompt, seed, motion, model, settings and versions
              ditflow video show videos/car-red-clouds-848782-seed0.mp4
  app       all of it in a browser: a clip's motion, a bank, new videos side by side
              ditflow app
  test      make and measure the videos of several methods on the same clips and prompts
              ditflow test --config configs/benchmarks/synthetic.yaml --out runs/synthetic/
  ablate    how block, window, inner steps and temperature change a method, as curves
              ditflow ablate --config configs/benchmarks/ablation.yaml --out runs/ablation/
  report    a tested run as one page: videos side by side, motion as colours, numbers
              ditflow report runs/synthetic/
  demo      build a bank, generate and measure on synthetic clips, offline

options:
  -h, --help  show this help, or a command's own after its name; `--help all` shows every option
  --version   show the version
  --debug     show the traceback of an error (also DITFLOW_TRACEBACK=1)
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    `argv` is by default the arguments of the process.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if "--debug" in arguments:
        arguments.remove("--debug")
        os.environ["DITFLOW_TRACEBACK"] = "1"
    if arguments[:1] in ([], ["-h"], ["--help"], ["help"]):
        print(TOP_HELP, end="")
        return 0 if arguments else 2
    if arguments[0] == "--version":
        from importlib.metadata import version

        print(f"ditflow {version('ditflow')}")
        return 0
    if arguments[0] not in COMMANDS:
        return _refuse(f"ditflow has no command {arguments[0]!r}: it has {', '.join(COMMANDS)}.")
    if arguments[-2:] == ["--help", "all"]:
        arguments.pop()
    elif {"-h", "--help"} & set(arguments[1:]) and (text := _short_help(arguments[0])):
        print(text, end="")
        return 0
    _keep_threads()
    warnings.formatwarning = lambda message, *_: f"ditflow: {message}\n"
    return _one_sentence(lambda: COMMANDS[arguments[0]](arguments))


def _short_help(command: str) -> str:
    """The options that people use; "" for a command that has so few that it shows all."""
    from trainers.commands.short_help import HELP

    return HELP[command].text(command) if command in HELP else ""


def _keep_threads() -> None:
    """Keep the number of threads of a program that has imported PyTorch before it calls `main`.

    Processes that are started from here see that number too.
    """
    if torch := sys.modules.get("torch"):
        os.environ.setdefault("OMP_NUM_THREADS", str(torch.get_num_threads()))


def _one_sentence(command: Callable[[], int]) -> int:
    """The exit code of a command. A user's mistake is one sentence on stderr and code 2; a defect
    of the program keeps its traceback.
    """
    if os.environ.get("DITFLOW_TRACEBACK", "0") not in ("", "0"):
        return command()
    try:
        return command()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (KeyboardInterrupt, SystemExit) as stop:
        interrupted = isinstance(stop, KeyboardInterrupt) or isinstance(
            stop.__context__, KeyboardInterrupt
        )  # Lightning turns one into sys.exit(1)
        if not interrupted and type(stop).__name__ != "SIGTERMException":
            raise
        print("ditflow: stopped. The same command goes on from here.", file=sys.stderr)
        return 130 if interrupted else 143
    except OSError as error:
        reason = (
            f"{error.filename}: {error.strerror}"
            if error.filename and error.strerror
            else str(error)
        )
        return _refuse(reason)
    except ModuleNotFoundError as error:
        return _refuse(missing(error))
    except Exception as error:
        if not _is_refusal(error):
            raise
        return _refuse(str(error))


def _is_refusal(error: Exception) -> bool:
    """Whether an error speaks to the user: ours are ValueErrors, and two classes of Lightning's and
    PyTorch's do so too.
    """
    return isinstance(error, ValueError) or type(error).__name__ in (
        "MisconfigurationException",
        "OutOfMemoryError",
    )


def _refuse(sentence: str) -> int:
    print("ditflow:", " ".join(sentence.split()), file=sys.stderr)
    return 2


def _fit(arguments: list[str]) -> int:
    with lasting():
        from trainers.commands.fit import Fit
        from trainers.commands.motion_cli import run

    return run(Fit, arguments)


def _predict(arguments: list[str]) -> int:
    with lasting():
        from trainers.commands.motion_cli import run
        from trainers.commands.predict import Predict

    return run(Predict, arguments)


def _motion(arguments: list[str]) -> int:
    from trainers.commands.motion import main as motion

    return motion(arguments[1:])


def _bank(arguments: list[str]) -> int:
    from trainers.commands.bank.command import main as bank

    return bank(arguments[1:]) or 0


def _video(arguments: list[str]) -> int:
    from trainers.commands.video import main as video

    return video(arguments[1:])


def _app(arguments: list[str]) -> int:
    from trainers.commands.app import main as app

    return app(arguments[1:])


def _report(arguments: list[str]) -> int:
    from trainers.commands.report import main as report

    return report(arguments[1:])


def _benchmark(arguments: list[str]) -> int:
    with lasting():
        from trainers.commands.benchmark import main as benchmark

    return benchmark(arguments)


def _demo(arguments: list[str]) -> int:
    from trainers.commands.demo import main as demo

    return demo(arguments[1:]) or 0


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "fit": _fit,
    "predict": _predict,
    **dict.fromkeys(("test", "ablate"), _benchmark),
    "motion": _motion,
    "bank": _bank,
    "video": _video,
    "app": _app,
    "report": _report,
    "demo": _demo,
}


if __name__ == "__main__":
    sys.exit(main())
