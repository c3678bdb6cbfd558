"""What can be done, once for every door: permission, audit and one transaction."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Concatenate, ParamSpec, TypeVar

from loopline.base.errors import Denied
from loopline.base.nouns import kind_of, to_doc
from loopline.store.records.protocol import Tx
from loopline.workspace.opened import Workspace

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class VerbInfo:
    """A verb as every interface finds it."""

    name: str
    call: Callable[..., Any]
    writes: bool
    offered: bool = True
    """Whether it is a door of its own. A part of another verb is none, and neither is what is done beside the
    workspace only: both keep their permission and their audit entry."""


VERBS: dict[str, VerbInfo] = {}


def authorise(ws: Workspace, name: str) -> None:
    """Deny by default what the actor's role does not hold; forbid wins.

    Service accounts act for the loop and may do all but what a person must
    answer for. Named users of the machine own their workspace.
    """
    kind, _, who = ws.actor.partition(":")
    if kind not in ("user", "service") or not who:
        raise Denied(
            f"{ws.actor!r} may not {name}",
            why="an actor is `user:<name>` or `service:<name>`",
            fix="set LOOPLINE_ACTOR, for example user:ada",
        )
    if kind == "service" and name in FORBIDDEN_TO_SERVICES:
        raise Denied(
            f"{ws.actor} may not {name}",
            why="a person must answer for this; no service account can",
            fix="have a person run it",
        )


FORBIDDEN_TO_SERVICES = frozenset({"registry.approve", "registry.reject", "registry.add_key"})


def verb(
    name: str, *, offered: bool = True
) -> Callable[[Callable[Concatenate[Workspace, P], R]], Callable[Concatenate[Workspace, P], R]]:
    """Make a function a verb: permission before; then nouns, audit and events in one transaction.

    The function does its long work first (blobs, tables, under content ids). What
    it returns (a noun, or a sequence of nouns) is committed with the audit entry
    and whatever it handed to `ws.on_commit`. It must be idempotent. One that is not `offered` has no path of its own.
    """

    def wrap(function: Callable[Concatenate[Workspace, P], R]) -> Callable[Concatenate[Workspace, P], R]:
        @functools.wraps(function)
        def call(ws: Workspace, /, *args: P.args, **kwargs: P.kwargs) -> R:
            authorise(ws, name)
            inner = replace(ws, pending=[], notes={})
            result = function(inner, *args, **kwargs)
            nouns = list(_nouns(result))
            with ws.records.transaction() as tx:
                for item in nouns:
                    tx.put(item)
                for write in inner.pending or ():
                    write(tx)
                subject = nouns[0].id if nouns else ""
                doc = {"nouns": [f"{kind_of(item)}:{item.id}" for item in nouns], **to_doc(inner.notes)}
                tx.audit(name, ws.actor, subject, doc, at=ws.clock())
            ws.audit.seal()
            return result

        VERBS[name] = VerbInfo(name, call, writes=True, offered=offered)
        return call

    return wrap


def query(name: str) -> Callable[[Callable[Concatenate[Workspace, P], R]], Callable[Concatenate[Workspace, P], R]]:
    """Make a function a query: permission before, nothing written."""

    def wrap(function: Callable[Concatenate[Workspace, P], R]) -> Callable[Concatenate[Workspace, P], R]:
        @functools.wraps(function)
        def call(ws: Workspace, /, *args: P.args, **kwargs: P.kwargs) -> R:
            authorise(ws, name)
            return function(ws, *args, **kwargs)

        VERBS[name] = VerbInfo(name, call, writes=False)
        return call

    return wrap


def flow(
    name: str, *, offered: bool = True
) -> Callable[[Callable[Concatenate[Workspace, P], R]], Callable[Concatenate[Workspace, P], R]]:
    """Make a function a verb made of verbs: permission here, each part commits and is audited by itself."""

    def wrap(function: Callable[Concatenate[Workspace, P], R]) -> Callable[Concatenate[Workspace, P], R]:
        @functools.wraps(function)
        def call(ws: Workspace, /, *args: P.args, **kwargs: P.kwargs) -> R:
            authorise(ws, name)
            return function(ws, *args, **kwargs)

        VERBS[name] = VerbInfo(name, call, writes=True, offered=offered)
        return call

    return wrap


def _nouns(result: Any) -> Iterator[Any]:
    if kind_of(result) is not None:
        yield result
    elif isinstance(result, (list, tuple)):
        for item in result:
            yield from _nouns(item)


@contextmanager
def recorded(ws: Workspace, name: str, subject: str, doc: dict[str, Any]) -> Iterator[Tx]:
    """One durable transaction with its audit entry, for the control flow itself."""
    with ws.records.transaction() as tx:
        yield tx
        tx.audit(name, ws.actor, subject, to_doc(doc), at=ws.clock())
    ws.audit.seal()


def parameters(info: VerbInfo) -> list[inspect.Parameter]:
    """The parameters of a verb, without the workspace."""
    return list(inspect.signature(info.call).parameters.values())[1:]
