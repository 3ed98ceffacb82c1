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
steerworks judges                      what the judges' verdicts are worth
steerworks stills direct --out FOLDER  its figures as PNG
steerworks batch submit direct --models far   send it through a batch API; then `poll`, `collect`, `run`
steerworks engines plain served        whether engines give the same answers
steerworks rebuild direct              make its tables again; answers come from the journal
steerworks parity                      published numbers beside ours, and what the others would need
steerworks clean                       merge journals, drop what killed writers left behind
"""

from __future__ import annotations

import argparse
import datetime
import getpass
import os
import sys
import webbrowser
from pathlib import Path

import polars as pl

from schemas import SeedCorpus
from schemas.parity import FAMILIES
from schemas.specs import BenchSpec
from steer_assets.demo import guarded
from steer_assets.partitions import Cell, chosen_cells, named_cell
from steer_assets.settings import registry, storage_root
from steer_core.tables.errors import ConfigError, SteerworksError


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

    command("cells", cells, "list the cells: state, age, answers, tokens, time of the model")
    for name, run, said in (
        ("plan", plan, "requests, tokens and time of cells, and every mistake in the configuration at once"),
        ("run", run_, "bring cells up to date; what is up to date is skipped"),
        ("rebuild", rebuild, "make all tables of cells again; answers that stand in the journal are not asked again"),
    ):
        added = command(name, run, said)
        added.add_argument("methods", nargs="+", metavar="METHOD", help="methods, or `all`")
        added.add_argument("--models", nargs="+", default=["all"], metavar="MODEL", help="models (default: all)")
    added = command("compare", compare, "compare two cells, paired by request")
    added.add_argument("cell", help="method, or method|model")
    added.add_argument("other", help="method, or method|model")
    added.add_argument("--judge", metavar="MODEL", help="a model that says goal by goal whose answers have more of it")
    added = command("review", review, "look at answers on which judge and words disagree, and have the last word")
    added.add_argument("cell", help="method, or method|model")
    added.add_argument("--by", metavar="NAME", help="who looks (default: the user)")
    added.add_argument("--spot", type=int, default=0, metavar="N", help="draw N of the other answers as well")
    added.add_argument("--again", action="store_true", help="answers that somebody has looked at as well")
    way = added.add_mutually_exclusive_group()
    way.add_argument("--export", type=Path, metavar="FILE", help="write them as CSV, to be filled in")
    way.add_argument("--import", type=Path, metavar="FILE", dest="take", help="take what was filled in")
    added = command("open", open_, "open a cell's page in the browser; without a cell the leaderboard")
    added.add_argument("cell", nargs="?", help="method, or method|model")
    added.add_argument("--print", action="store_true", dest="only_print", help="print where it lies, open nothing")
    added = command("export-adapter", export_adapter, "write the adapter that a cell wears, with a model card")
    added.add_argument("cell", help="method, or method|model")
    added.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="a new folder to write to")
    added.add_argument(
        "--as",
        dest="form",
        choices=["peft", "merged", "vllm"],
        default="peft",
        help="a PEFT folder (default), a checkpoint with the adapter in its weights, or a PEFT folder for vLLM",
    )
    added = command("profiles", profiles, "what steering changes apart from the requests, or two cells")
    added.add_argument("cell", help="method, or method|model")
    added.add_argument("other", nargs="?", help="method, or method|model")
    added.add_argument("--setting", help="setting of the cell, in the words of the list (default: as it is used)")
    added.add_argument("--other-setting", help="likewise of the other")
    added.add_argument("--all", action="store_true", dest="every", help="also what cannot be told apart")
    added = command("profile-texts", profile_texts, "characteristics of a file of texts, or of two, row by row")
    added.add_argument("file", type=Path, help="CSV, JSONL or Parquet")
    added.add_argument("other", type=Path, nargs="?", help="a second one, to be compared with")
    added.add_argument("--column", default="text", help="column that holds the text (default: text)")
    added.add_argument("--by", help="column that pairs the rows of both (default: their order)")
    added.add_argument("--metrics", nargs="+", help="metrics, or families of them (default: all)")
    command("judges", judges, "what the verdicts of each behavior's judge are worth, on answers of known label")
    added = command("stills", stills, "write the figures of a cell's page as PNG files")
    added.add_argument("cell", nargs="?", help="method, or method|model; without one the leaderboard")
    added.add_argument("--out", type=Path, required=True, help="folder to write to")
    added = command("batch", batch, "send what cells ask first through a batch API: submit, poll, collect")
    added.add_argument("step", choices=["submit", "poll", "collect"], help="each can be repeated")
    added.add_argument("methods", nargs="*", metavar="METHOD", help="methods to submit (default: all)")
    added.add_argument("--models", nargs="+", required=True, metavar="MODEL", help="models behind an endpoint")
    added = command("engines", engines, "whether engines give the same answers: one plan on each, against transformers")
    added.add_argument("model", help="model on the engine `transformers`")
    added.add_argument("others", nargs="*", metavar="MODEL", help="the same model on other engines")
    added.add_argument("--prompts", type=int, default=16, help="prompts, from the bench's corpus (default: 16)")
    added = command("parity", parity, "published numbers beside what this code makes of the same inputs")
    added.add_argument("--family", nargs="+", choices=FAMILIES, default=FAMILIES, help="families (default: all)")
    command("clean", clean, "merge small files of the journals and drop what killed writers left behind")
    return parser


def _bench_of(options: argparse.Namespace) -> BenchSpec | None:
    """The bench of a command; published numbers are of none."""
    return None if options.command is parity else _bench(options.bench)


def _bench(name: str | None) -> BenchSpec:
    benches = registry().benches
    if name is None and len(benches) == 1:
        return next(iter(benches.values()))
    if name is None and "tales" not in benches:
        raise ConfigError(f"name a bench with --bench; configured are {', '.join(benches)}")
    return registry().bench(name or "tales")


def cells(bench: BenchSpec, options: argparse.Namespace) -> None:
    """List every cell of the bench."""
    from steer_assets.assets import nodes_of
    from steer_assets.partitions import all_cells
    from steer_assets.status import State, listing, status_of

    found = [status_of(cell, nodes_of(bench), storage_root()) for cell in all_cells(bench)]
    _print(listing([s for s in found if s.state is not State.IMPOSSIBLE], datetime.datetime.now(datetime.UTC)))
    print("".join(f"\n{s.cell.key}: impossible, {s.why}" for s in found if s.state is State.IMPOSSIBLE))


def plan(bench: BenchSpec, options: argparse.Namespace) -> None:
    """Print what cells will ask of their models; makes what all cells share, and fits nothing."""
    from steer_assets.asked_models import how_judged
    from steer_assets.planned import plan_cells

    rows, unplanned = plan_cells(bench, chosen_cells(bench, options.methods, options.models))
    if rows.height:
        money = rows.drop_nulls("currency").group_by("currency").agg(pl.col("cost at most").sum()).rows()
        _print(rows if money else rows.drop("cost at most", "currency"))
        known = rows["seconds at most"].drop_nulls()
        print(
            f"\nTogether at most {rows['calls at most'].sum():,} calls, {rows['new tokens at most'].sum():,} new tokens"
            + (f", {known.sum():.0f} s of the model at its speed so far." if known.len() else "; speed not yet known.")
        )
        for currency, amount in money:
            print(f"At most {amount:.4g} {currency}; what has an answer already is not paid again.")
    chosen = [c for c in chosen_cells(bench, options.methods, options.models) if c.why_impossible() is None]
    for line in dict.fromkeys(said for cell in chosen for said in how_judged(cell)):
        print(line)
    for key, why in unplanned.items():
        print(f"{key}: {why}")


def run_(bench: BenchSpec, options: argparse.Namespace) -> int:
    """Bring cells up to date."""
    from steer_assets.running import run_cells

    return run_cells(bench, chosen_cells(bench, options.methods, options.models))


def batch(bench: BenchSpec, options: argparse.Namespace) -> None:
    """Submit, look at, or collect the batches of models."""
    from steer_assets.batching import batches_of, first_calls

    for name in options.models:
        model = registry().model(name)
        _, batches = batches_of(model)
        if options.step == "submit":
            cells = chosen_cells(bench, options.methods or ["all"], [name])
            done = batches.submit(first_calls(bench, cells))
            print(
                f"{name}: {done.sent} requests sent in {len(done.batches)} batches; {done.answered} have an answer, "
                f"{done.under_way} are under way"
            )
            if done.left:
                print(f"{name}: the rest was not sent: {done.left}")
            continue
        for one in batches.poll() if options.step == "poll" else batches.collect():
            took = f", {one.answers} answers, {one.again} to be sent again" if options.step == "collect" else ""
            print(f"{name}: {one.batch_id}: {one.state}, {one.rows} requests{took}")


def engines(bench: BenchSpec, options: argparse.Namespace) -> None:
    """Print whether the same model answers alike on several engines."""
    from steer_assets.io import read_published, table_url
    from steer_core.front.identity import identity_report
    from steer_core.generation.engines import load_engine
    from steer_core.generation.engines.transformers import TransformersBackend

    reference = load_engine(registry().model(options.model))
    if not isinstance(reference, TransformersBackend):
        raise ConfigError(f"model {options.model!r} does not run on `transformers`, which others are held against")
    others = {}
    try:
        for name in options.others:
            others[name] = load_engine(registry().model(name))
        texts = read_published(table_url(storage_root(), bench.name, "seed_corpus", None), SeedCorpus)["text"]
        prompts = texts.head(max(1, options.prompts)).to_list()
        found = identity_report(reference, {f"{n} ({b.capabilities.name})": b for n, b in others.items()}, prompts)
    finally:
        for backend in others.values():
            getattr(backend, "close", lambda: None)()
    _print(found.with_columns(pl.col("largest difference").map_elements("{:.1e}".format, return_dtype=pl.String)))


def rebuild(bench: BenchSpec, options: argparse.Namespace) -> int:
    """Make the tables of cells again; what all cells share stays as it is, where it is up to date."""
    from steer_assets.running import run_cells
    from steer_assets.steps import making_anew

    return run_cells(bench, chosen_cells(bench, options.methods, options.models), around_cells=making_anew)


def compare(bench: BenchSpec, options: argparse.Namespace) -> None:
    """Print whether one cell is better than another."""
    from steer_core.front.measured import compare_scores

    one, other = named_cell(bench, options.cell), named_cell(bench, options.other)
    print(compare_scores(one.key, _scores(one), other.key, _scores(other)))
    if options.judge is not None:
        from steer_assets.comparing import by_judge

        found = by_judge(one, other, registry().model(options.judge))
        print(f"\n{one.key} beside {other.key}, two at a time, by {options.judge}:\n")
        _print(found.with_columns(pl.selectors.float().round(3).cast(pl.String)))
        print(
            f"\ntau: whether the goal orders the answers as the judge does (1: always, 0: no relation). toward: how "
            f"far the judge puts {one.key} on the side that was asked for (-1 to 1, 95 % interval)."
        )


def profiles(bench: BenchSpec, options: argparse.Namespace) -> None:
    """What steering changes apart from the requests."""
    from steer_assets import profiling

    cell = named_cell(bench, options.cell)
    if options.other is None:
        print(f"{cell.key}, settings: {'; '.join(profiling.settings_of(cell)['setting'])}\n")
        rows = profiling.own_changes(cell, options.every)
        against = "the model as it is"
    else:
        other = named_cell(bench, options.other)
        rows = profiling.between(cell, other, options.setting, options.other_setting, options.every)
        against = other.key
    if not rows.height:
        said = "Nothing could be compared with" if options.every else "Nothing is known to differ from"
        print(f"{said} {against}.")
        return
    _print(rows)
    print(f"\nplain_value: {against}; effect_size in its standard deviations; p corrected for all looked at (Holm).")


def profile_texts(bench: BenchSpec, options: argparse.Namespace) -> None:
    """Characteristics of texts."""
    from steer_assets.profiling import texts_profile

    rows, said = texts_profile(options.file, options.other, options.column, options.by, options.metrics)
    _print(rows)
    print(f"\n{said}")


def review(bench: BenchSpec, options: argparse.Namespace) -> None:
    """Let a person have the last word on what a judge doubts."""
    from steer_assets import review as reviewing

    cell = named_cell(bench, options.cell)
    if options.spot < 0:
        raise ConfigError(f"--spot {options.spot}: a number of answers, from 0")
    if options.export is not None:
        n = reviewing.export(cell, options.export, options.spot, options.again)
        print(f"{n} answers in {options.export}: fill in `stays` with yes or no, then `--import` the file")
        return
    if options.take is not None:
        said = reviewing.take(cell, _reviewer(options.by), options.take, options.again)
    else:
        said = reviewing.ask(cell, _reviewer(options.by), options.spot, options.again)
    left = reviewing.waiting(cell).height
    print(f"{said} rulings kept; {left} answers still wait for a look.")
    if said:
        print(f"Bring the page up to date: steerworks run {cell.method.name}")


def _scores(cell: Cell) -> pl.DataFrame:
    from schemas import Steerability
    from steer_assets.io import read_published, table_url
    from steer_core.tables.snapshot import table_exists

    url = table_url(storage_root(), cell.bench.name, "steerability", cell.key)
    if not table_exists(url):
        raise SteerworksError(f"{cell.key} has no scores yet: steerworks run {cell.method.name}")
    probe = cell.bench.test_probes[0]
    return read_published(url, Steerability).filter(probe=probe)


def _reviewer(name: str | None) -> str:
    """Who looks: as named, or the user.

    Raises:
        ConfigError: nobody is named, and the system does not know the user either, as in some containers.
    """
    try:
        return name or getpass.getuser()
    except (OSError, KeyError) as error:
        raise ConfigError("a ruling needs a name, and the system knows none for this user: give --by NAME") from error


def open_(bench: BenchSpec, options: argparse.Namespace) -> None:
    """Open a page."""
    from steer_assets.running import page_of
    from steer_core.tables.files import filesystem, is_local
    from steer_core.tables.snapshot import table_exists

    cell = named_cell(bench, options.cell) if options.cell else None
    page = page_of(bench.name, cell)
    if not table_exists(page):
        raise SteerworksError(f"there is no page {page} yet: steerworks run {cell.method.name if cell else 'METHOD'}")
    print(page)
    if not options.only_print:
        fs, path = filesystem(page)
        if not is_local(fs):
            raise SteerworksError(f"{page} is not on this machine: copy its folder here to read it")
        webbrowser.open(Path(path).resolve().as_uri())


def export_adapter(bench: BenchSpec, options: argparse.Namespace) -> None:
    """Write the adapter that a cell wears."""
    from transformers.utils import logging

    from steer_assets.exporting import export_cell

    logging.disable_progress_bar()
    exported, notes = export_cell(named_cell(bench, options.cell), options.to, options.form)
    print(exported.folder)
    if exported.difference is not None:
        print(f"its logits differ from those of the adapter as it is worn by {exported.difference:.1e} of their spread")
    for note in notes:
        print(note)


def judges(bench: BenchSpec, options: argparse.Namespace) -> None:
    """Print how the judges of the cells that were swept do on answers of known label."""
    from schemas import JudgeCalibration
    from steer_assets.io import read_published, table_url
    from steer_assets.partitions import all_cells
    from steer_core.tables.snapshot import table_exists

    found = []
    for cell in all_cells(bench):
        url = table_url(storage_root(), bench.name, "judge_calibration", cell.key)
        if table_exists(url):
            found.append(read_published(url, JudgeCalibration).select(pl.lit(cell.key).alias("cell"), pl.all()))
    if not found:
        raise SteerworksError(f"no cell of bench {bench.name!r} was judged by a language model yet: run one first")
    columns = ["cell", "behavior", "auroc", "low", "high", "accuracy", "bias", "unparsed", "n"]
    _print(pl.concat(found).select(columns).with_columns(pl.selectors.float().round(3).cast(pl.String)))
    print("\nAUROC: chance that an answer with the trait is graded above one without; .5 is chance, 1 is never wrong.")


def stills(bench: BenchSpec, options: argparse.Namespace) -> None:
    """Write the figures of a page as PNG files."""
    from steer_assets.running import page_of
    from steer_core.reports.stills import png_of
    from steer_core.tables.files import filesystem, join, write_bytes

    cell = named_cell(bench, options.cell) if options.cell else None
    folder = join(page_of(bench.name, cell).rsplit("/", 1)[0], "figures")
    fs, path = filesystem(folder)
    drawn = sorted(fs.glob(f"{path}/*.svg"))
    if not drawn:
        raise SteerworksError(
            f"there are no figures in {folder}: steerworks run {cell.method.name if cell else 'METHOD'}"
        )
    for file in drawn:
        target = str(options.out / f"{Path(str(file)).stem}.png")
        write_bytes(target, png_of(fs.cat_file(file).decode("utf-8")))
        print(target)


def parity(bench: BenchSpec | None, options: argparse.Namespace) -> int:
    """Print published numbers beside ours; 1 where one differs and should not."""
    from steer_assets.parity import counts, failed, not_run, recompute, shown

    rows = recompute(options.family)
    _print(shown(rows))
    for claim, why in not_run(rows).iter_rows():
        print(f"{claim}: not run, {why}")
    print("\nFigures: " + ", ".join(f"{n} {status}" for status, n in counts(rows).items()))
    return int(failed(rows))


def clean(bench: BenchSpec, options: argparse.Namespace) -> None:
    """Compact the journals of a bench."""
    from steer_assets.cleaning import clean_journals

    for name, before, after in clean_journals(bench, storage_root()):
        print(f"{name}: {before} files before, {after} now")


def _print(rows: pl.DataFrame) -> None:
    """A table to read: numbers to the right, words to the left, what is not known as a dash."""
    numeric = [t.is_numeric() for t in rows.dtypes]
    lines = [rows.columns, *([_shown(v) for v in r] for r in rows.iter_rows())]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = zip(line, widths, numeric, strict=True)
        print("  ".join(v.rjust(w) if n else v.ljust(w) for v, w, n in cells).rstrip())


def _shown(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:,.1f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


if __name__ == "__main__":
    sys.exit(main())
