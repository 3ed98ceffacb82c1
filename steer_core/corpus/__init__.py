"""Seed corpus: configured sources to one checked table of texts."""

from steer_core.corpus.build import VERSION, build_corpus, candidate_texts, source_digests

__all__ = ["VERSION", "build_corpus", "candidate_texts", "source_digests"]
