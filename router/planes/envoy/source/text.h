/* Spans of bytes that end nowhere. */
#pragma once
#include <string.h>

#include "abi.h"

#define LITERAL(text) ((span_t){text, sizeof(text) - 1})

static inline bool same(span_t one, span_t other) {
    return one.length == other.length && !memcmp(one.at, other.at, one.length);
}
static inline span_t span_of(const char *text) { return (span_t){text, strlen(text)}; }
/* Into a field of `room` bytes, cut short, with an end. */
static inline void keep(char *into, size_t room, span_t text) {
    size_t n = text.length < room ? text.length : room - 1;
    if (n) memcpy(into, text.at, n);
    into[n] = 0;
}
