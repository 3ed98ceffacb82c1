"""Why a server did not start, and what to do: known failures, told by their log."""

from __future__ import annotations

import re

#: (pattern of the log, remedy); the first that is found counts, so causes stand before what follows from them.
REMEDIES = (
    (r"address already in use", "its port is taken: give another one, or none, and a free one is chosen"),
    (
        r"max seq len \((\d+)\).*?GiB KV.*?(?:maximum model length is (\d+))?",
        "the cache has no room for one request of the whole context ({0} tokens): give `max_context` a smaller number, "
        "or `cache_bytes` a larger one",
    ),
    (
        r"No available memory for the cache blocks|is less than (?:desired|requested) (?:CPU )?memory",
        "there is not enough free memory for its cache: give `cache_bytes` a smaller number, or free memory",
    ),
    (
        r"out of memory|OutOfMemoryError|MemoryError|Cannot allocate memory|DefaultCPUAllocator: can't allocate",
        "memory ran out: give `cache_bytes`, `rows` or `max_context` a smaller number, or take a smaller model",
    ),
    (
        r"max_model_len \((\d+)\) is greater than the derived max_model_len \(.*?(\d+)",
        "`max_context` = {0} is more than the model's own context, {1} tokens: give it at most that",
    ),
    (
        r"No adapter found for (\S+)",
        "there is no LoRA adapter at {0}: a folder with `adapter_config.json` and its weights is needed",
    ),
    (
        r"LoRA rank (\d+) is greater than max_lora_rank",
        "an adapter has rank {0}, more than `adapter_rank`: raise it (8, 16, 32, 64, 128, 256 ...)",
    ),
    (
        r"Invalid repository ID or local directory specified|is not a valid model identifier|"
        r"does not appear to have a file named config\.json|Repo id must (?:use|be)|RepositoryNotFoundError|"
        r"is not a local folder",
        "the model was not found: name a folder with `config.json`, weights and tokenizer, or an id of the hub",
    ),
    (
        r"outgoing traffic has been disabled|LocalEntryNotFoundError|couldn't connect to|offline mode is enabled|"
        r"Max retries exceeded|Name or service not known",
        "the model is not on this machine and the hub cannot be reached: name a folder that has it",
    ),
    # of its own parts it says so too, where a build goes without
    (r"No module named '((?!vllm\.)[\w.]+)'", "its environment lacks the package {0}: install it there"),
    (
        r"No package metadata was found for (\S+)",
        "its environment lacks the package {0}; for `vllm` itself the room's `site` folder must be on PYTHONPATH",
    ),
    (
        # with False it stands in the log of every start
        r"trust_remote_code=True",
        "the model brings code of its own, which is run only if you say so: add `--trust-remote-code` to `more`",
    ),
    (r"unrecognized arguments: (.+)", "this release of vLLM does not know the arguments {0}"),
    (r"Model architectures? \[?'?(\w+)'?\]? .*not supported", "vLLM does not know the architecture {0}"),
    (r"Unsupported CPU attention configuration: head_dim=(\d+)", "vLLM's attention on a CPU has no heads of {0}"),
    (r"RuntimeError: (steering: .+)", "{0}"),
    (r"(the decoder layers of \w+ are at none of .+)", "{0}"),
)
#: Lines of the log that an error shows.
TAIL = 25


def remedy(log: str) -> str | None:
    """What to do about the failure that a log tells of; None where it is not known."""
    for pattern, words in REMEDIES:
        if found := re.search(pattern, log, re.IGNORECASE):
            return words.format(*(g.strip().rstrip(".,") if g else "" for g in found.groups()))
    return None


def explain(log: str, code: int | None) -> str:
    """A failure in words: the remedy, how the process ended, and the end of its log.

    Args:
        log: what it wrote.
        code: its exit status; None: it still runs.
    """
    known = remedy(log)
    if known is None and code == -9:
        known = "it was killed, as happens where memory runs out: give `cache_bytes` a smaller number"
    ended = "it still runs" if code is None else f"it ended with status {code}"
    tail = "\n".join(log.rstrip().splitlines()[-TAIL:]) or "(nothing)"
    return f"{known or 'the cause is not a known one'} ({ended}).\nThe end of its log:\n{tail}"
