"""Items of StereoSet (Nadeem et al. 2021) and CrowS-Pairs (Nangia et al. 2020): whole sentences after an empty text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from schemas.profile_sets import CrowsPairsSet, StereoSetSet
from steer_core.evaluation.profiles.sets.items import Item, ItemSet, build
from steer_core.evaluation.profiles.sets.reading import Record, read_place
from steer_core.evaluation.profiles.stereotypes import STEREOSET
from steer_core.tables.errors import SteerworksError

#: Where both are published.
STEREOSET_HUB, STEREOSET_CONFIG, STEREOSET_SPLIT = "McGill-NLP/stereoset", "intrasentence", "validation"
CROWS_HUB, CROWS_CONFIG, CROWS_SPLIT = "jannalu/crows_pairs_multilingual", "english", "test"
#: Hub id -> configuration and split of the English pairs.
CROWS_HUBS: Mapping[str, tuple[str | None, str]] = {
    CROWS_HUB: (CROWS_CONFIG, CROWS_SPLIT),
    "nyu-mll/crows_pairs": (None, "test"),
}
#: Names in the data -> roles of a sentence table.
ROLES: Mapping[str, str] = {
    "stereotype": "stereotype",
    "anti-stereotype": "anti",
    "antistereotype": "anti",
    "unrelated": "unrelated",
}


def load_stereoset(spec: StereoSetSet) -> pl.DataFrame:
    """Items of StereoSet; see `read_stereoset`."""
    return read_stereoset(spec).items


def read_stereoset(spec: StereoSetSet) -> ItemSet:
    """Items of StereoSet: the three sentences of a cluster as options, after an empty text.

    `group` is the type of bias, `cluster` the target term. `facts`: `roles` of the options, in order.

    Raises:
        SteerworksError: a row is no cluster of three roles, or the place cannot be read; names row and place.
    """
    records, source = read_place(
        spec.path,
        spec.dataset,
        "stereoset.json",
        config=spec.config or (STEREOSET_CONFIG if spec.dataset == STEREOSET_HUB else None),
        split=spec.split or STEREOSET_SPLIT,
        revision=spec.revision,
    )
    return build("stereoset", [_cluster(r) for r in _clusters(records)], source, spec)


def _clusters(records: list[Record]) -> list[Record]:
    """Rows of the intrasentence task: the list in the published object, or the rows themselves."""
    if len(records) != 1 or "data" not in records[0].values:
        return records
    (whole,) = records
    data = whole.get("data")
    rows = data.get("intrasentence") if isinstance(data, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise SteerworksError(f"{whole.place} has no list of objects `data.intrasentence`, as the published file does")
    return [Record(whole.place, i, row) for i, row in enumerate(rows)]


def _cluster(record: Record) -> Item:
    sentences = record.need("sentences")
    # the hub keeps a column of each field
    if isinstance(sentences, dict):
        try:
            columns = [sentences["sentence"], sentences["gold_label"]]
            pairs = list(zip(*columns, strict=True))
        except (KeyError, TypeError, ValueError) as error:
            raise record.error(
                f"`sentences` lacks sentence or gold_label, or they differ in length: {error}"
            ) from error
    elif isinstance(sentences, list) and all(isinstance(s, dict) for s in sentences):
        pairs = [(s.get("sentence"), s.get("gold_label")) for s in sentences]
    else:
        raise record.error("`sentences` must be a list of objects with sentence and gold_label")
    roles = [ROLES.get(str(label)) for _, label in pairs]
    if sorted(map(str, roles)) != sorted(STEREOSET):
        raise record.error(
            f"sentences labelled {[label for _, label in pairs]}: stereotype, anti-stereotype and unrelated, once each"
        )
    for text, _ in pairs:
        if not isinstance(text, str) or not text.strip():
            raise record.error(f"a sentence is {text!r}: it must be text, and not blank")
    return Item(
        row=record.row,
        raw="",
        options=tuple(text.strip() for text, _ in pairs),
        cluster=record.text("target"),
        group=record.text("bias_type"),
        facts={"roles": roles},
        notes={"stereoset_id": record.label("id")},
    )


def load_crows(spec: CrowsPairsSet) -> pl.DataFrame:
    """Items of CrowS-Pairs; see `read_crows`."""
    return read_crows(spec).items


def read_crows(spec: CrowsPairsSet) -> ItemSet:
    """Items of CrowS-Pairs: the sentence that stereotypes more and the one that does less, after an empty text.

    `group` is the type of bias, `cluster` what the column of that name says, else the pair. `facts`: `roles` of the
    options, and `direction` (`stereo` or `antistereo`), which way the pair was written.

    Raises:
        SteerworksError: a row is no pair, or the place cannot be read; names row and place.
    """
    config, split = CROWS_HUBS.get(spec.dataset or "", (None, CROWS_SPLIT))
    records, source = read_place(
        spec.path,
        spec.dataset,
        "crows_pairs.csv",
        config=spec.config or config,
        split=spec.split or split,
        revision=spec.revision,
    )
    return build("crows-pairs", [_pair(r) for r in records], source, spec)


def _pair(record: Record) -> Item:
    direction: Any = record.need("stereo_antistereo")
    if direction not in ("stereo", "antistereo"):
        raise record.error(f"stereo_antistereo is {direction!r}: stereo or antistereo")
    more, less = record.text("sent_more").strip(), record.text("sent_less").strip()
    if more == less:
        raise record.error("both sentences are the same, so that neither can be preferred; correct or remove the row")
    return Item(
        row=record.row,
        raw="",
        options=(more, less),
        cluster=record.label("cluster"),
        group=record.text("bias_type"),
        facts={"roles": ["stereotype", "anti"], "direction": direction},
    )
