"""Finds models, suites of tasks, metrics and trainers: by entry point, or by file as `path/to/file.py:NAME`.

A plug-in that cannot be loaded is one clear `UsageError`, never a traceback, and never hides the others.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import importlib.metadata
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Literal, TypeVar

from qk_bench.errors import QKBenchError, UsageError, one_line
from qk_bench.functions import FunctionModel, is_function_model
from qk_bench.interfaces import Metric, Model, SampleMetric, SetMetric, Suite, Task
from qk_bench.records import MetricColumn, ModelCard
from qk_bench.training import Trainer

Kind = Literal["model", "task", "metric", "trainer"]
GROUPS: Final[Mapping[Kind, str]] = {
    "model": "qk_bench.models",
    "task": "qk_bench.tasks",
    "metric": "qk_bench.metrics",
    "trainer": "qk_bench.trainers",
}
_FILE = re.compile(r"^(?P<path>.+?\.py):(?P<attribute>[A-Za-z_]\w*)(?P<rest>[:/].*)?$", re.DOTALL)
_T = TypeVar("_T")


@dataclass(frozen=True)
class FoundTask:
    """A task, the suite it belongs to, and how that suite is named."""

    suite_ref: str
    suite: Suite
    task: Task


def names(kind: Kind) -> list[str]:
    """The registered names of a kind, sorted."""
    return sorted(_entries(kind))


def load_model(ref: str, arguments: Mapping[str, Any] | None = None) -> Model:
    """Make the model named `NAME`, `NAME:ARGUMENT` or `path/to/file.py:ClassName[:ARGUMENT]`.

    One rule for all: what stands before the first colon is a registered name or else part of a path; what the name
    stands for is called with the ARGUMENT, if there is one, and with the keyword arguments. It is a Model class, a
    function that returns a Model (so that `two-stage` and `two-stage:A+B` may be different classes), or a function
    whose first parameter is called `request`, which itself is the model: it is called for each request.

    Raises:
        UsageError: There is no such model, or it cannot be loaded or made with these arguments.
    """
    make, positional = _model_maker(ref)
    model = _guard(f"model {ref}", lambda: make(*positional, **dict(arguments or {})))
    if not isinstance(model, Model):
        raise UsageError(f"model {ref}: it gives a {type(model).__name__}, not a qk_bench.interfaces.Model")
    if not isinstance(getattr(model, "card", None), ModelCard):
        raise UsageError(f"model {ref}: its constructor does not set `card` to a ModelCard")
    return model


def model_maker(ref: str) -> Callable[..., Model]:
    """The class of a model, or the function that makes one, without making one.

    Raises:
        UsageError: There is no such model, or it cannot be loaded.
    """
    return _model_maker(ref)[0]


def needs_argument(name: str) -> bool:
    """Whether a registered model is only made of `NAME:ARGUMENT`: the first parameter has no default.

    Raises:
        UsageError: There is no such model, or it cannot be loaded.
    """
    make = model_maker(name)
    parameters = _guard(f"model {name}", lambda: list(inspect.signature(make).parameters.values()))
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return bool(parameters) and parameters[0].kind in positional and parameters[0].default is inspect.Parameter.empty


def file_digest(ref: str) -> str:
    """The sha256 of the file a plug-in is named by; empty where it is named by entry point."""
    found = _model_file(ref)
    return hashlib.sha256(Path(found["path"]).read_bytes()).hexdigest() if found else ""


def load_suite(ref: str) -> Suite:
    """Load the suite named `NAME`, `NAME:FOLDER` or `path/to/file.py:SUITE` (an instance, or a class to make one from).

    Raises:
        UsageError: There is no such suite, it cannot be loaded, or it reads a folder and none is named.
    """
    found = _FILE.match(ref)
    if found:
        value = _from_file(found["path"], found["attribute"])
    else:
        name, separator, folder = ref.partition(":")
        value = _from_entry("task", name)
        if reads_folder(value):
            if not folder:
                raise UsageError(f"suite {name} reads a folder", f"name it as {name}:FOLDER")
            make = value
            value = _guard(f"suite {ref}", lambda: make(folder))
        elif separator:
            raise UsageError(f"suite {name} takes no folder", f"name it as {name}")
    suite = _instance(f"suite {ref}", value, Suite)  # type: ignore[type-abstract]

    def check() -> None:
        for name, task in suite.tasks.items():
            if not isinstance(task, Task) or task.name != name or task.suite != suite.name:
                raise UsageError(
                    f"suite {ref}: task {name!r} must be a Task whose name is {name!r}, suite {suite.name!r}"
                )

    _guard(f"suite {ref}", check)
    return suite


def reads_folder(value: object) -> bool:
    """Whether a suite is registered as a class whose constructor takes the user's folder."""
    if not (isinstance(value, type) and issubclass(value, Suite)):
        return False
    parameters = list(inspect.signature(value).parameters.values())
    return len(parameters) == 1 and parameters[0].default is inspect.Parameter.empty


