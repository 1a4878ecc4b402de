/* What the caller learns of its request: the keys of router/gateway/receipts.py. */
#pragma once
#include "budgets.h"

typedef struct {
    double started_s, departed_s, ended_s;
    uint32_t attempts;
    const ruling_t *ruling; /* of carbon budgets, whether there are any or not */
} times_t;

/* Who is told: `put` is called for each key, once. */
typedef void put_t(void *to, const char *key, span_t value);

/* All of it, of an answer that is whole. What only its server could have told has no key. */
void receipt_whole(const table_t *table, const decision_t *decision, const times_t *times,
                   put_t *put, void *to);
/* The least of it that a caller needs, in one field: as router/gateway/carbon_field.py. Of an answer
 * that is not whole there is no more than how it began. `now_s`: monotonic. The bytes written. */
span_t receipt_field(const table_t *table, const decision_t *decision, const times_t *times,
                     bool is_whole, double now_s, char *into, size_t room);
/* As router/core/decision_ids.py. At most 103 bytes. */
span_t decision_id(const table_t *table, const decision_t *decision, char *into, size_t room);
