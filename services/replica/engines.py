"""The registry of engines: a service's engines by name, imported only when one is chosen.

An engine is load, close, describe, and its inference calls; each service has its protocol in
`engines/__init__.py`, with the table of names that both `open_engine` and the setting `engine` use.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Any


def check_name(name: str, engines: Mapping[str, str]) -> str:
    """`name`, if there is such an engine; ValueError otherwise, for a settings validator."""
    if name not in engines:
        raise ValueError(f"there is no engine {name!r}; one of {', '.join(engines)}")
    return name


def open_engine(name: str, engines: Mapping[str, str], *arguments: object) -> Any:
    """The engine `name`, made with `arguments` and not loaded yet.

    Args:
        name: a key of `engines`.
        engines: "module:callable" by name.
    """
    module, _, maker = engines[name].partition(":")
    return getattr(import_module(module), maker)(*arguments)
