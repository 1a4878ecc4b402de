"""The hand-written scan agrees with protobuf on everything it reads."""

from __future__ import annotations

import math

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from router._pb.inference_pb2 import InferParameter, ModelInferRequest
from router.errors import MalformedRequestError
from router.gateway.oip.wire import MAX_FIELDS, MAX_ODD_PARAMETERS, MAX_TEXT_BYTES, scan, with_model
from tests.examples import examples

WANTED = ["max_tokens", "max_output_tokens", "max_new_tokens", "input_tokens", "prompt_tokens"]
SEQUENCE = ["sequence_id", "sequence_start", "sequence_end"]


def shallow_class():
    """ModelInferRequest with its submessages as bytes: protobuf's verdict on the top level only."""
    file = descriptor_pb2.FileDescriptorProto(name="shallow.proto", package="t", syntax="proto3")
    message = file.message_type.add(name="Shallow")
    kinds = descriptor_pb2.FieldDescriptorProto
    for number, name in enumerate(["model_name", "model_version", "id"], start=1):
        message.field.add(
            name=name, number=number, type=kinds.TYPE_STRING, label=kinds.LABEL_OPTIONAL
        )
    for number, name in enumerate(["parameters", "inputs", "outputs", "raw"], start=4):
        message.field.add(
            name=name, number=number, type=kinds.TYPE_BYTES, label=kinds.LABEL_REPEATED
        )
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.Shallow"))


Shallow = shallow_class()

values = st.one_of(
    st.builds(InferParameter, bool_param=st.booleans()),
    st.builds(InferParameter, int64_param=st.integers(-(2**63), 2**63 - 1)),
    st.builds(InferParameter, uint64_param=st.integers(0, 2**64 - 1)),
    st.builds(InferParameter, double_param=st.floats()),
    st.builds(InferParameter, string_param=st.text(max_size=200)),
    st.builds(InferParameter),
)
keys = st.one_of(st.sampled_from(WANTED + SEQUENCE), st.text(max_size=300))
requests = st.builds(
    ModelInferRequest,
    model_name=st.text(min_size=1, max_size=300),
    model_version=st.text(max_size=20),
    id=st.text(max_size=200),
    parameters=st.dictionaries(keys, values, max_size=6),
    inputs=st.lists(
        st.builds(
            ModelInferRequest.InferInputTensor,
            name=st.text(max_size=8),
            datatype=st.sampled_from(["FP32", "BYTES"]),
            shape=st.lists(st.integers(-1, 2**40), max_size=3),
            parameters=st.dictionaries(keys, values, max_size=2),
        ),
        max_size=3,
    ),
    raw_input_contents=st.lists(st.binary(max_size=300), max_size=3),
)


def expected(request):
    """The same facts by the obvious way."""

    def value(name):
        parameter = request.parameters[name] if name in request.parameters else InferParameter()
        choice = parameter.WhichOneof("parameter_choice")
        return getattr(parameter, choice) if choice else None

    def tokens(names):
        found = [value(name) for name in names if name in request.parameters]
        good = [
            float(v)
            for v in found
            if isinstance(v, int | float) and not isinstance(v, bool) and 0 < v < math.inf
        ]
        return good, len(good) < len(found)

    (counts, odd_count), (limits, odd_limit) = tokens(WANTED[3:]), tokens(WANTED[:3])

    sequence = value("sequence_id")
    is_id = isinstance(sequence, int | str) and not isinstance(sequence, bool)
    return (
        request.model_name,
        request.model_version,
        request.id,
        str(sequence) if is_id and sequence else "",
        bool(value("sequence_start")),
        bool(value("sequence_end")),
        max(counts, default=math.nan),
        min(limits, default=math.inf),
        [
            name
            for name, odd in (
                ("input_tokens_ignored", odd_count),
                ("output_limit_ignored", odd_limit),
            )
            if odd
        ],
    )


def found(data):
    *facts, ignored, _prompt, _prompt_bytes, _deadline_s = scan(data)
    return (*facts, sorted(ignored))


@given(requests)
def test_the_prompt_lies_in_the_longest_tensor(request):
    data = request.SerializeToString()
    first, stop = scan(data).prompt
    raw = request.raw_input_contents
    if any(raw):
        assert data[first:stop] == max(raw, key=len)
    else:
        # None of these messages has a tensor inside its inputs.
        assert first == stop


@given(requests)
def test_agrees_with_protobuf_on_any_message(request):
    assert repr(found(request.SerializeToString())) == repr(expected(request))


@given(st.lists(requests, min_size=2, max_size=4))
def test_concatenated_messages_merge_as_protobuf_merges_them(parts):
    data = b"".join(part.SerializeToString() for part in parts)
    assert repr(found(data)) == repr(expected(ModelInferRequest.FromString(data)))


