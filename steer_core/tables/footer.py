"""What a table's file says about itself, in the Parquet footer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from schemas.digest import canonical_json, digest_json

#: Key of our entry in the Parquet key-value metadata.
METADATA_KEY = "steerworks"


@dataclass(frozen=True)
class Footer:
    """Provenance of a published table.

    Attributes:
        contract: table name.
        contract_version: version of the contract that the rows keep.
        code_version: version of the core code that made the rows.
        spec_hash: hash of the configuration that they were made with.
        seed: seed, where one was used.
        inputs: input table (with its partition) -> content digest.
        content: digest of the rows themselves.
    """

    contract: str
    contract_version: int
    code_version: str = ""
    spec_hash: str = ""
    seed: int | None = None
    inputs: Mapping[str, str] = field(default_factory=dict)
    content: str = ""

    @property
    def fingerprint(self) -> str:
        """Hash of everything that the rows follow from: equal fingerprints need no new work."""
        return digest_json({k: v for k, v in asdict(self).items() if k != "content"})

    @classmethod
    def from_json(cls, entry: str) -> Footer:
        """The footer that `to_json` wrote.

        Raises:
            TypeError, ValueError: it is none.
        """
        footer = cls(**json.loads(entry))
        if not isinstance(footer.contract_version, int):
            raise ValueError(f"{footer.contract_version!r} is no version of a contract")
        return footer

    def to_json(self) -> str:
        """Canonical JSON, as stored."""
        return canonical_json(asdict(self))
