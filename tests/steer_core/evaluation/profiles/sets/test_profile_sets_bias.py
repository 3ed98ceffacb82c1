"""BBQ, StereoSet, CrowS-Pairs and association tests: what ships, the published forms, and what the measures take."""

import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sets_world import lines, loaded, rows_of, table, whole

from schemas.profile_sets import BbqSet, CrowsPairsSet, SeatSet, StereoSetSet
from steer_core.evaluation.profiles.association import association_test
from steer_core.evaluation.profiles.bbq import BbqItem, answered, bbq_scores
from steer_core.evaluation.profiles.sets import load_set, read_set
from steer_core.evaluation.profiles.stereotypes import crows_pairs, stereoset
from steer_core.tables import SteerworksError

PUBLISHED = Path(os.environ.get("STEERWORKS_SAMPLE_DATA", ""), "profiling", "bbq_sexual_orientation.jsonl")
CATEGORIES = {
    "Age": ("old", "nonOld"),
    "Disability_status": ("disabled", "nonDisabled"),
    "Gender_identity": ("trans_F", "nontrans_M"),
    "Nationality": ("Libya", "Spain"),
    "Physical_appearance": ("obese", "nonObese"),
    "Race_ethnicity": ("Black", "White"),
    "Race_x_SES": ("lowSES-Black", "highSES-White"),
    "Race_x_gender": ("F-Black", "M-White"),
    "Religion": ("Muslim", "Catholic"),
    "SES": ("lowSES", "highSES"),
    "Sexual_orientation": ("gay", "straight"),
}


def bbq_row(example=0, category="Age", groups=("old", "nonOld"), **more):
    row = {
        "example_id": example,
        "question_index": "3",
        "question_polarity": "neg",
        "context_condition": "ambig",
        "category": category,
        "answer_info": {"ans0": ["p", groups[0]], "ans1": ["q", groups[1]], "ans2": ["Not known", "unknown"]},
        "additional_metadata": {"stereotyped_groups": [groups[0]]},
        "context": f"Two people met in town number {example}.",
        "question": "Who was late?",
        "ans0": "The first",
        "ans1": "The second",
        "ans2": "Not known",
        "label": 2,
    }
    return row | more


def bbq_items(frame):
    """Items as the measure takes them, from facts alone."""
    found = []
    for row in frame.to_dicts():
        facts = loaded(row, "facts")
        roles = tuple(facts["roles"])
        head = (row["item_id"], row["group"], row["cluster"], facts["context"], facts["polarity"])
        found.append(BbqItem(*head, roles, row["gold"]))
    return found


def test_the_shipped_bbq_is_balanced_in_every_way_that_a_model_could_use():
    frame = load_set(BbqSet())
    assert len(frame) == 144
    assert frame["group"].value_counts().sort("group").rows() == [("Age", 48), ("Gender_identity", 48), ("SES", 48)]
    cells, golds, first_named = Counter(), Counter(), Counter()
    for row in frame.to_dicts():
        facts, options = loaded(row, "facts"), [o.strip().lower() for o in loaded(row, "options")]
        right = facts["roles"][row["gold"]]
        cells[row["group"], facts["context"], facts["polarity"], right] += 1
        golds[facts["context"], row["gold"]] += 1
        assert (right == "unknown") == (facts["context"] == "ambiguous")
        assert sorted(facts["roles"]) == ["other", "target", "unknown"]
        if right != "unknown":
            text = row["text"].lower()
            other = options[3 - row["gold"] - facts["roles"].index("unknown")]
            first_named[facts["polarity"], text.index(options[row["gold"]]) < text.index(other)] += 1
    assert set(cells.values()) == {6, 12}
    assert all(n == (12 if right == "unknown" else 6) for (*_, right), n in cells.items())
    assert max(golds.values()) - min(golds.values()) <= 8
    assert set(first_named.values()) == {18}


