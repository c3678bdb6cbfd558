"""The machine a run is on, and what the run takes of it: read from `/proc`, where there is one."""

from __future__ import annotations

import os
import platform
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from loopline.base.clock import monotonic

_PROC = Path("/proc")
_GPU = ("name", "uuid", "driver_version", "memory.total")
_GPU_USE = ("index", "utilization.gpu", "memory.used", "power.draw", "temperature.gpu")
_DISKS = re.compile(r"(?:sd[a-z]+|nvme\d+n\d+|vd[a-z]+|xvd[a-z]+|mmcblk\d+)")


def hardware() -> dict[str, Any]:
    """Processor with its flags, cores, memory, system, and graphics cards (empty where there are none).

    What cannot be told is null.
    """
    cpu = _text("cpuinfo")
    return {
        "processor": _field(cpu, "model name") or platform.processor() or None,
        "flags": sorted((_field(cpu, "flags") or _field(cpu, "Features") or "").split()),
        "cores": os.cpu_count(),
        "cores_allowed": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "memory_bytes": _kilobytes(_text("meminfo"), "MemTotal"),
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "libc": " ".join(platform.libc_ver()).strip() or None,
        "gpus": gpus(),
    }


def gpus() -> list[dict[str, str]]:
    """Graphics cards as the driver's own tool tells them."""
    return [dict(zip(_GPU, row, strict=True)) for row in _ask_driver(_GPU)]


def libraries() -> list[dict[str, Any]]:
    """Linear algebra and thread pools that are loaded, with their versions and threads; none where nobody can tell."""
    if "numpy" not in sys.modules:
        return []
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return []
    kept = ("user_api", "internal_api", "version", "num_threads", "threading_layer", "architecture", "prefix")
    return [{key: one.get(key) for key in kept if key in one} for one in threadpool_info()]


class Sampler:
    """Takes samples: shares and rates are of the time since the one before.

    Parameters
    ----------
    folder : Path
        Whose disk is told.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._before = self._counters()
        self._at = monotonic()

    def __call__(self) -> dict[str, float]:
        """Values by name: percent, bytes, bytes a second, watts, degrees."""
        now, counters = monotonic(), self._counters()
        seconds = max(now - self._at, 1e-6)
        moved = {key: counters[key] - self._before[key] for key in counters.keys() & self._before.keys()}
        self._before, self._at = counters, now
        found = {
            f"system/{key}_bytes_per_second": moved[key] / seconds
            for key in ("disk_read", "disk_written", "network_received", "network_sent")
            if key in moved
        }
        found["system/process_cpu_percent"] = 100 * moved.get("process", 0.0) / seconds
        if moved.get("all"):
            found["system/cpu_percent"] = 100 * (1 - moved["idle"] / moved["all"])
        return found | self._levels()

    def _levels(self) -> dict[str, float]:
        found: dict[str, float] = {}
        statm, memory = _text("self/statm").split(), _text("meminfo")
        if len(statm) > 1:
            found["system/process_memory_bytes"] = float(statm[1]) * resource.getpagesize()
        total, free = _kilobytes(memory, "MemTotal"), _kilobytes(memory, "MemAvailable")
        if total and free is not None:
            found["system/memory_percent"] = 100 * (1 - free / total)
        try:
            disk = shutil.disk_usage(self._folder)
            found["system/disk_percent"] = 100 * disk.used / disk.total if disk.total else 0.0
        except OSError:
            pass
        for row in _ask_driver(_GPU_USE):
            for name, value in zip(_GPU_USE[1:], row[1:], strict=True):
                if (number := _float(value)) is not None:
                    word, unit = _GPU_NAMES[name]
                    found[f"system/gpu_{row[0]}_{word}"] = number * unit
        return found

    def _counters(self) -> dict[str, float]:
        used = os.times()
        found = {"process": used.user + used.system + used.children_user + used.children_system}
        stat = _text("stat").partition("\n")[0].split()
        if len(stat) > 5:
            ticks = [float(one) for one in stat[1:9]]
            found |= {"all": sum(ticks), "idle": ticks[3] + ticks[4]}
        for line in _text("net/dev").splitlines()[2:]:
            name, _, rest = line.partition(":")
            fields = rest.split()
            if name.strip() != "lo" and len(fields) > 8:
                found["network_received"] = found.get("network_received", 0.0) + float(fields[0])
                found["network_sent"] = found.get("network_sent", 0.0) + float(fields[8])
        for line in _text("diskstats").splitlines():
            fields = line.split()
            if len(fields) > 9 and _DISKS.fullmatch(fields[2]):
                found["disk_read"] = found.get("disk_read", 0.0) + 512 * float(fields[5])
                found["disk_written"] = found.get("disk_written", 0.0) + 512 * float(fields[9])
        return found


_GPU_NAMES: dict[str, tuple[str, float]] = {
    "utilization.gpu": ("percent", 1.0),
    "memory.used": ("memory_bytes", 1 << 20),
    "power.draw": ("watts", 1.0),
    "temperature.gpu": ("celsius", 1.0),
}


@lru_cache(1)
def _driver() -> str | None:
    return shutil.which("nvidia-smi")


def _ask_driver(fields: tuple[str, ...]) -> list[list[str]]:
    tool = _driver()
    if tool is None:
        return []
    asked = [tool, f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(asked, capture_output=True, timeout=5, check=False, text=True)
    except (OSError, subprocess.TimeoutExpired):
        return []
    rows = [[cell.strip() for cell in line.split(",")] for line in done.stdout.splitlines()]
    return [row for row in rows if len(row) == len(fields)] if done.returncode == 0 else []


def _text(name: str) -> str:
    try:
        return (_PROC / name).read_text(errors="replace")
    except OSError:
        return ""


def _field(text: str, name: str) -> str | None:
    found = re.search(rf"^{re.escape(name)}\s*:\s*(.*)$", text, re.MULTILINE)
    return found[1].strip() if found else None


def _kilobytes(text: str, name: str) -> int | None:
    found = re.search(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def _float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


Sample = Callable[[], dict[str, float]]
