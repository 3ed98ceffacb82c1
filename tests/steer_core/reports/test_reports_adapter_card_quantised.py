"""The card of an adapter on a quantised base loads the base as the adapter was fitted on it."""

import ast
from types import SimpleNamespace

import pytest

from schemas.specs import ModelSpec
from steer_core.reports.adapter_card import _loading

PACKED = {"quant_method": "bitsandbytes", "load_in_8bit": True}


def call_of(text):
    """The arguments with which the card loads the base."""
    code = text.split("```python\n")[1].split("```")[0]
    (found,) = (
        node
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Call) and "AutoModelForCausalLM.from_pretrained" in ast.unparse(node.func)
    )
    return {k.arg: ast.literal_eval(k.value) for k in found.keywords}


@pytest.mark.parametrize("quantization", [{}, PACKED])
def test_the_base_is_loaded_as_it_was(quantization):
    base = ModelSpec(name="m", source="embedded", dtype="float16", quantization=quantization)
    facts = SimpleNamespace(form="peft", base=base, vllm_rank=8, method=SimpleNamespace(name="tuned"))
    loading, *served = _loading(facts)
    assert call_of(loading) == {"dtype": "float16"} | ({"quantization_config": PACKED} if quantization else {})
    # no command serves the very same base on vLLM
    assert ("vllm serve" in "".join(served)) == (not quantization)
