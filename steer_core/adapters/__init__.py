"""Training of adapters: recipes, rewards from the goal space, runs that can be taken up again, and what they leave.

Built on trl and peft as they are; both are imported where they are needed, since that takes seconds.
"""