def folder_suites() -> list[str]:
    """The registered suites that are named `NAME:FOLDER`, sorted. Those that cannot be loaded are not among them."""
    found = []
    for name in names("task"):
        with contextlib.suppress(UsageError):
            if reads_folder(_from_entry("task", name)):
                found.append(name)
    return found


def suite_description(name: str) -> str:
    """The first line of the documentation of a suite that reads a folder."""
    return (inspect.getdoc(_from_entry("task", name)) or "").partition("\n")[0]


def load_metric(ref: str) -> SampleMetric | SetMetric:
    """Load the metric named `NAME` or `path/to/file.py:ClassName`.

    Raises:
        UsageError: There is no such metric, or it cannot be loaded.
    """
    found = _FILE.match(ref)
    value = _from_file(found["path"], found["attribute"]) if found else _from_entry("metric", ref)
    metric = _instance(f"metric {ref}", value, Metric)  # type: ignore[type-abstract]
    if not isinstance(metric, SampleMetric | SetMetric):
        raise UsageError(f"metric {ref}: {type(metric).__name__} is neither a SampleMetric nor a SetMetric")

    def check() -> None:
        _, _ = metric.availability()
        if not all(isinstance(column, MetricColumn) for column in metric.columns):
            raise TypeError("its columns are not all MetricColumn")

    _guard(f"metric {ref}", check)
    return metric


def load_trainer(name: str) -> Trainer:
    """Load the trainer of a model.

    Raises:
        UsageError: The model cannot be trained here, or its trainer cannot be loaded.
    """
    return _instance(f"trainer {name}", _from_entry("trainer", name), Trainer)  # type: ignore[type-abstract]


def find_tasks(refs: Iterable[str]) -> list[FoundTask]:
    """Resolve `--task` values: a task, `suite/task`, a suite, a group, `suite:FOLDER[/task]` or `file.py:SUITE[/task]`.

    Returns:
        The tasks in the order named, each once.

    Raises:
        UsageError: A name fits nothing, or fits tasks of several suites.
    """
    tasks: dict[tuple[str, str], FoundTask] = {}
    for ref in refs:
        for item in _find(ref):
            tasks.setdefault((item.suite.name, item.task.name), item)
    refs_of: dict[str, str] = {}
    for item in tasks.values():
        if refs_of.setdefault(item.suite.name, item.suite_ref) != item.suite_ref:
            raise UsageError(f"two suites are called {item.suite.name}", "run them one at a time")
    return list(tasks.values())


