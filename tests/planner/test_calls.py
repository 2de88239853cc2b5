"""The call syntax: what is written is read back, and what is wrong is named."""

import contextlib
import functools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limelight.values import Box, ConceptQuery, Exemplar, Plan, PlanOutcome, SelectBy, Selection
from services.planner.calls import (
    MAX_PHRASE,
    MAX_POSITION,
    MAX_QUERIES,
    QUOTE,
    Call,
    CallError,
    call_from_plan,
    format_call,
    parse_call,
    plan_from_call,
    verdict_from_call,
    without_control,
)

NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,12}", fullmatch=True)
STRINGS = st.text(max_size=40).filter(lambda text: QUOTE not in text)
SCALARS = (
    STRINGS
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=8,
)
PHRASES = (
    st.text(st.characters(min_codepoint=32, max_codepoint=0x2FFF), min_size=1, max_size=MAX_PHRASE)
    .map(str.strip)
    .filter(lambda text: text and without_control(text) == text)
)


def _depth(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(_depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(_depth, value), default=0)
    return 0


@given(NAMES, st.dictionaries(NAMES, VALUES, max_size=5))
def test_what_is_formatted_is_parsed(name: str, arguments: dict) -> None:
    if _depth(arguments) > 7:
        return
    call = Call(name, arguments)
    parsed = parse_call(format_call(call))
    assert parsed == call
    assert format_call(parsed) == format_call(call)  # 1 and 1.0 are equal, but not alike


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    reason = draw(st.just("") | PHRASES)
    include = draw(st.lists(PHRASES, min_size=1, max_size=8, unique=True))
    exclude = draw(st.lists(PHRASES, max_size=8, unique=True))
    selections = st.builds(
        Selection,
        st.sampled_from(SelectBy),
        st.integers(1, MAX_POSITION),
        st.integers(1, MAX_POSITION),
    )
    return Plan(
        tuple(map(ConceptQuery, include)),
        tuple(map(ConceptQuery, exclude)),
        draw(st.none() | selections),
        draw(st.booleans()),
        reason,
    )


@given(plans())
def test_plans_survive_the_trip(plan: Plan) -> None:
    assert plan_from_call(parse_call(format_call(call_from_plan(plan)))) == plan


@given(st.text(max_size=200))
def test_any_text_is_a_call_or_a_call_error(text: str) -> None:
    for candidate in (text, f"<|tool_call>call:plan{{{text}", f"<|tool_call>{text}<tool_call|>"):
        with contextlib.suppress(CallError):
            plan_from_call(parse_call(candidate))


def test_the_documented_call() -> None:
    text = (
        '<|tool_call>call:plan{count:2,exclude:[<|"|>cat<|"|>],include:[<|"|>dog<|"|>,'
        '<|"|>horse<|"|>],rank:3,reason:<|"|>The animals.<|"|>,review:true,'
        'select:<|"|>leftmost<|"|>}<tool_call|>'
    )
    plan = plan_from_call(parse_call(text))
    assert plan == Plan(
        (ConceptQuery("dog"), ConceptQuery("horse")),
        (ConceptQuery("cat"),),
        Selection(SelectBy.LEFTMOST, 3, 2),
        True,
        "The animals.",
    )
    assert format_call(call_from_plan(plan)) == text


@pytest.mark.parametrize(
    "tail", ["", "<turn|>", "<|tool_response>", "<turn|>\n<pad><pad>", "<eos>"]
)
@pytest.mark.parametrize("head", ["", "<|channel>thought\nThe dog.<channel|>", "Sure: "])
def test_a_thought_before_and_an_ending_behind_are_dropped(head: str, tail: str) -> None:
    call = parse_call(f'{head}<|tool_call>call:plan{{include:[<|"|>dog<|"|>]}}<tool_call|>{tail}')
    assert call == Call("plan", {"include": ["dog"]})


SPACES = st.text(" \t\r\n", max_size=3)


def _loose(draw: st.DrawFn, value: object) -> str:
    """`value` in Gemma 4's syntax with white space between parts, and commas behind last items."""
    space = functools.partial(draw, SPACES)
    match value:
        case dict() | list():
            opening, closing = "{}" if isinstance(value, dict) else "[]"
            if isinstance(value, dict):
                items = [
                    f"{space()}{key}{space()}:{space()}{_loose(draw, inner)}{space()}"
                    for key, inner in value.items()
                ]
            else:
                items = [f"{space()}{_loose(draw, inner)}{space()}" for inner in value]
            last = draw(st.sampled_from(["", "," + space()])) if items else space()
            return f"{opening}{','.join(items)}{last}{closing}"
        case str():
            return f"{QUOTE}{value}{QUOTE}"
        case bool():
            return str(value).lower()
        case _:
            return repr(value)


@given(st.data(), NAMES, st.dictionaries(NAMES, VALUES, max_size=5))
def test_white_space_and_last_commas_change_nothing(
    data: st.DataObject, name: str, arguments: dict
) -> None:
    if _depth(arguments) > 7:
        return
    loose = data.draw(st.composite(_loose)(arguments))
    space = [data.draw(SPACES) for _ in range(6)]
    text = (
        f"<|tool_call>{space[0]}call{space[1]}:{space[2]}{name}{space[3]}{loose}{space[4]}"
        f"<tool_call|>{space[5]}"
    )
    assert parse_call(text) == Call(name, arguments)


@pytest.mark.parametrize(
    "text",
    [
        'call:plan{include:[<|"|>dog<|"|>, <|"|>cat<|"|>],review:true}',
        'call:plan{include:[<|"|>dog<|"|>,\n<|"|>cat<|"|>],\nreview:true}',
        'call:plan{include:[<|"|>dog<|"|>,<|"|>cat<|"|>,],review:true}',
        'call:plan{include:[<|"|>dog<|"|>,<|"|>cat<|"|>],review:true,}',
        'call:plan{include: [<|"|>dog<|"|>,<|"|>cat<|"|>], review: true}',
        'call:plan{include : [<|"|>dog<|"|>\t,<|"|>cat<|"|>] ,review :true}',
        'call:plan {include:[ <|"|>dog<|"|>,<|"|>cat<|"|> ],review:true}',
        'call: plan{include:[<|"|>dog<|"|>,<|"|>cat<|"|>],review:true}\n',
        ' call:plan{\r\n  include:[<|"|>dog<|"|>,<|"|>cat<|"|> , ],\r\n  review:true , \r\n}\r\n',
    ],
)
def test_calls_as_models_write_them(text: str) -> None:
    plan = plan_from_call(parse_call(f"<|tool_call>{text}<tool_call|>"))
    assert plan == Plan((ConceptQuery("dog"), ConceptQuery("cat")), review=True)


@pytest.mark.parametrize(
    "text",
    [
        'call:verdict{accept:false, reason:<|"|>a  cat , <|"|>}',
        'call:verdict{ accept : false , reason : <|"|>a  cat , <|"|> , }',
        'call: verdict {\n\taccept:\nfalse,\n\treason:\n<|"|>a  cat , <|"|>,\n}',
    ],
)
def test_verdicts_as_models_write_them(text: str) -> None:
    found = verdict_from_call(parse_call(f"<|tool_call>{text}<tool_call|>"))
    assert found == (False, "a  cat ,")


@pytest.mark.parametrize("inner", [" a , b ,", "a\n:\n{b ,}", "\t[x , ]", ",", "  "])
def test_white_space_inside_strings_stays(inner: str) -> None:
    call = parse_call(f"<|tool_call>call:f{{x : [ {QUOTE}{inner}{QUOTE} , ]}}<tool_call|>")
    assert call.arguments == {"x": [inner]}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "no function call"),
        ("I see a dog.", "no function call"),
        ('{"include": ["dog"]}', "no function call"),
        ("<|tool_call>", "expected call:"),
        ("<|tool_call>call:{}<tool_call|>", "function name"),
        ("<|tool_call>call:plan{}", "expected <tool_call|> but found the end"),
        ("<|tool_call>call:plan{include:[]", "found the end"),
        ('<|tool_call>call:plan{include:[<|"|>dog]}<tool_call|>', "not closed"),
        ('<|tool_call>call:plan{"include":[]}<tool_call|>', "argument name"),
        ("<|tool_call>call:plan{include:[dog]}<tool_call|>", "expected a value"),
        ("<|tool_call>call:plan{,}<tool_call|>", "argument name"),
        ("<|tool_call>call:plan{rank:1,,}<tool_call|>", "argument name"),
        ("<|tool_call>call:plan{rank:1,,count:2}<tool_call|>", "argument name"),
        ("<|tool_call>call:plan{include:[,]}<tool_call|>", "expected a value"),
        ('<|tool_call>call:plan{include:[<|"|>dog<|"|>,,]}<tool_call|>', "expected a value"),
        ("<|tool_call>call:plan{rank:1 count:2}<tool_call|>", "expected ,"),
        ("<|tool_call>call:plan{rank:1 2}<tool_call|>", "expected ,"),
        ("<|tool_call>call:plan{rank:- 1}<tool_call|>", "expected a value"),
        ("<|tool_call>call:plan{review:t rue}<tool_call|>", "expected a value"),
        ("<|tool_call>call:plan{ra nk:1}<tool_call|>", "expected :"),
        ("<|tool_call>call:plan{rank:},<tool_call|>", "expected a value"),
        ("<|tool_call>call:plan{rank:1},<tool_call|>", "expected <tool_call|>"),
        ("<|tool_call>c all:plan{}<tool_call|>", "expected call:"),
        ("<|tool_call>call:plan{rank:\u00a01}<tool_call|>", "expected a value"),
        ("<|tool_call>call:plan{rank:\x0b1}<tool_call|>", "expected a value"),
        ("<|tool_call>call:plan{} \n", "expected <tool_call|> but found the end"),
        ("<|tool_call>call:plan{rank:1,rank:2}<tool_call|>", "twice"),
        ("<|tool_call>call:plan{rank:" + "9" * 40 + "}<tool_call|>", "too long"),
        ("<|tool_call>call:plan{rank:1e999}<tool_call|>", "too large"),
        ("<|tool_call>call:plan{rank:nan}<tool_call|>", "expected a value"),
        ("<|tool_call>call:plan{x:" + "[" * 9 + "]" * 9 + "}<tool_call|>", "nested"),
        ("<|tool_call>call:plan{x:" + "[" * 99999 + "}<tool_call|>", "nested"),
        ("<|tool_call>call:a{}<tool_call|><|tool_call>call:a{}<tool_call|>", "more than one"),
        ("<|tool_call>call:a{}<tool_call|>\n<|tool_call>call:a{}<tool_call|>", "more than one"),
        ("<|tool_call>call:a{}<tool_call|> and so on", "text after"),
    ],
)
def test_what_is_no_call_is_named(text: str, named: str) -> None:
    with pytest.raises(CallError, match=named.replace("|", r"\|")):
        parse_call(text)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({}, "include is missing"),
        ({"include": []}, "why in reason"),
        ({"include": [], "reason": " "}, "why in reason"),
        ({"include": [], "reason": "No.", "exclude": ["cat"]}, "must be left out"),
        ({"include": [], "reason": "No.", "select": "largest"}, "must be left out"),
        ({"include": "dog"}, "list of phrases"),
        ({"include": [1]}, "must be text"),
        ({"include": [["dog"]]}, "must be text"),
        ({"include": [" "]}, "is empty"),
        ({"include": ["x" * (MAX_PHRASE + 1)]}, "longer than"),
        ({"include": ["a<turn|>b"]}, "control token"),
        ({"include": ["a\nb"]}, "control token"),
        ({"include": [f"p{i}" for i in range(MAX_QUERIES + 1)]}, "more than 16"),
        ({"include": ["a"] * 1 + [f"p{i}" for i in range(15)], "exclude": ["b"]}, "more than 16"),
        ({"include": ["dog"], "rank": 2}, "rank needs select"),
        ({"include": ["dog"], "count": 1}, "count needs select"),
        ({"include": ["dog"], "select": "left"}, "select must be one of leftmost"),
        ({"include": ["dog"], "select": ["leftmost"]}, "select must be one of"),
        ({"include": ["dog"], "select": 3}, "select must be one of"),
        ({"include": ["dog"], "select": "largest", "rank": 0}, "between 1 and 100"),
        ({"include": ["dog"], "select": "largest", "count": 101}, "between 1 and 100"),
        ({"include": ["dog"], "select": "largest", "rank": True}, "whole number"),
        ({"include": ["dog"], "select": "largest", "rank": 1.5}, "whole number, not 1.5"),
        ({"include": ["dog"], "select": "largest", "rank": 1e300}, "between 1 and 100, not 1000"),
        ({"include": ["dog"], "select": "largest", "rank": 0.0}, "between 1 and 100, not 0"),
        ({"include": ["dog"], "select": "largest", "rank": float("nan")}, "whole number, not nan"),
        ({"include": ["dog"], "select": "largest", "count": "2"}, "whole number, not text"),
        ({"include": ["dog"], "select": "largest", "count": [2]}, "whole number, not a list"),
        ({"include": ["dog"], "review": 1}, "true or false, not 1"),
        ({"include": ["dog"], "reason": 3}, "reason must be text"),
        ({"include": ["dog"], "color": "red"}, "no argument color"),
    ],
)
def test_what_is_no_plan_is_named(arguments: dict, named: str) -> None:
    with pytest.raises(CallError, match=named):
        plan_from_call(Call("plan", arguments))


