"""Whether texts that adapters were trained on stand in a test probe: shown from the tables as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from schemas.adapters import OF_SET
from steer_core.corpus.build import folded

#: Text ids that a message names.
NAMED = 5


@dataclass(frozen=True)
class Split:
    """What the tables say.

    Attributes:
        tested: texts of the test probes.
        pool: texts of the training pool; on some of them states are picked.
        trained: texts that completions were drawn for.
        shared: (text id in a test probe, text id in the pool or among what was trained on) of equal texts.
        unknown: requests that were trained on and that no table knows.
        prompts: prompts of a set that completions were drawn for; none of them is a text of a probe.
    """

    tested: int
    pool: int
    trained: int
    shared: tuple[tuple[str, str], ...]
    unknown: tuple[str, ...]
    prompts: int = 0

    @property
    def holds(self) -> bool:
        """Whether it is shown that nothing is shared."""
        return not self.shared and not self.unknown

    def said(self) -> str:
        """The finding as a sentence."""
        if self.shared:
            pairs = ", ".join(a if a == b else f"{a} (in the pool as {b})" for a, b in self.shared[:NAMED])
            more = f" and {len(self.shared) - NAMED} more" if len(self.shared) > NAMED else ""
            return (
                f"{len(self.shared)} texts of the test probes stand in what adapters are trained or picked on as well, "
                f"case and white space aside: {pairs}{more}. What is measured on them is memory: draw the probes anew, "
                "with `deduplicate: true` in the corpus, and train again"
            )
        if self.unknown:
            return (
                f"{len(self.unknown)} requests that were trained on are in no probe (first: {self.unknown[0]}), so "
                "that nobody knows their texts: materialize `adapters` again"
            )
        return (
            f"None of the {self.tested} texts of the test probes is among the {self.pool} of the training pool, case "
            f"and white space aside; completions were drawn for {self.trained} of the latter"
            + (f", and for {self.prompts} prompts of a set." if self.prompts else ".")
        )


def split_by_text(requests: pl.DataFrame, samples: pl.DataFrame, train_probe: str, test_probes: Sequence[str]) -> Split:
    """Hold the texts of the test probes against those that adapters were trained on.

    Args:
        requests: rows of `requests`.
        samples: rows of `training_samples`; none for adapters from elsewhere.
        train_probe: probe of the training pool.
        test_probes: probes that are measured.
    """
    known = requests.select("request_id", "text_id", "probe", folded=folded(pl.col("text")))
    tested = known.filter(pl.col("probe").is_in(list(test_probes)))
    pool = known.filter(pl.col("probe") == train_probe)
    every = samples.select("request_id").unique()
    of_set = pl.col("request_id").str.starts_with(OF_SET)
    drawn = every.filter(~of_set)
    trained = known.join(drawn, on="request_id", how="semi")
    shared = (
        tested.select("folded", "text_id")
        .join(pl.concat([pool, trained]).select("folded", other="text_id"), on="folded")
        .select("text_id", "other")
        .unique()
        .sort("text_id", "other")
    )
    unknown = drawn.join(known, on="request_id", how="anti")["request_id"].sort().to_list()
    return Split(
        tested["text_id"].n_unique(),
        pool["text_id"].n_unique(),
        trained["text_id"].n_unique(),
        tuple(shared.iter_rows()),
        tuple(unknown),
        every.height - drawn.height,
    )
