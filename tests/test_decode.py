"""Bytes to JSON and back: every digit as it came, and one bad value costs its record, never its page."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from syncer.decode import DEPTH, RECORDS, VALUES, DecodeError, UnfitError, Unparsable, decode, encode, text_of
from syncer.page import Path

steady = settings(derandomize=True, deadline=None, database=None, max_examples=80)


def exact(text: str | bytes) -> Any:
    """What the document means, to the last digit."""
    return json.loads(text, parse_float=Decimal)


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal in type and digits too: 1 is not 1.0, and -0.0 is not 0.0."""
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return type(one) is type(other) and (str(one) == str(other) if isinstance(one, Decimal) else one == other)


# --- exactness ---

LITERALS = [
    "0",
    "-1",
    "9007199254740993",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "-9223372036854775809",
    "18446744073709551615",
    "18446744073709551616",
    "18446744073709551617",
    "-18446744073709551617",
    "9" * 400,
    "9" * 4000,
    "-" + "9" * 4000,
    "1.0",
    "-0.0",
    "0.0",
    "0.10",
    "1.50",
    "0.1234567890123456789012345678901234567891",
    "12345678901234567890.12345678901234567890",
    "-99999999999999999999999999999999.99999999",
    "0.00001",
    "1e+20",
    "1.5e-10",
    "-1.25e+300",
    "0e+400",
    "true",
    "false",
    "null",
    '""',
    '"plain"',
    '"é ☃ 😀"',
    '"\\u0000\\u001f"',
    '"\\\\ \\" \\/ \\n"',
    "[]",
    "{}",
]


@pytest.mark.parametrize("text", LITERALS, ids=lambda text: text[:32])
def test_every_value_is_read_and_written_without_losing_a_digit(text: str) -> None:
    _, (value,) = decode(f'{{"items": [{{"x": {text}}}]}}'.encode(), "items")
    assert same(exact(text), value["x"])
    line = encode(value)
    assert same(exact(text), exact(line)["x"])
    assert b"\n" not in line


@pytest.mark.parametrize("text", [text for text in LITERALS if text[0] in "-0123456789"], ids=lambda text: text[:32])
def test_numbers_are_written_as_they_came(text: str) -> None:
    _, (value,) = decode(f"[{text}]".encode(), "")
    assert text == encode(value).decode()


@pytest.mark.parametrize(
    ("came", "written"),
    [
        ("1e2", "1e+2"),
        ("1E2", "1e+2"),
        ("0.000001", "1e-6"),
        ("0.0000012300", "1.2300e-6"),
        ("0.0000001", "1e-7"),
        ("1.0e-7", "1.0e-7"),
        ("-0", "0"),
        ("1.5e+3", "1.5e+3"),
    ],
)
def test_an_exponent_may_be_written_otherwise_but_with_the_same_digits(came: str, written: str) -> None:
    _, (value,) = decode(f"[{came}]".encode(), "")
    assert written == encode(value).decode()
    assert exact(came) == exact(written)


def test_one_is_not_one_point_zero() -> None:
    _, records = decode(b'[{"a": 1}, {"a": 1.0}, {"a": 1.00}]', "")
    assert [b'{"a":1}', b'{"a":1.0}', b'{"a":1.00}'] == [encode(record) for record in records]


def test_the_names_of_a_record_keep_their_order() -> None:
    _, (record,) = decode(b'[{"z": 1, "a": 2, "m": {"y": 1, "b": 2}}]', "")
    assert b'{"z":1,"a":2,"m":{"y":1,"b":2}}' == encode(record)


def test_of_a_name_that_comes_twice_the_last_value_counts() -> None:
    document = b'{"items": [1], "items": [{"a": 1, "b": 2, "a": 3}]}'
    body, records = decode(document, "items")
    assert [{"a": 3, "b": 2}] == records
    assert body["items"] == records


