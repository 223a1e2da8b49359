"""A plain Python function as a model: `--model path/to/file.py:function`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from qk_bench.errors import UsageError
from qk_bench.interfaces import Failure, Model
from qk_bench.records import ModelCard, Request


def is_function_model(value: object) -> bool:
    """Whether something is a function whose first parameter is called `request`."""
    return inspect.isfunction(value) and next(iter(inspect.signature(value).parameters), "") == "request"


class FunctionModel(Model):
    """Calls a function for each request; it returns an (H, W, 3) uint8 array, an RGB PIL image or a `Failure`.

    Args:
        function: What is called with a request, and with the arguments.
        arguments: Keyword arguments of the function. Those it leaves to their defaults are part of the card too.

    Raises:
        UsageError: The function does not take the arguments.
    """

    def __init__(self, function: Callable[..., Any], **arguments: Any) -> None:
        signature = inspect.signature(function)
        try:
            bound = signature.bind(None, **arguments)
        except TypeError as error:
            raise UsageError(f"{function.__name__}(): {error}") from None
        bound.apply_defaults()
        self.function, self.arguments = function, arguments
        self.card = ModelCard(
            name=function.__name__.replace("_", "-"),
            version="1",
            description=(inspect.getdoc(function) or "A Python function.").splitlines()[0],
            arguments={name: value for name, value in list(bound.arguments.items())[1:] if _is_json(value)},
        )

    def generate(self, requests: Sequence[Request]) -> list[Any | Failure]:
        """What the function returns for each request."""
        return [self.function(request, **self.arguments) for request in requests]


def _is_json(value: object) -> bool:
    return value is None or isinstance(value, str | int | float | bool | list | dict)
