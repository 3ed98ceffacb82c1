"""Tasks of the harness, run: the figures of its own entry, offline, and what cannot be run is a row."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import lm_eval
import numpy as np
import polars as pl
import pytest
from harness_world import Without, engine, plain, vector

from steer_core.evaluation.arms.items import Arm
from steer_core.evaluation.profiles.harness import DEFAULT_TASKS, OWN_TASKS, SAMPLES, TASKS, EngineLM, run_harness
from steer_core.evaluation.profiles.harness.catalogue import files_of
from steer_core.evaluation.profiles.harness.contained import contained
from steer_core.evaluation.profiles.harness.local import load_files, load_folder
from steer_core.steering.intervention import Intervention
from steer_core.tables.errors import ConfigError, SteerworksError


@pytest.fixture
def lm():
    return EngineLM(engine())


@pytest.fixture
def theirs(monkeypatch):
    """`theirs(task, ...)`: what the harness's own entry makes of HFLM; its scan of the environment takes 4 s."""
    from lm_eval.tasks import TaskManager

    monkeypatch.setattr("lm_eval.evaluator.add_env_info", lambda results: None)
    manager = TaskManager(include_path=str(OWN_TASKS), include_defaults=False)

    def run(task, **options):
        return lm_eval.simple_evaluate(
            model=plain(), tasks=[task], task_manager=manager, bootstrap_iters=1000, fewshot_random_seed=0, **options
        )

    return run


def write_task(folder: Path, name: str, rows: list, more: str, code: str = "") -> Path:
    """A folder with a task of its own."""
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if code:
        (folder / f"{name}_code.py").write_text(code)
    (folder / f"{name}.yaml").write_text(
        f"task: {name}\n"
        "custom_dataset: !function steer_core.evaluation.profiles.harness.local.load_files\n"
        f"dataset_kwargs: {{files: {{test: {name}.jsonl}}}}\n"
        f"test_split: test\n{more}"
    )
    return folder


CHOICE = 'output_type: multiple_choice\ndoc_to_text: "{{q}}"\ndoc_to_choice: ["yes", "no"]\ndoc_to_target: a\n'
LAST_WORD = (
    'output_type: loglikelihood\ndoc_to_text: "{{q}}"\ndoc_to_target: "{{a}}"\nmetric_list:\n'
    "  - {metric: acc}\n  - {metric: perplexity}\n"
)
FOUR = [{"q": f"Is {k} less than 2?", "a": int(k >= 2)} for k in range(4)]


def accuracy(result, metric="acc"):
    return result.tasks.filter(pl.col("metric") == metric).row(0, named=True)


# the same figures as the harness's own entry


@pytest.mark.parametrize("options", [{}, {"num_fewshot": 2}, {"apply_chat_template": True}, {"limit": 7}])
def test_figures_and_samples_are_those_of_simple_evaluate(lm, theirs, options):
    expected = theirs("everyday_facts", **options)
    found = run_harness(["everyday_facts"], lm, **options)
    for metric in ("acc", "acc_norm"):
        row, own = accuracy(found, metric), expected["results"]["everyday_facts"]
        assert row["value"] == own[f"{metric},none"]
        assert row["stderr"] == pytest.approx(own[f"{metric}_stderr,none"], rel=1e-9)
    samples = {s["doc_hash"]: s for s in expected["samples"]["everyday_facts"]}
    rows = found.samples.filter(pl.col("metric") == "acc")
    assert len(rows) == len(samples) == options.get("limit", 60)
    for row in rows.iter_rows(named=True):
        sample = samples[row["doc_hash"]]
        assert (row["prompt_hash"], row["doc_id"], row["value"]) == (
            sample["prompt_hash"],
            sample["doc_id"],
            sample["acc"],
        )
        assert row["log_likelihoods"] == pytest.approx([a[0][0] for a in sample["resps"]], abs=1e-4)
    assert accuracy(found)["num_fewshot"] == options.get("num_fewshot", 0)


