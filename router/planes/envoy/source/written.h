/* Text that is put together piece by piece, and cut off where it has no room. By hand, since printf
 * took a third of what a request costs here. */
#pragma once
#include <stdint.h>

#include "text.h"

typedef struct {
    char *into;
    size_t room, used;
} written_t;

static inline span_t written_text(const written_t *w) { return (span_t){w->into, w->used}; }
void write_text(written_t *w, span_t text);
/* As %llx. */
void write_hex(written_t *w, uint64_t number);
/* As %llu. */
void write_count(written_t *w, uint64_t number);
/* As %.*f with up to nine `places`, but for halves of the last one, which go up. */
void write_decimal(written_t *w, double value, int places);
