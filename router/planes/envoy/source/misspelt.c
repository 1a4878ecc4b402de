#include "misspelt.h"

#define MAX_KEY 64
#define MAX_OURS 24
#define SLIPS 2
#define SLIPS_OF_SHORT 1
#define SHORT 8
#define COUNT(list) (sizeof(list) / sizeof *(list))

/* Of the same names as KNOWN and ENERGY there. */
static const char *const OURS[] = {
    "x-latency-budget-ms", "x-ttft-budget-ms", "x-tpot-budget-ms", "x-origin",     "x-residency",
    "x-tenant",            "x-deadline-s",     "x-quality-floor",  "x-energy-data",
};
#define RESIDENCY "residency"
/* What begins so speaks of residency, whatever follows. */
#define RESIDENCE "residenc"
static const char *const PEOPLE[] = {"resident", "residents", "president"};
/* What somebody writes who means one of them, beside slips. */
static const char *const NAMES[] = {
    "x-energy",          "energy-data",   "x-quality",     "x-min-quality",
    "x-minimum-quality", "x-quality-min", "quality-floor",
};

/* Which characters are in a name: of two whose sets differ by more than two for each slip, none is a
 * slip of the other. */
typedef uint64_t letters_t;

static letters_t letter(char c) {
    if (c >= 'a' && c <= 'z') return 1ull << (c - 'a');
    if (c >= '0' && c <= '9') return 1ull << (26 + c - '0');
    return 1ull << (36 + ((unsigned char)c & 15));
}

static letters_t letters_of(span_t text) {
    letters_t found = 0;
    for (size_t i = 0; i < text.length; i++) found |= letter(text.at[i]);
    return found;
}

static letters_t of_ours[COUNT(OURS)], of_residency;

__attribute__((constructor)) static void learn_letters(void) {
    for (size_t i = 0; i < COUNT(OURS); i++) of_ours[i] = letters_of(span_of(OURS[i]));
    of_residency = letters_of(LITERAL(RESIDENCY));
}

static bool begins(span_t text, span_t with) {
    return text.length >= with.length && !memcmp(text.at, with.at, with.length);
}

static bool is_among(span_t text, const char *const *list, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (same(text, span_of(list[i]))) return true;
    return false;
}

static size_t least(size_t one, size_t other) { return one < other ? one : other; }

/* Whether as many letters left out, added, changed or swapped with their neighbour make `b` of `a`:
 * the optimal string alignment distance. */
static bool is_within(span_t a, letters_t of_a, span_t b, letters_t of_b, size_t slips) {
    size_t apart = a.length > b.length ? a.length - b.length : b.length - a.length;
    if (apart > slips || (size_t)__builtin_popcountll(of_a ^ of_b) > 2 * slips) return false;
    size_t rows[3][MAX_OURS + 1], *older = rows[0], *before = rows[1], *row = rows[2];
    for (size_t j = 0; j <= b.length; j++) row[j] = j;
    for (size_t i = 1; i <= a.length; i++) {
        size_t *spare = older;
        older = before, before = row, row = spare;
        row[0] = i;
        for (size_t j = 1; j <= b.length; j++) {
            size_t cost = least(before[j], row[j - 1]) + 1;
            cost = least(cost, before[j - 1] + (a.at[i - 1] != b.at[j - 1]));
            if (i > 1 && j > 1 && a.at[i - 1] == b.at[j - 2] && a.at[i - 2] == b.at[j - 1])
                cost = least(cost, older[j - 2] + 1);
            row[j] = cost;
        }
    }
    return row[b.length] <= slips;
}

static bool is_residency(span_t word) {
    if (begins(word, LITERAL(RESIDENCE))) return true;
    return is_within(word, letters_of(word), LITERAL(RESIDENCY), of_residency, SLIPS) &&
           !is_among(word, PEOPLE, COUNT(PEOPLE));
}

typedef struct {
    bool is_residency, is_token_time, is_time, is_budget;
} words_t;

static words_t words_of(span_t plain) {
    words_t found = {false, false, false, false};
    for (const char *at = plain.at, *end = at + plain.length; at <= end;) {
        const char *stop = memchr(at, '-', (size_t)(end - at));
        span_t word = {at, (size_t)((stop ? stop : end) - at)};
        found.is_residency |= is_residency(word);
        found.is_token_time |= same(word, LITERAL("ttft")) || same(word, LITERAL("tpot"));
        found.is_time |= same(word, LITERAL("latency")) || same(word, LITERAL("e2e"));
        found.is_budget |= same(word, LITERAL("budget"));
        if (!stop) break;
        at = stop + 1;
    }
    return found;
}

static bool judge(span_t key) {
    char text[MAX_KEY];
    span_t plain = {text, least(key.length, MAX_KEY)};
    for (size_t i = 0; i < plain.length; i++)
        text[i] = key.at[i] == '_' || key.at[i] == '.' ? '-' : key.at[i];
    if (begins(plain, LITERAL("x-carbon")) && (plain.length == 8 || plain.at[8] == '-'))
        return true;
    words_t words = words_of(plain);
    if (words.is_residency) return true;
    if (plain.length >= 4 && !memcmp(plain.at + plain.length - 4, "-bin", 4)) return false;
    if (begins(plain, LITERAL("x-")) && (words.is_token_time || (words.is_time && words.is_budget)))
        return true;
    if (is_among(plain, NAMES, COUNT(NAMES))) return true;
    letters_t of_plain = letters_of(plain);
    for (size_t i = 0; i < COUNT(OURS); i++) {
        span_t ours = span_of(OURS[i]);
        size_t slips = ours.length <= SHORT ? SLIPS_OF_SHORT : SLIPS;
        if (is_within(plain, of_plain, ours, of_ours[i], slips)) return true;
    }
    return false;
}

/* What was said of the names that came last: mostly the same few come with every request. */
#define KEPT 64
typedef struct {
    char name[MAX_KEY];
    size_t length; /* 0: none yet */
    bool is_misspelt;
} judged_t;
static _Thread_local judged_t judged[KEPT];

bool is_misspelt(span_t key) {
    if (!key.length || *key.at == ':') return false;
    if (key.length > MAX_KEY) return judge(key);
    const unsigned char *at = (const unsigned char *)key.at;
    size_t place = key.length * 7 + at[0] + at[key.length / 2] * 5u + at[key.length - 1] * 3u;
    judged_t *one = judged + place % KEPT;
    if (one->length == key.length && !memcmp(one->name, at, key.length)) return one->is_misspelt;
    one->is_misspelt = judge(key);
    one->length = key.length;
    memcpy(one->name, at, key.length);
    return one->is_misspelt;
}
