"""How fast and how lean the four default goals are measured, beside what a user would pick instead.

    python benchmarks/goal_scoring.py                      # 10^5 texts, cold and from the cache, and the comparison
    python benchmarks/goal_scoring.py --sizes 100000 1000000   # and how memory grows

Texts are drawn here, from a fixed seed: function words at their usual rates, content words of a 90 000 word lexicon by
Zipf's law, contractions, names, numbers, punctuation. They are written to Parquet first and then streamed in batches.
Each size runs in a process of its own, whose peak memory, children included, is sampled four times a second.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import fmean
from typing import TypeVar

import numpy as np
import polars as pl

from schemas.digest import digest_text
from schemas.specs import GoalSpec
from steer_core.goals.analysis import Analyzer, TextAnalysis
from steer_core.goals.brill_rules import load_rules
from steer_core.goals.cache import GoalCache
from steer_core.goals.measure import measure_stream
from steer_core.goals.scorer import Scorer, load_scorer
from steer_core.goals.scorers.reading_difficulty_textstat import build as build_textstat
from steer_core.goals.scorers.sentiment import Sentiment
from steer_core.goals.scorers.textual_diversity import mtld
from steer_core.goals.tagger import Tagger

ResultT = TypeVar("ResultT")

GOALS = ("reading_difficulty", "textual_diversity", "text_length", "formality")
BATCH = 5000
_FUNCTION = (
    "the the the the the of of of and and and to to to a a a in in in is was that it for on with as his he be by at "
    "from I you they she not are were have has had but or an this which their we my your there been will would can "
    "could who so if when what more some about into than then them these do did no up out don't it's I'm can't"
)
FUNCTION_WORDS = _FUNCTION.split()


def draw_texts(n: int, rng: np.random.Generator, least_words: int = 180) -> list[str]:
    """Texts of `least_words` to about 260 words."""
    content = sorted(w for w in load_rules().lexicon if w.isalpha() and len(w) > 2)
    np.random.default_rng(0).shuffle(content)
    # Zipf-Mandelbrot: the rate of the r-th commonest word is that of natural text
    chances = np.cumsum(1.0 / (np.arange(len(content)) + 2.7))
    chances /= chances[-1]
    texts = []
    for _ in range(n):
        length = int(rng.integers(least_words, 260))
        function = rng.random(length) < 0.5
        ranks = np.searchsorted(chances, rng.random(length))
        which = rng.integers(0, len(FUNCTION_WORDS), length)
        words = [FUNCTION_WORDS[w] if f else content[r] for f, w, r in zip(function, which, ranks, strict=True)]
        end = 0
        while end < length:
            words[end] = words[end].capitalize()
            end = min(length, end + int(rng.integers(6, 26)))
            middle = max(0, end - 4)
            words[middle] += ","
            words[end - 1] += str(rng.choice([".", ".", ".", "?", "!", '."']))
        if length % 5 == 0:
            words[length // 2] = f"{length * 37:,}"
        texts.append(" ".join(words))
    return texts


def write_texts(folder: Path, n: int) -> None:
    """Texts as Parquet files of `BATCH` rows."""
    rng = np.random.default_rng(n)
    for number, start in enumerate(range(0, n, BATCH)):
        texts = draw_texts(min(BATCH, n - start), rng)
        frame = pl.DataFrame({"text_id": [digest_text(t) for t in texts], "text": texts})
        frame.write_parquet(folder / f"{number:06}.parquet")


def read_texts(folder: Path) -> Iterator[pl.DataFrame]:
    """The same, batch by batch."""
    for file in sorted(folder.glob("*.parquet")):
        yield pl.read_parquet(file, memory_map=False)


def scorers() -> list[Scorer]:
    return [load_scorer(GoalSpec(name=g, scorer=g, unit="-", noun=g, more="more", less="less")) for g in GOALS]


class PeakMemory(threading.Thread):
    """Largest sum of unshared memory of this process and its children, in MB, sampled four times a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0.0
        self._stop_asked = threading.Event()

    def run(self) -> None:
        """Sample until told to stop."""
        import psutil

        me = psutil.Process()
        while not self._stop_asked.wait(0.25):
            total = 0
            for process in [me, *me.children(recursive=True)]:
                try:
                    total += process.memory_full_info().uss
                except psutil.Error:
                    continue
            self.peak = max(self.peak, total / 2**20)

    def stop(self) -> float:
        """End the thread and give the peak."""
        self._stop_asked.set()
        self.join()
        return self.peak


def run_size(folder: Path, cache: Path, workers: int) -> dict[str, float]:
    """Measure every text of a folder; called in a process of its own."""
    memory = PeakMemory()
    memory.start()
    start = time.perf_counter()
    rows, total = 0, 0.0
    for values in measure_stream(read_texts(folder), scorers(), workers=workers, cache=GoalCache(str(cache))):
        rows += len(values)
        total += float(values.select(pl.col("value").fill_null(0.0).sum()).item())
    seconds = time.perf_counter() - start
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    processor = sum(u.ru_utime + u.ru_stime for u in usages)
    return {"seconds": seconds, "processor": processor, "rows": rows, "sum": total, "peak_mb": memory.stop()}


