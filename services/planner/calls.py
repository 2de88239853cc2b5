"""Gemma 4's native function call, and the two calls the planner makes of it.

Flow: the engine's text -> `parse_call` -> `Call` -> `plan_from_call` or `verdict_from_call`. Each
step is strict and raises `CallError`, whose message is written for the model: it is shown to it
once, before the service degrades. The syntax is not JSON:

    <|tool_call>call:plan{include:[<|"|>dog<|"|>],rank:2,select:<|"|>leftmost<|"|>}<tool_call|>

Keys are bare and sorted when written, strings stand between `<|"|>` and hold anything but that
mark. `format_call` writes no white space outside strings. `parse_call` reads it between any two
parts of a call (names, marks, numbers, strings), and a comma behind the last item of a list or an
object, as models write them; inside strings nothing changes.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from limelight.values import ConceptQuery, Plan, PlanOutcome, SelectBy, Selection

Value: TypeAlias = "str | int | float | bool | list[Value] | dict[str, Value]"

PLAN = "plan"
VERDICT = "verdict"
MAX_QUERIES = 16
MAX_PHRASE = 200
MAX_REASON = 500
MAX_POSITION = 100  # of `rank` and of `count`

OPEN = "<|tool_call>"
CLOSE = "<tool_call|>"
QUOTE = '<|"|>'

_MAX_DEPTH = 8
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SPACE = re.compile(r"[ \t\r\n]*")
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_MAX_NUMBER = 32
_CONTROL = re.compile(r"<\|[^<>|]*\|?>|<[^<>|]*\|>|[\x00-\x1f\x7f]")
# What an engine may leave after the call: the tokens that end a model's turn, and padding.
_TAIL = re.compile(r"(\s|<turn\|>|<\|tool_response>|<eos>|<pad>)*\Z")
_PLAN_KEYS = ("count", "exclude", "include", "rank", "reason", "review", "select")
_VERDICT_KEYS = ("accept", "reason")


class CallError(ValueError):
    """The text is no call, or the call breaks the language; the message can be shown to a model."""


@dataclass(frozen=True, slots=True)
class Call:
    """One function call: its name and its arguments as plain Python values."""

    name: str
    arguments: Mapping[str, Value]


def parse_call(text: str) -> Call:
    """The one call that ends `text`.

    Whatever stands before the call (a thought channel, say) is dropped; after it only the tokens
    that end a turn may follow.

    Raises:
        CallError: no call, more than one, an unclosed one, or one that breaks the syntax.
    """
    start = text.find(OPEN)
    if start < 0:
        raise CallError(f"no function call found: answer with {OPEN}call:NAME{{...}}{CLOSE}")
    reader = _CallReader(text, start + len(OPEN))
    reader.opening()
    name = reader.key("a function name")
    arguments = reader.mapping(depth=1)
    reader.expect(CLOSE)
    if reader.finds(OPEN):
        raise CallError("more than one function call: make exactly one")
    if not _TAIL.match(text, reader.at):
        raise CallError(f"text after the function call: {_excerpt(text, reader.at)}")
    return Call(name, arguments)


def format_call(call: Call) -> str:
    """`call` in Gemma 4's syntax, keys sorted.

    Raises:
        CallError: a value that the syntax cannot carry.
    """
    if not _KEY.fullmatch(call.name):
        raise CallError(f"{call.name!r} is not a function name")
    return f"{OPEN}call:{call.name}{_format(dict(call.arguments))}{CLOSE}"


def plan_from_call(call: Call) -> Plan:
    """The plan that a `plan` call states.

    Raises:
        CallError: another function, an unknown key, a wrong type, or a value out of bounds.
    """
    arguments = _arguments(call, PLAN, _PLAN_KEYS)
    if "include" not in arguments:
        raise CallError("include is missing: give a list of phrases, or an empty one and a reason")
    include = _queries(arguments["include"], "include")
    exclude = _queries(arguments.get("exclude", []), "exclude")
    reason = _text(arguments.get("reason", ""), "reason", MAX_REASON)
    review = _truth(arguments.get("review", False), "review")
    selection = _selection(arguments)
    if len(include) + len(exclude) > MAX_QUERIES:
        raise CallError(f"include and exclude hold more than {MAX_QUERIES} phrases together")
    if not include:
        if exclude or selection or review:
            raise CallError("include is empty, so exclude, select and review must be left out")
        if not reason:
            raise CallError("include is empty: say why in reason")
        return Plan(reason=reason, outcome=PlanOutcome.REFUSED)
    return Plan(include, exclude, selection, review, reason)


def call_from_plan(plan: Plan) -> Call:
    """The `plan` call that states `plan`: defaults are left out.

    Raises:
        CallError: the plan holds exemplar boxes, which a call cannot state.
    """
    if any(query.exemplars or not query.phrase for query in plan.queries):
        raise CallError("a call states phrases only, not exemplar boxes")
    arguments: dict[str, Value] = {"include": [query.phrase for query in plan.include]}
    if plan.exclude:
        arguments["exclude"] = [query.phrase for query in plan.exclude]
    if plan.select is not None:
        arguments["select"] = plan.select.by.value
        if plan.select.rank != 1:
            arguments["rank"] = plan.select.rank
        if plan.select.count != 1:
            arguments["count"] = plan.select.count
    if plan.review:
        arguments["review"] = True
    if plan.reason:
        arguments["reason"] = plan.reason
    return Call(PLAN, arguments)


def verdict_from_call(call: Call) -> tuple[bool, str]:
    """Whether a `verdict` call accepts the candidate, and the reason it gives (may be empty).

    Raises:
        CallError: another function, an unknown key, or a wrong type.
    """
    arguments = _arguments(call, VERDICT, _VERDICT_KEYS)
    if "accept" not in arguments:
        raise CallError("accept is missing: true or false")
    accepted = _truth(arguments["accept"], "accept")
    return accepted, _text(arguments.get("reason", ""), "reason", MAX_REASON)


def without_control(text: str) -> str:
    """`text` with control tokens (`<|turn>`, `<tool_call|>`, ...) and control characters blanked.

    For text that strangers wrote and a model will read: it must not open or close a turn.
    """
    while (blanked := _CONTROL.sub(" ", text)) != text:
        text = blanked
    return text


class _CallReader:
    """Reads one call's text from left to right; `at` is the next character's index.

    Every part is read with the white space before it.
    """

    def __init__(self, text: str, at: int) -> None:
        self._text = text
        self.at = at

    def opening(self) -> None:
        """Read `call:`."""
        if not (self.accept("call") and self.accept(":")):
            raise CallError(f"expected call: but found {self._excerpt()}")

    def expect(self, token: str) -> None:
        if not self.accept(token):
            raise CallError(f"expected {token} but found {self._excerpt()}")

    def accept(self, token: str) -> bool:
        found = self.finds(token)
        self.at += len(token) * found
        return found

    def finds(self, token: str) -> bool:
        """Whether `token` comes next; it is not read."""
        match = _SPACE.match(self._text, self.at)
        assert match is not None  # it may be empty
        self.at = match.end()
        return self._text.startswith(token, self.at)

    def key(self, what: str) -> str:
        self.finds("")
        match = _KEY.match(self._text, self.at)
        if match is None:
            raise CallError(f"expected {what} but found {self._excerpt()}")
        self.at = match.end()
        return match.group()

    def value(self, depth: int) -> Value:
        if depth > _MAX_DEPTH:
            raise CallError(f"arguments are nested more than {_MAX_DEPTH} deep")
        if self.finds("{"):
            return self.mapping(depth)
        if self.accept("["):
            return self._array(depth)
        if self.accept(QUOTE):
            return self._string()
        for word, truth in (("true", True), ("false", False)):
            if self.accept(word):
                return truth
        return self._number()

    def mapping(self, depth: int) -> dict[str, Value]:
        self.expect("{")
        entries: dict[str, Value] = {}
        while self._another("}", first=not entries):
            key = self.key("an argument name")
            if key in entries:
                raise CallError(f"{key} is given twice")
            self.expect(":")
            entries[key] = self.value(depth + 1)
        return entries

    def _array(self, depth: int) -> list[Value]:
        items: list[Value] = []
        while self._another("]", first=not items):
            items.append(self.value(depth + 1))
        return items

    def _another(self, close: str, *, first: bool) -> bool:
        """Whether one more item follows; reads the comma before it, or `close`."""
        if self.accept(close):
            return False
        if not first:
            self.expect(",")
            return not self.accept(close)
        return True

    def _string(self) -> str:
        end = self._text.find(QUOTE, self.at)
        if end < 0:
            raise CallError(f"a string is not closed with {QUOTE}")
        string = self._text[self.at : end]
        self.at = end + len(QUOTE)
        return string

    def _number(self) -> int | float:
        match = _NUMBER.match(self._text, self.at)
        if match is None:
            raise CallError(f"expected a value but found {self._excerpt()}")
        if len(match.group()) > _MAX_NUMBER:
            raise CallError("a number is too long")
        self.at = match.end()
        if match.group(1) is None and match.group(2) is None:
            return int(match.group())
        number = float(match.group())
        if not math.isfinite(number):
            raise CallError("a number is too large")
        return number

    def _excerpt(self) -> str:
        return _excerpt(self._text, self.at)


def _excerpt(text: str, at: int) -> str:
    return repr(text[at : at + 24]) if at < len(text) else "the end"


def _format(value: Value) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            text = repr(value)
            if not _NUMBER.fullmatch(text) or len(text) > _MAX_NUMBER:
                raise CallError(f"the number {text[:_MAX_NUMBER]} cannot be written")
            return text
        case str():
            if QUOTE in value:
                raise CallError(f"a string cannot hold {QUOTE}")
            return f"{QUOTE}{value}{QUOTE}"
        case list():
            return "[" + ",".join(map(_format, value)) + "]"
        case dict():
            if wrong := [key for key in value if not _KEY.fullmatch(key)]:
                raise CallError(f"{wrong[0]!r} is not an argument name")
            return "{" + ",".join(f"{key}:{_format(value[key])}" for key in sorted(value)) + "}"


def _arguments(call: Call, name: str, known: Iterable[str]) -> Mapping[str, Value]:
    if call.name != name:
        raise CallError(f"there is no function {call.name[:40]} here: call {name}")
    if unknown := sorted(set(call.arguments) - set(known)):
        raise CallError(f"{name} has no argument {unknown[0][:40]}; it has {', '.join(known)}")
    return call.arguments


def _queries(value: Value, name: str) -> tuple[ConceptQuery, ...]:
    if not isinstance(value, list):
        raise CallError(f"{name} must be a list of phrases, not {_shown(value)}")
    phrases: dict[str, None] = {}
    for item in value:
        phrase = _text(item, f"a phrase of {name}", MAX_PHRASE)
        if not phrase:
            raise CallError(f"a phrase of {name} is empty")
        phrases[phrase] = None
    return tuple(ConceptQuery(phrase) for phrase in phrases)


def _text(value: Value, name: str, limit: int) -> str:
    if not isinstance(value, str):
        raise CallError(f"{name} must be text, not {_shown(value)}")
    text = value.strip()
    if len(text) > limit:
        raise CallError(f"{name} is longer than {limit} characters")
    if _CONTROL.search(text):
        raise CallError(f"{name} holds a control token")
    return text


def _truth(value: Value, name: str) -> bool:
    if not isinstance(value, bool):
        raise CallError(f"{name} must be true or false, not {_shown(value)}")
    return value


def _selection(arguments: Mapping[str, Value]) -> Selection | None:
    rank = _position(arguments.get("rank", 1), "rank")
    count = _position(arguments.get("count", 1), "count")
    if "select" not in arguments:
        if stray := [key for key in ("rank", "count") if key in arguments]:
            raise CallError(f"{stray[0]} needs select")
        return None
    try:
        return Selection(SelectBy(arguments["select"]), rank, count)  # type: ignore[arg-type]
    except (ValueError, TypeError):
        raise CallError(f"select must be one of {', '.join(SelectBy)}") from None


def _position(value: Value, name: str) -> int:
    """A whole number, which may be written as a decimal (`2.0`)."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise CallError(f"{name} must be a whole number, not {_shown(value)}")
    if not 1 <= value <= MAX_POSITION:
        raise CallError(f"{name} must be between 1 and {MAX_POSITION}, not {_shown(value)}")
    return value


def _shown(value: Value) -> str:
    """What was given instead, short enough for a message; text is not quoted, as it may be long."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)[:_MAX_NUMBER]
        case str():
            return "text"
        case list():
            return "a list"
        case dict():
            return "an object"
        case _:  # from JSON, in a file of examples
            return "null"
