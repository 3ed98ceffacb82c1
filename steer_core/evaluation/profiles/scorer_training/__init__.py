"""How the scorer `char-ngram` was trained: its texts, its recipe, and what it is tested on."""