def run_sizes(sizes: list[int], workers: int) -> None:
    peaks = {}
    for n in sizes:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "texts"
            folder.mkdir()
            write_texts(folder, n)
            results = []
            for label in ("cold", "cached"):
                command = [sys.executable, __file__, "--one", str(folder), str(Path(scratch) / "cache")]
                run = subprocess.run([*command, "--workers", str(workers)], check=True, capture_output=True, text=True)
                results.append(json.loads(run.stdout))
                r = results[-1]
                print(
                    f"{n:>9,} texts, {label:>6}: {r['seconds']:7.1f} s ({r['processor']:.1f} s of processor time), "
                    f"peak {r['peak_mb']:.0f} MB, {r['rows']:,} rows",
                    flush=True,
                )
            assert results[0]["sum"] == results[1]["sum"], "the cache must give the values that were measured"
            peaks[n] = max(r["peak_mb"] for r in results)
    if len(peaks) > 1:
        smallest, largest = min(peaks), max(peaks)
        print(f"peak memory at {largest:,} / at {smallest:,}: {peaks[largest] / peaks[smallest]:.2f}")


def timed(function: Callable[[], ResultT]) -> tuple[float, ResultT]:
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def compare(n: int) -> None:
    """Time of each library beside ours on the same sample, after checking that the results are equal."""
    warnings.simplefilter("ignore")
    import textstat
    from lexicalrichness import LexicalRichness
    from textblob._text import find_tags
    from textblob.en import lexicon, parser
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    texts = draw_texts(n, np.random.default_rng(1))
    for warm_up in (texts[:2],):
        [textstat.flesch_kincaid_grade(t) for t in warm_up]
        parser.find_tags(["warm", "up"])
    print(f"\non {n} texts, one process, after checking that results are equal: time of the library / time of ours")

    analyzer = Analyzer()
    # the memo of the words of 10^5 texts, as it is for most of a long run; none of the texts compared is among them
    analyzer.analyse(" ".join(draw_texts(5000, np.random.default_rng(2)))).tags  # noqa: B018
    theirs, grades = timed(lambda: [textstat.flesch_kincaid_grade(t) for t in texts])
    ours, our_grades = timed(lambda: build_textstat().measure(analyzer.analyse_all(texts)))
    assert our_grades == grades, "Flesch-Kincaid grades must equal textstat's"
    report("textstat flesch_kincaid_grade", theirs, ours, n)

    lists = [a.words for a in analyzer.analyse_all(texts)]
    rich = [LexicalRichness(" ".join(w), preprocessor=None, tokenizer=str.split) for w in lists]
    theirs, diversities = timed(lambda: [r.mtld(threshold=0.72) for r in rich])
    ours, our_diversities = timed(lambda: [mtld(w) for w in lists])
    assert our_diversities == diversities, "MTLD must equal lexicalrichness's"
    report("lexicalrichness mtld", theirs, ours, n)

    vader = SentimentIntensityAnalyzer()
    whole, _ = timed(lambda: [vader.polarity_scores(t)["compound"] for t in texts])
    split = [a.sentences for a in analyzer.analyse_all(texts)]
    by_sentence, means = timed(lambda: [fmean(vader.polarity_scores(s)["compound"] for s in x) for x in split])
    ours, tones = timed(lambda: Sentiment().measure(analyzer.analyse_all(texts)))
    assert np.allclose(np.array(tones, float), means), "tones must be the means of VADER's over sentences"
    report("VADER, whole texts (other numbers)", whole, ours, n)
    report("VADER, sentence by sentence", by_sentence, ours, n)

    sentences = [s for analysis in analyzer.analyse_all(texts) for s in split_tokens(analysis)]
    rules = {"lexicon": lexicon, "morphology": lexicon.morphology, "context": lexicon.context}
    theirs, full = timed(lambda: [find_tags(list(s), entities=lexicon.entities, **rules) for s in sentences])
    plain_time, plain = timed(lambda: [parser.find_tags(list(s)) for s in sentences])
    tagger = Tagger()
    tags = [tag_sentence(tagger, s) for s in sentences]
    assert tags == [[tag for _, tag in s] for s in full], "tags must equal TextBlob's with all its rules"
    # ours from the raw text on, tokens included; theirs from ready tokens
    ours, _ = timed(lambda: [a.tag_classes for a in analyzer.analyse_all(texts)])
    report("textblob tags, all its rules", theirs, ours, n)
    report("textblob PatternTagger, which has none", plain_time, ours, n)
    same = sum(a == b for s, t in zip(tags, plain, strict=True) for a, (_, b) in zip(s, t, strict=True))
    print(f"  ({same / sum(map(len, sentences)):.1%} of PatternTagger's tags are the same)")


def report(what: str, theirs: float, ours: float, n: int) -> None:
    """One line of the comparison."""
    print(f"  {what:<40} {theirs / ours:7.1f} x   ({theirs / n * 1e3:.3f} / {ours / n * 1e3:.3f} ms a text)")


def split_tokens(analysis: TextAnalysis) -> Iterator[list[str]]:
    """Tokens, sentence by sentence."""
    start = 0
    for end in analysis.sentence_ends:
        yield [t.text for t in analysis.tokens[start:end]]
        start = end


def tag_sentence(tagger: Tagger, sentence: list[str]) -> list[str]:
    """Tags of one sentence of tokens."""
    tokens = [tagger.token(t) for t in sentence]
    return [tagger.tag_name(c) for c in tagger.tag(tokens, [len(tokens)])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="*", default=[100_000], help="numbers of texts to measure")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--sample", type=int, default=500, help="texts of the comparison with other libraries; 0: none")
    parser.add_argument("--one", nargs=2, metavar=("TEXTS", "CACHE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(run_size(Path(options.one[0]), Path(options.one[1]), options.workers)))
        return
    run_sizes(options.sizes, options.workers)
    if options.sample:
        compare(options.sample)


if __name__ == "__main__":
    main()
