"""Entry point of `vllm.general_plugins`: what vLLM's front and engine, processes of their own, do about steering.

1. The front refuses steering that cannot be carried out, with HTTP 400: in the worker it would end the engine.
2. The engine salts the prefix cache with the steering, so that a block is shared only by requests steered alike. The
   client is not trusted with that.
"""

from __future__ import annotations

import os
from functools import wraps
from pathlib import Path
from typing import Any

from .catalogue import Catalogue
from .spec import KEY, SpecError, read_spec, salt
from .support import sites_of

#: Set by one test only, which shows that answers go wrong without the salt.
NO_SALT = "STEERWORKS_VLLM_TEST_WITHOUT_SALT"


def register() -> None:
    """Called by vLLM in each of its processes; a second call changes nothing."""
    from vllm.v1.engine.input_processor import InputProcessor
    from vllm.v1.request import Request

    if hasattr(InputProcessor, "_steerworks"):
        return
    InputProcessor._steerworks = True
    _check_in_front(InputProcessor)
    if not os.environ.get(NO_SALT):
        _salt_in_engine(Request)


def _extra(params: Any) -> dict[str, Any]:
    return getattr(params, "extra_args", None) or {}


def _check_in_front(processor: Any) -> None:
    validate = processor._validate_params
    catalogue = Catalogue(Path(os.environ["STEERWORKS_VLLM_ROOM"]) / "vectors")

    @wraps(validate)
    def checked(self: Any, params: Any, *more: Any, **further: Any) -> Any:
        if KEY in _extra(params):
            from vllm.exceptions import VLLMValidationError

            config = self.model_config.hf_text_config
            try:
                catalogue.check(read_spec(_extra(params)[KEY]), config.num_hidden_layers, sites_of(config.model_type))
            except SpecError as error:
                raise VLLMValidationError(f"steering: {error}", parameter=f"vllm_xargs.{KEY}") from error
        return validate(self, params, *more, **further)

    processor._validate_params = checked


def _salt_in_engine(request: Any) -> None:
    made = request.from_engine_core_request.__func__

    @classmethod  # type: ignore[misc]
    def salted(cls: Any, asked: Any, block_hasher: Any) -> Any:
        text = _extra(asked.sampling_params).get(KEY)
        spec = None if text is None else read_spec(text)
        if spec is not None and spec.edits:
            prompt = asked.prompt_token_ids if asked.prompt_token_ids is not None else asked.prompt_embeds
            # what the client salts with on top still keeps its requests apart
            asked.cache_salt = salt(spec, spec.prompt_length(len(prompt))) + (asked.cache_salt or "")
        return made(cls, asked, block_hasher)

    request.from_engine_core_request = salted
