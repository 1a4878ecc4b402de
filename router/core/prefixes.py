# mypy: disable-error-code="no-untyped-def, no-untyped-call"
"""Which beginnings of prompts a server has cached, as far as can be told from what was sent there.

A prompt is a chain of *blocks*: the key of each stands for itself and everything before it, so that
two prompts share as many keys as whole blocks of their beginnings are the same (vLLM and the public
traces name blocks alike). A server keeps the blocks that were used last. So does each of the caches
here; several lie in the same arrays. The blocks of a prompt are used from its last to its first:
of a chain the end is forgotten first, and how much of it is there is found by halving.

Compiled, for the gateway and for the simulator, whose replicas keep blocks in such caches, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from router.core.jit import BYTES, entry, inlined

# What of a prompt's bytes is one block: some 128 tokens of text.
CHUNK_BYTES: Final = 512
CHUNK_TOKENS: Final = 128
# Of one prompt so many blocks are looked at, 4 MiB: what comes after is never expected cached.
MOST_BLOCKS: Final = 8_192

# Columns of `Caches.slots`, open addressing, of `Caches.entries`, and of `Caches.states`. MASK:
# slots less 1; MOST, COUNT: entries; FREE: head of those that were given up, linked by OLDER.
KEY, ENTRY = range(2)
ENTRY_KEY, NEWER, OLDER = range(3)
FIRST_SLOT, MASK, FIRST_ENTRY, MOST, COUNT, NEWEST, OLDEST, FREE, UNUSED, STATE = range(10)

# Columns of a cache's belief. TRUST: how much of what ought to be cached was, by reports.
# SHARE: of what runs there, how much is ours: others' prompts take their part of its memory.
TRUST, SHARE, BELIEFS = range(3)
# Of one report, or one request, so much: a memory of about ten, and of about fifty.
_TRUST_WEIGHT = 0.1
_SHARE_WEIGHT = 0.02
# A share that falls drops no cache altogether.
_LEAST_SHARE = 0.05

_CACHES = "i8[:,::1], i8[:,::1], i8[:,::1]"
Keys = NDArray[np.int64]
NO_KEYS: Final[Keys] = np.empty(0, np.int64)


class Caches(NamedTuple):
    """Some caches. ``slots`` (slots, 2), ``entries`` (entries, 3), ``states`` (caches, STATE)."""

    slots: NDArray[np.int64]
    entries: NDArray[np.int64]
    states: NDArray[np.int64]


def build_caches(blocks: Sequence[int]) -> Caches:
    """Empty ones that hold so many blocks each; 0 where nothing is ever cached."""
    states = np.zeros((len(blocks), STATE), np.int64)
    slot = first = 0
    for place, most in enumerate(blocks):
        size = 1 << max(1, (2 * most - 1).bit_length())
        states[place, :4] = slot, size - 1, first, most
        states[place, [NEWEST, OLDEST, FREE]] = -1
        slot, first = slot + size, first + most
    return Caches(np.zeros((slot, 2), np.int64), np.zeros((max(first, 1), 3), np.int64), states)


@inlined
def _find(slots, states, cache, key):
    """The slot of ``key``, counted from the cache's first; -1 where it is not there."""
    base, mask = states[cache, FIRST_SLOT], states[cache, MASK]
    at = key & mask
    while True:
        found = slots[base + at, KEY]
        if found == key:
            return at
        if found == 0:
            return -1
        at = (at + 1) & mask


@inlined
def _unlink(entries, states, cache, at):
    """Take the entry at row ``at`` out of the order of use."""
    first = states[cache, FIRST_ENTRY]
    newer, older = entries[at, NEWER], entries[at, OLDER]
    if newer >= 0:
        entries[first + newer, OLDER] = older
    else:
        states[cache, NEWEST] = older
    if older >= 0:
        entries[first + older, NEWER] = newer
    else:
        states[cache, OLDEST] = newer


@inlined
def _link(entries, states, cache, at):
    """Make the entry at row ``at`` the newest."""
    first, before = states[cache, FIRST_ENTRY], states[cache, NEWEST]
    entries[at, NEWER], entries[at, OLDER] = -1, before
    if before >= 0:
        entries[first + before, NEWER] = at - first
    else:
        states[cache, OLDEST] = at - first
    states[cache, NEWEST] = at - first


