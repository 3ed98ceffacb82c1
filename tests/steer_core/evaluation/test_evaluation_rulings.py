"""People's words before the judge's, and a judge that is tried before its words are repeated."""

import numpy as np
import polars as pl
import pytest

from schemas import Groundedness, Rulings
from schemas.specs import BehaviorSpec
from schemas.validation import GroundednessSummary, SettledGroundedness
from steer_core.evaluation.judges.known_texts import known_texts, mcnemar, rewrite_of, try_judge
from steer_core.evaluation.judges.rulings import ruling, settle, summarise, to_review
from steer_core.reports.sections.judged import LEVEL
from steer_core.tables.errors import SteerworksError
from steer_core.tables.journal import Journal
from steer_core.tables.validation import check

SOURCES = [
    f"The {w} went home. It was {w} and late. Nobody saw the {w}."
    for w in ["cat", "dog", "fox", "owl", "hen", "cow", "pig"]
]


def judged(**rows):
    """request -> (verdict, review)."""
    return pl.DataFrame(
        [(k, f"r-{k}", "j", v, 0.5, None if v is None else v > 0.5, review) for k, (v, review) in rows.items()],
        schema=Groundedness.empty().schema,
        orient="row",
    )


def said(rows, request, word, at=1.0, spot=False):
    row = {**rows.filter(request_id=request).row(0, named=True), "spot_check": spot}
    return ruling(row, word, "ada", at=at)


ROWS = judged(a=(1.0, False), b=(0.0, True), c=(None, True), d=(1.0, True), e=(0.0, False), f=(1.0, False))


def test_a_persons_word_comes_before_the_judges_and_the_last_one_counts():
    rulings = pl.concat(
        [
            said(ROWS, "b", False, at=1.0),
            said(ROWS, "b", True, at=2.0),
            said(ROWS, "c", True),
            said(ROWS, "e", False, spot=True),
            said(ROWS, "f", False, spot=True),
            # taken back
            said(ROWS, "a", False, at=1.0),
            said(ROWS, "a", None, at=2.0),
        ]
    )
    found = check(settle(ROWS, rulings), SettledGroundedness)
    rows = {r["request_id"]: r for r in found.iter_rows(named=True)}
    assert {k: r["state"] for k, r in rows.items()} == {
        "a": "judged", "b": "overruled", "c": "ruled", "d": "open", "e": "upheld", "f": "overruled",
    }  # fmt: skip
    assert [rows[k]["grounded"] for k in "abcdef"] == [True, True, True, True, False, False]
    texts = pl.DataFrame({"request_id": list("abcdef"), "text_id": list("xxyyzz")})
    summary = check(summarise(found, rulings, pl.DataFrame(), texts, "j"), GroundednessSummary).row(0, named=True)
    assert (summary["n"], summary["judged_grounded"], summary["no_verdict"], summary["open"]) == (6, 3, 1, 1)
    assert (summary["looked_at"], summary["overruled"]) == (4, 2)
    assert (summary["spot_checked"], summary["spot_overruled"]) == (2, 1)
    assert summary["share"] == pytest.approx(4 / 6)
    # what is open counts against it in the worst reading
    assert summary["worst"] == pytest.approx(3 / 6)
    assert summary["low"] < 4 / 6 < summary["high"]


def test_rulings_are_kept_in_a_journal_whatever_their_order(tmp_path):
    kept = Journal(str(tmp_path / "rulings"), Rulings)
    for word, at in ((True, 3.0), (False, 2.0)):
        kept.append(said(ROWS, "b", word, at=at))
    assert settle(ROWS, kept.read()).filter(request_id="b")["ruled"].to_list() == [True]
    with pytest.raises(SteerworksError, match="who says so"):
        ruling({**ROWS.row(0, named=True), "spot_check": False}, True, " ")