def check_against_shallow(data):
    try:
        twin = Shallow.FromString(data)
    except DecodeError:
        twin = None
    try:
        prefix = scan(data)
    except MalformedRequestError:
        if twin is not None and twin.model_name:
            with pytest.raises(DecodeError):
                ModelInferRequest.FromString(data)
        return
    assert twin is not None
    assert (prefix.model, prefix.version, prefix.request_id) == (
        twin.model_name,
        twin.model_version,
        twin.id,
    )


@settings(max_examples=examples(80))
@given(st.binary(max_size=60))
def test_random_bytes_are_accepted_or_refused_as_protobuf_does(data):
    check_against_shallow(data)


@settings(max_examples=examples(80))
@given(
    requests.map(ModelInferRequest.SerializeToString),
    st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), min_size=1, max_size=3),
    st.integers(0, 4000),
)
def test_damaged_messages_are_accepted_or_refused_as_protobuf_does(data, damage, cut):
    damaged = bytearray(data)
    for position, byte in damage:
        damaged[position % len(damaged)] = byte
    check_against_shallow(bytes(damaged))
    check_against_shallow(bytes(damaged[: cut % len(damaged)]))


fields = st.lists(
    st.tuples(st.integers(0, 20), st.integers(0, 7), st.binary(max_size=12)), max_size=6
)


@settings(max_examples=examples(80))
@given(fields)
def test_odd_fields_are_accepted_or_refused_as_protobuf_does(parts):
    data = b"\x0a\x01m"
    for number, kind, body in parts:
        tag = number << 3 | kind
        data += bytes((tag & 0x7F | 0x80, tag >> 7)) if tag > 0x7F else bytes((tag,))
        data += bytes((len(body),)) + body if kind == 2 else body
    check_against_shallow(data)


@pytest.mark.parametrize(
    ("data", "where"),
    [
        (b"", "model_name is empty"),
        (b"\x12\x01v", "model_name is empty"),
        (b"\x0a\x05mod", "byte 0: field 1 is longer than the message"),
        (b"\x0a\x01m\x3a\xff\xff\xff\xff\x07ab", "byte 3: field 7 is longer"),
        (b"\x0a\x01m\x0a", "byte 4: the message ends inside a field"),
        (b"\x0a\x01m\x3d\x00", "the message ends inside a field"),
        (b"\x0a\x01m\x0f", "byte 3: wire type 7"),
        (b"\x0a\x01m\x0c", "byte 3: wire type 4"),
        (b"\x0a\x01m\x02\x00", "byte 3: field number 0"),
        (b"\x0a\x01m\xff\xff\xff\xff\xff\x7f", "byte 3: a number is too large"),
        (b"\x0a\x02\xff\xfe", "byte 0: field 1 is not valid UTF-8"),
        (b"\x0a\x01m\x1a\x01\xff", "byte 3: field 3 is not valid UTF-8"),
        (b"\x0a\x01\xff\x0a\x01m", "byte 0: field 1 is not valid UTF-8"),
        (b"\x0a\x81\x08" + b"m" * 1025, "1024 characters"),
        (b"\x0a\x01m\x1a\x81\x08" + b"i" * 1025, "1024 characters"),
    ],
)
def test_says_where_a_message_is_malformed(data, where):
    with pytest.raises(MalformedRequestError, match=where):
        scan(data)


def tag(number, kind):
    value, out = number << 3 | kind, b""
    while value > 0x7F:
        out += bytes((value & 0x7F | 0x80,))
        value >>= 7
    return out + bytes((value,))


inside = st.recursive(
    st.lists(
        st.one_of(
            st.builds(lambda n: tag(n, 0) + b"\x05", st.integers(0, 40)),
            st.builds(lambda n: tag(n, 1) + bytes(8), st.integers(0, 40)),
            st.builds(lambda n: tag(n, 5) + bytes(4), st.integers(0, 40)),
            st.builds(lambda n: tag(n, 2) + b"\x02\xff\xfe", st.integers(0, 40)),
            st.builds(lambda n: tag(n, 0) + b"\xff" * 9 + b"\x7f", st.integers(1, 40)),
        ),
        max_size=3,
    ).map(b"".join),
    lambda body: st.builds(
        lambda n, b, off: tag(n, 3) + b + tag(n + off, 4),
        st.integers(0, 40),
        body,
        st.sampled_from((0, 0, 0, 1)),
    ),
    max_leaves=4,
)


