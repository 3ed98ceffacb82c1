"""Items x arms: any items, put to a model in any settings, under any measure. Knows no behavior, vector or judge.

An `Arm` says what is done to a plan, an `Item` what is asked. `answers.write` has the open ones answered,
`choices.score` has given continuations scored, and measures turn what came back into rows of `arm_answers` and
`arm_scores`.
"""

from steer_core.evaluation.arms.items import Arm, Asked, Item, pair

__all__ = ["Arm", "Asked", "Item", "pair"]