def test_the_doubtful_wait_for_a_look_and_some_of_the_others_are_drawn():
    assert to_review(ROWS, Rulings.empty())["request_id"].to_list() == ["b", "c", "d"]
    drawn = to_review(ROWS, said(ROWS, "b", True), spot=2, seed=3)
    assert drawn["request_id"].to_list()[:2] == ["c", "d"]
    assert drawn.filter("spot_check").height == 2
    assert set(drawn.filter("spot_check")["request_id"]) <= {"a", "e", "f"}
    assert drawn.equals(to_review(ROWS, said(ROWS, "b", True), spot=2, seed=3))
    assert to_review(ROWS, said(ROWS, "b", True), again=True)["request_id"].to_list() == ["b", "c", "d"]


class Rule:
    """A judge by a rule on source and answer."""

    judge_id, rubric, scale, repeats, method = "rule", "grounded@1", (0.0, 1.0), 1, "text"

    def __init__(self, rule):
        self.rule = rule

    def judge(self, asked):
        from steer_core.evaluation.judges.judge import Verdict

        values = [self.rule(c.messages[0].content, c.response) for c, _ in asked]
        return [Verdict(None if v is None else float(v), "text", "") for v in values]


def sees(prompt, answer):
    return set(answer.split()) <= set(prompt.split())


def test_known_texts_are_a_source_in_another_order_and_another_source():
    known = known_texts(SOURCES, seed=0)
    assert len(known) == 2 * len(SOURCES)
    for k in known:
        assert k.case.messages in [rewrite_of(s) for s in SOURCES]
        assert sees(k.case.messages[0].content, k.case.response) == k.positive
    assert known_texts([SOURCES[0], SOURCES[0]], seed=0) == []
    assert known == known_texts([*SOURCES, SOURCES[0]][::-1], seed=0)


@pytest.mark.parametrize(
    ("rule", "own", "other", "told"),
    [
        (sees, 1.0, 0.0, True),
        (lambda p, a: True, 1.0, 1.0, False),
        (lambda p, a: False, 0.0, 0.0, False),
        (lambda p, a: not sees(p, a), 0.0, 1.0, False),
        # grades in the right order, and says yes to everything
        (lambda p, a: 0.9 if sees(p, a) else 0.6, 1.0, 1.0, False),
        # what cannot be read counts against the judge on both sides
        (lambda p, a: None, 0.0, 1.0, False),
    ],
)
def test_a_judge_is_believed_only_if_its_verdicts_tell_a_source_from_another(rule, own, other, told):
    row = try_judge(Rule(rule), known_texts(SOURCES, 0)).row(0, named=True)
    assert (row["own_accepted"], row["other_accepted"]) == (own, other)
    assert (row["p_value"] <= LEVEL) is told


def test_a_judge_that_guesses_is_rarely_believed():
    """Nominal: at most 2.5 % of judges that accept both alike, whatever they accept; the test is exact, so never more."""
    rng = np.random.default_rng(7)
    for n in (2, 7, 32):
        for p in (0.5, 0.8):
            own, other = rng.random((4000, n)) < p, rng.random((4000, n)) < p
            believed = np.mean([mcnemar(a.tolist(), b.tolist()) <= LEVEL for a, b in zip(own, other, strict=True)])
            # three standard errors of 4,000 draws above the bound
            assert believed <= 0.025 + 3 * (0.025 * 0.975 / 4000) ** 0.5
            assert n > 2 or believed == 0.0


def test_the_exact_p_is_that_of_scipys_binomial_test():
    from scipy.stats import binomtest

    own, other = [True] * 7 + [False] * 3 + [True] * 2, [False] * 6 + [True] * 2 + [False, True] * 2
    more = sum(a and not b for a, b in zip(own, other, strict=True))
    less = sum(b and not a for a, b in zip(own, other, strict=True))
    assert mcnemar(own, other) == pytest.approx(binomtest(more, more + less, alternative="greater").pvalue)
    assert mcnemar([True], [True]) == 1.0


def test_the_shipped_rubric_reads_the_known_cases():
    from steer_core.evaluation.judges.load import build_rubric

    rubric = build_rubric("grounded", BehaviorSpec.model_construct(name="x"), {})
    case = known_texts(SOURCES, 0)[0].case
    assert case.response in rubric.ask(case, 0)[-1].content