def test_who_follows_every_stereotype_scores_one_and_half_of_the_clear_items():
    items = bbq_items(load_set(BbqSet()))
    told = {i.item_id: [i.roles.index("target" if i.polarity == "negative" else "other")] for i in items}
    scores = bbq_scores(answered(items, told)).filter(category="all")
    value = {(r["context"], r["measure"]): r["value"] for r in scores.to_dicts()}
    assert value["disambiguated", "s_dis"] == 1.0
    assert value["ambiguous", "s_amb"] == 1.0
    assert value["disambiguated", "accuracy"] == 0.5
    assert value["ambiguous", "accuracy"] == 0.0


def test_all_categories_of_bbq_load_also_those_of_one_item(tmp_path):
    rows = [bbq_row(i, name, groups) for i, (name, groups) in enumerate(CATEGORIES.items())]
    frame = load_set(BbqSet(path=lines(tmp_path / "all.jsonl", rows)))
    assert frame["group"].to_list() == list(CATEGORIES)
    assert frame["cluster"].to_list() == [f"{name}/3" for name in CATEGORIES]
    for row in frame.to_dicts():
        assert loaded(row, "facts")["roles"] == ["target", "other", "unknown"]
        assert row["text"].endswith("Answer:")
        assert loaded(row, "options") == [" The first", " The second", " Not known"]


def test_an_item_that_names_nobody_loads_and_leans_nowhere(tmp_path):
    nobody = {f"ans{i}": ["Not known", "unknown"] for i in range(3)}
    path = lines(tmp_path / "a.jsonl", [bbq_row(answer_info=nobody)])
    frame = load_set(BbqSet(path=path))
    assert loaded(frame.row(0, named=True), "facts")["roles"] == ["unknown"] * 3
    items = bbq_items(frame)
    answers = answered(items, {items[0].item_id: [2]})
    assert answers.select("directed", "correct", "named", "biased").row(0) == (False, 1.0, 0.0, None)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"label": 5}, "label 5"),
        ({"label": "x"}, "x"),
        ({"question": " "}, "question"),
        ({"ans1": None}, "no ans1"),
        ({"context_condition": "clear"}, "clear"),
        ({"answer_info": {"ans0": ["p"]}}, "ans1"),
        ({"answer_info": {f"ans{i}": [None, "old"] for i in range(3)}}, "lower"),
    ],
)
def test_a_broken_bbq_row_names_file_and_row(tmp_path, change, said):
    path = lines(tmp_path / "bbq.jsonl", [bbq_row(0), bbq_row(1, **change)])
    with pytest.raises(SteerworksError, match=rf"bbq\.jsonl, row 1 \(0-based\): .*{said}"):
        load_set(BbqSet(path=path))


def test_bbq_of_the_hub_may_name_the_right_answer_by_its_column(hub):
    import datasets

    row = {k: v for k, v in bbq_row().items() if k != "additional_metadata"}
    row |= {"additional_metadata": {"stereotyped_groups": ["old"]}, "label": 2}
    plain = datasets.Dataset.from_list([row]).features
    calls = hub([row], datasets.Features({**plain, "label": datasets.ClassLabel(names=["ans0", "ans1", "ans2"])}))
    (found,) = rows_of(BbqSet(dataset="oskarvanderwal/bbq"))
    assert found["gold"] == 2
    assert found["source"] == "oskarvanderwal/bbq@main"
    assert calls == [("oskarvanderwal/bbq", "All", "test", None)]


@pytest.mark.skipif(
    not PUBLISHED.exists(), reason="STEERWORKS_SAMPLE_DATA has no profiling/bbq_sexual_orientation.jsonl"
)
def test_the_published_file_loads_whole_and_its_cells_are_even():
    found = read_set(BbqSet(path=str(PUBLISHED)))
    assert (len(found.items), found.dropped) == (864, 0)
    cells = Counter((f["context"], f["polarity"]) for f in map(json.loads, found.items["facts"]))
    assert set(cells.values()) == {216}
    assert all(i.directed for i in bbq_items(found.items))


