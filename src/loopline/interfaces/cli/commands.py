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
    verb: str | None = None
    """The verb it is short for, as permission and audit name it."""


COMMANDS = (
    Command("init", "init:init", "Start a project: a loop.yaml that runs, from a CSV file or from an example.", START),
    Command("demo", "play:demo", "Play a year of a project in minutes, with faults, and tell what happened.", START),
    Command("run", "loop:run", "Run one whole cycle now, in the foreground.", START, "loop.run"),
    Command("up", "play:up", "Serve the pages, the API and the model.", START),
    Command("tick", "loop:tick", "Let the loop do what is due, and stop.", START, "loop.tick"),
    Command("status", "loop:status", "Show where the loop stands.", LOOK, "loop.status"),
    Command("plan", "loop:plan", "Show what the loop would do, now or later. Nothing is done.", LOOK, "loop.plan"),
    Command("why", "look:why", "Explain a version or a prediction down to rows and code.", LOOK, "governance.why"),
    Command("explain", "look:explain", "Explain the keys of loop.yaml.", LOOK),
    Command("replay", "play:replay", "Compare policies over past data.", LOOK),
    Command("approve", "registry:approve", "Approve a version, signed with your key.", DECIDE, "registry.approve"),
    Command("reject", "registry:reject", "Reject a version, signed with your key.", DECIDE, "registry.reject"),
    Command("promote", "registry:promote", "Make a version the one in production.", DECIDE, "registry.promote"),
    Command("rollback", "registry:rollback", "Go back to an earlier version.", DECIDE, "registry.rollback"),
    Command("pause", "loop:pause", "Pause the running cycle.", DECIDE, "loop.command"),
    Command("resume", "loop:resume", "Resume the paused cycle.", DECIDE, "loop.command"),
    Command("cancel", "loop:cancel", "Cancel the running cycle.", DECIDE, "loop.command"),
    Command("data ingest", "data:ingest", "Take in the rows that became known.", STAGES, "data.ingest"),
    Command("data snapshot", "data:snapshot", "Freeze the rows as they are known now.", STAGES, "data.snapshot"),
    Command("data contract draft", "data:draft", "Propose a contract from a table's rows.", STAGES),
    Command("registry approve", "registry:approve", "Approve a version.", STAGES, "registry.approve"),
    Command("registry reject", "registry:reject", "Reject a version.", STAGES, "registry.reject"),
    Command("registry promote", "registry:promote", "Make a version the one in production.", STAGES, "registry.promote"),
    Command("registry rollback", "registry:rollback", "Go back to an earlier version.", STAGES, "registry.rollback"),
    Command("governance why", "look:why", "Explain a version or a prediction.", STAGES, "governance.why"),
    Command("audit verify", "care:audit_verify", "Check the chain of audit entries.", CARE),
    Command("doctor", "care:doctor", "Check machine, project and workspace.", CARE),
    Command("completion install", "care:completion", "Install tab completion for your shell.", CARE),
)

GROUPS = {
    "data": ("Rows that keep their contract.", STAGES),
    "data contract": ("What rows must look like.", STAGES),
    "registry": ("Approved, signed, reversible versions.", STAGES),
    "governance": ("What reads across the stages.", STAGES),
    "audit": ("The record of who did what.", CARE),
    "completion": ("Tab completion.", CARE),
}
"""Commands that only hold others."""
