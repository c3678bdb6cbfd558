"""Steps and pipelines as users write them: plain functions, and a function that calls them."""

from __future__ import annotations

import contextvars
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Generic, ParamSpec, TypeVar, overload

from loopline.base.errors import Invalid
from loopline.training.pipeline.functions import arity, as_annotated, file_of, hints, plain, spread
from loopline.training.pipeline.options import Options, byte_count, seconds, several
from loopline.training.pipeline.typed import check_arguments

_AT_HAND = "loopline.training.pipeline.at_hand"
"""What runs a pipeline; by name, as declarations know nothing of runs."""
P = ParamSpec("P")
R = TypeVar("R")


class Step(Generic[P, R]):
    """A function that a pipeline calls. Outside a pipeline it is called as ever."""

    def __init__(self, function: Callable[P, R], options: Options, name: str | None = None) -> None:
        functools.update_wrapper(self, function)
        self.function, self.options = function, options
        self.name = name or function.__name__

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        graph = _tracing.get()
        if graph is None:
            return self.function(*args, **kwargs)
        return graph.add(self, args, kwargs)  # type: ignore[return-value]

    def named(self, name: str) -> Step[P, R]:
        """The same step under another name, for a pipeline that calls it twice."""
        return Step(self.function, self.options, name)

    @property
    def file(self) -> Path | None:
        """The file that defines it; null in a notebook."""
        return file_of(self.function)

    def __repr__(self) -> str:
        return f"<step {self.name}>"


@overload
def step(function: Callable[P, R], /) -> Step[P, R]: ...


@overload
def step(
    *,
    retries: int = 0,
    backoff: str | float = 1.0,
    timeout: str | float | None = None,
    cpus: float = 1.0,
    gpus: int = 0,
    memory: str | int | None = None,
    volatile: bool = False,
    bitwise: bool = False,
    extra_files: tuple[str, ...] | list[str] | str = (),
    env: tuple[str, ...] | list[str] | str = (),
) -> Callable[[Callable[P, R]], Step[P, R]]: ...


def step(
    function: Callable[..., Any] | None = None,
    /,
    *,
    retries: int = 0,
    backoff: str | float = 1.0,
    timeout: str | float | None = None,
    cpus: float = 1.0,
    gpus: int = 0,
    memory: str | int | None = None,
    volatile: bool = False,
    bitwise: bool = False,
    extra_files: tuple[str, ...] | list[str] | str = (),
    env: tuple[str, ...] | list[str] | str = (),
) -> Any:
    """Make a function a step of pipelines.

    Parameters
    ----------
    retries : int
        How often it is tried again when it raises or its process dies.
    backoff : str or float
        Wait before the first retry, doubled for each further one (60 s at most);
        seconds, or text as `2s`.
    timeout : str or float, optional
        Time after which its process is killed; seconds, or text as `5m`.
    cpus, gpus : number
        What it is given. Without a GPU in reach it runs on the CPU, and that is recorded.
    memory : str or int, optional
        Bytes, or text as `2GiB`; Ray keeps to it.
    volatile : bool
        It reads a clock, a network or another thing that no key can hold: its
        answer is never found, it runs each time.
    bitwise : bool
        Its last bits matter: an answer is found only on the same processor and kernels.
    extra_files : sequence of str
        Files of the project (patterns) that it reads, or imports by a name made at run time.
    env : sequence of str
        Environment variables that it reads.
    """
    if isinstance(function, Step):
        return function
    if retries < 0 or cpus <= 0 or gpus < 0:
        raise Invalid(
            f"retries={retries}, cpus={cpus}, gpus={gpus} cannot be",
            why="a step has no fewer than no retries and GPUs, and some CPU",
            fix="correct the options of the step",
        )
    options = Options(
        retries=retries,
        backoff_s=seconds("backoff", backoff),
        timeout_s=None if timeout is None else seconds("timeout", timeout),
        cpus=float(cpus),
        gpus=gpus,
        memory=None if memory is None else byte_count(memory),
        volatile=volatile,
        bitwise=bitwise,
        extra_files=several(extra_files),
        env=several(env),
    )
    if function is not None:
        return Step(plain(function), options)
    return lambda given: Step(plain(given), options)


