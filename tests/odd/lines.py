"""Files of `limelight batch` as scripts, spreadsheets, editors and crashes leave them.

Requests in every encoding, with every line end, with ids that fall together or are none; results
that are there already, whole, cut short, or of something else.
"""

import codecs
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

from services.cli.requests import BatchRequest, RequestFile, RequestFileRefused, id_key, shown_id
from services.cli.results import ResultsRefused, open_again, open_new
from tests.odd.case import Case

NEW_ID = ',"id":3'
LATIN = "line 2, byte 8: 0xE9 is not UTF-8; save the file as UTF-8"


def cases() -> list[Case]:
    """The area's cases."""
    return [*_encodings(), *_line_ends(), *_ids(), *_broken(), *_earlier(), *_unasked()]


def line(given: str, more: str = "") -> str:
    """A request whose id is written like that."""
    return f'{{"id":{given},"image":"a.png","phrases":["x"]{more}}}'


def result(given: str) -> str:
    """An answer to it."""
    return f'{{"id":{given},"width":1,"height":1,"instances":[],"request_id":"r"}}'


def failed(given: str) -> str:
    """An error in place of one."""
    return f'{{"id":{given},"error":{{"code":"INTERNAL","reason":"","message":"m"}}}}'


def see_requests(content: bytes, folder: Path) -> str:
    """The ids that a file of requests asks for, or why it, or one of its lines, does not."""
    file = folder / "requests.jsonl"
    file.write_bytes(content)
    try:
        asked = list(RequestFile(file.read_bytes(), folder))
    except RequestFileRefused as refused:
        return "refused: " + " ".join(str(refused).split())
    return "; ".join(
        f"asks {shown_id(one.id)}"
        if isinstance(one, BatchRequest)
        else f"line {one.line}: {one.message}"
        for one in asked
    )


def see_results(content: str, folder: Path) -> str:
    """Which of the requests 1, 2 and "2" are still asked beside earlier results, or why none is."""
    file = folder / "results.jsonl"
    file.write_bytes(content.encode())
    ids = (1, 2, "2")
    requested = {id_key(given): number for number, given in enumerate(ids, start=1)}
    try:
        sink, earlier = open_again(file, requested, Path("requests.jsonl"))
    except ResultsRefused as refused:
        assert file.read_bytes() == content.encode(), "what was refused was changed"
        return "refused: " + str(refused).splitlines()[-1].strip()
    with sink:
        sink.write("{}\n")
    lines = file.read_text("utf-8-sig").splitlines()
    whole = [json.loads(text) for text in lines if text]
    assert len(whole) == len(earlier.answered) + 1, "the new line is not a line for itself"
    left = [shown_id(given) for given in ids if id_key(given) not in earlier.answered]
    return f"asks {', '.join(left) or 'nothing'}"


def _requests(name: str, right: str, content: bytes | str) -> Case:
    data = content if isinstance(content, bytes) else content.encode()
    return Case(name, right, partial(see_requests, data))


def _results(name: str, right: str, content: str) -> Case:
    return Case(name, right, partial(see_results, content))


# --- encodings ------------------------------------------------------------------------------------


def _encodings() -> list[Case]:
    text = f"{line('1')}\n{line(json.dumps('é日😀', ensure_ascii=False))}\n"
    right = 'asks 1; asks "é日😀"'
    latin = f"{line('1')}\n{line(chr(34) + 'é' + chr(34))}\n"
    utf_16 = "refused: line 1, NUL bytes, as in UTF-16 without a byte order mark; save the file as"
    marked = {
        "UTF-8 requests": text.encode(),
        "UTF-8 requests with a byte order mark": text.encode("utf-8-sig"),
        "UTF-16 requests with a mark, as PowerShell writes": codecs.BOM_UTF16_LE
        + text.encode("utf-16-le"),
        "big-endian UTF-16 requests with a mark": codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
        "UTF-32 requests with a mark": text.encode("utf-32"),
    }
    joined = b"".join(f"{line(given)}\n".encode("utf-8-sig") for given in "123")
    return [
        *(_requests(name, right, content) for name, content in marked.items()),
        _requests("files with marks, joined", "asks 1; asks 2; asks 3", joined),
        _requests("Latin-1 requests", f"refused: {LATIN}", latin.encode("latin-1")),
        _requests("Windows-1252 requests", f"refused: {LATIN}", latin.encode("cp1252")),
        _requests("UTF-16 requests without a mark", f"{utf_16} UTF-8", text.encode("utf-16-le")),
        _requests(
            "a UTF-8 file with one Latin-1 line at its end",
            "refused: line 4, byte 8: 0xFC is not UTF-8; save the file as UTF-8",
            text.encode() + b'\n{"id":"\xfc"}',
        ),
        _requests(
            "requests that are a PNG",
            "refused: line 1, byte 1: 0x89 is not UTF-8; save the file as UTF-8",
            b"\x89PNG\r\n\x1a\n",
        ),
    ]


