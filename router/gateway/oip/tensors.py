"""Where a prompt lies in a serialized ModelInferRequest: in its longest input tensor.

Tensors stand beside the inputs (``raw_input_contents``), which `router.gateway.oip.wire` sees, or
inside them, as it is here. Nothing is copied or decoded; what is no tensor is no prompt.
"""

from __future__ import annotations

from router.director import NO_PROMPT, Prompt
from router.gateway.caller import NOWHERE

# Of InferInputTensor: its contents; of those the one field that holds the tensor.
_CONTENTS = 0x2A
# A tensor has a name, a type, a shape, a few parameters; a batch of texts as many fields as texts.
_MOST_FIELDS = 64
_BYTES = 2


def inline_tensor(data: bytes, first: int, stop: int) -> tuple[int, int]:
    """Where the longest field of the contents of the InferInputTensor at ``first:stop`` lies."""
    if first >= stop:
        return NOWHERE
    try:
        contents = _longest(data, first, stop, _CONTENTS)
        return _longest(data, *contents, 0)
    except IndexError:
        return NOWHERE


def prompt_of(payload: bytes, tensor: tuple[int, int], session: str) -> Prompt:
    """The prompt of a message. Of a BYTES tensor with one element the text alone: the length before
    it differs from prompt to prompt."""
    first, stop = tensor
    if first == stop and not session:
        return NO_PROMPT
    size = stop - first - 4
    if size >= 0 and int.from_bytes(payload[first : first + 4], "little") == size:
        first += 4
    return Prompt(payload, first, stop, session)


def _longest(data: bytes, pos: int, stop: int, wanted: int) -> tuple[int, int]:
    """The longest field of bytes, of those with the tag ``wanted`` unless that is 0. IndexError
    where it is not there to its end."""
    found = NOWHERE
    for _ in range(_MOST_FIELDS):
        if pos >= stop:
            break
        tag = data[pos]
        kind = tag & 7
        size, pos = _varint(data, pos + 1) if kind in (0, _BYTES) else (0, pos + 1)
        if kind == _BYTES:
            if pos + size > stop:
                raise IndexError
            if wanted in (0, tag) and size > found[1] - found[0]:
                found = (pos, pos + size)
            pos += size
        elif kind == 1:
            pos += 8
        elif kind == 5:
            pos += 4
        elif kind != 0:
            raise IndexError
    return found


def _varint(data: bytes, pos: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[pos]
        pos += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, pos
    raise IndexError