def test_the_harnesss_own_entry_takes_an_engine_too(lm, theirs, monkeypatch):
    found = run_harness(["everyday_facts"], lm, limit=6)
    arm = Arm("told", "harness", system="Answer in one word.")
    monkeypatch.setattr("harness_world.HFLM", lambda **_: EngineLM(engine()))
    entry = theirs("everyday_facts", limit=6)
    assert entry["results"]["everyday_facts"]["acc,none"] == accuracy(found)["value"]
    monkeypatch.setattr("harness_world.HFLM", lambda **_: EngineLM(engine(), arm))
    with pytest.raises(SteerworksError, match="lacks the system prompt"):
        theirs("everyday_facts", limit=6)
    entry = theirs("everyday_facts", limit=6, system_instruction=arm.system)
    told = run_harness(["everyday_facts"], EngineLM(engine(), arm), limit=6)
    prompts = sorted({s["prompt_hash"] for s in entry["samples"]["everyday_facts"]})
    assert prompts == sorted(told.samples["prompt_hash"].unique())


def test_written_answers_are_those_of_simple_evaluate(lm, theirs, monkeypatch):
    # see test_answers_are_those_of_hflm_cut_before_what_ends_them
    monkeypatch.setattr(engine().loaded.model.generation_config, "max_new_tokens", None)
    expected = theirs("short_answers")
    found = run_harness(["short_answers"], lm, num_fewshot=3)
    samples = {s["doc_hash"]: s["resps"][0] for s in expected["samples"]["short_answers"]}
    assert {r["doc_hash"]: r["responses"] for r in found.samples.iter_rows(named=True)} == samples
    row = accuracy(found, "exact_match")
    assert row["value"] == expected["results"]["short_answers"]["exact_match,none"]
    # the task says 0, which the harness keeps
    assert row["num_fewshot"] == 0


def test_a_chat_template_and_a_system_prompt_change_what_is_read(lm):
    told = EngineLM(engine(), Arm("told", "harness", system="Answer in one word."))
    runs = [
        run_harness(["everyday_facts"], lm, limit=5),
        run_harness(["everyday_facts"], lm, limit=5, apply_chat_template=True),
    ]
    runs += [run_harness(["everyday_facts"], told, limit=5, apply_chat_template=on) for on in (False, True)]
    prompts = [tuple(r.samples["prompt_hash"]) for r in runs]
    assert len(set(prompts)) == 4
    assert [r.chat for r in runs] == [False, True, False, True]
    assert [r.system for r in runs] == [None, None, *["Answer in one word."] * 2]


def test_a_steered_arm_has_other_numbers_and_the_same_documents(lm):
    arm = Arm("steered", "harness", interventions=(Intervention("add", vector().id, 1, 3.0, positions="prompt"),))
    plain_run, steered = run_harness(["everyday_facts"], lm), run_harness(["everyday_facts"], EngineLM(engine(), arm))
    both = plain_run.samples.join(steered.samples, on=["doc_hash", "metric", "filter"], validate="1:1")
    assert len(both) == 120
    assert (both["log_likelihoods"] != both["log_likelihoods_right"]).all()
    assert (steered.arm_id, plain_run.arm_id) == ("steered", "plain")


# what a run leaves alone


def test_two_tasks_scan_no_environment_and_start_no_process(lm, monkeypatch):
    scans = []
    monkeypatch.setattr("lm_eval.evaluator.add_env_info", lambda results: scans.append(1))
    monkeypatch.setattr("lm_eval.evaluator.get_git_commit_hash", lambda: scans.append(2))
    monkeypatch.setattr(subprocess.Popen, "__init__", lambda *a, **k: scans.append(3))
    found = run_harness(["everyday_facts", "short_answers"], lm, limit=2)
    assert set(found.tasks["status"]) == {"run"}
    assert scans == []


