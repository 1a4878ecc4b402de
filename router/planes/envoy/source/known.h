/* Who calls, as the gateway's process said when it was asked: one more file that both have mapped.
 *
 * Nothing of a credential is understood here. What a call brings to say whose it is, and of the
 * headers that its principal may narrow, is digested; under that digest lies what the gateway
 * answered. Whoever is not there, or not any more, is asked for. The same layout is in
 * router/planes/envoy/known_file.py. */
#pragma once
#include "caller.h"
#include "budgets.h"
#include "limits.h"
#include "sha256.h"

#define KNOWN_MAGIC 0x324e574f4e4b5243ull
#define KNOWN_WAYS 8
#define KNOWN_TEXT 1792
/* Of what is asked. */
#define MAX_ASKED 24576
/* Of `asks`: who callers are, and what tenants have left. */
#define ASKS_WHO 1
#define ASKS_TENANTS 2
/* Nobody looks any more whether keys were revoked: so long callers stay who they were. As long as a
 * token that was verified is remembered (router/identity/tokens.py). */
#define UNLOOKED_S 300.0

/* `asks`: what of callers has to be known, 0 for nothing. An entry of another `generation` is none.
 * `looked_s`: when the gateway last looked whether what it answered still holds, monotonic. */
typedef struct {
    uint64_t magic, sets, entries_at, uses, uses_at, generation, asks, entry_bytes,
        accounts, accounts_at;
    double looked_s;
    uint64_t unused[5]; /* rows of use, which follow, are on cache lines of their own */
} known_file_t;

/* `stamp`: odd while it is written. `until_s`: monotonic. `use`: row of what it uses, -1 for whoever
 * has no limits; `accounts`: likewise of carbon budgets. `text`: tenant, origin, then patterns of models (`patterns` of them, 0: any),
 * each with an end. */
typedef struct {
    uint64_t stamp, generation;
    uint8_t digest[DIGEST_BYTES];
    double until_s;
    int64_t residency, use;
    int32_t accounts[MAX_BUDGETS]; /* of its tenant, -1 for none */
    uint32_t patterns, text_bytes;
    char text[KNOWN_TEXT];
} known_entry_t;

/* A call's own copy of what was answered. */
typedef struct {
    int64_t use;
    uint32_t patterns;
    int32_t accounts[MAX_BUDGETS];
    char *models; /* 0 for any; to be freed */
    size_t model_bytes;
} known_t;

/* Maps the file; 0 where it is none of ours. */
known_file_t *known_open(const char *path);
/* Of what says whose a call is, with or without its credentials, whether it has one or not. */
void known_digest(uint8_t digest[DIGEST_BYTES], bool *is_credential, const header_t *headers,
                  size_t count, bool with_credentials);
/* The same as text, for the gateway: lines of a key and a value by turns. `into` has room for
 * MAX_ASKED; more where it is too long. */
size_t known_question(const header_t *headers, size_t count, bool with_credentials, char *into);
/* Whether what the gateway answered of credentials may still be gone by. */
bool known_holds(const known_file_t *file, double now_s);
/* Whether it is there: then `caller` and `known` say what it may. */
bool known_find(const known_file_t *file, const uint8_t digest[DIGEST_BYTES], double now_s,
                caller_t *caller, known_t *known);
/* Whether one of its patterns is of this model: as fnmatch of Python. */
bool known_may_use(const known_t *known, span_t model);
/* Whether a header says who calls, or holds a key of ours: it does not travel on. */
bool known_is_secret(span_t key, span_t value);
use_t *known_use(known_file_t *file, int64_t row);
account_t *known_account(known_file_t *file, int64_t row);