@inlined
def _drop_oldest(slots, entries, states, cache):
    """Forget the block that was used longest ago."""
    base, mask = states[cache, FIRST_SLOT], states[cache, MASK]
    number = states[cache, OLDEST]
    at = states[cache, FIRST_ENTRY] + number
    hole = _find(slots, states, cache, entries[at, ENTRY_KEY])
    # What was put further on because this slot was taken moves up.
    i = hole
    while True:
        i = (i + 1) & mask
        key = slots[base + i, KEY]
        if key == 0:
            break
        if ((i - (key & mask)) & mask) >= ((i - hole) & mask):
            slots[base + hole, KEY] = key
            slots[base + hole, ENTRY] = slots[base + i, ENTRY]
            hole = i
    slots[base + hole, KEY] = 0
    _unlink(entries, states, cache, at)
    entries[at, OLDER] = states[cache, FREE]
    states[cache, FREE] = number
    states[cache, COUNT] -= 1


@inlined
def _insert(slots, entries, states, cache, key):
    base, mask = states[cache, FIRST_SLOT], states[cache, MASK]
    number = states[cache, FREE]
    if number >= 0:
        states[cache, FREE] = entries[states[cache, FIRST_ENTRY] + number, OLDER]
    else:
        number = states[cache, COUNT]
    at = states[cache, FIRST_ENTRY] + number
    states[cache, COUNT] += 1
    entries[at, ENTRY_KEY] = key
    _link(entries, states, cache, at)
    i = key & mask
    while slots[base + i, KEY] != 0:
        i = (i + 1) & mask
    slots[base + i, KEY] = key
    slots[base + i, ENTRY] = number


@inlined
def _use(slots, entries, states, cache, key):
    """Make a block the newest; whether it is there."""
    slot = _find(slots, states, cache, key)
    if slot < 0:
        return False
    number = slots[states[cache, FIRST_SLOT] + slot, ENTRY]
    at = states[cache, FIRST_ENTRY] + number
    if states[cache, NEWEST] != number:
        _unlink(entries, states, cache, at)
        _link(entries, states, cache, at)
    return True


@entry(f"i8({_CACHES}, i8, i8[::1], i8, i8)")
def matched(slots, entries, states, cache, keys, first, stop):
    """How many blocks of the chain ``keys[first:stop]`` are there, from its beginning on."""
    if first >= stop or states[cache, COUNT] == 0 or _find(slots, states, cache, keys[first]) < 0:
        return 0
    there, gone = 1, stop - first + 1
    while there + 1 < gone:
        middle = (there + gone) >> 1
        if _find(slots, states, cache, keys[first + middle - 1]) >= 0:
            there = middle
        else:
            gone = middle
    return there


@entry(f"void({_CACHES}, i8, i8[::1], i8, i8, f8)")
def keep(slots, entries, states, cache, keys, first, stop, share):
    """The chain ``keys[first:stop]`` was used: as much of it as there is room for is there now, and
    what was used longest ago is not. ``share``: of all room, that which is to be had.
    """
    room = np.int64(states[cache, MOST] * share)
    stop = min(stop, first + room)
    # Those that are there must not make way for the rest of their own chain.
    here = first
    while here < stop and _find(slots, states, cache, keys[here]) >= 0:
        here += 1
    for i in range(here - 1, first - 1, -1):
        _use(slots, entries, states, cache, keys[i])
    for i in range(stop - 1, first - 1, -1):
        if not _use(slots, entries, states, cache, keys[i]):
            while states[cache, COUNT] >= room:
                _drop_oldest(slots, entries, states, cache)
            _insert(slots, entries, states, cache, keys[i])
    while states[cache, COUNT] > room:
        _drop_oldest(slots, entries, states, cache)


@entry(f"void({_CACHES}, i8)")
def clear(slots, entries, states, cache):
    """Nothing is cached any more."""
    base = states[cache, FIRST_SLOT]
    for i in range(base, base + states[cache, MASK] + 1):
        slots[i, KEY] = 0
    states[cache, COUNT] = 0
    states[cache, NEWEST] = states[cache, OLDEST] = states[cache, FREE] = -1