PATCHING = """
import os, random
import numpy as np
np.NaN = np.nan
np.made_up = 1
os.environ["MADE_UP"] = "1"
random.seed(5)
def judge(doc, results):
    return {"acc": 1.0 if np.NaN != np.NaN else 0.0, "nothing": np.NAN}
"""
JUDGED = CHOICE + (
    "process_results: !function patching_code.judge\nmetric_list:\n  - {metric: acc, aggregation: mean, "
    "higher_is_better: true}\n"
)


def test_what_modules_of_tasks_do_to_the_process_is_undone_and_they_still_work(lm, tmp_path):
    write_task(tmp_path / "tasks", "patching", FOUR, JUDGED, PATCHING)
    random.seed(3)
    np.random.seed(3)
    states, names = (random.getstate(), np.random.get_state()[1].tolist()), set(vars(np))
    for _ in range(2):  # the second time its module is not read again
        found = run_harness(["patching"], lm, task_folders=[tmp_path / "tasks"])
        assert found.not_run == {}
        assert accuracy(found)["value"] == 1.0
        assert not hasattr(np, "NaN")
        assert not hasattr(np, "made_up")
        assert "MADE_UP" not in os.environ
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states
    assert set(vars(np)) == names
    # what is no number keeps its words
    raw = dict(found.samples.filter(pl.col("doc_id") == 0).select("metric", "raw").iter_rows())
    assert raw == {"acc": None, "nothing": "NaN"}


def test_the_process_is_as_it_was_where_a_run_fails():
    def fail():
        with contained(1):
            assert np.isnan(np.NaN)
            os.environ["MADE_UP"] = "1"
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert not hasattr(np, "NaN")
    assert "MADE_UP" not in os.environ


def test_standard_errors_are_bootstrapped_in_this_process_and_are_those_of_the_harness(
    lm, tmp_path, monkeypatch, capsys
):
    rows = [{"q": text, "a": " mill."} for text in ("The river runs past the", "We went to the", "Here is a")]
    folder = write_task(tmp_path / "tasks", "words", rows, LAST_WORD)
    monkeypatch.setattr("multiprocessing.Pool", lambda *_: pytest.fail("a process was started"))
    found = run_harness(["words"], lm, task_folders=[folder], bootstrap_iters=200)
    row = accuracy(found, "perplexity")
    numbers = found.samples.filter(pl.col("metric") == "perplexity")["value"].to_list()
    assert row["value"] == pytest.approx(np.exp(-np.mean(numbers)))
    draws = random.Random(0)
    again = [np.exp(-np.mean(draws.choices(numbers, k=3))) for _ in range(200)]
    assert row["stderr"] == pytest.approx(np.std(again, ddof=1), rel=1e-9)
    assert capsys.readouterr().out == ""
    assert (
        accuracy(run_harness(["words"], lm, task_folders=[folder], bootstrap_iters=0), "perplexity")["stderr"] is None
    )


# what cannot be run is a row