def _model_maker(ref: str) -> tuple[Callable[..., Model], list[str]]:
    """What makes the model, and what follows its name after a colon."""
    found = _model_file(ref)
    if found:
        make, rest = _from_file(found["path"], found["attribute"]), found["rest"] or ""
        if rest and not rest.startswith(":"):
            raise UsageError(f"model {ref}: unexpected {rest!r}")
        separator, argument = rest[:1], rest[1:]
    else:
        name, separator, argument = ref.partition(":")
        make = _from_entry("model", name)
    if (isinstance(make, type) and not issubclass(make, Model)) or not callable(make):
        raise UsageError(f"model {ref}: {make!r} is not a subclass of qk_bench.interfaces.Model, or a function")
    if is_function_model(make):
        make = partial(FunctionModel, make)
    return make, [argument] if separator else []


def _model_file(ref: str) -> re.Match[str] | None:
    """The parts of a model named by file; a registered name before the first colon wins."""
    return None if ref.partition(":")[0] in names("model") else _FILE.match(ref)


def _find(ref: str) -> list[FoundTask]:
    found = _FILE.match(ref)
    if found:
        suite_ref, rest = f"{found['path']}:{found['attribute']}", (found["rest"] or "")
        if rest.startswith(":"):
            raise UsageError(f"task {ref}: unexpected {rest!r}", "name a task as path/to/file.py:SUITE/TASK")
        return _select(suite_ref, load_suite(suite_ref), rest[1:])
    registered = names("task")
    name, separator, folder = ref.partition(":")
    if separator and name in registered:
        return _find_in_folder(name, folder)
    head, separator, tail = ref.partition("/")
    if head in registered:
        return _select(head, load_suite(head), tail)
    if separator:
        raise UsageError(f"there is no suite {head!r}{near(head, registered)}")
    return _find_in_any_suite(ref, registered)


def _find_in_folder(name: str, text: str) -> list[FoundTask]:
    """`FOLDER`, or `FOLDER/TASK` where the whole is no folder of the suite but what stands before the last slash is."""
    try:
        return _select(f"{name}:{text}", load_suite(f"{name}:{text}"), "")
    except UsageError as error:
        folder, separator, task = text.rpartition("/")
        if not separator or not Path(folder or "/").is_dir():
            raise
        try:
            suite = load_suite(f"{name}:{folder}")
        except UsageError as inner:
            if Path(text).is_dir():
                raise error from None
            why = f"{error.message}; as task {task!r} of folder {folder or '/'}: {inner.message}"
            raise UsageError(why, inner.mend) from None
        if Path(text).exists() and task not in suite.tasks and task not in suite.groups:
            raise
        return _select(f"{name}:{folder}", suite, task)


def _find_in_any_suite(name: str, registered: Sequence[str]) -> list[FoundTask]:
    """A bare task or group name, looked for in every suite that loads."""
    hits: dict[str, list[FoundTask]] = {}
    known, broken = list(registered), []
    need_folder = folder_suites()
    for suite_ref in registered:
        if suite_ref in need_folder:
            continue
        try:
            suite = load_suite(suite_ref)
        except UsageError as error:
            broken.append(str(error))
            continue
        known += [*suite.tasks, *suite.groups]
        if name in suite.tasks or name in suite.groups:
            hits[suite_ref] = _select(suite_ref, suite, name)
    if len(hits) > 1:
        choices = " or ".join(f"{suite_ref}/{name}" for suite_ref in hits)
        raise UsageError(f"task {name!r} is in several suites", f"name one: {choices}")
    if not hits:
        also = f"; not searched, because broken: {'; '.join(broken)}" if broken else ""
        raise UsageError(f"there is no task, suite or group {name!r}{near(name, known)}{also}")
    return next(iter(hits.values()))


def _select(suite_ref: str, suite: Suite, name: str) -> list[FoundTask]:
    """The tasks of a suite that `name` means: when empty all but the diagnostics, a task, or a group."""
    if not name:
        chosen: Sequence[str] = [task for task in suite.tasks if task not in suite.diagnostics] or list(suite.tasks)
    elif name in suite.tasks:
        chosen = [name]
    elif name in suite.groups:
        chosen = suite.groups[name]
    else:
        known = [*suite.tasks, *suite.groups]
        raise UsageError(f"suite {suite.name} has no task or group {name!r}{near(name, known)}")
    return [FoundTask(suite_ref, suite, suite.tasks[task]) for task in chosen]