def test_big_numbers_are_exact_beside_everything_else() -> None:
    record = exact('{"a": [1.10, 18446744073709551617, {"b": 1e5, "c": "x"}], "d": null, "e": [true, -1.0]}')
    assert same(record, exact(encode(record)))


@pytest.mark.parametrize("size", [0, 1, 255, 256, 70_000])
def test_strings_of_any_size_survive(size: int) -> None:
    text = ("é\\u2028\\n\\u0000" * size)[: size * 6]
    _, (record,) = decode(json.dumps([{"x": text}]).encode(), "")
    assert {"x": text} == exact(encode(record))


@pytest.mark.parametrize(
    "text",
    [
        '{"a": {"b": [NaN]}, "a": {}}',
        '{"a": {"b": [NaN]}, "a": {"b": 7}}',
        '{"a": {"b": [NaN]}, "a": {"b": [{"id": 2}]}}',
    ],
)
def test_a_list_with_a_bad_record_that_another_of_its_name_hides_is_not_taken_for_the_records(text: str) -> None:
    with pytest.raises(DecodeError):
        decode(text.encode(), "a.b")


# --- where the records are ---

PLACES: list[tuple[str, Path, list[Any]]] = [
    ('[{"a": 1}]', "", [{"a": 1}]),
    ('[{"a": 1}]', (), [{"a": 1}]),
    ('{"items": []}', "items", []),
    ('{"a": {"b": {"c": [1, 2]}}, "b": [3]}', "a.b.c", [1, 2]),
    ('{"b": {"c": [9]}, "a": {"c": [8], "b": {"c": [1]}}}', "a.b.c", [1]),
    ('{"a.b": [1], "a": {"b": [2]}}', ("a.b",), [1]),
    ('{"a.b": [1], "a": {"b": [2]}}', ("a", "b"), [2]),
    ('{"pages": [{"rows": [0]}, {"rows": [1]}]}', ("pages", 1, "rows"), [1]),
    ('{"pages": [{"rows": [0]}, {"rows": [1]}]}', "pages.1.rows", [1]),
    ("[[1], [2]]", ("1",), [2]),
    ("[[1], [2]]", (1,), [2]),
    ('{"é\\u00e9\\"": [1]}', ('éé"',), [1]),
    ('{"items": {"items": [1]}}', "items.items", [1]),
    ('{"x": "[{\\"items\\": [1, 2]}]", "items": [3]}', "items", [3]),
]


@pytest.mark.parametrize(("text", "path", "expected"), PLACES)
def test_the_records_are_found_at_their_place(text: str, path: Path, expected: list[Any]) -> None:
    assert expected == decode(text.encode(), path)[1]


@pytest.mark.parametrize(("text", "path", "expected"), PLACES)
def test_the_records_are_found_at_the_same_place_when_one_of_them_is_bad(
    text: str, path: Path, expected: list[Any]
) -> None:
    marked = json.dumps(_marked(exact(text), list(path.split(".") if path else ()) if isinstance(path, str) else path))
    _, records = decode(marked.replace('"BAD"', "NaN").encode(), path)
    assert expected == records[:-1]
    assert Unparsable("NaN", "NaN is not JSON") == records[-1]


def _marked(document: Any, path: Any) -> Any:
    """The document with a bad element at the end of the list at the path."""
    if not path:
        return [*document, "BAD"]
    key = int(path[0]) if isinstance(document, list) else path[0]
    document[key] = _marked(document[key], path[1:])
    return document


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("{}", "items"),
        ('{"items": null}', "items"),
        ('{"items": {}}', "items"),
        ('{"items": "[]"}', "items"),
        ('{"items": 3}', "items"),
        ('{"Items": []}', "items"),
        ('{"a": {"items": []}}', "items"),
        ('{"a": []}', "a.b"),
        ('{"items": []}', ""),
        ("null", ""),
        ("7", ""),
        ('"x"', ""),
        ("[]", "items"),
        ("[[1]]", "1"),
    ],
)
def test_a_document_without_a_list_there_is_said_to_have_none(text: str, path: Path) -> None:
    with pytest.raises(DecodeError, match="no list") as caught:
        decode(text.encode(), path)
    assert not caught.value.damaged