def test_a_task_without_data_is_named_and_the_others_run(lm, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    found = run_harness(["boolq", "everyday_facts", "everyday_fact"], lm, limit=2)
    assert list(found.tasks["task"]) == ["boolq", "everyday_facts", "everyday_facts", "everyday_fact"]
    assert list(found.tasks["status"]) == ["not run", "run", "run", "not run"]
    assert list(found.tasks["limit"]) == [2.0] * 4
    boolq = found.not_run["boolq"]
    assert "the data of 'boolq' cannot be reached (HF_HUB_OFFLINE is set)" in boolq
    assert "aps/super_glue" in boolq
    assert "task_data={'boolq': folder}" in boolq
    assert found.not_run["everyday_fact"] == "no task is called 'everyday_fact'; near it: everyday_facts"
    assert dict(found.tasks.schema) == TASKS
    assert dict(found.samples.schema) == SAMPLES


def test_data_of_a_task_may_come_from_a_folder(lm, tmp_path):
    rows = [
        {"question_stem": "Bees make", "choices": {"label": ["A", "B"], "text": ["honey", "milk"]}, "answerKey": "A"},
        {"question_stem": "Cows give", "choices": {"label": ["A", "B"], "text": ["honey", "milk"]}, "answerKey": "B"},
    ]
    for split in ("train", "validation", "test"):
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    found = run_harness(["openbookqa"], lm, task_data={"openbookqa": tmp_path}, num_fewshot=1)
    assert found.not_run == {}
    assert accuracy(found)["n"] == 2
    assert accuracy(found)["version"] == "1.0"
    assert sorted(found.samples["target"].unique()) == ["0", "1"]


def test_the_default_tasks_are_found_without_reading_all_others():
    assert {name: len(files_of(name)) for name in DEFAULT_TASKS} == dict.fromkeys(DEFAULT_TASKS, 1)


def test_a_task_that_breaks_is_a_row_and_an_engine_that_breaks_is_not(lm, tmp_path, monkeypatch):
    code = "def judge(doc, results):\n    raise RuntimeError('no judge today')\n"
    write_task(tmp_path / "tasks", "patching", FOUR, JUDGED, code)
    found = run_harness(["patching", "everyday_facts"], lm, task_folders=[tmp_path / "tasks"], limit=2)
    assert found.not_run == {"patching": "it failed: RuntimeError: no judge today"}
    assert accuracy(found)["n"] == 2

    def broken(*_):
        raise SteerworksError("the engine is on fire")

    monkeypatch.setattr(lm, "_backend", Without(engine()))
    lm.engine.score_greedy = broken
    with pytest.raises(SteerworksError, match="on fire"):
        run_harness(["everyday_facts"], lm, limit=2)


def test_tasks_that_ask_for_greedy_flags_are_refused_where_there_are_none(tmp_path):
    rows = [{"q": "The river runs past the", "a": " mill."}]
    folder = write_task(tmp_path / "tasks", "last_word", rows, LAST_WORD)
    names = ["last_word", "everyday_facts"]
    here = run_harness(names, EngineLM(engine()), task_folders=[folder], limit=1)
    assert here.not_run == {}
    assert here.samples["greedy"].null_count() == 0
    served = EngineLM(Without(engine(), name="server", greedy_flags=False))
    there = run_harness(names, served, task_folders=[folder], limit=1)
    assert list(there.not_run) == ["last_word"]
    assert "the server backend does not say which tokens are the likeliest" in there.not_run["last_word"]
    assert there.samples["greedy"].null_count() == len(there.samples)
    assert there.samples["value"].to_list() == here.samples.filter(pl.col("task") != "last_word")["value"].to_list()


def test_perplexities_of_whole_texts_have_no_number_for_one_document(lm, tmp_path):
    rolling = 'output_type: loglikelihood_rolling\ndoc_to_text: ""\ndoc_to_target: "{{q}}"\nmetric_list:\n  - {metric: byte_perplexity}\n'
    folder = write_task(tmp_path / "tasks", "texts", FOUR, rolling)
    found = run_harness(["texts"], lm, task_folders=[folder])
    row = accuracy(found, "byte_perplexity")
    pairs = [json.loads(raw) for raw in found.samples["raw"]]
    assert row["value"] == pytest.approx(np.exp(-sum(p[0] for p in pairs) / sum(p[1] for p in pairs)))
    # the harness has no standard error of it
    assert row["stderr"] is None
    assert row["higher_is_better"] is False
    assert [n[0] for n in found.samples["log_likelihoods"]] == [p[0] for p in pairs]


def test_a_group_is_its_tasks_and_a_figure_over_them(lm, tmp_path):
    folder = write_task(tmp_path / "tasks", "small", FOUR, CHOICE + "metric_list:\n  - {metric: acc}\n")
    write_task(folder, "smaller", FOUR[:3], CHOICE + "metric_list:\n  - {metric: acc}\n")
    (folder / "sizes.yaml").write_text(
        "group: sizes\ntask: [small, smaller]\naggregate_metric_list:\n  - {metric: acc, weight_by_size: true}\n"
    )
    found = run_harness(["sizes"], lm, task_folders=[folder])
    rows = {r["task"]: r for r in found.tasks.iter_rows(named=True)}
    assert {k: (r["kind"], r["n"]) for k, r in rows.items()} == {
        "small": ("task", 4),
        "smaller": ("task", 3),
        "sizes": ("group", 7),
    }
    assert rows["sizes"]["value"] == pytest.approx((4 * rows["small"]["value"] + 3 * rows["smaller"]["value"]) / 7)
    refused = run_harness(["sizes"], lm, task_folders=[folder], task_data={"sizes": folder})
    assert "give data to single tasks, by name" in refused.not_run["sizes"]


def test_contexts_that_were_cut_are_counted_by_task():
    found = run_harness(["everyday_facts", "short_answers"], EngineLM(engine(), max_length=24), limit=30)
    cut = dict(found.tasks.select("task", "n_truncated").iter_rows())
    assert cut["everyday_facts"] > 0
    assert cut["short_answers"] > 0


def test_without_the_harness_it_is_said_what_to_install(monkeypatch):
    from steer_core.evaluation.profiles import harness as room

    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(ConfigError, match=r"pip install 'steerworks\[lm-eval\]'"):
        room.EngineLM  # noqa: B018
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        room.Nothing  # noqa: B018


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tasks": []}, "a list of names"),
        ({"tasks": "boolq"}, "a list of names"),
        ({"tasks": ["a", "a"]}, "each once"),
        ({"limit": 0}, "limit = 0"),
        ({"limit": 1.0}, "a share below 1"),
        ({"num_fewshot": -1}, "num_fewshot = -1"),
        ({"task_folders": [Path("nowhere")]}, "nowhere is no folder"),
        ({"task_data": {"b": Path()}}, "task_data is given for b"),
    ],
)
def test_wrong_arguments_are_named(lm, options, said):
    with pytest.raises(ConfigError, match=said):
        run_harness(**({"tasks": ["a"]} | options), lm=lm)