# --- lines ----------------------------------------------------------------------------------------


def _line_ends() -> list[Case]:
    lines = [line("1"), line("2")]
    right = "asks 1; asks 2"
    long = line("1", ',"instruction":null').replace('"x"', json.dumps("x" * 1_000_000))
    return [
        _requests("lines that end in CRLF", right, "\r\n".join(lines) + "\r\n"),
        _requests("lines that end in CR, as old Macs wrote", right, "\r".join(lines)),
        _requests("a last line without its end", right, "\n".join(lines)),
        _requests("blank lines", right, "\n\n" + "\n \t\r\n".join(lines) + "\n\n"),
        _requests("no line", "", ""),
        _requests("a line of a megabyte", right, f"{long}\n{lines[1]}"),
        _requests("a line separator in an id", 'asks "a\u2028b"', line('"a\u2028b"')),
        _requests("a next-line character in an id", 'asks "a\x85b"', line('"a\x85b"')),
    ]


# --- ids ------------------------------------------------------------------------------------------


def _ids() -> list[Case]:
    def again(second: str) -> str:
        return f"refused: ids are given again: line 2: the id {second} is that of line 1"

    def two(first: str, second: str) -> str:
        return f"{line(first)}\n{line(second)}\n"

    return [
        _requests("an id twice", again('"a"'), two('"a"', '"a"')),
        _requests("the ids 1 and 1.0", again("1.0"), two("1", "1.0")),
        _requests("the ids 100 and 1e2", again("100.0"), two("100", "1e2")),
        _requests("an id and the same by an escape", again('"a"'), two('"a"', r'"\u0061"')),
        _requests(
            "an id twice, on a line that is wrong otherwise",
            again("1"),
            f'{line("1")}\n{{"id":1,"image":5}}',
        ),
        _requests('the ids 1 and "1"', 'asks 1; asks "1"', two("1", '"1"')),
        _requests(
            "ids that differ by how é is composed",
            'asks "é"; asks "e\u0301"',
            two('"é"', '"e\u0301"'),
        ),
        _requests(
            "ids that double precision would join",
            "asks 9007199254740992; asks 9007199254740993",
            two("9007199254740992", "9007199254740993"),
        ),
        _requests(
            "an id with more digits than double precision",
            "line 1: the number 0.10000000000000000001 has more digits than double precision "
            "(column 7)",
            line("0.10000000000000000001"),
        ),
        _requests("the id NaN", "line 1: NaN is not a JSON value (column 7)", line("NaN")),
        _requests(
            "the id -Infinity",
            "line 1: -Infinity is not a JSON value (column 7)",
            line("-Infinity"),
        ),
        _requests(
            "the id 1e400", "line 1: the number 1e400 is too large (column 7)", line("1e400")
        ),
        _requests(
            "an id of half a surrogate pair",
            r"line 1: the escape \ud83d is half of a surrogate pair, which is not text",
            line(r'"\ud83d"'),
        ),
        _requests("the id true", "line 1: id must be a string or a number", line("true")),
        _requests("the id null", "line 1: id is missing", line("null")),
        _requests("an id that is a list", "line 1: id must be a string or a number", line("[1]")),
    ]


# --- lines that are no requests -------------------------------------------------------------------


