"""The accelerators of this machine, found without loading a library for them."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

_DRIVER = Path("/proc/driver/nvidia/gpus")


@dataclass(frozen=True, slots=True)
class Device:
    """One GPU: its number and what it is called."""

    number: int
    name: str


@functools.cache
def devices(driver: Path = _DRIVER) -> tuple[Device, ...]:
    """The GPUs that NVIDIA's driver tells of, in its order; none where there is no driver."""
    try:
        found = sorted(driver.glob("*/information"))
        return tuple(Device(number, _name(path)) for number, path in enumerate(found))
    except OSError:
        return ()


def _name(path: Path) -> str:
    lines = dict(line.partition(":")[::2] for line in path.read_text().splitlines() if ":" in line)
    return lines.get("Model", "GPU").strip() or "GPU"