class Answer:
    """What a step will answer, inside a pipeline: to be handed to other steps, not to be looked at.

    `answer["rows"]` and `answer[0]` are parts of it; an answer whose function
    says `-> tuple[A, B]` can be unpacked.
    """

    __slots__ = ("_count", "path", "step")

    def __init__(self, step: str, path: tuple[str | int, ...] = (), count: int | None = None) -> None:
        self.step, self.path, self._count = step, path, count

    def __getitem__(self, part: str | int) -> Answer:
        if not isinstance(part, (str, int)):
            raise self._unknown(f"[{part!r}] of")
        return Answer(self.step, (*self.path, part))

    def __iter__(self) -> Iterator[Answer]:
        if self._count is None:
            raise self._unknown("how many parts has")
        return iter([self[at] for at in range(self._count)])

    def __bool__(self) -> bool:
        raise self._unknown("whether to go by")

    def __len__(self) -> int:
        raise self._unknown("the length of")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise self._unknown(f".{name} of")

    def __repr__(self) -> str:
        return f"<answer of {self.step}{''.join(f'[{part!r}]' for part in self.path)}>"

    def _unknown(self, what: str) -> Invalid:
        return Invalid(
            f"{what} the answer of the step {self.step} was asked while the pipeline was being read",
            why="a pipeline only says which step reads which answer; it runs afterwards",
            fix="hand the answer to a step and look at it there; to unpack it, annotate the step `-> tuple[A, B]`",
        )


@dataclass(slots=True)
class Node:
    """One call of a step in a pipeline: `arguments` hold answers and plain values."""

    name: str
    step: Step[..., Any]
    arguments: dict[str, Any]
    after: list[str]
    """The steps whose answers it reads."""


@dataclass(slots=True)
class Graph:
    """The steps that a pipeline calls, in the order of the calls."""

    nodes: dict[str, Node] = field(default_factory=dict)
    returned: Any = None

    def add(self, called: Step[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Answer:
        """Note a call."""
        try:
            bound = inspect.signature(called.function).bind(*args, **kwargs)
        except TypeError as error:
            raise Invalid(
                f"the step {called.name} cannot be called so: {error}",
                why=f"it is {called.function.__name__}{inspect.signature(called.function)}",
                fix="correct the call in the pipeline",
            ) from error
        name, times = called.name, 1
        while name in self.nodes:
            times += 1
            name = f"{called.name}-{times}"
        given = spread(called.function, bound)
        for argument, value in given.items():
            for answer in answers(value):
                if answer.step not in self.nodes:
                    raise Invalid(
                        f"{argument} of the step {name} is an answer of another pipeline's step {answer.step}",
                        why="an answer belongs to the pipeline that was being read when it was made",
                        fix="call the step in this pipeline",
                    )
        check_arguments(name, called.function, given, (Answer,))
        after = list(dict.fromkeys(answer.step for answer in answers(list(given.values()))))
        self.nodes[name] = Node(name, called, given, after)
        return Answer(name, (), arity(called.function))


class Pipeline:
    """A function that calls steps."""

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self.function, self.name = function, function.__name__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Within another pipeline: its steps, as if they stood there; elsewhere its steps are called as functions."""
        return self.function(*args, **kwargs)

    def graph(self, **params: Any) -> Graph:
        """Which steps it calls with these params, without running any."""
        graph = Graph()
        token = _tracing.set(graph)
        try:
            graph.returned = self.function(**self.params(params))
        finally:
            _tracing.reset(token)
        if not graph.nodes:
            raise Invalid(
                f"the pipeline {self.name} calls no step",
                why="a pipeline is a function that calls functions marked @step",
                fix="mark the functions it calls with @step",
            )
        return graph

    def params(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """All params with their values: those given, as their annotation reads them, and the defaults."""
        found = inspect.signature(self.function)
        if unknown := sorted(set(given) - set(found.parameters)):
            raise Invalid(
                f"the pipeline {self.name} has no param {unknown[0]!r}",
                why=f"it has {', '.join(found.parameters) or 'none'}",
                fix="correct the name",
            )
        annotated = hints(self.function)
        made: dict[str, Any] = {}
        for name, parameter in found.parameters.items():
            if name in given:
                made[name] = as_annotated(name, given[name], annotated.get(name))
            elif parameter.default is inspect.Parameter.empty:
                raise Invalid(
                    f"the pipeline {self.name} lacks the param {name!r}",
                    why="it has no default",
                    fix=f"give it: --param {name}=...",
                )
            else:
                made[name] = parameter.default
        return made

    @property
    def file(self) -> Path | None:
        """The file that defines it; null in a notebook."""
        return file_of(self.function)

    def run(self, **params: Any) -> Any:
        """Run it here and now and return what it returns; steps that need not run are found.

        For scripts and notebooks. The workspace is that of the project around
        the file, or of the working folder. `loopline pipeline run` says more.
        """
        run: Callable[[Pipeline, dict[str, Any]], Any] = import_module(_AT_HAND).run_at_hand
        return run(self, params)

    def __repr__(self) -> str:
        return f"<pipeline {self.name}>"


def pipeline(function: Callable[..., Any]) -> Pipeline:
    """Make a function that calls steps a pipeline."""
    return function if isinstance(function, Pipeline) else Pipeline(function)


def answers(value: Any) -> Iterator[Answer]:
    """The answers of steps inside a value."""
    if isinstance(value, Answer):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from answers(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from answers(item)


_tracing: contextvars.ContextVar[Graph | None] = contextvars.ContextVar("pipeline", default=None)
