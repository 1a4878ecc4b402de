#include "shared.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* A table is copied anew when it was overwritten meanwhile: the gateway writes some times a second,
 * and a copy takes microseconds. */
#define MAX_COPIES 100

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
    /* Texts have ends, and are seldom long: what is behind them stays out of the way. */
    memset((char *)record + sizeof record->stamp, 0,
           offsetof(record_t, tenant) - sizeof record->stamp);
    return record;
}

void shared_finish(record_t *record, uint64_t number) {
    __atomic_store_n(&record->stamp, number + 1, __ATOMIC_RELEASE);
}

static _Thread_local struct {
    view_t view;
    char *bytes;
    uint64_t number, room;
    int64_t candidates;
} mine;

static void make_room(const table_t *table) {
    const model_t *models = in_table(table, table->models_at);
    int64_t most = 1;
    for (uint64_t i = 0; i < table->models; i++)
        if (models[i].n > most) most = models[i].n;
    if (most <= mine.candidates) return;
    view_t *view = &mine.view;
    view->scratch = realloc(view->scratch, sizeof(double) * K_SCRATCH_ROWS * most);
    view->terms = realloc(view->terms, sizeof(double) * K_EVALUATED * most);
    view->reasons = realloc(view->reasons, sizeof(int64_t) * most);
    free(view->cached);
    view->cached = calloc(most, sizeof(double));
    mine.candidates = most;
}

const view_t *shared_view(shared_t *shared) {
    for (int i = 0; i < MAX_COPIES; i++) {
        uint64_t newest = __atomic_load_n(&shared->newest, __ATOMIC_ACQUIRE);
        if (!newest) return 0;
        if (newest == mine.number) return &mine.view;
        if (mine.room < shared->slot_bytes) {
            mine.bytes = realloc(mine.bytes, shared->slot_bytes);
            mine.room = shared->slot_bytes;
        }
        const table_t *from = (const table_t *)((char *)shared + shared->slots_at[newest & 1]);
        uint64_t bytes = from->bytes;
        if (bytes > shared->slot_bytes) continue;
        memcpy(mine.bytes, from, bytes);
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        if (__atomic_load_n(&from->begun, __ATOMIC_ACQUIRE) != newest || from->done != newest)
            continue;
        mine.number = newest;
        mine.view.table = (const table_t *)mine.bytes;
        make_room(mine.view.table);
        return &mine.view;
    }
    return mine.number ? &mine.view : 0;
}
