"""Sentence patterns of the grammar: cores that state a fact, and frames around them, in three registers.

A pattern is a line of tokens. `N`, `A`, `V`, `D` stand for any noun, adjective, verb, adverb of the tiers;
`N:job/aim` for one of the synonym rows whose easy word is named; `@` for the word of feeling; `$agent` for a content of
the scenario. Everything else is itself. Registers differ in parts of speech only, as in Heylighen and Dewaele (2002):
formal patterns are rich in nouns, adjectives, prepositions and articles, casual ones in pronouns, verbs, adverbs and
interjections.
"""

from __future__ import annotations

ASPECTS = ("act", "place", "time", "helper", "tool", "detail")

#: Aspect -> register (-1 casual, 0 between, 1 formal) -> patterns.
CORES: dict[str, dict[int, tuple[str, ...]]] = {
    "act": {
        1: (
            "the $object of the $agent was the @ N:aim/part/job of the N:plan/team",
            "the N:job/role of the $agent was the @ N:use/view of the $object",
            "for the $agent , the @ $object was the N:birth/aim of the N:plan/job",
        ),
        0: (
            "the $agent D V:got/made/used the @ $object , and we D V:saw/checked it",
            "we D V:saw/found the @ $object , and it D V:moved/held the $agent",
            "the @ $object was there , and the $agent D V:kept/checked it",
        ),
        -1: (
            "our $agent V:got/made it , we D V:saw/used your $object , and it was @",
            "they V:saw/checked our $agent , I D V:found/used their $object , and it was @",
            "it was @ , we D V:kept/used our $object and they V:moved/showed your $agent",
        ),
    },
    "place": {
        1: (
            "the @ $place was the N:spot/scene for the N:plan/job of the N:team",
            "the N:spot of the @ $object was the $place in the N:view of the N:team",
            "the $place was the N:house of a @ N:team/scene for the $object",
        ),
        0: (
            "the @ $place was there , and it D V:held/kept the N:team/scene",
            "we D V:found/saw the @ $place , and it V:held/showed the $object",
            "in the $place we D V:moved/used it , and the N:spot was @",
        ),
        -1: (
            "we D V:found/built our $place , they V:used/saw it , and it was @",
            "it was @ , I D V:saw/found your $place and we V:checked/kept it",
            "they V:moved/sent it , you D V:saw/used our $place , and it was @",
        ),
    },
    "time": {
        1: (
            "the @ $time was the N:birth/end of the N:speech/test for the N:team",
            "the N:step/test of the $time was in the @ N:list/plan of the N:team",
            "the N:end of the $time was a @ N:step/part in the N:plan",
        ),
        0: (
            "in the $time it was @ , and the N:team D V:used/checked it",
            "the @ $time was there , and we D V:moved/made the N:plan/list",
            "we D V:held/kept the N:speech/test , and the $time was @",
        ),
        -1: (
            "we V:held/saw it , they D V:kept/used their $time , and it was @",
            "it was @ , they V:moved/checked it and I D V:kept/used my $time",
            "you V:showed/sent them our $time , we D V:held/kept it , and it was @",
        ),
    },
    "helper": {
        1: (
            "the $helper was the N:birth/part of the @ N:plan/speech with the N:team",
            "the @ N:job/role of the $helper was the N:use/list of the N:plan",
            "with the $helper in the N:team , the N:end of the N:job was @",
        ),
        0: (
            "the @ $helper was there , and we D V:showed/sent the N:plan/note",
            "the $helper D V:got/saw the @ N:note/list , and I V:kept/checked it",
            "we D V:found/saw the $helper , and the N:speech/view was @",
        ),
        -1: (
            "my $helper V:saw/got it , we D V:used/kept it , and it was @",
            "it was @ , I D V:showed/sent them your $helper and they V:checked/moved us",
            "they V:found/showed our $helper , you D V:held/kept us , and it was @",
        ),
    },
    "tool": {
        1: (
            "the $tool was of @ N:use in the N:step/test of the N:plan",
            "the N:use of the $tool was the @ N:way/rule of the N:team",
            "a @ N:part of the N:job was the N:test/use of the $tool",
        ),
        0: (
            "the @ $tool was there , and they D V:used/held the N:list/note",
            "with the $tool we D V:made/built it , and the N:way was @",
            "they D V:used/checked the @ $tool , and it V:moved/made the N:scene",
        ),
        -1: (
            "they V:got/used it , we D V:held/moved our $tool , and it was @",
            "it was @ , you V:sent/got us your $tool and I D V:used/built it",
            "I D V:checked/used my $tool , it V:made/moved us , and it was @",
        ),
    },
    "detail": {
        1: (
            "the $detail of the $object was the @ N:part/end of the N:view",
            "a @ N:part of the N:scene was the $detail in the N:view of the N:team",
            "the N:view of the N:team on the $detail was @ in the N:end",
        ),
        0: (
            "the $detail was @ , and the N:team D V:saw/kept it",
            "we D V:found/checked the @ $detail , and it V:showed/made the N:view",
            "the @ $detail was there , and you D V:saw/showed the N:view",
        ),
        -1: (
            "we V:saw/checked it , they D V:showed/found its $detail , and it was @",
            "it was @ , you D V:saw/kept its $detail and we V:showed/found it",
            "I V:found/held it , you D V:showed/saw our $detail , and it was @",
        ),
    },
}

#: Register -> openings, before the core.
OPENINGS: dict[int, tuple[str, ...]] = {
    1: (
        "in the A N of the N ,",
        "for the N of a A N ,",
        "with the A N at the N ,",
        "by the N of the A N ,",
    ),
    0: (
        "at the A N we D V it , and",
        "after a N they D V it , and",
        "in a A N I D V them , and",
        "from the N you D V us , and",
    ),
    -1: (
        "oh , you D V it , and",
        "hey , we D V it , and",
        "ah , I V them D , and",
        "oh , they D V us , and",
    ),
}

#: Register -> closings, after the core.
CLOSINGS: dict[int, tuple[str, ...]] = {
    1: (
        "with the N of the A N",
        "on the N of a A N",
        "in the A N of the N",
        "at the N for the A N",
    ),
    0: (
        ", and we D V the A N",
        ", and they D V a A N",
        ", and the N D V it",
        ", and I V the A N D",
    ),
    -1: (
        ", and we D V it , hey",
        ", and I V you D",
        ", oh , and they V it D",
        ", and you V me D",
    ),
}

#: Level of formality -> registers of (core, frame).
REGISTERS: dict[int, tuple[tuple[int, int], ...]] = {
    -2: ((-1, -1),),
    -1: ((-1, 0), (0, -1)),
    0: ((0, 0),),
    1: ((1, 0), (0, 1)),
    2: ((1, 1),),
}

#: Weight of each literal word in the formality score: +1 articles and prepositions, -1 pronouns, verbs, adverbs and
#: interjections, 0 conjunctions.
LITERALS: dict[str, int] = {
    **dict.fromkeys(("the", "a", "an", "of", "in", "on", "at", "for", "with", "after", "by", "from"), 1),
    **dict.fromkeys(("we", "they", "you", "it", "i", "us", "them", "me", "our", "their", "your", "my", "its"), -1),
    **dict.fromkeys(("was", "there", "oh", "hey", "ah"), -1),
    "and": 0,
}