@pytest.mark.parametrize("written", ["2", "2.0", "2e0", "20e-1"])
def test_a_whole_number_may_be_written_as_a_decimal(written: str) -> None:
    call = f"call:plan{{include:[{QUOTE}dog{QUOTE}],rank:{written},select:{QUOTE}largest{QUOTE}}}"
    plan = plan_from_call(parse_call(f"<|tool_call>{call}<tool_call|>"))
    assert repr(plan.select) == repr(Selection(SelectBy.LARGEST, 2))


def test_an_empty_plan_with_a_reason_is_a_refusal() -> None:
    plan = plan_from_call(Call("plan", {"include": [], "reason": "Nothing here fits."}))
    assert plan == Plan(reason="Nothing here fits.", outcome=PlanOutcome.REFUSED)


def test_phrases_are_stripped_and_said_once() -> None:
    plan = plan_from_call(Call("plan", {"include": [" dog ", "dog", "cat"]}))
    assert plan.include == (ConceptQuery("dog"), ConceptQuery("cat"))


def test_another_function_is_no_plan() -> None:
    with pytest.raises(CallError, match="call plan"):
        plan_from_call(Call("segment", {"include": ["dog"]}))


def test_exemplars_cannot_be_stated() -> None:
    plan = Plan((ConceptQuery("dog", (Exemplar(Box(0, 0, 1, 1)),)),))
    with pytest.raises(CallError, match="exemplar"):
        call_from_plan(plan)


@pytest.mark.parametrize("value", ['a<|"|>b', float("nan"), float("inf"), 10**40])
def test_what_the_syntax_cannot_carry_is_refused(value: object) -> None:
    with pytest.raises(CallError):
        format_call(Call("plan", {"x": value}))  # type: ignore[dict-item]


def test_verdicts() -> None:
    assert verdict_from_call(Call("verdict", {"accept": True})) == (True, "")
    assert verdict_from_call(Call("verdict", {"accept": False, "reason": "A cat."})) == (
        False,
        "A cat.",
    )
    for arguments in ({}, {"accept": "yes"}, {"accept": True, "sure": True}):
        with pytest.raises(CallError):
            verdict_from_call(Call("verdict", arguments))  # type: ignore[arg-type]


@given(st.text(st.sampled_from('<|>turn"channel \n'), max_size=40))
def test_control_tokens_do_not_survive(text: str) -> None:
    clean = without_control(text)
    assert without_control(clean) == clean
    tokens = ("<|turn>", "<turn|>", "<|image|>", "<image|>", '<|"|>', "\n")
    assert not any(token in clean for token in tokens)