@pytest.mark.parametrize("content", [b"", b" ", b"\xef\xbb\xbf", b"<html>", b"{", b"[1, 2", b'[{"a": "b', b"[1] [2]"])
def test_what_is_not_json_is_damaged(content: bytes) -> None:
    with pytest.raises(DecodeError, match="not JSON") as caught:
        decode(content, "")
    assert caught.value.damaged


def test_a_page_that_is_cut_at_any_byte_is_damaged() -> None:
    whole = '{"meta": {"n": 2}, "items": [{"id": 1, "x": "a]},{\\"é"}, {"id": 2.50}], "next": "t"}'.encode()
    assert 2 == len(decode(whole, "items")[1])
    for end in range(len(whole)):
        with pytest.raises(DecodeError) as caught:
            decode(whole[:end], "items")
        assert caught.value.damaged


def test_a_page_with_a_bad_record_that_is_cut_at_any_byte_is_damaged() -> None:
    whole = b'{"items": [{"id": NaN}, {"id": 2}], "next": "t"}'
    assert 2 == len(decode(whole, "items")[1])
    for end in range(len(whole)):
        with pytest.raises(DecodeError) as caught:
            decode(whole[:end], "items")
        assert caught.value.damaged


@pytest.mark.parametrize("text", ['[{"id":1},{"id":2}}', '{"items":[{"id":1},{"id":2}}}', '[{"id":1}}'])
def test_a_list_that_is_closed_by_a_brace_is_damaged(text: str) -> None:
    with pytest.raises(DecodeError) as caught:
        decode(text.encode(), "items" if "items" in text else "")
    assert caught.value.damaged


def test_a_byte_order_mark_is_passed_over() -> None:
    assert [{"a": 1}] == decode(b'\xef\xbb\xbf[{"a": 1}]', "")[1]
    assert [1, Unparsable("NaN", "NaN is not JSON")] == decode(b"\xef\xbb\xbf[1, NaN]", "")[1]


