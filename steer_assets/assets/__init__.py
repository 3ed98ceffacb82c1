"""Asset bodies, one file a stage; here, how their tables make up the nodes that a person meets."""

from steer_assets.assets import behaviors, contrasts, corpus, evaluation, probes, reports, responses, vectors
from steer_assets.nodes import BOARD, CELLS, SHARED, Node, Nodes

#: In the order in which a run takes them.
NODES = Nodes(
    [
        Node("seed_corpus", (corpus.seed_corpus,), "Texts that requests start from", SHARED),
        Node(
            "goal_mappings",
            (corpus.corpus_goal_values, corpus.goal_space),
            "The goals measured on the corpus, and the goal space that they span",
            SHARED,
        ),
        Node(
            "probes",
            (probes.probes,),
            "Requests with their targets, and how evenly they cover the goal space",
            SHARED,
        ),
        Node(
            "contrasts",
            (contrasts.behavior_contrasts,),
            "What vectors are fitted on, and what behaviors are tested with",
            SHARED,
        ),
        Node(
            "vectors",
            (
                responses.fit_responses,
                vectors.goal_contrasts,
                vectors.vectors,
                vectors.dose_response,
                responses.artifacts,
            ),
            "What the method is fitted on, and what it learns there: vectors, doses, examples",
            CELLS,
        ),
        Node(
            "plans",
            (responses.run_plans, behaviors.sweep_arms),
            "Before the probe and the sweep run: prompts to read, arms, and what they will cost",
            CELLS,
        ),
        Node(
            "responses",
            (responses.responses,),
            "Every answer of the cell, and what was chosen for each request",
            CELLS,
        ),
        Node(
            "behaviors",
            (behaviors.sweep_responses, behaviors.arm_measures, behaviors.judgements, behaviors.arm_summary),
            "Behaviors under the cell's vector: answers of all arms, verdicts, measures, findings",
            CELLS,
        ),
        Node(
            "scores",
            (
                evaluation.response_goal_values,
                evaluation.steerability,
                evaluation.steerability_summary,
                evaluation.comparisons,
                evaluation.side_effects,
            ),
            "How far each answer went, how far off the road, and how that compares with the controls",
            CELLS,
            controls=True,
        ),
        Node("steerability_report", (reports.report,), "The cell's page", CELLS),
        Node(
            "leaderboard",
            (reports.leaderboard, reports.leaderboard_page),
            "All cells that are there, ranked, and the page",
            BOARD,
        ),
    ]
)
