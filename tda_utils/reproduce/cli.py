"""The command line ``bayes-tda``: figures, studies, what else is summed up, verdicts."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from tda_utils import edge
from tda_utils.face import installed_for
from tda_utils.reproduce.manifest import SIZES, Manifest, check, load_manifest
from tda_utils.reproduce.notebook import ManifestError, all_of
from tda_utils.terms import PROTOCOLS

SAMPLES = "pictures (.npy), texts (.txt, one a line) or rows (.csv), in the order of the scores"


class _Version(argparse.Action):
    """Look the version up only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *unused: Any) -> None:
        from tda_utils.experiments.provenance import version_of

        print(f"bayes-tda {version_of('bayes-tda') or '(not installed)'}")
        parser.exit()


def main(arguments: list[str] | None = None) -> int:
    """Entry point of ``bayes-tda``.

    Returns
    -------
    int
        0 if all went well, 1 if a run failed, 2 for bad input, 130 if interrupted, 141 if nobody
        reads on.

    Examples
    --------
    >>> main(["check", "--manifest", "nowhere.yaml"])  # the sentence goes to stderr
    2
    """
    if arguments is None:  # a process of its own
        edge.guard("bayes-tda")
    options = _parser().parse_args(arguments)
    try:
        with installed_for(f"bayes-tda {options.command}"):
            return _command(options)
    except (ManifestError, ImportError) as error:
        if edge.SIGNALS:  # in the middle of an import
            return _interrupted()
        missing = isinstance(error.__cause__, ModuleNotFoundError)  # as `installed_for` raises it
        if isinstance(error, ImportError) and not missing:
            raise
        print(f"bayes-tda: error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        raise
    except OSError as error:
        print(f"bayes-tda: error: {error}.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return _interrupted()


def _interrupted() -> int:
    return edge.interrupted(
        "bayes-tda: interrupted; finished scores are kept, and the same command goes on."
    )


def _command(options: argparse.Namespace) -> int:
    """Carry a command out; what takes long to import is imported for those that need it."""
    if options.command == "list":
        return _list(_find_manifest(options.manifest), options.size)
    if options.command == "check":
        return _check(_find_manifest(options.manifest))
    if options.command in ("judge", "validate"):
        from tda_utils.report import commands

        return getattr(commands, options.command)(options)
    if options.command == "studies":
        from tda_utils.reproduce import studies

        return studies.make(_find_manifest(options.manifest), options)
    if options.command == "heldout":
        from tda_utils.reproduce import heldout

        return heldout.make(_find_manifest(options.manifest), options)
    if options.command in ("groups", "one-run"):
        from tda_utils.reproduce import questions

        return questions.make(_find_manifest(options.manifest), options)
    if options.jobs is not None:
        raise ManifestError(
            "--jobs is no longer here, since it did not know which notebook needs which scores; "
            "`snakemake --snakefile paper/Snakefile --cores 4` does, and runs as many at once "
            "(the extra cluster brings it)."
        )
    if bool(options.figures) == options.all:
        raise ManifestError(f"{options.command}: name figures or say --all, one of the two.")
    from tda_utils.reproduce import making

    command = making.compute if options.command == "compute" else making.run
    return command(_find_manifest(options.manifest), options)


def _parser() -> argparse.ArgumentParser:
    parser = edge.Parser(
        prog="bayes-tda",
        description="Judge scores, and make the paper's figures from the notebooks.",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version, and exit")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="execute notebooks and write figures, tables, numbers")
    compute = commands.add_parser(
        "compute", help="compute the scores that figures need, and draw nothing"
    )
    compute.add_argument(
        "--only", nargs="+", type=Path, metavar="FILE", help="of these scores only these files"
    )
    for command in (run, compute):
        command.add_argument("figures", nargs="*", metavar="FIGURE", help="see `bayes-tda list`")
        command.add_argument("--all", action="store_true", help="every figure of the manifest")
        command.add_argument("--size", choices=SIZES, default="quick", help="default: %(default)s")
        command.add_argument("--protocol", choices=PROTOCOLS, help="only this protocol")
        command.add_argument(
            "--store", type=Path, help="folder of scores (default: runs/store by the manifest)"
        )
        command.add_argument("--jobs", nargs="?", const="", help=argparse.SUPPRESS)
    studies = commands.add_parser(
        "studies", help="compute the studies of the full size, and sum each up in a small file"
    )
    studies.add_argument("--scores", action="store_true", help="compute the scores alone")
    heldout = commands.add_parser(
        "heldout", help="hold verdicts of few seeds against seeds that they have not seen"
    )
    groups = commands.add_parser(
        "groups", help="leave out groups of training samples, and say what scores foretold"
    )
    one_run = commands.add_parser(
        "one-run", help="hold what single runs say of themselves against other seeds"
    )
    summed = {"studies": studies, "heldout": heldout, "groups": groups, "one_run": one_run}
    for folder, command in summed.items():
        command.add_argument(
            "--only", nargs="+", metavar="NAME", help="only these; 'cifar10-*' is all that begin so"
        )
        command.add_argument("--list", action="store_true", help="name them, and which are there")
        command.add_argument(
            "--store", type=Path, help="folder of scores (default: runs/store by the manifest)"
        )
        command.add_argument(
            "--summaries",
            type=Path,
            help=f"folder of summaries (default: {folder} by the manifest)",
        )
    listed = commands.add_parser("list", help="show figures, notebooks, parameters and captions")
    listed.add_argument(
        "--size", choices=SIZES, default="full", help="that captions tell of (default: %(default)s)"
    )
    checked = commands.add_parser(
        "check", help="hold the manifest against the notebooks; runs nothing"
    )
    for command in (compute, *summed.values(), listed, checked, run):
        command.add_argument(
            "--manifest", type=Path, help="default: paper/figures.yaml here or in a folder above"
        )
    _add_judging(commands)
    return parser


def _add_judging(commands: Any) -> None:
    judge = commands.add_parser("judge", help="write a report on a file of anyone's scores")
    judge.add_argument(
        "scores", nargs="+", type=Path, help="files of scores; or, with --model, one of checkpoints"
    )
    judge.add_argument("-o", "--output", type=Path, default=Path("report.html"), metavar="FILE")
    judge.add_argument("--methods", nargs="+", metavar="NAME", help="only these")
    judge.add_argument("--train-samples", type=Path, metavar="FILE", help=SAMPLES)
    judge.add_argument("--test-samples", type=Path, metavar="FILE", help="the same")
    judge.add_argument("--class-names", type=Path, metavar="FILE", help="a text, one name a line")
    judge.add_argument("--dims", nargs="+", metavar="AXIS", help="what a plain array's axes are")
    judge.add_argument("--model", metavar="FILE.py:NAME", help="builds the model; it is run")
    judge.add_argument("--task", metavar="FILE.py:NAME", help="gives the task; it is run")
    judge.add_argument("--title", help="of the page")
    validate = commands.add_parser("validate", help="tell whether a file holds scores, and which")
    validate.add_argument("file", type=Path)
    for command in (judge, validate):
        command.add_argument("--train", type=int, metavar="N", help="training samples there are")
        command.add_argument("--test", type=int, metavar="N", help="test samples there are")


def _find_manifest(given: Path | None) -> Manifest:
    if given is not None:
        return load_manifest(given)
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "paper" / "figures.yaml").is_file():
            return load_manifest(folder / "paper" / "figures.yaml")
    raise ManifestError(
        f"paper/figures.yaml is neither in {str(here)!r} nor in a folder above; run this in the "
        "repository or name the file with --manifest."
    )


def _list(manifest: Manifest, size: str) -> int:
    for figure in manifest.figures.values():
        print(f"{figure.name}\n  {manifest.caption(figure, size)}")
        print(f"  notebook   {figure.notebook}")
        print(f"  protocols  {all_of(figure.protocols)}")
        print(f"  outputs    {all_of(figure.outputs)}")
        for own, parameters in manifest.sizes[figure.notebook].items():
            values = all_of(f"{name}={value!r}" for name, value in parameters.items())
            print(f"  {own:<10} {values}")
    return 0


def _check(manifest: Manifest) -> int:
    if problems := check(manifest):
        raise ManifestError("\n  ".join(problems))
    print(f"{len(manifest.figures)} figures from {len(manifest.sizes)} notebooks: all in order.")
    return 0
