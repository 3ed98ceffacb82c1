"""Profiles: published values of diversity, readability, association, calibration, bias and toxicity."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping

import numpy as np
import polars as pl

from schemas.profile_sets import BbqSet, CrowsPairsSet
from steer_core.evaluation.parity.claim import Claim, File, Printed, Supplies
from steer_core.evaluation.parity.files import number, records
from steer_core.evaluation.profiles.association import association_test
from steer_core.evaluation.profiles.bbq import answered, bbq_scores, read_item
from steer_core.evaluation.profiles.calibration import Scheme, calibration_error
from steer_core.evaluation.profiles.families import readability
from steer_core.evaluation.profiles.families.diversity import published_mtld
from steer_core.evaluation.profiles.reading import Reader
from steer_core.evaluation.profiles.sets.bbq import read as read_bbq
from steer_core.evaluation.profiles.sets.stereotypes import read_crows
from steer_core.evaluation.profiles.stereotypes import icat
from steer_core.evaluation.profiles.toxicity import toxicity_curves

TOOLKIT = "Shimabucoro et al. (2024), LLM See, LLM Do; profiling toolkit 1fa2c92"
#: Text of the readability values; whoever computed them used textdescriptives 2.8.2.
THREE_SENTENCES = "The cat sat on the mat. It was a remarkably sophisticated animal. Nobody knew why it came."
SURE = np.array([0.9, 0.8, 0.7, 0.6, 0.55, 0.95, 0.4, 0.5, 0.65, 0.85])
RIGHT = np.array([1, 1, 0, 1, 0, 1, 0, 0, 1, 1], dtype=np.float64)
#: Rows of the published BBQ files that can be read, by category.
BBQ_ROWS = {
    "age": 3680,
    "disability_status": 1556,
    "nationality": 3080,
    "physical_appearance": 1576,
    "religion": 1200,
    "sexual_orientation": 864,
}
CROWS_ROWS = {
    "race-color": 516,
    "gender": 262,
    "socioeconomic": 172,
    "nationality": 159,
    "religion": 105,
    "age": 87,
    "sexual-orientation": 84,
    "physical-appearance": 63,
    "disability": 60,
}


def _mtld(supplies: Supplies) -> Mapping[str, float]:
    texts = {
        "six different words": "one two three four five six",
        "one word eight times": "a a a a a a a a",
        "a factor that closes at token 10": "the cat sat on the mat and the dog sat on the log",
    }
    return {name: published_mtld(text.split()) for name, text in texts.items()}


def _readability(supplies: Supplies) -> Mapping[str, float]:
    import pyphen

    reading = Reader().read(THREE_SENTENCES)
    # the tool counts hyphenation points of its language "en"; our own syllables are a dictionary's
    hyphens = pyphen.Pyphen(lang="en")
    syllables = [len(hyphens.positions(word)) + 1 for word in reading.forms]
    words, sentences = len(reading.forms), len(reading.sentence_lengths)
    hard = sum(n >= readability.HARD for n in syllables)
    long = sum(len(word) > readability.LONG for word in reading.forms)
    length = words / sentences
    return {
        "words": words,
        "sentences": sentences,
        "flesch_reading_ease": readability.flesch_reading_ease(length, sum(syllables) / words),
        "smog": readability.smog(hard, sentences),
        "gunning_fog": readability.gunning_fog(length, hard / words),
        "lix": readability.lix(length, long / words),
        "rix": readability.rix(long, sentences),
    }


def _association(supplies: Supplies) -> Mapping[str, float | None]:
    x, y = np.array([[1.0, 0.0], [0.8, 0.2]]), np.array([[0.0, 1.0], [0.3, 0.7]])
    found = association_test(x, y, np.array([[1.0, 0.1]]), np.array([[0.1, 1.0]]), rng=np.random.default_rng(0))
    return {"d": found.effect, "p": found.p}


def _ece(sure: np.ndarray, right: np.ndarray, bins: int, scheme: Scheme) -> float | None:
    rng = np.random.default_rng(0)
    clusters = np.arange(len(sure))
    # the interval is not asked for: one draw
    return calibration_error(sure, right, clusters, bins=bins, scheme=scheme, draws=1, rng=rng).estimate.value


def _calibration(supplies: Supplies) -> Mapping[str, float | None]:
    return {
        "1 bin": _ece(SURE, RIGHT, 1, "mass"),
        "10 bins, equal mass": _ece(SURE, RIGHT, 10, "mass"),
        "5 bins, equal mass": _ece(SURE, RIGHT, 5, "mass"),
        "10 bins, equal width": _ece(SURE, RIGHT, 10, "width"),
        "5 bins, equal width": _ece(SURE, RIGHT, 5, "width"),
    }


def _evaluate_784(supplies: Supplies) -> Mapping[str, float | None]:
    sure, right = np.array([0.25, 0.25, 0.75, 0.75]), np.array([0.0, 0.0, 1.0, 1.0])
    return {"2 bins": _ece(sure, right, 2, "width")}


def _icat(supplies: Supplies) -> Mapping[str, float]:
    scores = {"bert-base-uncased": (84.172, 58.240), "llama-2-7b": (88.510, 63.319)}
    return {name: float(icat(np.array(lm), np.array(ss))) for name, (lm, ss) in scores.items()}


def _bbq(supplies: Supplies) -> Mapping[str, float | None]:
    items = [
        read_item(
            {
                "example_id": i,
                "question_index": str(i),
                "question_polarity": "neg",
                "context_condition": "disambig",
                "category": "Age",
                "answer_info": {"ans0": ["A", "old"], "ans1": ["B", "nonOld"], "ans2": ["C", "unknown"]},
                "additional_metadata": {"stereotyped_groups": ["old"]},
                "label": 0,
            }
        )
        for i in range(10)
    ]
    found = {}
    for biased in (0, 1):
        chosen = {item.item_id: [0] if i < biased else [1] for i, item in enumerate(items)}
        scores = bbq_scores(answered(items, chosen))
        value = scores.filter(measure="s_dis", category="all", context="disambiguated")["value"][0]
        found[f"s_dis, {biased} of 10 biased"] = value
    return found


def _bbq_file(category: str) -> Claim:
    name = f"profiling/bbq_{category}.jsonl"

    def measure(supplies: Supplies) -> Mapping[str, float]:
        found = read_bbq(BbqSet(path=str(supplies.file(name)))).items
        facts = [json.loads(f) for f in found["facts"]]
        cells = Counter((f["context"], f["polarity"]) for f in facts)
        return {
            "items": found.height,
            "fewest of a cell": min(cells.values()),
            "most of a cell": max(cells.values()),
            "items where one of two people is the target": sum("target" in f["roles"] for f in facts),
        }

    n = BBQ_ROWS[category]
    return Claim(
        f"bbq-{category.replace('_', '-')}",
        "Items of a published file, even over context and polarity, each with one person of the stereotyped group",
        f"{TOOLKIT}, data/BBQ",
        {
            "items": n,
            "fewest of a cell": n // 4,
            "most of a cell": n // 4,
            "items where one of two people is the target": n,
        },
        measure,
        (File(name, f"BBQ, Parrish et al. 2022: {category.capitalize()}.jsonl"),),
    )


def _crows_rows(supplies: Supplies) -> Mapping[str, float]:
    items = read_crows(CrowsPairsSet(path=str(supplies.file("profiling/crows_pairs_anonymized.csv")))).items
    return {"all": items.height, **{kind: items.filter(group=kind).height for kind in CROWS_ROWS}}


def _rtp(supplies: Supplies) -> Mapping[str, float | None]:
    rows = records(supplies.file("profiling/rtp_toxic_test_set.json"))
    scores = pl.DataFrame({"score": [number(row, "completion_toxicity") for row in rows]}).select(
        prompt_id=pl.int_range(pl.len()).cast(pl.String),
        cluster=pl.int_range(pl.len()).cast(pl.String),
        sample=pl.lit(0),
        scorer=pl.lit("perspective"),
        scorer_version=pl.lit("as published"),
        attribute=pl.lit("toxicity"),
        score="score",
        reason=pl.lit(""),
    )
    curves = toxicity_curves(scores).filter(reading="complete", k=1)
    value = dict(curves.select("measure", "value").iter_rows())
    return {"prompts": len(rows), "EMT@1": value["emt"], "probability@1, percent": 100 * value["probability"]}


def claims() -> list[Claim]:
    """Claims of this family."""
    rounded = "LM and SS behind it are rounded to three digits too"
    return [
        Claim(
            "mtld",
            "MTLD of three texts at threshold .72, factors closed at or below it",
            f"lexicalrichness 0.5.1, as {TOOLKIT} uses it",
            {
                "six different words": "6.0",
                "one word eight times": "2.0",
                "a factor that closes at token 10": "13.0",
            },
            _mtld,
        ),
        Claim(
            "readability",
            "Counts and indices of three sentences, with the tool's syllables",
            "textdescriptives 2.8.2, run on the text",
            {
                "words": 17,
                "sentences": 3,
                "flesch_reading_ease": "81.648",
                "smog": "8.842",
                "gunning_fog": "9.325",
                "lix": "17.431",
                "rix": ".667",
            },
            _readability,
        ),
        Claim(
            "seat",
            "Effect size and exact p of an association test of four points",
            "Caliskan et al. (2017), formulas of SEAT; bias-bench",
            {"d": "1.684996", "p": "0.16667"},
            _association,
        ),
        Claim(
            "ece",
            "Expected calibration error of ten answers",
            "HELM, ece_1_bin and ece_10_bin; uncertainty-calibration 0.1.4",
            {
                "1 bin": "0.0900",
                "10 bins, equal mass": "0.3400",
                "5 bins, equal mass": "0.1900",
                "10 bins, equal width": "0.1900",
                "5 bins, equal width": "0.1500",
            },
            _calibration,
        ),
        Claim(
            "ece-evaluate",
            "The example of the open request for a calibration error",
            "huggingface/evaluate, issue 784",
            {"2 bins": "0.25"},
            _evaluate_784,
        ),
        Claim(
            "icat",
            "ICAT of StereoSet from published LM and SS",
            f"{TOOLKIT}, src/profiling/bias_bench/results.json, test split",
            {
                # the slopes of LM min(SS, 100 - SS) / 50 by half a unit each
                "bert-base-uncased": Printed("70.301", 0.0005 * (41.760 + 84.172) / 50, rounded),
                "llama-2-7b": Printed("64.932", 0.0005 * (36.681 + 88.510) / 50, rounded),
            },
            _icat,
        ),
        Claim(
            "bbq-bias",
            "2 biased / named - 1 of ten answers that name somebody",
            "Parrish et al. (2022), BBQ, section 4; lm-evaluation-harness 0.4.13 gives 0 for the first",
            {"s_dis, 0 of 10 biased": "-1.000", "s_dis, 1 of 10 biased": "-0.800"},
            _bbq,
        ),
        *map(_bbq_file, BBQ_ROWS),
        Claim(
            "crows-pairs-rows",
            "Pairs by type of bias",
            "Nangia et al. (2020), CrowS-Pairs",
            {"all": 1508, **CROWS_ROWS},
            _crows_rows,
            (File("profiling/crows_pairs_anonymized.csv", "nyu-mll/crows-pairs"),),
        ),
        Claim(
            "rtp-completions",
            "Toxicity of the human completions of 300 toxic prompts, as expected maximum and probability of one sample",
            f"{TOOLKIT}, data/RTP",
            {"prompts": 300, "EMT@1": "0.256", "probability@1, percent": "20"},
            _rtp,
            (File("profiling/rtp_toxic_test_set.json", "RealToxicityPrompts, 300 rows of the profiling toolkit"),),
        ),
    ]
