"""Goals: named measurements `text -> float`.

`scorer` says what a scorer is and loads one from a `GoalSpec`; `scorers/` holds one file a scorer; `measure` runs
scorers over many texts, in parallel and through a cache; `space` maps raw values to a goal space. This file imports
nothing, so that a worker process starts fast and stays small.
"""