def sentences(frame, score):
    """A sentence table with a score of each option."""
    rows = []
    for row in frame.to_dicts():
        for text, role in zip(loaded(row, "options"), loaded(row, "facts")["roles"], strict=True):
            rows.append(
                {
                    "item_id": row["item_id"],
                    "bias_type": row["group"],
                    "cluster": row["cluster"],
                    "role": role,
                    "log_likelihood": score(role),
                    "tokens": 1,
                    "bytes": len(text.encode()),
                }
            )
    return pl.DataFrame(rows)


def test_the_shipped_stereoset_has_several_terms_a_type_and_feeds_the_measure():
    frame = load_set(StereoSetSet())
    assert len(frame) >= 24
    terms = frame.group_by("group").agg(pl.col("cluster").n_unique())
    assert len(terms) >= 2
    assert terms["cluster"].min() >= 4
    assert frame["text"].unique().to_list() == [""]
    order = {"stereotype": -1.0, "anti": -2.0, "unrelated": -3.0}
    scores = stereoset(sentences(frame, order.get), "sum", draws=50, rng=np.random.default_rng(0))
    value = {r["measure"]: r["value"] for r in scores.filter(bias_type="all").to_dicts()}
    assert value == {"lm": 100.0, "ss": 100.0, "icat": 0.0}
    # no role has a place of its own
    assert len({loaded(r, "facts")["roles"].index("stereotype") for r in frame.to_dicts()}) == 3


def stereo_cluster(labels=("anti-stereotype", "unrelated", "stereotype"), **more):
    texts = ("The cat sat down.", "The cat sat blue.", "The cat sat still.")
    body = [{"sentence": s, "gold_label": k} for s, k in zip(texts, labels, strict=True)]
    return {"id": "x", "target": "cat", "bias_type": "animal", "sentences": body} | more


def test_the_published_stereoset_file_is_read_and_its_other_task_left_alone(tmp_path):
    data = {"intersentence": [{"nothing": 1}], "intrasentence": [stereo_cluster()]}
    (row,) = rows_of(StereoSetSet(path=whole(tmp_path / "dev.json", {"version": "1.0", "data": data})))
    assert loaded(row, "facts")["roles"] == ["anti", "unrelated", "stereotype"]
    assert (row["cluster"], row["group"], row["gold"], row["row"]) == ("cat", "animal", None, 0)
    assert loaded(row, "options")[2] == "The cat sat still."


def test_stereoset_of_the_hub_keeps_columns_and_numbered_labels(hub):
    import datasets

    names = ["anti-stereotype", "stereotype", "unrelated"]
    cluster = stereo_cluster(labels=(0, 2, 1))
    cluster["sentences"] = {k: [s[k] for s in cluster["sentences"]] for k in ("sentence", "gold_label")}
    text = datasets.Value("string")
    inside = {"sentence": datasets.List(text), "gold_label": datasets.List(datasets.ClassLabel(names=names))}
    features = datasets.Features({"id": text, "target": text, "bias_type": text, "sentences": inside})
    calls = hub([cluster], features)
    (row,) = rows_of(StereoSetSet(dataset="McGill-NLP/stereoset", revision="r"))
    assert loaded(row, "facts")["roles"] == ["anti", "unrelated", "stereotype"]
    assert row["source"] == "McGill-NLP/stereoset@r"
    assert calls == [("McGill-NLP/stereoset", "intrasentence", "validation", "r")]


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (stereo_cluster(("stereotype", "stereotype", "unrelated")), "once each"),
        (stereo_cluster(target=None), "no target"),
        (stereo_cluster(sentences=[]), "once each"),
        (stereo_cluster(sentences="text"), "list of objects"),
        (stereo_cluster(sentences={"sentence": ["a"], "gold_label": []}), "differ in length"),
    ],
)
def test_a_broken_cluster_names_file_and_row(tmp_path, broken, said):
    path = lines(tmp_path / "dev.jsonl", [stereo_cluster(), broken])
    with pytest.raises(SteerworksError, match=rf"dev\.jsonl, row 1 \(0-based\): .*{said}"):
        load_set(StereoSetSet(path=path))


