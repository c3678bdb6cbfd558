"""The one table of commands: where each lives, and which verb it is short for."""

from __future__ import annotations

from dataclasses import dataclass

HERE = "loopline.interfaces.cli"

START, LOOK, DECIDE, STAGES, CARE = "Start", "Look", "Decide", "Stages", "Care"


@dataclass(frozen=True, slots=True)
class Command:
    """A command; `words` are what one types, `place` the function behind it."""

    words: str
    place: str
    help: str
    group: str
    example: str
    verb: str | None = None
    """The verb it is short for, as permission and audit name it."""


COMMANDS = (
    Command(
        "init",
        "init:init",
        "Start a project: a loop.yaml that runs, from a CSV file or from an example.",
        START,
        "loopline init churn --from customers.csv --label churned --unit customer_id --time seen_at",
    ),
    Command(
        "demo",
        "play:demo",
        "Play a year of a project in minutes, with faults, and tell what happened.",
        START,
        "loopline demo --seed 7",
    ),
    Command(
        "run",
        "loop:run",
        "Run one whole cycle now, in the foreground.",
        START,
        "loopline run --project churn",
        "loop.run",
    ),
    Command(
        "up",
        "play:up",
        "Serve the pages, the API and the model.",
        START,
        "loopline up --port 8400",
    ),
    Command(
        "tick",
        "loop:tick",
        "Let the loop do what is due, and stop.",
        START,
        "loopline tick --json",
        "loop.tick",
    ),
    Command(
        "status",
        "loop:status",
        "Show where the loop stands.",
        LOOK,
        "loopline status",
        "loop.status",
    ),
    Command(
        "plan",
        "loop:plan",
        "Show what the loop would do, now or later. Nothing is done.",
        LOOK,
        "loopline plan --at 2030-03-01 --assume roc_auc=0.70",
        "loop.plan",
    ),
    Command(
        "why",
        "look:why",
        "Explain a version or a prediction down to rows and code.",
        LOOK,
        "loopline why 3",
        "governance.why",
    ),
    Command(
        "explain",
        "look:explain",
        "Explain the keys of loop.yaml.",
        LOOK,
        "loopline explain retraining",
    ),
    Command(
        "replay",
        "play:replay",
        "Compare policies over past data.",
        LOOK,
        "loopline replay --policy never --policy loop --since 2026-01-01",
    ),
    Command(
        "approve",
        "registry:approve",
        "Approve a version, signed with your key.",
        DECIDE,
        'loopline approve 3 --reason "gates passed, slices look right"',
        "registry.approve",
    ),
    Command(
        "reject",
        "registry:reject",
        "Reject a version, signed with your key.",
        DECIDE,
        'loopline reject 3 --reason "worse for new customers"',
        "registry.reject",
    ),
    Command(
        "promote",
        "registry:promote",
        "Make a version the one in production.",
        DECIDE,
        'loopline promote 3 --reason "approved by two"',
        "registry.promote",
    ),
    Command(
        "rollback",
        "registry:rollback",
        "Go back to an earlier version.",
        DECIDE,
        'loopline rollback --reason "complaints since noon"',
        "registry.rollback",
    ),
    Command(
        "pause",
        "loop:pause",
        "Pause the running cycle.",
        DECIDE,
        'loopline pause --reason "holiday"',
        "loop.command",
    ),
    Command(
        "resume",
        "loop:resume",
        "Resume the paused cycle.",
        DECIDE,
        "loopline resume",
        "loop.command",
    ),
    Command(
        "cancel",
        "loop:cancel",
        "Cancel the running cycle.",
        DECIDE,
        'loopline cancel --reason "wrong data"',
        "loop.command",
    ),
    Command(
        "override",
        "loop:override",
        "Have the running cycle go on although a data incident is open.",
        DECIDE,
        'loopline override --reason "only one small table is bad"',
        "loop.command",
    ),
    Command(
        "data ingest",
        "data:ingest",
        "Take in the rows that became known.",
        STAGES,
        "loopline data ingest customers",
        "data.ingest",
    ),
    Command(
        "data snapshot",
        "data:snapshot",
        "Freeze the rows as they are known now.",
        STAGES,
        "loopline data snapshot",
        "data.snapshot",
    ),
    Command(
        "data contract draft",
        "data:draft",
        "Propose a contract from a table's rows.",
        STAGES,
        "loopline data contract draft customers --out contracts/customers.yaml",
    ),
    Command(
        "registry approve",
        "registry:approve",
        "Approve a version.",
        STAGES,
        'loopline registry approve 3 --reason "gates passed, slices look right"',
        "registry.approve",
    ),
    Command(
        "registry reject",
        "registry:reject",
        "Reject a version.",
        STAGES,
        'loopline registry reject 3 --reason "worse for new customers"',
        "registry.reject",
    ),
    Command(
        "registry promote",
        "registry:promote",
        "Make a version the one in production.",
        STAGES,
        'loopline registry promote 3 --reason "approved by two"',
        "registry.promote",
    ),
    Command(
        "registry rollback",
        "registry:rollback",
        "Go back to an earlier version.",
        STAGES,
        'loopline registry rollback --reason "complaints since noon"',
        "registry.rollback",
    ),
    Command(
        "incident list",
        "monitoring:incidents",
        "Show the incidents that are open.",
        STAGES,
        "loopline incident list",
        "monitoring.open_incidents",
    ),
    Command(
        "incident resolve",
        "monitoring:resolve",
        "End an incident by hand.",
        STAGES,
        'loopline incident resolve 3f9a01c2 --reason "the vendor sent the rows again"',
        "monitoring.resolve",
    ),
    Command(
        "governance why",
        "look:why",
        "Explain a version or a prediction.",
        STAGES,
        "loopline governance why 3",
        "governance.why",
    ),
    Command(
        "audit verify",
        "care:audit_verify",
        "Check the chain of audit entries.",
        CARE,
        "loopline audit verify --project churn",
    ),
    Command(
        "doctor",
        "care:doctor",
        "Check machine, project and workspace.",
        CARE,
        "loopline doctor",
    ),
    Command(
        "completion install",
        "care:completion",
        "Install tab completion for your shell.",
        CARE,
        "loopline completion install --shell bash",
    ),
)

GROUPS = {
    "data": ("Rows that keep their contract.", STAGES),
    "data contract": ("What rows must look like.", STAGES),
    "registry": ("Approved, signed, reversible versions.", STAGES),
    "incident": ("What monitoring found wrong.", STAGES),
    "governance": ("What reads across the stages.", STAGES),
    "audit": ("The record of who did what.", CARE),
    "completion": ("Tab completion.", CARE),
}
"""Commands that only hold others."""
