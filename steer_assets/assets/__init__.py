"""Asset bodies, one file a stage. `CPU` and `GPU` say in which location each runs."""

from steer_assets.assets import corpus, evaluation, probes, reports, responses

CPU = [*corpus.TABLES, *probes.TABLES, *evaluation.TABLES, *reports.TABLES]
GPU = [*responses.TABLES]
ALL = [*CPU, *GPU]
