import importlib.util
import pickle
from pathlib import Path

import pytest
import yaml

from schemas.specs import GoalSpec
from steer_core.goals.errors import ScorerUnavailableError
from steer_core.goals.scorer import available_scorers, load_scorer
from steer_core.tables.errors import ConfigError

CONFIG = Path(__file__).parents[3] / "config" / "goals.yaml"
REFUSED = {"textual_diversity_taaled": "en_core_web_sm", "formality_spacy": "en_core_web_sm"}


def spec(scorer: str, **options: object) -> GoalSpec:
    return GoalSpec(name="g", scorer=scorer, options=options, unit="-", noun="n", more="more", less="less")


def configured() -> dict[str, GoalSpec]:
    return {n: GoalSpec(name=n, **s) for n, s in yaml.safe_load(CONFIG.read_text(encoding="utf-8")).items()}


@pytest.mark.parametrize("name", sorted(set(configured()) - set(REFUSED) - {"text_length_nltk"}))
def test_every_configured_goal_loads_and_survives_pickling(name: str) -> None:
    scorer = load_scorer(configured()[name])
    assert pickle.loads(pickle.dumps(scorer)).scorer_id == scorer.scorer_id


def test_no_two_configured_goals_share_a_scorer_id() -> None:
    specs = [s for n, s in configured().items() if n not in REFUSED and n != "text_length_nltk"]
    ids = [load_scorer(s).scorer_id for s in specs]
    assert len(set(ids)) == len(ids)


def test_options_show_in_the_id_only_where_they_differ_from_the_defaults() -> None:
    plain = load_scorer(spec("textual_diversity")).scorer_id
    assert plain == "textual_diversity@2"
    assert load_scorer(spec("textual_diversity", min_words=50)).scorer_id == plain
    changed = load_scorer(spec("textual_diversity", min_words=20)).scorer_id
    assert changed.startswith("textual_diversity@2+")
    assert changed != load_scorer(spec("textual_diversity", min_words=21)).scorer_id


def test_an_unknown_scorer_is_refused_with_what_there_is() -> None:
    with pytest.raises(
        ConfigError, match=r"unknown scorer 'formalty'; there are: .*formality.*Did you mean 'formality'"
    ):
        load_scorer(spec("formalty"))
    with pytest.raises(ConfigError, match="unknown scorer '_spacy'"):
        load_scorer(spec("formality").model_copy(update={"scorer": "_spacy"}))


def test_an_unknown_or_missing_option_is_refused_with_what_there_is() -> None:
    with pytest.raises(ConfigError, match="unknown option 'treshold'; it takes: threshold, min_words"):
        load_scorer(spec("textual_diversity", treshold=0.7))
    with pytest.raises(ConfigError, match=r"needs the option 'emotion'"):
        load_scorer(spec("emotion"))
    with pytest.raises(ConfigError, match=r"'threshold' must be a number from 0\.01 to 0\.99, not 2"):
        load_scorer(spec("textual_diversity", threshold=2))
    with pytest.raises(ConfigError, match="needs a `revision`"):
        load_scorer(spec("hub_classifier", model="org/name", label="joy"))


def test_available_scorers_are_the_files_of_the_folder() -> None:
    assert {"formality", "hub_classifier", "textual_diversity_taaled"} <= set(available_scorers())
    assert "_spacy" not in available_scorers()


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_a_compat_scorer_without_its_model_is_refused_by_name(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n, *a: None if n == REFUSED[name] else real("json"))
    with pytest.raises(
        ScorerUnavailableError, match=rf"'{name}' .*'en_core_web_sm' is not installed: run `pip install"
    ):
        load_scorer(configured()[name])


def test_nltk_length_without_punkt_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    import nltk.tokenize

    def no_data(text: str) -> list[str]:
        raise LookupError("punkt_tab")

    monkeypatch.setattr(nltk.tokenize, "word_tokenize", no_data)
    with pytest.raises(ScorerUnavailableError, match="'text_length_nltk' needs NLTK's data 'punkt_tab'"):
        load_scorer(configured()["text_length_nltk"])
