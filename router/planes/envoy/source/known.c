#include "known.h"
#include "client_keys.h"
#include "patterns.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define CERTIFICATE LITERAL("x-forwarded-client-cert")
/* What Envoy itself writes of a certificate begins with it: enough to tell one from another. */
#define HASH LITERAL("Hash=")
#define HASH_BYTES (sizeof "Hash=" - 1 + 64)
#define OWN_PREFIX "crk_"
#define ID_CHARACTERS 12

known_file_t *known_open(const char *path) {
    int file = open(path, O_RDWR | O_CLOEXEC);
    if (file < 0) return 0;
    struct stat found;
    known_file_t *known = 0;
    if (!fstat(file, &found) && (size_t)found.st_size > sizeof(known_file_t)) {
        void *mapped = mmap(0, found.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        if (mapped != MAP_FAILED) known = mapped;
    }
    close(file);
    if (known && (known->magic != KNOWN_MAGIC || known->entry_bytes != sizeof(known_entry_t)))
        return 0;
    return known;
}

static bool is_credential(span_t key) {
    return same(key, LITERAL("authorization")) || same(key, LITERAL("x-api-key")) ||
           same(key, CERTIFICATE);
}

static bool is_asked_with(span_t key, bool with_credentials) {
    return (with_credentials && is_credential(key)) || same(key, LITERAL("x-tenant")) || same(key, LITERAL("x-origin")) ||
           same(key, LITERAL("x-residency"));
}

void known_digest(uint8_t digest[DIGEST_BYTES], bool *any, const header_t *headers, size_t count,
                  bool with_credentials) {
    sha256_t hash;
    sha256_begin(&hash);
    *any = false;
    for (size_t i = 0; i < count; i++) {
        span_t key = {headers[i].key, headers[i].key_length};
        span_t value = {headers[i].value, headers[i].value_length};
        if (!is_asked_with(key, with_credentials)) continue;
        *any |= is_credential(key);
        if (same(key, CERTIFICATE) && value.length > HASH_BYTES && !memcmp(value.at, HASH.at, 5))
            value.length = HASH_BYTES;
        /* With their lengths: else two headers could pass for one. */
        sha256_put(&hash, &key.length, sizeof key.length);
        sha256_put(&hash, key.at, key.length);
        sha256_put(&hash, &value.length, sizeof value.length);
        sha256_put(&hash, value.at, value.length);
    }
    sha256_end(&hash, digest);
}

size_t known_question(const header_t *headers, size_t count, bool with_credentials, char *into) {
    size_t used = 0;
    for (size_t i = 0; i < count; i++) {
        span_t parts[] = {{headers[i].key, headers[i].key_length},
                          {headers[i].value, headers[i].value_length}};
        if (!is_asked_with(parts[0], with_credentials)) continue;
        for (int j = 0; j < 2; j++) {
            /* Headers hold no ends of lines. */
            if (parts[j].length + 1 > MAX_ASKED - used || memchr(parts[j].at, '\n', parts[j].length))
                return MAX_ASKED + 1;
            memcpy(into + used, parts[j].at, parts[j].length);
            used += parts[j].length;
            into[used++] = '\n';
        }
    }
    return used;
}

static bool read_entry(known_entry_t *copy, const known_entry_t *entry) {
    uint64_t stamp = __atomic_load_n(&entry->stamp, __ATOMIC_ACQUIRE);
    if (stamp & 1) return false;
    size_t text_bytes = entry->text_bytes;
    if (text_bytes > KNOWN_TEXT) return false;
    memcpy(copy, entry, offsetof(known_entry_t, text) + text_bytes);
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    return __atomic_load_n(&entry->stamp, __ATOMIC_RELAXED) == stamp &&
           copy->text_bytes == text_bytes;
}

/* The next text of an entry; 0 where there is no whole one any more. */
static const char *next_text(const known_entry_t *entry, size_t *at) {
    const char *text = entry->text + *at;
    size_t length = strnlen(text, entry->text_bytes - *at);
    if (length == entry->text_bytes - *at) return 0;
    *at += length + 1;
    return text;
}

static bool take_entry(const known_entry_t *entry, caller_t *caller, known_t *known) {
    size_t at = 0;
    const char *tenant = next_text(entry, &at), *origin = tenant ? next_text(entry, &at) : 0;
    if (!origin) return false;
    keep(caller->tenant, sizeof caller->tenant, span_of(tenant));
    keep(caller->origin, sizeof caller->origin, span_of(origin));
    caller->residency[0] = 0;
    caller->jurisdictions = entry->residency;
    known->use = entry->use;
    known->patterns = entry->patterns;
    memcpy(known->accounts, entry->accounts, sizeof known->accounts);
    known->models = 0;
    if (!entry->patterns) return true;
    size_t bytes = entry->text_bytes - at;
    known->models = malloc(bytes + 1);
    if (!known->models) return false;
    memcpy(known->models, entry->text + at, bytes);
    known->models[bytes] = 0;
    known->model_bytes = bytes;
    return true;
}

bool known_holds(const known_file_t *file, double now_s) {
    double looked_s;
    __atomic_load(&file->looked_s, &looked_s, __ATOMIC_RELAXED);
    return now_s - looked_s < UNLOOKED_S;
}

bool known_find(const known_file_t *file, const uint8_t digest[DIGEST_BYTES], double now_s,
                caller_t *caller, known_t *known) {
    uint64_t first;
    memcpy(&first, digest, sizeof first);
    const known_entry_t *set =
        (const known_entry_t *)((const char *)file + file->entries_at) +
        first % file->sets * KNOWN_WAYS;
    uint64_t generation = __atomic_load_n(&file->generation, __ATOMIC_ACQUIRE);
    known_entry_t copy;
    for (int i = 0; i < KNOWN_WAYS; i++) {
        if (memcmp(set[i].digest, digest, DIGEST_BYTES)) continue;
        /* What is being written is asked for. */
        if (!read_entry(&copy, set + i) || memcmp(copy.digest, digest, DIGEST_BYTES)) continue;
        if (copy.generation == generation && now_s < copy.until_s)
            return take_entry(&copy, caller, known);
    }
    return false;
}

bool known_may_use(const known_t *known, span_t model) {
    if (!known->models) return true;
    /* No model that is served has a longer one: of MAX_NAME characters. */
    if (model.length > 4 * MAX_NAME) return false;
    const char *pattern = known->models, *end = pattern + known->model_bytes;
    for (uint32_t i = 0; i < known->patterns && pattern < end; i++, pattern += strlen(pattern) + 1)
        if (pattern_is_of(span_of(pattern), model)) return true;
    return false;
}

static bool holds_own_key(span_t value) {
    const size_t prefix = sizeof OWN_PREFIX - 1, whole = prefix + ID_CHARACTERS + 1;
    for (size_t i = 0; i + whole <= value.length; i++) {
        if (memcmp(value.at + i, OWN_PREFIX, prefix)) continue;
        size_t n = 0;
        for (const char *c = value.at + i + prefix; n < ID_CHARACTERS; n++, c++)
            if (!((*c >= 'a' && *c <= 'z') || (*c >= '2' && *c <= '7'))) break;
        if (n == ID_CHARACTERS && value.at[i + whole - 1] == '_') return true;
    }
    return false;
}

bool known_is_secret(span_t key, span_t value) {
    return is_client_key(key) || same(key, CERTIFICATE) || holds_own_key(value);
}

use_t *known_use(known_file_t *file, int64_t row) {
    if (row < 0 || (uint64_t)row >= file->uses) return 0;
    return (use_t *)((char *)file + file->uses_at) + row;
}

account_t *known_account(known_file_t *file, int64_t row) {
    if (row < 0 || (uint64_t)row >= file->accounts) return 0;
    return (account_t *)((char *)file + file->accounts_at) + row;
}
