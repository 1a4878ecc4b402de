#include "patterns.h"

#include <stdint.h>

/* Of what is no UTF-8 each byte is a character of its own, that no other text has. */
#define NO_CHARACTER 0x110000u

/* The character at the beginning; what is left is behind it. */
static uint32_t next_character(span_t *text) {
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    const unsigned char *at = (const unsigned char *)text->at;
    size_t length = *at < 0x80 ? 1 : *at < 0xc0 ? 0 : *at < 0xe0 ? 2 : *at < 0xf0 ? 3 : *at < 0xf8 ? 4 : 0;
    uint32_t found = length < 2 ? *at : *at & (0x7fu >> length);
    bool is_sound = length && length <= text->length;
    for (size_t i = 1; is_sound && i < length; i++) {
        is_sound = (at[i] & 0xc0) == 0x80;
        found = found << 6 | (at[i] & 0x3fu);
    }
    is_sound = is_sound && found >= least[length] && found < NO_CHARACTER;
    if (!is_sound) found = NO_CHARACTER + *at, length = 1;
    text->at += length, text->length -= length;
    return found;
}

/* A part of what is in brackets: one character, or all `from` one to another. */
typedef struct {
    uint32_t from, to;
    bool is_range;
} part_t;

/* As Python divides it: a hyphen between two makes a range, but for the first character and the one
 * behind a range. What is left: behind the part. */
static part_t next_part(span_t *set, bool is_first) {
    span_t left = *set;
    part_t part = {next_character(&left), 0, false};
    part.to = part.from;
    if (left.length > 1 && *left.at == '-' && !(is_first && part.from == '!')) {
        left.at++, left.length--;
        part.to = next_character(&left);
        part.is_range = true;
    }
    *set = left;
    return part;
}

static bool has(part_t part, uint32_t character) {
    return part.from <= character && character <= part.to;
}

/* Whether a character is one of what is in brackets. Ranges that go backwards are not there, and what
 * is first then is: `!` is of the rest that it is not. */
static bool is_in(span_t set, uint32_t character) {
    bool is_first = true, is_left = false, is_negated = false, is_found = false;
    for (bool is_start = true; set.length; is_start = false) {
        part_t part = next_part(&set, is_start);
        if (part.is_range && part.from > part.to) continue;
        bool is_mark = is_first && part.from == '!';
        is_first = false;
        if (!is_mark) {
            is_found |= has(part, character);
            is_left = true;
            continue;
        }
        is_negated = true;
        if (!part.is_range) continue;
        /* After a range that is gone: its hyphen stands for itself then. */
        is_found |= character == '-' || character == part.to;
        is_left = true;
    }
    if (!is_left) return is_negated; /* nothing, or all but nothing */
    return is_found != is_negated;
}

/* What is between brackets at the beginning; length 0 where none close. */
static span_t set_at(span_t pattern) {
    size_t i = 1;
    if (i < pattern.length && pattern.at[i] == '!') i++;
    if (i < pattern.length && pattern.at[i] == ']') i++;
    while (i < pattern.length && pattern.at[i] != ']') i++;
    return i < pattern.length ? (span_t){pattern.at + 1, i - 1} : (span_t){0, 0};
}

/* Whether the first part of a pattern, which is no star, is of the first character of a name; then
 * both are behind it. */
static bool step(span_t *pattern, span_t *name) {
    if (!pattern->length || !name->length) return false;
    span_t set = *pattern->at == '[' ? set_at(*pattern) : (span_t){0, 0};
    uint32_t character = next_character(name);
    if (set.length) {
        pattern->at += set.length + 2, pattern->length -= set.length + 2;
        return is_in(set, character);
    }
    bool is_any = *pattern->at == '?';
    return next_character(pattern) == character || is_any;
}

bool pattern_is_of(span_t pattern, span_t name) {
    span_t behind_star = {0, 0}, from = {0, 0};
    bool has_star = false;
    while (name.length || pattern.length) {
        if (pattern.length && *pattern.at == '*') {
            pattern.at++, pattern.length--;
            behind_star = pattern, from = name, has_star = true;
            continue;
        }
        if (step(&pattern, &name)) continue;
        /* The last star takes one more: what those before it took can stay. */
        if (!has_star || !from.length) return false;
        next_character(&from);
        pattern = behind_star, name = from;
    }
    return true;
}