def _broken() -> list[Case]:
    return [
        _requests(
            "a line with the key id twice",
            'line 1: the key "id" is given twice; asks 2',
            f"{line('1', NEW_ID)}\n{line('2')}",
        ),
        _requests(
            "a line with a comma at its end",
            "line 1: not valid JSON: Expecting property name enclosed in double quotes (column 9)",
            '{"id":1,}',
        ),
        _requests(
            "a JSON array in place of lines",
            "line 1: not a JSON object",
            f"[{line('1')},{line('2')}]",
        ),
        _requests(
            "a line of a hundred thousand brackets",
            "line 1: not valid JSON: nested too deep",
            "[" * 100_000,
        ),
        _requests(
            "phrases that are one string",
            "line 1: phrases must be a list of strings",
            line("1").replace('["x"]', '"x"'),
        ),
    ]


# --- results that are there already ---------------------------------------------------------------


def _earlier() -> list[Case]:
    one, two = result("1"), result("2")
    foreign = "refused: line 2: "
    return [
        _results("earlier results, one an error", 'asks 2, "2"', f"{one}\n{failed('2')}\n"),
        _results('an earlier answer to 2 beside the id "2"', 'asks 1, "2"', f"{two}\n"),
        _results("a last result cut short by a crash", 'asks 2, "2"', f'{one}\n{{"id":2,"wid'),
        _results("a last result cut in its first key", 'asks 2, "2"', f'{one}\n{{"i'),
        _results("a last result of zeros, as a power cut leaves", 'asks 2, "2"', f"{one}\n\0\0\0"),
        _results("a last result without its line end", 'asks "2"', f"{one}\n{two}"),
        _results("results saved with a byte order mark", 'asks "2"', f"\ufeff{one}\n{two}\n"),
        _results("results saved with CRLF", 'asks "2"', f"{one}\r\n{two}\r\n"),
        _results(
            "a cut line that is not the last",
            foreign.replace("2", "1")
            + "not valid JSON: Unterminated string starting at (column 9)",
            f'{{"id":2,"wid\n{one}\n',
        ),
        _results(
            "notes in place of results",
            "refused: line 1: not valid JSON: Expecting value (column 1)",
            "call Ann about the pictures",
        ),
        _results(
            "a result of another batch",
            f"{foreign}the id 7 is not in requests.jsonl",
            f"{one}\n{result('7')}\n",
        ),
        _results(
            "an error of another batch",
            f"{foreign}the id 7 is not in requests.jsonl",
            f"{one}\n{failed('7')}\n",
        ),
        _results(
            "the requests in place of results",
            f"{foreign}not a result line: width is not as a batch writes it",
            f"{one}\n{line('2')}\n",
        ),
        _results(
            "two answers to one id", f"{foreign}the id 1 is answered on line 1", f"{one}\n{one}\n"
        ),
        _results(
            "a result whose id is NaN",
            f"{foreign}NaN is not a JSON value (column 7)",
            f"{one}\n{result('NaN')}\n",
        ),
    ]


def _unasked() -> list[Case]:
    def see(content: bytes, overwrite: bool, folder: Path) -> str:
        file = folder / "results.jsonl"
        file.write_bytes(content)
        try:
            open_new(file, overwrite=overwrite).close()
        except ResultsRefused as refused:
            return "refused: " + str(refused).replace(f"{folder}/", "")
        return f"a file of {file.stat().st_size} bytes to write to, of {len(content)}"

    def unasked(content: bytes, overwrite: bool = False) -> Callable[[Path], str]:
        return partial(see, content, overwrite)

    refused = (
        "refused: results.jsonl is not empty: --resume keeps its answers and asks only for the "
        "rest, --overwrite replaces it"
    )
    return [
        Case("results that are there, without --resume", refused, unasked(b'{"id":1}\n')),
        Case("a blank line that is there, without --resume", refused, unasked(b"\n")),
        Case("an empty file for results", "a file of 0 bytes to write to, of 0", unasked(b"")),
        Case(
            "results that are there, with --overwrite",
            "a file of 0 bytes to write to, of 9",
            unasked(b'{"id":1}\n', overwrite=True),
        ),
    ]