def test_a_file_without_the_intrasentence_task_is_refused(tmp_path):
    with pytest.raises(SteerworksError, match=r"dev\.json has no list of objects `data\.intrasentence`"):
        load_set(StereoSetSet(path=whole(tmp_path / "dev.json", {"data": {"intersentence": []}})))


def test_the_shipped_pairs_feed_the_measure_and_go_both_ways():
    frame = load_set(CrowsPairsSet())
    assert len(frame) >= 24
    assert frame["group"].n_unique() >= 3
    directions = Counter(loaded(row, "facts")["direction"] for row in frame.to_dicts())
    assert directions["stereo"] > directions["antistereo"] > 4
    order = {"stereotype": -1.0, "anti": -2.0}
    assert crows_pairs(sentences(frame, order.get), "sum").filter(bias_type="all")["value"].item() == 100.0


def crows_row(**more):
    return {
        "": 0,
        "sent_more": "The old dog slept.",
        "sent_less": "The young dog slept.",
        "stereo_antistereo": "antistereo",
        "bias_type": "age",
        **more,
    }


def test_published_pairs_take_the_sentence_that_stereotypes_more_whichever_way(tmp_path):
    (row,) = rows_of(CrowsPairsSet(path=table(tmp_path / "crows.csv", [crows_row()])))
    assert loaded(row, "options") == ["The old dog slept.", "The young dog slept."]
    assert loaded(row, "facts") == {"direction": "antistereo", "roles": ["stereotype", "anti"]}
    assert row["cluster"] == row["item_id"]


def test_pairs_of_the_hub_take_the_english_part(hub):
    calls = hub([{k: v for k, v in crows_row().items() if k}])
    assert len(rows_of(CrowsPairsSet(dataset="jannalu/crows_pairs_multilingual"))) == 1
    assert calls == [("jannalu/crows_pairs_multilingual", "english", "test", None)]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"stereo_antistereo": "both"}, "stereo or antistereo"),
        ({"sent_less": "The old dog slept."}, "the same"),
        ({"bias_type": ""}, "bias_type"),
    ],
)
def test_a_broken_pair_names_file_and_row(tmp_path, change, said):
    path = table(tmp_path / "crows.csv", [crows_row(), crows_row(**change)])
    with pytest.raises(SteerworksError, match=rf"crows\.csv, row 1 \(0-based\): .*{said}"):
        load_set(CrowsPairsSet(path=path))


def test_the_shipped_tests_of_association_feed_the_measure():
    frame = load_set(SeatSet())
    facts = pl.DataFrame([json.loads(f) for f in frame["facts"]]).with_columns(text=frame["text"])
    tests = facts["test"].unique(maintain_order=True).to_list()
    assert len(tests) == 4
    assert set(frame["group"]) == {"gender", "neutral"}
    assert frame["options"].unique().to_list() == ["[]"]
    rng = np.random.default_rng(0)
    for test in tests:
        own = {side: facts.filter(test=test, side=side) for side in "xyab"}
        # X near A and Y near B, whatever the words
        towards = {"x": (1, 0), "a": (1, 0), "y": (0, 1), "b": (0, 1)}
        rows = {s: np.array([towards[s]] * len(part)) + rng.normal(0, 0.1, (len(part), 2)) for s, part in own.items()}
        words = tuple(own[s]["word"].to_numpy() for s in "xy")
        found = association_test(*(rows[s] for s in "xyab"), rng=rng, words=words)
        assert found.effect > 1.5
        assert found.units == 16
        for row in facts.filter(test=test).to_dicts():
            assert row["word"].lower() in row["text"].lower()
        sentence = test.startswith("sentences")
        assert all((" " in text) == sentence for text in facts.filter(test=test)["text"])


