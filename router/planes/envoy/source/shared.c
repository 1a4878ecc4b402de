#include "shared.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* A table is copied anew when it was overwritten meanwhile: the gateway writes some times a second,
 * and a copy takes microseconds. */
#define MAX_COPIES 100
/* Envoy tells its workers of hosts in milliseconds. */
#define HOSTS_S 2.0

shared_t *shared_open(const char *path) {
    int file = open(path, O_RDWR | O_CLOEXEC);
    if (file < 0) return 0;
    struct stat found;
    shared_t *shared = 0;
    if (!fstat(file, &found) && (size_t)found.st_size > sizeof(shared_t)) {
        void *mapped = mmap(0, found.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        if (mapped != MAP_FAILED) shared = mapped;
    }
    close(file);
    if (shared && (shared->magic != SHARED_MAGIC || shared->record_bytes != sizeof(record_t)))
        return 0;
    return shared;
}

seat_t *shared_seats(shared_t *shared) { return (seat_t *)((char *)shared + shared->seats_at); }

record_t *shared_begin(shared_t *shared, uint64_t *number) {
    *number = __atomic_fetch_add(&shared->head, 1, __ATOMIC_RELAXED);
    record_t *records = (record_t *)((char *)shared + shared->records_at);
    record_t *record = records + *number % shared->records;
    __atomic_store_n(&record->stamp, 0, __ATOMIC_RELAXED);
    /* Nothing of what follows may be seen under the stamp that was there. */
    __atomic_thread_fence(__ATOMIC_RELEASE);
    return record;
}

void shared_finish(record_t *record, uint64_t number) {
    __atomic_store_n(&record->stamp, number + 1, __ATOMIC_RELEASE);
}

/* By fronts, gRPC's first: their hosts are two clusters, which change apart. */
static _Thread_local copy_t *newest_copies[2];
static _Thread_local view_t mine;
static _Thread_local int64_t candidates;

double monotonic_s(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

void copy_keep(copy_t *copy) { copy->requests++; }

void copy_leave(copy_t *copy) {
    if (--copy->requests || !copy->is_left) return;
    free(copy->bytes);
    free(copy);
}

static void make_room(const table_t *table) {
    const model_t *models = in_table(table, table->models_at);
    int64_t most = 1;
    for (uint64_t i = 0; i < table->models; i++)
        if (models[i].n > most) most = models[i].n;
    if (most <= candidates) return;
    mine.scratch = realloc(mine.scratch, sizeof(double) * K_SCRATCH_ROWS * most);
    mine.terms = realloc(mine.terms, sizeof(double) * K_EVALUATED * most);
    mine.reasons = realloc(mine.reasons, sizeof(int64_t) * most);
    free(mine.cached);
    mine.cached = calloc(most, sizeof(double));
    candidates = most;
}

/* Where the next table goes: over the one before, whose requests it is as good for, or where that
 * has none. */
static copy_t *copy_for(copy_t *before, bool is_same) {
    if (before && (is_same || !before->requests)) return before;
    copy_t *after = calloc(1, sizeof(copy_t));
    if (before && after) before->is_left = true;
    return after;
}

/* Where a table is copied to before it is known to be whole: what requests were decided by is never
 * written over by half of another one. */
static _Thread_local char *spare;
static _Thread_local uint64_t spare_room;

static bool spare_fill(const table_t *from, uint64_t bytes) {
    if (spare_room < bytes) {
        free(spare);
        spare_room = bytes + bytes / 4;
        spare = malloc(spare_room);
    }
    if (!spare) {
        spare_room = 0;
        return false;
    }
    memcpy(spare, from, bytes);
    return true;
}

/* What is in the spare is the copy's now, and what it had before the next spare. */
static void copy_take(copy_t *copy, uint64_t number) {
    char *before = copy->bytes;
    uint64_t room = copy->room;
    copy->bytes = spare, copy->room = spare_room;
    spare = before, spare_room = room;
    copy->table = (const table_t *)copy->bytes;
    copy->number = number;
    copy->generation = copy->table->generation;
}

static const view_t *view_of(copy_t *copy) {
    mine.copy = copy;
    mine.table = copy->table;
    return &mine;
}

static bool is_whole(const table_t *slot, uint64_t number) {
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    return __atomic_load_n(&slot->begun, __ATOMIC_ACQUIRE) == number && slot->done == number;
}

const view_t *shared_view(shared_t *shared, bool is_http, host_count_t *hosts, void *of) {
    for (int i = 0; i < MAX_COPIES; i++) {
        copy_t *copy = newest_copies[is_http];
        uint64_t newest = __atomic_load_n(&shared->newest, __ATOMIC_ACQUIRE);
        if (!newest) return 0;
        if (copy && newest == copy->number) return view_of(copy);
        const table_t *from = (const table_t *)((char *)shared + shared->slots_at[newest & 1]);
        uint64_t bytes = from->bytes, wanted = from->hosts[is_http];
        bool is_same = copy && copy->generation == from->generation;
        double age_s = monotonic_s() - from->since_s;
        if (!is_whole(from, newest) || bytes > shared->slot_bytes) continue;
        /* It may name servers that this worker is yet to be told of. */
        if (copy && !is_same && age_s < HOSTS_S && hosts(of) != (int64_t)wanted)
            return view_of(copy);
        if (!spare_fill(from, bytes)) return 0;
        if (!is_whole(from, newest)) continue;
        copy_t *into = copy_for(copy, is_same);
        if (!into) return 0;
        copy_take(into, newest);
        newest_copies[is_http] = into;
        make_room(into->table);
        return view_of(into);
    }
    /* It is written faster than it can be copied: the one before holds. */
    return newest_copies[is_http] ? view_of(newest_copies[is_http]) : 0;
}
