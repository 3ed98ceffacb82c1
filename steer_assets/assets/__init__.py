"""Asset bodies, one file a stage. `CPU` and `GPU` say in which location each runs."""

from steer_assets.assets import behaviors, contrasts, corpus, evaluation, probes, reports, responses, vectors

ALL = [
    *corpus.TABLES,
    *probes.TABLES,
    *contrasts.TABLES,
    *vectors.TABLES,
    *responses.TABLES,
    *evaluation.TABLES,
    *behaviors.TABLES,
    *reports.TABLES,
]
#: Tables that call a model run in the gpu location, and so do the light ones between them: responses as a whole.
GPU = [t for t in ALL if t.gpu]
CPU = [t for t in ALL if not t.gpu]