@pytest.mark.parametrize("coding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_another_encoding_is_damage(coding: str) -> None:
    with pytest.raises(DecodeError):
        decode('[{"a": "é"}]'.encode(coding), "")


# --- one bad record ---


def nested(depth: int) -> bytes:
    return b'{"x": ' + b"[" * depth + b"]" * depth + b"}"


BAD: list[tuple[str, bytes, str]] = [
    ("NaN", b'{"x": NaN}', "NaN is not JSON"),
    ("Infinity", b'{"x": Infinity}', "Infinity is not JSON"),
    ("-Infinity", b'{"x": -Infinity}', "-Infinity is not JSON"),
    ("5,000 digits", b'{"x": ' + b"9" * 5000 + b"}", "too many digits"),
    ("an exponent beyond everything", b'{"x": 1e99999999999999999999}', "out of range"),
    ("100,000 levels", nested(100_000), "nested too deep"),
    ("no value", b'{"x": }', "expecting value"),
    ("a word", b"nonsense", "expecting value"),
    ("single quotes", b"{'x': 1}", "expecting property name"),
    ("a control character", b'{"x": "a\nb"}', "invalid control character"),
    ("a bad escape", b'{"x": "\\q"}', "invalid \\escape"),
    ("two values", b'{"x": 1} {"y": 2}', "extra data"),
    ("a leading zero", b'{"x": 007}', "expecting"),
    ("a comment", b'{"x": 1 /* one */}', "expecting"),
    ("a bracket too many", b'{"x": [1}}', "expecting"),
]


@pytest.mark.parametrize(("bad", "problem"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
@pytest.mark.parametrize("place", [0, 1, 2], ids=["first", "middle", "last"])
def test_a_record_that_is_not_json_costs_only_itself(bad: bytes, problem: str, place: int) -> None:
    good = [b'{"id": 1, "price": 1.10}', b'{"id": 18446744073709551617, "s": "]},{[\\""}']
    elements = [*good[:place], bad, *good[place:]]
    body, records = decode(b'{"next": "t2", "items": [' + b", ".join(elements) + b'], "n": 3}', "items")
    assert ("t2", 3) == (body["next"], body["n"])
    found = records[place]
    assert same([exact(one) for one in good], [*records[:place], *records[place + 1 :]])
    assert isinstance(found, Unparsable)
    assert problem in found.problem
    assert bad.decode() == found.text


def test_a_page_of_bad_records_is_a_page() -> None:
    assert 3 == len(decode(b"[NaN, Infinity, x]", "")[1])
    assert [Unparsable("NaN", "NaN is not JSON")] * 50 == decode(b"[" + b",".join([b"NaN"] * 50) + b"]", "")[1]


def test_bytes_that_are_no_utf_8_cost_only_their_record() -> None:
    content = b'[{"id": 1}, {"id": 2, "x": "caf\xe9"}, {"id": 3, "x": "caf\xc3\xa9"}]'
    _, records = decode(content, "")
    assert {"id": 1} == records[0]
    assert {"id": 3, "x": "café"} == records[2]
    with pytest.raises(UnfitError) as caught:
        encode(records[1])
    assert ("lone_surrogate", ("x",)) == (caught.value.kind, caught.value.path)


def test_bytes_that_are_no_utf_8_are_shown_in_plain_ascii_where_the_record_is_no_json_either() -> None:
    _, (found,) = decode(b'[{"x": "\xff\xc3", "y": NaN}]', "")
    assert Unparsable('{"x": "\\udcff\\udcc3", "y": NaN}', "NaN is not JSON") == found


@pytest.mark.parametrize(
    ("text", "kind", "path"),
    [
        ('{"a": "\\ud800"}', "lone_surrogate", ("a",)),
        ('{"a": ["x", {"b": "x\\udfffy"}]}', "lone_surrogate", ("a", 1, "b")),
        ('{"a": {"\\ud800": 1}}', "lone_surrogate", ("a",)),
        ('{"a": 1e400}', "number_out_of_range", ("a",)),
        ('{"a": [1, -1e400]}', "number_out_of_range", ("a", 1)),
        ('{"a": 1e-400}', "number_out_of_range", ("a",)),
        ('{"a": 18446744073709551617, "b": {"c": 1e400}}', "number_out_of_range", ("b", "c")),
        ('{"a": 1.1, "b": {"c": "\\ud800"}}', "lone_surrogate", ("b", "c")),
    ],
)
def test_a_value_that_no_reader_can_take_is_named_with_its_place(
    text: str, kind: str, path: tuple[str | int, ...]
) -> None:
    _, (good, record) = decode(f'[{{"id": 1}}, {text}]'.encode(), "")
    assert {"id": 1} == good
    with pytest.raises(UnfitError) as caught:
        encode(record)
    assert (kind, path) == (caught.value.kind, caught.value.path)


@pytest.mark.parametrize(
    "text", ["1e307", "1e308", "1.7976931348623157e308", "1e-307", "2.2250738585072014e-308", "4.9E-324", "0e9999"]
)
def test_what_a_double_can_hold_can_be_written(text: str) -> None:
    _, (value,) = decode(f"[{text}]".encode(), "")
    assert exact(text) == exact(encode(value))


@pytest.mark.parametrize("text", ['"😀"', '"\\ud83d\\ude00"'])
def test_a_whole_surrogate_pair_is_a_character(text: str) -> None:
    _, (value,) = decode(f"[{text}]".encode(), "")
    assert '"😀"' == encode(value).decode()


@pytest.mark.parametrize("depth", [1, 50, DEPTH - 10])
@pytest.mark.parametrize("inside", ["1", "1.5", "18446744073709551617"])
def test_what_is_nested_within_reason_is_written(depth: int, inside: str) -> None:
    text = "[" * depth + inside + "]" * depth
    _, (value,) = decode(f"[{text}]".encode(), "")
    assert text == encode(value).decode()


@pytest.mark.parametrize("depth", [DEPTH + 1, 220, 250, 255, 300, 900])
@pytest.mark.parametrize("inside", ["1", "1.5", "18446744073709551617"])
def test_what_is_nested_deeper_than_readers_go_is_not_written(depth: int, inside: str) -> None:
    text = '{"x": ' + "[" * depth + inside + "]" * depth + "}"
    _, (good, value) = decode(f'[{{"id": 1}}, {text}]'.encode(), "")
    assert {"id": 1} == good
    with pytest.raises(UnfitError) as caught:
        encode(value)
    assert "too_deep" == caught.value.kind


@pytest.mark.parametrize(
    "text",
    ['{"a": 12.50, "x": 1e400}', '{"a": 18446744073709551617, "x": "\\ud800"}', '{"x": [0.10, "\\udcff", null, true]}'],
)
def test_the_text_of_a_record_without_a_line_means_the_same_value(text: str) -> None:
    value = exact(text)
    saved = text_of(value)
    assert saved.isascii()
    assert same(value, exact(saved))


def test_the_text_of_an_unparsable_record_is_what_came() -> None:
    assert '{"x": NaN}' == text_of(Unparsable('{"x": NaN}', "NaN is not JSON"))


# --- everything at random ---

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**60), 10**60)
    | st.from_regex(r"-?(0|[1-9][0-9]{0,30})\.[0-9]{1,30}", fullmatch=True).map(Decimal)
    | st.text()
    | st.sampled_from(['"', "\\", "]", "},{", "[", '\\"', "NaN", "\u2028"])
)
documents = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4)
)