# data


def test_our_own_tasks_are_what_they_say():
    facts = load_files(
        {"train": "everyday_facts_train.jsonl", "test": "everyday_facts.jsonl"}, str(OWN_TASKS / "x.yaml")
    )
    rows = list(facts["test"])
    assert (len(rows), len(facts["train"])) == (60, 5)
    assert all(len(set(r["choices"])) == 4 for r in rows)
    # no place is favoured, and no example is a question
    assert [sum(r["answer"] == k for r in rows) for k in range(4)] == [15] * 4
    assert not {r["question"] for r in facts["train"]} & {r["question"] for r in rows}
    assert len(load_files({"test": "short_answers.jsonl"}, str(OWN_TASKS / "x.yaml"))["test"]) == 20


def test_files_of_splits_are_read_in_every_form_and_faults_are_placed(tmp_path):
    frame = pl.DataFrame({"q": ["a", "b"], "a": [0, 1]})
    frame.write_parquet(tmp_path / "test.parquet")
    frame.write_csv(tmp_path / "train.csv")
    (tmp_path / "validation.json").write_text(json.dumps(frame.to_dicts()))
    assert {k: list(v) for k, v in load_folder(str(tmp_path)).items()} == dict.fromkeys(
        ("test", "train", "validation"), frame.to_dicts()
    )
    for text, said in (
        ('{"a": 1}\n{', "line 2: no JSON"),
        ("[1]\n", "line 1: a row is an object"),
        ("\n", "holds no rows"),
    ):
        (tmp_path / "bad.jsonl").write_text(text)
        with pytest.raises(ConfigError, match=said):
            load_files({"test": "bad.jsonl"}, str(tmp_path / "x.yaml"))
    with pytest.raises(ConfigError, match="cannot be read"):
        load_files({"test": "none.jsonl"}, str(tmp_path / "x.yaml"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="has no files of splits"):
        load_folder(str(tmp_path / "empty"))
