"""The one table of commands: where each lives, and which verb it is short for."""

from loopline.interfaces.cli.commands import care, daily, data, models
from loopline.interfaces.cli.commands.command import CARE, DECIDE, HERE, LOOK, STAGES, START, Command

COMMANDS = (*daily.COMMANDS, *data.COMMANDS, *models.COMMANDS, *care.COMMANDS)
GROUPS = data.GROUPS | models.GROUPS | care.GROUPS
"""Commands that only hold others."""

__all__ = ["CARE", "COMMANDS", "DECIDE", "GROUPS", "HERE", "LOOK", "STAGES", "START", "Command"]
