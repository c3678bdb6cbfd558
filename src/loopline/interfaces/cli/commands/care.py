"""Commands that look after what runs: incidents, audit, space, the machine."""

from loopline.interfaces.cli.commands.command import CARE, STAGES, Command

COMMANDS = (
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
        "fork",
        "care:fork",
        "Make a copy of a workspace one of its own.",
        CARE,
        'loopline fork --reason "to try another policy"',
        "governance.fork",
    ),
    Command(
        "push",
        "joining:push",
        "Send another workspace what it lacks: a folder, a file to carry, or a server.",
        CARE,
        "loopline push team.zip",
        "governance.pack",
    ),
    Command(
        "pull",
        "joining:pull",
        "Fetch what this workspace lacks from a folder, a file or a server.",
        CARE,
        "loopline pull http://127.0.0.1:8400",
        "governance.receive",
    ),
    Command(
        "gc",
        "reclaim:gc",
        "Show bytes that nothing needs, and free them with --yes.",
        CARE,
        "loopline gc --older-than 30d",
        "governance.gc",
    ),
    Command("doctor", "care:doctor", "Check machine, project and workspace.", CARE, "loopline doctor"),
    Command(
        "completion install",
        "care:completion",
        "Install tab completion for your shell.",
        CARE,
        "loopline completion install --shell bash",
    ),
)

GROUPS = {
    "incident": ("What monitoring found wrong.", STAGES),
    "governance": ("What reads across the stages.", STAGES),
    "audit": ("The record of who did what.", CARE),
    "completion": ("Tab completion.", CARE),
}
"""Commands that only hold others."""