@given(st.sampled_from((1, 4, 5, 9, 20, 40)), inside, st.integers(0, 60))
def test_groups_are_skipped_or_refused_as_protobuf_does(number, body, cut):
    whole = b"\x0a\x01m" + tag(number, 3) + body + tag(number, 4)
    for data in (whole, whole[: 3 + cut]):
        try:
            ModelInferRequest.FromString(data)
        except DecodeError:
            with pytest.raises(MalformedRequestError):
                scan(data)
        else:
            assert scan(data).model == "m"


@pytest.mark.parametrize("depth", [100, 101])
def test_groups_nest_as_deep_as_protobuf_takes_them(depth):
    data = b"\x0a\x01m" + b"\x4b" * depth + b"\x4c" * depth
    if depth == 100:
        assert scan(data).model == ModelInferRequest.FromString(data).model_name
    else:
        with pytest.raises(MalformedRequestError, match="too deep"):
            scan(data)


def test_long_sequence_id_is_refused():
    request = ModelInferRequest(model_name="m")
    request.parameters["sequence_id"].string_param = "s" * 257
    with pytest.raises(MalformedRequestError, match="sequence_id exceeds"):
        scan(request.SerializeToString())


ODD = b"\x22\x10" + b"\x12\x02\x10\x05" + b"\x0a\x0amax_tokens"  # the value before its key
NAME = b"\x0a\x80\x08" + b"m" * 1024


@pytest.mark.parametrize(
    ("allowed", "one_more", "why"),
    [
        (b"\x3a\x00" * (MAX_FIELDS - 1), b"\x3a\x00", "top-level fields"),
        (b"\x4b" + b"\x3a\x00" * (MAX_FIELDS - 3) + b"\x4c", b"\x4b\x4c", "top-level fields"),
        (ODD * MAX_ODD_PARAMETERS, ODD, "unusual way"),
        (NAME * (MAX_TEXT_BYTES // 1024 - 1), NAME, "together"),
    ],
)
def test_what_costs_time_is_limited(allowed, one_more, why):
    assert scan(b"\x0a\x01m" + allowed).model
    with pytest.raises(MalformedRequestError, match=why):
        scan(b"\x0a\x01m" + allowed + one_more)


def test_a_name_that_is_too_large_is_refused_before_it_is_decoded():
    with pytest.raises(MalformedRequestError, match="together"):
        scan(b"\x0a\xff\xff\x07" + b"\xff" * 0x1FFFF)


def test_key_order_and_duplicate_names_do_not_matter():
    request = ModelInferRequest(model_name="m")
    request.parameters["max_tokens"].int64_param = 300
    request.parameters["max_new_tokens"].int64_param = 100
    request.parameters["prompt_tokens"].uint64_param = 7
    assert scan(request.SerializeToString()).max_output_tokens == 100.0
    assert scan(request.SerializeToString()).input_tokens == 7.0


@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, -math.inf, math.nan])
def test_what_is_no_count_is_left_out_and_said_so(value):
    request = ModelInferRequest(model_name="m")
    request.parameters["max_tokens"].double_param = value
    request.parameters["input_tokens"].double_param = value
    request.parameters["max_new_tokens"].int64_param = 40
    prefix = scan(request.SerializeToString())
    assert math.isnan(prefix.input_tokens)
    assert prefix.max_output_tokens == 40.0
    assert set(prefix.ignored) == {"input_tokens_ignored", "output_limit_ignored"}


@pytest.mark.parametrize(
    ("given_value", "expected"),
    [({"int64_param": 90}, 90.0), ({"double_param": 1.5}, 1.5), ({"string_param": "60"}, 60.0)],
)
def test_a_deadline_is_read_however_it_is_given(given_value, expected):
    request = ModelInferRequest(model_name="m")
    request.parameters["deadline-s"].CopyFrom(InferParameter(**given_value))
    assert scan(request.SerializeToString()).deadline_s == expected


@pytest.mark.parametrize(
    "given_value", [{"int64_param": 0}, {"string_param": "soon"}, {"bool_param": True}]
)
def test_a_deadline_that_is_none_is_told(given_value):
    request = ModelInferRequest(model_name="m")
    request.parameters["deadline-s"].CopyFrom(InferParameter(**given_value))
    with pytest.raises(MalformedRequestError, match="deadline-s"):
        scan(request.SerializeToString())


@given(st.text(min_size=1, max_size=300), st.binary(max_size=64))
def test_a_message_for_another_model_is_else_the_same(name, contents):
    asked = ModelInferRequest(model_name="old", id="r1", raw_input_contents=[contents])
    changed = with_model(asked.SerializeToString(), name)
    asked.model_name = name
    assert ModelInferRequest.FromString(changed) == asked
    assert scan(changed).model == name