class Digits(json.JSONEncoder):
    """JSON of Decimals as numbers, for making documents that nobody else makes here."""

    def encode(self, o: Any) -> str:
        if isinstance(o, dict):
            return "{" + ", ".join(f"{json.dumps(key)}: {self.encode(item)}" for key, item in o.items()) + "}"
        if isinstance(o, list):
            return "[" + ",".join(map(self.encode, o)) + " ]"
        return str(o) if isinstance(o, Decimal) else json.dumps(o)


dumps = Digits().encode


@steady
@given(records=st.lists(documents, max_size=5), around=st.dictionaries(st.text(max_size=3), documents, max_size=3))
def test_any_document_is_read_as_it_is(records: list[Any], around: dict[str, Any]) -> None:
    document = {**around, "items": records}
    body, found = decode(dumps(document).encode(), "items")
    assert same(records, list(found))
    assert same({key: value for key, value in document.items() if key != "items"}, without(body))


@steady
@given(
    records=st.lists(documents, max_size=5),
    around=st.dictionaries(st.text(max_size=3), documents, max_size=3),
    place=st.integers(0, 5),
)
def test_any_document_with_one_bad_record_is_read_as_it_is_but_for_that(
    records: list[Any], around: dict[str, Any], place: int
) -> None:
    document = {**around, "deep": {"items": [*records[:place], "BAD RECORD", *records[place:]]}, "end": around}
    text = dumps(document).replace('"BAD RECORD"', '{"x": NaN}')
    body, found = decode(text.encode(), "deep.items")
    assert Unparsable('{"x": NaN}', "NaN is not JSON") == found.pop(min(place, len(records)))
    assert same(records, found)
    assert same({**around, "end": around}, {key: value for key, value in body.items() if key != "deep"})


def without(body: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in body.items() if key != "items"}


@steady
@given(record=documents)
def test_every_line_that_is_written_means_the_value_that_was_read(record: Any) -> None:
    _, (value,) = decode(f"[{dumps(record)}]".encode(), "")
    line = encode(value)
    assert same(value, exact(line))
    assert b"\n" not in line
    assert same(value, decode(b"[" + line + b"]", "")[1][0])


