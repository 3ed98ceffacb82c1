"""Asset bodies, one file a stage; here, how their tables make up the nodes that a person meets."""

from __future__ import annotations

from dataclasses import replace

from schemas.specs import BenchSpec
from steer_assets.assets import (
    behaviors,
    contrasts,
    corpus,
    evaluation,
    fits,
    probes,
    profile_changes,
    profiles,
    reports,
    responses,
    search,
    traits,
    validation,
)
from steer_assets.nodes import BOARD, CELLS, SHARED, Node, Nodes

#: What all cells share.
_SHARED = (
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
)
#: What all cells share where behaviors of the bench are made from a sentence.
_TRAITS = Node(
    "traits",
    (traits.trait_prompts, traits.trait_answers),
    "Behaviors from a sentence: instructions, questions, answers under both, and what is kept of them",
    SHARED,
)
#: What all cells share where the bench wants profiles, and what each has of its own.
_PROFILE_ITEMS = Node("profile_items", (profiles.profile_items,), "What profiles ask, whoever is asked", SHARED)
_PROFILES = Node(
    "profiles",
    (
        profiles.profile_arms,
        profiles.profile_responses,
        profiles.option_scores,
        profiles.profile_vectors,
        profiles.own_profiles,
        profiles.profile_readings,
        profiles.profile_judgements,
        profiles.profile_values,
        profile_changes.profile_changes,
        profile_changes.profile_synergy,
    ),
    "What the model is like apart from the requests, as it is and steered: answers, verdicts, options, figures",
    CELLS,
)
#: Of each cell where the bench searches.
_SEARCH = Node(
    "search",
    (search.search,),
    "Settings of the vector that were tried on validation questions, and what the chosen ones come to on test items",
    CELLS,
)
#: Of each cell, before its parts are fitted; and after.
_BEFORE = (
    Node(
        "fit_responses",
        (fits.fit_responses,),
        "Answers to the training pool, which the method's parts are fitted on; never to the probe",
        CELLS,
    ),
)
_AFTER = (
    Node(
        "plans",
        (fits.artifacts, responses.run_plans, behaviors.sweep_arms),
        "Before the probe and the sweep run: what was learnt, prompts to read, arms, and what they will cost",
        CELLS,
    ),
    Node(
        "responses",
        (
            responses.responses,
            responses.attempts,
            validation.groundedness,
            validation.groundedness_calibration,
            validation.goal_agreement,
        ),
        "Every answer of the cell, and what was chosen for each request",
        CELLS,
    ),
    Node(
        "behaviors",
        (
            behaviors.sweep_responses,
            behaviors.arm_measures,
            behaviors.judgements,
            behaviors.judge_calibration,
            behaviors.arm_summary,
        ),
        "Behaviors under the cell's steering: answers of all arms, verdicts, measures, findings",
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
            validation.settled_groundedness,
        ),
        "How far each answer went, how far off the road, and how that compares with the controls",
        CELLS,
        controls=True,
    ),
    Node("steerability_report", (reports.report,), "The cell's page", CELLS),
    Node(
        "leaderboard",
        (reports.leaderboard, reports.frontier, profile_changes.profile_pairs, reports.leaderboard_page),
        "All cells that are there, ranked, and the page",
        BOARD,
    ),
)


def nodes_of(bench: BenchSpec) -> Nodes:
    """The nodes of a bench, in the order in which a run takes them.

    Kinds of parts that its methods are made of bring a node each; kinds that it does not use bring none.
    """
    shared, after = list(_SHARED), list(_AFTER)
    if traits.described_of(bench):
        shared.insert([n.name for n in shared].index("contrasts"), _TRAITS)
    if bench.profiles:
        shared.append(_PROFILE_ITEMS)
        place = [n.name for n in after].index("scores")
        # where the controls' scores are made first, their profiles are, too
        beside = replace(after[place], tables=(*after[place].tables, profile_changes.profile_contrasts))
        after[place : place + 1] = [_PROFILES, beside]
    if bench.search is not None:
        after.insert([n.name for n in after].index("behaviors") + 1, _SEARCH)
    return Nodes([*shared, *_BEFORE, *fits.fitting_nodes(bench), *after], bench)
