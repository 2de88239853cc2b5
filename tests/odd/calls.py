"""Plan calls as Gemma writes them: white space and last commas are certain, all else is not."""

from functools import partial
from pathlib import Path

from limelight.values import Plan
from services.planner.calls import (
    CallError,
    call_from_plan,
    format_call,
    parse_call,
    plan_from_call,
)
from tests.odd.case import Case

Q = '<|"|>'
PLAIN = f"call:plan{{include:[{Q}dog{Q},{Q}cat{Q}],rank:2,select:{Q}leftmost{Q}}}"


def cases() -> list[Case]:
    """The area's cases."""
    return [*_certain(), *_in_strings(), *_numbers(), *_uncertain()]


def see(text: str, folder: Path) -> str:
    """The plan that a model's text states, as the shortest call, or why there is none."""
    try:
        plan: Plan = plan_from_call(parse_call(text))
    except CallError as error:
        return f"refused: {error}"
    return format_call(call_from_plan(plan))


def _call(name: str, right: str, body: str) -> Case:
    return Case(name, right, partial(see, f"<|tool_call>{body}<tool_call|>"))


def _same(name: str, body: str) -> Case:
    return _call(name, f"<|tool_call>{PLAIN}<tool_call|>", body)


def _certain() -> list[Case]:
    dog, cat, left = f"{Q}dog{Q}", f"{Q}cat{Q}", f"{Q}leftmost{Q}"
    rest = f"rank:2,select:{left}"
    return [
        _same("a call without white space", PLAIN),
        _same("a space after each comma", PLAIN.replace(",", ", ")),
        _same("a line break after each comma", PLAIN.replace(",", ",\n")),
        _same("a CRLF and a tab after each comma", PLAIN.replace(",", ",\r\n\t")),
        _same("a space before each comma", PLAIN.replace(",", " ,")),
        _same("a space after each colon", PLAIN.replace(":", ": ")),
        _same("a space before each colon", PLAIN.replace(":", " :")),
        _same("spaces inside the brackets", PLAIN.replace("[", "[ ").replace("]", " ]")),
        _same("spaces inside the braces", PLAIN.replace("{", "{ ").replace("}", " }")),
        _same("a space before the braces", PLAIN.replace("{", " {")),
        _same("white space around the call", f"\n  {PLAIN} \n"),
        _same("a comma behind the last phrase", f"call:plan{{include:[{dog},{cat},],{rest}}}"),
        _same("a comma behind the last argument", f"call:plan{{include:[{dog},{cat}],{rest},}}"),
        _same(
            "a call on lines of its own, with commas everywhere",
            f"call:plan{{\n  include: [\n    {dog},\n    {cat},\n  ],\n  rank: 2,\n"
            f"  select: {left},\n}}",
        ),
    ]


def _in_strings() -> list[Case]:
    def phrase(text: str) -> str:
        return f"call:plan{{include:[{Q}{text}{Q}]}}"

    texts = {
        "commas in a phrase": "red , ripe ,",
        "colons and braces in a phrase": "a : {b , }",
        "brackets in a phrase": "[ a , ]",
        "two spaces in a phrase": "red  apple",
    }
    return [
        *(
            _call(name, f"<|tool_call>{phrase(text)}<tool_call|>", phrase(text))
            for name, text in texts.items()
        ),
        _call(
            "a line break in a phrase",
            "refused: a phrase of include holds a control token",
            phrase("red\napple"),
        ),
    ]


def _numbers() -> list[Case]:
    return [
        _same("a rank of 2.0", PLAIN.replace("rank:2", "rank:2.0")),
        _same("a rank of 2e0", PLAIN.replace("rank:2", "rank:2e0")),
        _call(
            "a rank of 1.5",
            "refused: rank must be a whole number, not 1.5",
            PLAIN.replace("rank:2", "rank:1.5"),
        ),
        _call(
            "a rank of 0.0",
            "refused: rank must be between 1 and 100, not 0",
            PLAIN.replace("rank:2", "rank:0.0"),
        ),
        _call(
            "a rank in quotes",
            "refused: rank must be a whole number, not text",
            PLAIN.replace("rank:2", f"rank:{Q}2{Q}"),
        ),
    ]


def _uncertain() -> list[Case]:
    def unread(expected: str, found: str) -> str:
        return f"refused: expected {expected} but found {found[:24]!r}"

    rest = f"{Q}cat{Q}],rank:2,select"
    return [
        _call("two commas", unread("a value", f",{rest}"), PLAIN.replace(",", ",,", 1)),
        _call("a comma alone", unread("an argument name", ",}<tool_call|>"), "call:plan{,}"),
        _call("a comma that is missing", unread(",", rest), PLAIN.replace(",", " ", 1)),
        _call(
            "a space in a number",
            unread(",", f"0,select:{Q}leftmost{Q}"),
            PLAIN.replace("rank:2", "rank:2 0"),
        ),
        _call(
            "a no-break space",
            unread("a value", f"\u00a0{rest}"),
            PLAIN.replace(",", ",\u00a0", 1),
        ),
        Case(
            "two calls on two lines",
            "refused: more than one function call: make exactly one",
            partial(see, f"<|tool_call>{PLAIN}<tool_call|>\n<|tool_call>{PLAIN}<tool_call|>"),
        ),
    ]
