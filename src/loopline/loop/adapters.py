"""Who carries out an effect: ours, a shell command, or a signed webhook.

Each is handed the effect's id. It is derived from the decision, so an effect
that is delivered twice (a crash between doing and recording) carries the same
id, and a receiver that remembers ids does it once.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from loopline.base import settings
from loopline.base.errors import Invalid, Unavailable
from loopline.base.keys import SigningKey
from loopline.retraining.spec import Adapter as AdapterSpec

LIMIT = 1 << 20
"""Bytes of an answer that are read."""


class Adapter(Protocol):
    """Carries out one effect and answers with what it brought."""

    def __call__(self, effect_id: str, kind: str, args: dict[str, Any]) -> dict[str, Any]: ...


def shell(command: str, *, cwd: Path, timeout_s: float) -> Adapter:
    """Run `command` with the effect as JSON on standard input.

    The environment holds `LOOPLINE_EFFECT_ID` and `LOOPLINE_EFFECT`. Exit code 0
    means done; the last line of standard output may be a JSON object, which is
    the result. Past the time limit the whole process group is killed.
    """

    def perform(effect_id: str, kind: str, args: dict[str, Any]) -> dict[str, Any]:
        payload = json.dumps({"id": effect_id, "kind": kind, "args": args})
        process = subprocess.Popen(
            ["/bin/sh", "-c", command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            cwd=cwd,
            env=settings.child_environment(LOOPLINE_EFFECT_ID=effect_id, LOOPLINE_EFFECT=kind),
            start_new_session=True,
        )
        try:
            out, err = process.communicate(payload, timeout=timeout_s)
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            raise Unavailable(
                f"`{command}` did not end within {timeout_s:g} s",
                why=f"effect {effect_id} runs it",
                fix=f"make it faster, or raise retraining.effects.{kind}.timeout",
            ) from None
        if process.returncode != 0:
            raise Unavailable(
                f"`{command}` ended with exit code {process.returncode}",
                why=(err or out).strip()[-500:] or "it printed nothing",
                fix=f"run it by hand with LOOPLINE_EFFECT_ID={effect_id}",
            )
        return _result(out.strip().rpartition("\n")[2])

    return perform


def webhook(url: str, *, key: SigningKey, timeout_s: float) -> Adapter:
    """POST the effect as JSON, signed.

    Headers: `Loopline-Effect-Id` (remember it: the same id is the same effect),
    `Loopline-Signature` (base64 Ed25519 over the body) and `Loopline-Key` (its
    public key). Redirects are not followed. 2xx means done; a JSON object in the
    answer is the result.
    """
    target = urlsplit(url)
    if target.scheme not in ("http", "https") or not target.hostname:
        raise Invalid(
            f"{url!r} is not a webhook", why="it needs http:// or https:// and a host", fix="correct it in loop.yaml"
        )

    def perform(effect_id: str, kind: str, args: dict[str, Any]) -> dict[str, Any]:
        body = json.dumps({"id": effect_id, "kind": kind, "args": args}, sort_keys=True).encode()
        opener: Callable[..., http.client.HTTPConnection] = (
            http.client.HTTPSConnection if target.scheme == "https" else http.client.HTTPConnection
        )
        door = opener(target.hostname, target.port, timeout=timeout_s)
        path = (target.path or "/") + (f"?{target.query}" if target.query else "")
        headers = {
            "Content-Type": "application/json",
            "Loopline-Effect-Id": effect_id,
            "Loopline-Signature": key.sign(body),
            "Loopline-Key": key.public,
        }
        try:
            door.request("POST", path, body, headers)
            answer = door.getresponse()
            text = answer.read(LIMIT).decode("utf-8", "replace")
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(
                f"{target.hostname} does not answer: {error}",
                why=f"effect {effect_id} goes to its webhook",
                fix="see that it runs; the loop tries again",
            ) from error
        finally:
            door.close()
        if not 200 <= answer.status < 300:
            raise Unavailable(
                f"{target.hostname} answered {answer.status}",
                why=text[:300] or "no body",
                fix=f"see the receiver's log for effect {effect_id}",
            )
        return _result(text)

    return perform


def declared(spec: AdapterSpec, *, cwd: Path, key: SigningKey) -> Adapter:
    """The adapter that a section `retraining.effects` declares."""
    seconds = spec.timeout.total_seconds()
    if spec.shell is not None:
        return shell(spec.shell, cwd=cwd, timeout_s=seconds)
    assert spec.webhook is not None
    return webhook(spec.webhook, key=key, timeout_s=seconds)


def _result(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text) if text else {}
    except ValueError:
        return {"said": text[:500]}
    return found if isinstance(found, dict) else {"said": found}
