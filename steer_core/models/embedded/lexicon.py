"""Words of the grammar: synonyms in three tiers of difficulty, words of feeling, and the contents of the scenarios.

Tiers differ in syllables (about one, two, four), hardly in part of speech, so that the Flesch-Kincaid grade follows
the tier and little else. No word outside `FEELINGS` has a valence in the VADER lexicon (Hutto and Gilbert 2014).
"""

from __future__ import annotations

from dataclasses import dataclass

#: Nouns as easy, middle, hard.
NOUNS: tuple[tuple[str, str, str], ...] = (
    ("job", "duty", "responsibility"),
    ("aim", "purpose", "consideration"),
    ("part", "portion", "subdivision"),
    ("birth", "onset", "initiation"),
    ("end", "outcome", "termination"),
    ("way", "method", "methodology"),
    ("speech", "meeting", "conversation"),
    ("plan", "project", "organization"),
    ("use", "function", "utilization"),
    ("spot", "corner", "environment"),
    ("house", "building", "accommodation"),
    ("team", "circle", "association"),
    ("test", "trial", "examination"),
    ("view", "notion", "interpretation"),
    ("rule", "order", "regulation"),
    ("scene", "display", "exhibition"),
    ("note", "message", "communication"),
    ("list", "index", "documentation"),
    ("step", "process", "preparation"),
    ("role", "station", "occupation"),
)

#: Adjectives without feeling, as easy, middle, hard.
ADJECTIVES: tuple[tuple[str, str, str], ...] = (
    ("big", "ample", "monumental"),
    ("old", "former", "traditional"),
    ("new", "recent", "contemporary"),
    ("main", "central", "fundamental"),
    ("whole", "entire", "universal"),
    ("small", "tiny", "elementary"),
    ("plain", "normal", "ordinary"),
    ("late", "final", "eventual"),
    ("long", "lengthy", "continuous"),
    ("brown", "common", "conventional"),
)

#: Verbs in the past tense that take an object, as easy, middle, hard.
VERBS: tuple[tuple[str, str, str], ...] = (
    ("got", "received", "accumulated"),
    ("made", "finished", "manufactured"),
    ("used", "handled", "utilized"),
    ("saw", "noticed", "identified"),
    ("showed", "revealed", "demonstrated"),
    ("kept", "carried", "accompanied"),
    ("moved", "shifted", "relocated"),
    ("checked", "studied", "investigated"),
    ("held", "covered", "encountered"),
    ("found", "collected", "discovered"),
    ("built", "designed", "constituted"),
    ("sent", "ordered", "distributed"),
)

#: Adverbs, as easy, middle, hard.
ADVERBS: tuple[tuple[str, str, str], ...] = (
    ("now", "lately", "immediately"),
    ("then", "later", "subsequently"),
    ("once", "often", "habitually"),
    ("soon", "shortly", "eventually"),
    ("fast", "quickly", "rapidly"),
    ("still", "always", "continually"),
    ("thus", "likewise", "automatically"),
    ("twice", "mostly", "periodically"),
)

#: Level of feeling -> adjectives of one, two, and three or more syllables.
FEELINGS: dict[int, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    2: (
        ("great", "grand"),
        ("lovely", "happy", "perfect", "superb", "charming"),
        ("wonderful", "excellent", "fantastic", "beautiful", "magnificent", "delightful"),
    ),
    1: (
        ("fine", "nice", "calm", "warm", "cool", "fresh"),
        ("useful", "sunny", "easy"),
        ("agreeable", "interesting", "optimistic"),
    ),
    -1: (
        ("dull", "weak", "low", "lame", "sore"),
        ("boring", "lonely", "messy", "weary"),
        ("uneasy", "unhappy", "inadequate", "problematic", "uncomfortable"),
    ),
    -2: (
        ("bad", "vile", "grim"),
        ("awful", "nasty", "cruel", "rotten", "dismal", "lousy"),
        ("horrible", "terrible", "miserable", "disgusting", "catastrophic"),
    ),
}


@dataclass(frozen=True)
class Topic:
    """Contents that go together.

    Attributes:
        name: one word.
        agents: who acts.
        objects: what it is about.
        places: where.
        helpers: with whom.
        tools: with what.
        details: what stands out.
    """

    name: str
    agents: tuple[str, ...]
    objects: tuple[str, ...]
    places: tuple[str, ...]
    helpers: tuple[str, ...]
    tools: tuple[str, ...]
    details: tuple[str, ...]


TIMES = ("morning", "evening", "summer", "winter", "weekend", "afternoon", "spring", "autumn")

TOPICS: tuple[Topic, ...] = (
    Topic(
        "food",
        ("baker", "cook", "waiter", "butcher", "miller"),
        ("bread", "soup", "cake", "pie", "cheese"),
        ("kitchen", "market", "cafe", "bakery"),
        ("cousin", "grocer", "aunt"),
        ("oven", "knife", "bowl"),
        ("smell", "salt", "crust"),
    ),
    Topic(
        "music",
        ("singer", "drummer", "pianist", "fiddler", "composer"),
        ("song", "guitar", "banjo", "violin", "album"),
        ("studio", "theater", "hall", "stage"),
        ("brother", "manager", "uncle"),
        ("speaker", "cable", "lamp"),
        ("sound", "rhythm", "melody"),
    ),
    Topic(
        "garden",
        ("gardener", "farmer", "florist", "grower", "ranger"),
        ("tulip", "tree", "pumpkin", "bush", "lawn"),
        ("garden", "field", "orchard", "valley"),
        ("neighbor", "daughter", "nephew"),
        ("spade", "bucket", "ladder"),
        ("color", "soil", "leaf"),
    ),
    Topic(
        "travel",
        ("driver", "pilot", "sailor", "tourist", "guide"),
        ("train", "boat", "ticket", "map", "bus"),
        ("airport", "harbor", "island", "hotel"),
        ("sister", "porter", "captain"),
        ("engine", "suitcase", "compass"),
        ("fog", "route", "speed"),
    ),
    Topic(
        "school",
        ("teacher", "student", "pupil", "tutor", "writer"),
        ("book", "essay", "lesson", "poem", "paper"),
        ("library", "classroom", "college", "village"),
        ("clerk", "professor", "son"),
        ("pencil", "laptop", "desk"),
        ("title", "page", "chapter"),
    ),
    Topic(
        "craft",
        ("carpenter", "painter", "potter", "weaver", "builder"),
        ("table", "picture", "vase", "coat", "door"),
        ("workshop", "cellar", "garage", "barn"),
        ("father", "dealer", "boss"),
        ("hammer", "brush", "needle"),
        ("pattern", "surface", "shape"),
    ),
    Topic(
        "sport",
        ("runner", "coach", "swimmer", "skater", "player"),
        ("ball", "race", "bicycle", "game", "racket"),
        ("stadium", "park", "pool", "gym"),
        ("trainer", "doctor", "mother"),
        ("whistle", "helmet", "clock"),
        ("score", "crowd", "weather"),
    ),
    Topic(
        "office",
        ("lawyer", "banker", "nurse", "agent", "mayor"),
        ("letter", "budget", "contract", "report", "form"),
        ("agency", "courtroom", "hospital", "hallway"),
        ("colleague", "secretary", "partner"),
        ("printer", "phone", "computer"),
        ("price", "date", "figure"),
    ),
)
