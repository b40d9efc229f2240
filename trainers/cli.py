"""The command `ditflow`: one sentence for each mistake, and no import before it is needed.

Exit codes: 0 all done, 1 some clips failed or remain, 2 something asked for cannot be done (one
sentence on stderr), 143 after SIGTERM.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

TOP_HELP = """\
usage: ditflow [-h] [--version] {fit,predict,bank,test,ablate,report,demo} ...

Motion transfer with video diffusion transformers: reference clips -> motion bank -> new videos.

commands:
  fit       take the motion of clips into a bank
              ditflow fit --config configs/tiny-rope.yaml --data.manifest clips.csv --bank bank/
  predict   make videos from a bank's motions and new prompts, without the clips
              ditflow predict --config configs/tiny-rope.yaml --bank bank/ --data.prompts prompts.txt --out videos/
  bank      look into a bank: list, show, status, verify; keep it in order: reindex, merge, export, rm, gc
              ditflow bank list bank/
  test      many methods on the same clips and prompts, measured and compared; resumable
              ditflow test --config configs/benchmarks/synthetic.yaml --out runs/synthetic/
  ablate    what block, window, inner steps and temperature do to a method, as curves
              ditflow ablate --config configs/benchmarks/ablation.yaml --out runs/ablation/
  report    a tested run as one page: videos side by side, motion as colours, numbers
              ditflow report runs/synthetic/
  demo      build a bank, generate and measure on synthetic clips, offline

options:
  -h, --help  show this help, or a command's own after its name
  --version   show the version
  --debug     show the traceback of an error (also DITFLOW_TRACEBACK=1)
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code. Without `argv` the process's own arguments are
    taken, which ranks that are launched again see too.
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
    _keep_threads()
    return _one_sentence(lambda: COMMANDS[arguments[0]](arguments))


def _keep_threads() -> None:
    """A program that calls `main` and has PyTorch already keeps its number of threads.

    Processes that are started from here see that number, too.
    """
    if torch := sys.modules.get("torch"):
        os.environ.setdefault("OMP_NUM_THREADS", str(torch.get_num_threads()))


def _one_sentence(command: Callable[[], int]) -> int:
    """A mistake of the user's is one sentence on stderr and exit code 2; a mistake of ours keeps
    its traceback.
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
    except Exception as error:
        if not _is_refusal(error):
            raise
        return _refuse(str(error))


def _is_refusal(error: Exception) -> bool:
    """Errors that speak to the user: ours are ValueErrors, the Trainer's have a class of their own,
    and an optional package may be missing.
    """
    return isinstance(error, ValueError | ModuleNotFoundError) or type(error).__name__ in (
        "MisconfigurationException",
        "OutOfMemoryError",
    )


def _refuse(sentence: str) -> int:
    print("ditflow:", " ".join(sentence.split()), file=sys.stderr)
    return 2


def _lightning(arguments: list[str]) -> int:
    """`fit` and `predict`. Their help costs the import of everything that they could run, so it is
    made once and kept.
    """
    from trainers.commands import help_cache

    if arguments[1:] in (["-h"], ["--help"]) and (text := help_cache.read(arguments)):
        print(text, end="")
        return 0
    if arguments[1:] in (["-h"], ["--help"]):
        from trainers.commands.fit import help_text

        print(help_cache.write(arguments, help_text(arguments)), end="")
        return 0
    from trainers.commands.fit import run

    return run(arguments)


def _bank(arguments: list[str]) -> int:
    from trainers.commands.bank.command import main as bank

    return bank(arguments[1:]) or 0


def _report(arguments: list[str]) -> int:
    from trainers.commands.report import main as report

    return report(arguments[1:])


def _benchmark(arguments: list[str]) -> int:
    from trainers.commands.benchmark import main as benchmark

    return benchmark(arguments)


def _demo(arguments: list[str]) -> int:
    from trainers.commands.demo import main as demo

    return demo(arguments[1:]) or 0


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    **dict.fromkeys(("fit", "predict"), _lightning),
    **dict.fromkeys(("test", "ablate"), _benchmark),
    "bank": _bank,
    "report": _report,
    "demo": _demo,
}


if __name__ == "__main__":
    sys.exit(main())