@cache
def _entries(kind: Kind) -> dict[str, list[importlib.metadata.EntryPoint]]:
    entries: dict[str, list[importlib.metadata.EntryPoint]] = {}
    for entry in importlib.metadata.entry_points(group=GROUPS[kind]):
        same = entries.setdefault(entry.name, [])
        if all(entry.value != other.value for other in same):
            same.append(entry)
    return entries


def _from_entry(kind: Kind, name: str) -> Any:
    what = "suite" if kind == "task" else kind
    entries = _entries(kind).get(name)
    if not entries:
        hint = ""
        if name.endswith(".py"):
            hint = f"; name what to take from the file: {name}:NAME"
        elif name.split(":", 1)[0].endswith(".py"):
            hint = "; what follows the colon must be a Python name"
        raise UsageError(f"there is no {what} {name!r}{hint or near(name, names(kind))}")
    if len(entries) > 1:
        where = " and ".join(entry.value for entry in entries)
        raise UsageError(f"{what} {name!r} is registered twice, as {where}", "uninstall one of the packages")
    return _guard(f"{what} {name} ({entries[0].value})", entries[0].load)


def _from_file(path: str, attribute: str) -> Any:
    module = _module(Path(path))
    try:
        return getattr(module, attribute)
    except AttributeError:
        public = [name for name in vars(module) if not name.startswith("_")]
        raise UsageError(f"{path} has no {attribute!r}{near(attribute, public, listing=False)}") from None


_loaded: dict[Path, ModuleType] = {}


def _module(path: Path) -> ModuleType:
    """Import a file under a name of its own, leaving sys.path alone; once per process."""
    absolute = path.absolute()
    if absolute in _loaded:
        return _loaded[absolute]
    if not absolute.is_file():
        raise UsageError(f"there is no file {path}")
    name = f"_qk_bench_plugin_{absolute.stem}_{hashlib.sha256(str(absolute).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, absolute)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} cannot be imported as Python")
    module, loader = importlib.util.module_from_spec(spec), spec.loader
    sys.modules[name] = module  # dataclasses and pickle look a class's module up by name
    try:
        _guard(str(path), lambda: loader.exec_module(module), file=absolute)
    except UsageError:
        del sys.modules[name]
        raise
    _loaded[absolute] = module
    return module


def _instance(what: str, value: Any, kind: type[_T]) -> _T:
    if isinstance(value, type):
        value = _guard(what, value)
    if not isinstance(value, kind):
        raise UsageError(f"{what}: {type(value).__name__} is not a qk_bench.interfaces.{kind.__name__}")
    return value


def _guard(what: str, load: Callable[[], _T], file: Path | None = None) -> _T:
    """Run a plug-in's code: whatever goes wrong in it becomes one line, and what it prints stays off stdout."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return load()
    except QKBenchError:
        raise
    except (Exception, SystemExit) as error:
        where = ""
        if isinstance(error, SyntaxError) and error.lineno:
            where = f" (line {error.lineno})"
        elif file:
            lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
            where = f" (line {lines[-1]})" if lines else ""
        raise UsageError(f"{what} cannot be loaded: {one_line(error)}{where}") from error


def near(name: str, known: Iterable[str], *, listing: bool = True) -> str:
    """What to add to `there is no NAME`: `; did you mean …?`, or else a list of what there is."""
    choices = sorted(set(known))
    near = difflib.get_close_matches(name, choices, n=3, cutoff=0.55)
    if near:
        return f"; did you mean {' or '.join(near)}?"
    return f"; there are: {', '.join(choices)}" if choices and listing else ""
