"""Steerworks from the command line: what is there, what it would cost, run it, compare, open the page.

steerworks cells                       every cell with its state, age and cost
steerworks plan direct                 requests, tokens and time before anything is asked of a model
steerworks run copy direct             bring cells up to date
steerworks compare direct rewrite      one cell against another, request by request
steerworks profiles direct rewrite     what steering changes apart from the requests
steerworks profile-texts FILE          what texts are like: readability, diversity, repetition ...
steerworks review direct               have the last word on answers that the judge doubts
steerworks open direct                 its page, in the browser
steerworks export-adapter tuned --to FOLDER   the adapter that it wears, as a folder that others load
steerworks export-vector pushed --to FOLDER   its vectors, with a card, as a file that others load
steerworks traits cheerful             what a behavior from a sentence is made of
steerworks setting vector              settings that a search told; with a name, one of them as a method
steerworks judges                      what the judges' verdicts are worth
steerworks explore                     look at samples, cells and sweeps in the browser
steerworks figures                     what each step of the last run took
steerworks stills direct --out FOLDER  its figures as PNG
steerworks batch submit direct --models far   send it through a batch API; then `poll`, `collect`, `run`
steerworks engines plain served        whether engines give the same answers
steerworks rebuild direct              make its tables again; answers come from the journal
steerworks parity                      published numbers beside ours, and what the others would need
steerworks export-probe --to FOLDER       the probe, for answers made elsewhere
steerworks submissions                    which of them are taken, and why others are not
steerworks merge OTHER                 take what another storage root has; conflicts are named
steerworks prune                       what nothing refers to any more; with --delete it goes
steerworks clean                       merge journals, drop what killed writers left behind
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from schemas.parity import FAMILIES
from schemas.specs import BenchSpec
from steer_assets.commands import making, merging, pages, pruning, results, searched, submitting
from steer_assets.demo import guarded
from steer_assets.settings import registry
from steer_core.tables.errors import ConfigError


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, 1 where a cell failed, 2 for a mistake, 130 for Ctrl-C."""
    options = _parser().parse_args(arguments)
    try:
        code = guarded(lambda: int(options.command(_bench_of(options), options) or 0))
        sys.stdout.flush()
    except BrokenPipeError:
        # whoever read has seen enough (`| head`); Python would complain again as it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="steerworks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--bench", help="bench; may be left out where one is configured, or one is called tales")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: object, said: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=said, description=said, parents=[shared])
        added.set_defaults(command=run)
        return added

    command("cells", making.cells, "list the cells: state, age, answers, tokens, time of the model")
    for name, run, said in (
        ("plan", making.plan, "requests, tokens and time of cells, and every mistake in the configuration at once"),
        ("run", making.run_, "bring cells up to date; what is up to date is skipped"),
        (
            "rebuild",
            making.rebuild,
            "make all tables of cells again; answers that stand in the journal are not asked again",
        ),
    ):
        added = command(name, run, said)
        added.add_argument("methods", nargs="+", metavar="METHOD", help="methods, or `all`")
        added.add_argument("--models", nargs="+", default=["all"], metavar="MODEL", help="models (default: all)")
        if name == "run":
            added.add_argument("--ray", metavar="HOST:PORT", help="spread them over this head's Ray cluster, or `auto`")
            added.add_argument(
                "--per-worker",
                default="GPU=1",
                metavar="RESOURCES",
                help="what a worker takes there (default: %(default)s)",
            )
    added = command("compare", results.compare, "compare two cells, paired by request")
    added.add_argument("cell", help="method, or method|model")
    added.add_argument("other", help="method, or method|model")
    added.add_argument("--judge", metavar="MODEL", help="a model that says goal by goal whose answers have more of it")
    added = command(
        "review", results.review, "look at answers on which judge and words disagree, and have the last word"
    )
    added.add_argument("cell", help="method, or method|model")
    added.add_argument("--by", metavar="NAME", help="who looks (default: the user)")
    added.add_argument("--spot", type=int, default=0, metavar="N", help="draw N of the other answers as well")
    added.add_argument("--again", action="store_true", help="answers that somebody has looked at as well")
    way = added.add_mutually_exclusive_group()
    way.add_argument("--export", type=Path, metavar="FILE", help="write them as CSV, to be filled in")
    way.add_argument("--import", type=Path, metavar="FILE", dest="take", help="take what was filled in")
    added = command("open", pages.open_, "open a cell's page in the browser; without a cell the leaderboard")
    added.add_argument("cell", nargs="?", help="method, or method|model")
    added.add_argument("--print", action="store_true", dest="only_print", help="print where it lies, open nothing")
    added = command("explore", pages.explore, "look at samples, cells and sweeps in the browser, on this machine alone")
    added.add_argument("--port", type=int, default=3002, help="port (default: %(default)s; 0: a free one)")
    added.add_argument("--print", action="store_true", dest="only_print", help="print the address, open nothing")
    added = command("export-adapter", pages.export_adapter, "write the adapter that a cell wears, with a model card")
    added.add_argument("cell", help="method, or method|model")
    added.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="a new folder to write to")
    added.add_argument(
        "--as",
        dest="form",
        choices=["peft", "merged", "vllm"],
        default="peft",
        help="a PEFT folder (default), a checkpoint with the adapter in its weights, or a PEFT folder for vLLM",
    )
    added = command("export-vector", pages.export_vector, "write the vectors of a cell, with a card of what they do")
    added.add_argument("cell", help="method, or method|model")
    added.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="a new folder to write to")
    added.add_argument("--concepts", nargs="*", default=[], help="behaviors and goals (default: all)")
    added = command("export-probe", submitting.export_probe, "write the probe as Parquet and CSV, with a card")
    added.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="a new folder to write to")
    added = command(
        "submissions", submitting.submissions, "answers from elsewhere: which are taken, and why others not"
    )
    added.add_argument("--admit", action="store_true", help="take those that can be")
    added = command("profiles", results.profiles, "what steering changes apart from the requests, or two cells")
    added.add_argument("cell", help="method, or method|model")
    added.add_argument("other", nargs="?", help="method, or method|model")
    added.add_argument("--setting", help="setting of the cell, in the words of the list (default: as it is used)")
    added.add_argument("--other-setting", help="likewise of the other")
    added.add_argument("--all", action="store_true", dest="every", help="also what cannot be told apart")
    added = command("profile-texts", results.profile_texts, "characteristics of a file of texts, or of two, row by row")
    added.add_argument("file", type=Path, help="CSV, JSONL or Parquet")
    added.add_argument("other", type=Path, nargs="?", help="a second one, to be compared with")
    added.add_argument("--column", default="text", help="column that holds the text (default: text)")
    added.add_argument("--by", help="column that pairs the rows of both (default: their order)")
    added.add_argument("--metrics", nargs="+", help="metrics, or families of them (default: all)")
    added = command(
        "traits", results.traits, "what a behavior from a sentence is made of: instructions, filters, yield"
    )
    added.add_argument("behavior", help="behavior of kind `described`")
    added.add_argument("--export", type=Path, metavar="FILE", help="write its instructions and questions, to be edited")
    added = command("setting", searched.setting, "settings that a search told, or one of them as a method to configure")
    added.add_argument("cell", help="method, or method|model")
    added.add_argument("name", nargs="?", help="setting, as the list has it: BEHAVIOR:NUMBER")
    added.add_argument("--method", help="what the method is to be called")
    command("judges", results.judges, "what the verdicts of each behavior's judge are worth, on answers of known label")
    added = command("figures", results.figures, "what the steps of a run took: seconds, rows and tokens a second")
    added.add_argument("--run", help="run, by the first characters of its id (default: the last)")
    added.add_argument(
        "--hourly", type=float, metavar="PRICE", help="what an hour of the machine costs: adds what each step cost"
    )
    added.add_argument("--prometheus", type=Path, metavar="FILE", help="write the sums over all runs for Prometheus")
    added = command("stills", pages.stills, "write the figures of a cell's page as PNG files")
    added.add_argument("cell", nargs="?", help="method, or method|model; without one the leaderboard")
    added.add_argument("--out", type=Path, required=True, help="folder to write to")
    added = command("batch", making.batch, "send what cells ask first through a batch API: submit, poll, collect")
    added.add_argument("step", choices=["submit", "poll", "collect"], help="each can be repeated")
    added.add_argument("methods", nargs="*", metavar="METHOD", help="methods to submit (default: all)")
    added.add_argument("--models", nargs="+", required=True, metavar="MODEL", help="models behind an endpoint")
    added = command(
        "engines", making.engines, "whether engines give the same answers: one plan on each, against transformers"
    )
    added.add_argument("model", help="model on the engine `transformers`")
    added.add_argument("others", nargs="*", metavar="MODEL", help="the same model on other engines")
    added.add_argument("--prompts", type=int, default=16, help="prompts, from the bench's corpus (default: 16)")
    added = command("parity", results.parity, "published numbers beside what this code makes of the same inputs")
    added.add_argument("--family", nargs="+", choices=FAMILIES, default=FAMILIES, help="families (default: all)")
    added = command(
        "merge", merging.merge, "take what another storage root has; what both have, and not alike, is named"
    )
    added.add_argument("root", help="the other storage root: a folder, or a URL")
    added.add_argument("--dry-run", action="store_true", help="only say what would be taken")
    added = command("prune", pruning.prune, "say what nothing in the storage root refers to any more, or remove it")
    added.add_argument("--delete", action="store_true", help="remove it")
    added.add_argument("--older-than", type=int, default=7, metavar="DAYS", help="leave what is younger (default: 7)")
    added.add_argument("--unconfigured", action="store_true", help="also benches and cells of other configurations")
    added.add_argument("--caches", action="store_true", help="also measured goal values, which can be measured again")
    command("clean", making.clean, "merge small files of the journals and drop what killed writers left behind")
    return parser


def _bench_of(options: argparse.Namespace) -> BenchSpec | None:
    """The bench of a command; published numbers, and what lies in a storage root, are of none."""
    of_none = (results.parity, merging.merge, pruning.prune)
    # all benches are looked at, unless one is named
    every = options.command is pages.explore and options.bench is None
    return None if every or options.command in of_none else _bench(options.bench)


def _bench(name: str | None) -> BenchSpec:
    benches = registry().benches
    if name is None and len(benches) == 1:
        return next(iter(benches.values()))
    if name is None and "tales" not in benches:
        raise ConfigError(f"name a bench with --bench; configured are {', '.join(benches)}")
    return registry().bench(name or "tales")


if __name__ == "__main__":
    sys.exit(main())
