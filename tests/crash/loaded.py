"""What children of all campaigns find loaded; none of it has run.

A process has one fork server, and the first campaign says what that loads: a
list of each campaign's own would be the other's slow start, death after death.
"""

LOADED = (
    "pytest",
    "tests.crash.small",
    "loopline.compute.pool",
    "loopline.data.labelling.audit_queue",
    "loopline.data.verbs",
    "loopline.features.cutting",
    "loopline.features.proof",
    "loopline.features.publishing",
    "loopline.features.verbs",
    "loopline.governance.audit_labels",
    "loopline.governance.reclaiming.verbs",
    "loopline.monitoring.levels",
    "loopline.monitoring.verbs",
    "loopline.registry.verbs",
    "loopline.serving.release",
    "loopline.serving.state",
    "loopline.serving.verbs",
    "loopline.store.blobs.local",
    "loopline.store.online.sqlite",
    "loopline.store.records.sql",
    "loopline.store.runs.sqlite",
    "loopline.store.tables.delta",
    "loopline.testing.stories",
)