PAGE = (
    '{"meta": {"n": 3, "x": [1.5]}, "items": [{"id": 1, "s": "a\\"]}é"}, {"id": 2, "l": [[], {}]}, null], "next": "t"}'
).encode()


@settings(steady, max_examples=500)
@given(
    changes=st.lists(st.tuples(st.integers(0, len(PAGE) - 1), st.integers(0, 255)), max_size=4),
    cut=st.none() | st.integers(0, len(PAGE)),
    extra=st.binary(max_size=3),
)
@example(changes=[], cut=None, extra=b"")
def test_a_page_that_was_mangled_on_the_way_gives_records_or_a_decode_error(
    changes: list[tuple[int, int]], cut: int | None, extra: bytes
) -> None:
    content = bytearray(PAGE)
    for at, byte in changes:
        content[at] = byte
    mangled = bytes(content[:cut]) + extra
    for path in ("items", "", "meta.x", ("items", 1, "l")):
        try:
            _, records = decode(mangled, path)
        except DecodeError:
            continue
        for record in records:
            try:
                assert isinstance(record, Unparsable) or same(record, exact(encode(record)))
            except UnfitError:
                assert text_of(record).isascii()


@steady
@given(st.binary(max_size=60) | st.text(alphabet='[]{}",:\\ 1eNaI-.u', max_size=60).map(str.encode))
def test_any_bytes_give_records_or_a_decode_error(content: bytes) -> None:
    for path in ("", "a", "a.b", (0,)):
        try:
            _, records = decode(content, path)
        except DecodeError:
            continue
        assert isinstance(records, list)


# --- in one go ---

FIVE_MEGABYTES = 5_000_000
TOKENS = 300_000


@pytest.mark.timeout(15)
@pytest.mark.parametrize(
    "content",
    [
        b'["' + b'\\"' * (FIVE_MEGABYTES // 2),
        b'["' + b'\\"' * (FIVE_MEGABYTES // 2) + b'"',
        b'["' + b'\\"' * (FIVE_MEGABYTES // 2) + b"\\",
        b'["' + b"\\" * (FIVE_MEGABYTES + 1),
        b'"' * TOKENS,
        b'"' * (TOKENS - 1),
        b"\\" * FIVE_MEGABYTES,
        b"[" * TOKENS,
        b"{" * TOKENS,
        b"[NaN" + b",1" * TOKENS,
        b'{"a":' * (TOKENS // 3),
        b'["a' * TOKENS,
        b'{"items": [' + b"[" * 100_000 + b"][" * TOKENS,
        b"\xff" * TOKENS,
    ],
    ids=[
        "escaped quotes",
        "escaped quotes, closed",
        "escaped quotes, cut after a backslash",
        "backslashes in a string",
        "quotes, even",
        "quotes, odd",
        "backslashes",
        "brackets",
        "braces",
        "elements",
        "objects",
        "strings",
        "brackets, deep down and on",
        "no text",
    ],
)
def test_megabytes_of_nonsense_are_read_in_one_go(content: bytes) -> None:
    with pytest.raises(DecodeError):
        decode(content, "items")
    with pytest.raises(DecodeError):
        decode(content, "")


# --- how much a page may hold ---


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"items": [' + b"0," * RECORDS + b"0]}", f"{RECORDS + 1:,} records"),
        (b'{"items": [], "other": [' + b"[]," * (VALUES // 2) + b"[]]}", f"more than {VALUES:,} values"),
    ],
    ids=["records", "values"],
)
def test_a_page_that_would_not_fit_into_memory_is_refused(content: bytes, words: str) -> None:
    with pytest.raises(DecodeError, match=words) as caught:
        decode(content, "items")
    assert not caught.value.damaged


def test_a_page_with_as_many_records_as_allowed_is_taken() -> None:
    assert RECORDS == len(decode(b"[" + b"0," * (RECORDS - 1) + b"0]", "")[1])
