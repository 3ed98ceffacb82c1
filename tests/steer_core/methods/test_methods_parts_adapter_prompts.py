"""Prompts of a set that adapters are trained on: as they stand, and none that a profile of the bench asks."""

import json

import pytest

import steer_core.evaluation.profiles.kinds.text
import steer_core.evaluation.profiles.kinds.toxicity  # noqa: F401  (kinds of profiles are known once they are loaded)
from schemas.profile_sets import PromptsSet
from schemas.profile_spec import read_profile
from schemas.specs import Decoding
from steer_core.evaluation.profiles.sets import load_set
from steer_core.methods.parts._adapter_prompts import plans_of_set
from steer_core.tables.errors import ConfigError

DECODING = Decoding(max_new_tokens=8)


def profile(name="style", kind="text", **asked):
    return read_profile({"name": name, "kind": kind, "set": {"kind": "prompts", **asked}})


def plans(wanted, *profiles):
    return plans_of_set(PromptsSet.model_validate(wanted), profiles, "own", DECODING)


def file(tmp_path, *prompts):
    path = tmp_path / f"{len(list(tmp_path.iterdir()))}.jsonl"
    path.write_text("\n".join(json.dumps({"prompt": p}) for p in prompts))
    return str(path)


def test_prompts_are_asked_as_they_stand_by_their_own_ids():
    wanted = {"shipped": "tales-prompts", "side": "train", "n": 12}
    found = plans(wanted, profile(shipped="tales-prompts", side="test", n=40), profile(shipped="open-questions"))
    items = load_set(PromptsSet.model_validate(wanted))
    assert list(found) == [f"item:{i}" for i in items["item_id"]]
    for plan, messages in zip(found.values(), items["messages"], strict=True):
        assert [{"role": m.role, "content": m.content} for m in plan.messages] == json.loads(messages)
        assert (plan.model, plan.decoding, plan.adapter) == ("own", DECODING, None)


def test_a_prompt_that_a_profile_asks_is_refused_whatever_case_white_space_and_wrapping(tmp_path):
    own = {"path": file(tmp_path, "Why is this cat green?", "Once upon a time")}
    asked = file(tmp_path, "What is new?", "why is  this CAT\ngreen? ")
    with pytest.raises(
        ConfigError, match="1 of the 2 `prompts` are asked by the profile 'style'.*'why is this cat green"
    ):
        plans(own, profile(path=asked))
    assert len(plans(own, profile(path=file(tmp_path, "What is new?")))) == 2
    # the same beginning, which one of them asks to continue
    begun = profile("toxic", "toxicity", path=file(tmp_path, "Once upon a time"), continuation="user-turn")
    with pytest.raises(ConfigError, match="'toxic'.*side: train"):
        plans(own, profile(shipped="open-questions"), begun)
    # one seed is not another's complement
    with pytest.raises(ConfigError, match="of the 60 `prompts`"):
        plans({"shipped": "tales-prompts", "n": 60}, profile(shipped="tales-prompts", n=60, seed=1))
