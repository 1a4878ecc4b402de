#include "written.h"

#include <math.h>
#include <stdio.h>

#define MAX_PLACES 9
/* Up to there the product with a scale is off by no more than a ten-thousandth of the last place. */
#define MOST_EXACT 1e12

void write_text(written_t *w, span_t text) {
    size_t left = w->room - w->used, n = text.length < left ? text.length : left;
    if (n) memcpy(w->into + w->used, text.at, n);
    w->used += n;
}

/* `least`: digits, with zeros before it. */
static void write_number(written_t *w, uint64_t number, unsigned base, int least) {
    char digits[24], *at = digits + sizeof digits;
    for (; number || least > 0; number /= base, least--) *--at = "0123456789abcdef"[number % base];
    write_text(w, (span_t){at, (size_t)(digits + sizeof digits - at)});
}

void write_hex(written_t *w, uint64_t number) { write_number(w, number, 16, 1); }

void write_count(written_t *w, uint64_t number) { write_number(w, number, 10, 1); }

void write_decimal(written_t *w, double value, int places) {
    static const double scales[MAX_PLACES + 1] = {1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9};
    double scaled = fabs(value) * scales[places];
    if (!(scaled < MOST_EXACT)) {
        char text[352];
        int length = snprintf(text, sizeof text, "%.*f", places, value);
        write_text(w, (span_t){text, length > 0 ? (size_t)length : 0});
        return;
    }
    uint64_t number = (uint64_t)(scaled + 0.5), scale = (uint64_t)scales[places];
    if (signbit(value)) write_text(w, LITERAL("-"));
    write_number(w, number / scale, 10, 1);
    if (!places) return;
    write_text(w, LITERAL("."));
    write_number(w, number % scale, 10, places);
}