def seat_body(**more):
    parts = {"targ1": ["rose"], "targ2": ["ant"], "attr1": ["This is joy.", "That is joy."], "attr2": ["pain"]}
    return {k: {"category": k, "examples": v} for k, v in parts.items()} | more


def test_published_tests_are_read_from_a_folder_with_their_types(tmp_path):
    whole(tmp_path / "sent-weat6b.jsonl", seat_body())
    (tmp_path / "weat1.json").write_text(json.dumps(seat_body(), indent=1))
    (tmp_path / "readme.md").write_text("no test")
    rows = rows_of(SeatSet(path=str(tmp_path), types={"weat1": "control"}))
    assert [(loaded(r, "facts")["test"], r["group"]) for r in rows[::5]] == [
        ("sent-weat6b", "gender"),
        ("weat1", "control"),
    ]
    assert [loaded(r, "facts")["word"] for r in rows[:5]] == ["rose", "ant", "This is joy.", "That is joy.", "pain"]
    assert rows[0]["cluster"] == "sent-weat6b/rose"
    assert rows[2]["cluster"] == rows[2]["item_id"]
    (one,) = {loaded(r, "facts")["test"] for r in rows_of(SeatSet(path=str(tmp_path), tests=("weat1",)))}
    assert one == "weat1"
    assert len(rows_of(SeatSet(path=str(tmp_path / "weat1.json")))) == 5


def test_sentences_take_their_words_from_the_test_of_words_beside_them(tmp_path):
    words = {"targ1": ["rose", "lily"], "targ2": ["ant", "elephant"], "attr1": ["joy"], "attr2": ["pain"]}
    texts = {
        "targ1": ["This is a rose.", "Those are lilies."],
        "targ2": ["These are ants.", "That is an elephant."],
        "attr1": ["This is joy.", "That is love."],
        "attr2": ["Pain is here."],
    }
    for name, parts in (("weat1", words), ("sent-weat1", texts)):
        whole(tmp_path / f"{name}.jsonl", {k: {"category": k, "examples": v} for k, v in parts.items()})
    rows = rows_of(SeatSet(path=str(tmp_path), tests=("sent-weat1",)))
    # love is no word of the other test: nothing is told of the part
    assert [loaded(r, "facts")["word"] for r in rows] == ["rose", "lily", "ant", "elephant", *texts["attr1"], "pain"]
    assert rows[1]["cluster"] == "sent-weat1/lily"
    (tmp_path / "weat1.jsonl").unlink()
    alone = rows_of(SeatSet(path=str(tmp_path)))
    assert [loaded(r, "facts")["word"] for r in alone][:5] == [r["text"] for r in alone][:5]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"targ1": {}}, r"weat1\.json is no association test"),
        (seat_body(targ2={"examples": []}), r"weat1\.json, targ2: no list"),
        (seat_body(targ2={"examples": ["ant", " "]}), r"weat1\.json, targ2, row 1"),
        (seat_body(targ2={"examples": ["ant"], "words": []}), r"weat1\.json, targ2: `words`"),
        (seat_body(type=3), r"weat1\.json: type"),
    ],
)
def test_a_broken_test_names_file_and_part(tmp_path, body, said):
    with pytest.raises(SteerworksError, match=said):
        load_set(SeatSet(path=whole(tmp_path / "weat1.json", body)))


def test_a_test_that_is_not_there_is_named():
    with pytest.raises(SteerworksError, match="no test 'weat99'; there are flowers-insects"):
        load_set(SeatSet(tests=("weat99",)))


def test_a_folder_without_tests_is_refused(tmp_path):
    with pytest.raises(SteerworksError, match="holds no file"):
        load_set(SeatSet(path=str(tmp_path)))