@entry(f"void({_CACHES}, i8, {_CACHES}, i8)")
def transfer(slots, entries, states, cache, to_slots, to_entries, to_states, to_cache):
    """Put all that is in one cache into another one, empty and as large, in the same order."""
    first, number = states[cache, FIRST_ENTRY], states[cache, OLDEST]
    while number >= 0:
        _insert(to_slots, to_entries, to_states, to_cache, entries[first + number, ENTRY_KEY])
        number = entries[first + number, NEWER]


@entry("f8(f8, f8, f8, f8)")
def cached_tokens(blocks, block_tokens, input_tokens, server_block):
    """Tokens of a prompt that a server with so many ``blocks`` of it need not read: whole ones of
    its own blocks, and never the last token, without which there is no answer."""
    most = min(blocks * block_tokens, input_tokens - 1.0)
    return max(0.0, np.floor(most / server_block) * server_block)


@entry(f"void({_CACHES}, f8[:,::1], i8, i8[::1], i8, i8, f8, f8, f8[::1], f8[::1])")
def expect(
    slots, entries, states, beliefs, cache, keys, first, stop, block_tokens, input_tokens,
    server_blocks, out,
):  # fmt: skip
    """Tokens of a prompt that are expected cached by each server, into ``out`` (n,). Their caches
    follow one another from ``cache`` on; ``server_blocks`` (n,): tokens of their own blocks."""
    for i in range(out.size):
        out[i] = 0.0
        if states[cache + i, COUNT] > 0:
            blocks = float(matched(slots, entries, states, cache + i, keys, first, stop))
            tokens = cached_tokens(blocks, block_tokens, input_tokens, server_blocks[i])
            out[i] = tokens * beliefs[cache + i, TRUST]


@entry("void(f8[:,::1], i8, f8)")
def believe(beliefs, cache, found):
    """Take in one report: of the tokens that ought to have been cached this share was, 0 to 1."""
    if 0.0 <= found <= 1.0:
        beliefs[cache, TRUST] += _TRUST_WEIGHT * (found - beliefs[cache, TRUST])


@entry("f8(f8[:,::1], i8, f8)")
def share_of(beliefs, cache, ours):
    """Of a server's memory, what this gateway's prompts have; ``ours``: their share of those that
    run there as one departs."""
    beliefs[cache, SHARE] += _SHARE_WEIGHT * (ours - beliefs[cache, SHARE])
    return min(1.0, max(_LEAST_SHARE, beliefs[cache, SHARE]))


@inlined
def mix(state, word):
    """Two 64-bit words into one, every bit of which depends on every bit of them."""
    x = (np.uint64(state) ^ np.uint64(word)) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
    return x ^ (x >> np.uint64(32))


@inlined
def _as_key(state):
    """0 stands for no key."""
    key = np.int64(state)
    return key if key != 0 else np.int64(1)


@entry(f"void({BYTES}, i8, i8, i8, i8[::1])")
def chain_bytes(data, first, chunk_bytes, seed, out):
    """Keys of a chain of chunks of ``data`` from ``first`` on, into ``out`` (chunks,).
    ``chunk_bytes``: a multiple of 8."""
    state = mix(seed, chunk_bytes)
    at = first
    for block in range(out.size):
        for _ in range(chunk_bytes >> 3):
            word = np.uint64(0)
            for byte in range(8):
                word |= np.uint64(data[at + byte]) << np.uint64(8 * byte)
            # `mix` but for its last shift. Of one product alone the highest bit of a word would
            # meet but the middle one of the next, whatever the seed is.
            state = (state ^ word) * np.uint64(0x9E3779B97F4A7C15)
            state = (state ^ (state >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
            at += 8
        state = mix(state, block)
        out[block] = _as_key(state)


@entry("void(i8[::1], i8[::1], i8, i8[::1])")
def chain_words(words, starts, seed, out):
    """Keys of chains of blocks that have names of their own, each ``words[starts[i]:starts[i +
    1]]``, into the same places of ``out``."""
    for one in range(starts.size - 1):
        state = mix(seed, 1)
        for at in range(starts[one], starts[one + 1]):
            state = mix(state, words[at])
            out[at] = _as_key(state)
