#include "keys.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* It is copied anew where it was written meanwhile, which takes microseconds, once a change. */
#define MAX_COPIES 100
#define PARTS 3

/* A worker's own. `starts`: of each server's three texts. */
typedef struct {
    const keys_file_t *file;
    uint64_t number;
    char *texts;
    const char **starts;
    size_t count;
} copy_t;
static _Thread_local copy_t mine;

const keys_file_t *keys_open(const char *path) {
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return 0;
    struct stat found;
    const keys_file_t *keys = 0;
    if (!fstat(file, &found) && (size_t)found.st_size >= sizeof(keys_file_t)) {
        void *mapped = mmap(0, found.st_size, PROT_READ, MAP_SHARED, file, 0);
        if (mapped != MAP_FAILED) keys = mapped;
    }
    close(file);
    if (keys && (keys->magic != KEYS_MAGIC ||
                 keys->room > (size_t)found.st_size - sizeof(keys_file_t)))
        return 0;
    return keys;
}

/* Texts of `bytes`, the last of which is an end; what is no whole server's is left out. */
static bool index_texts(copy_t *copy, size_t bytes) {
    size_t ends = 0;
    for (size_t i = 0; i < bytes; i++) ends += !copy->texts[i];
    free(copy->starts);
    copy->count = 0;
    copy->starts = malloc((ends / PARTS + 1) * sizeof *copy->starts);
    if (!copy->starts) return false;
    const char *at = copy->texts;
    for (; copy->count < ends / PARTS; copy->count++) {
        copy->starts[copy->count] = at;
        for (int part = 0; part < PARTS; part++) at += strlen(at) + 1;
    }
    return true;
}

/* Whether `mine` is what stands there. */
static bool renew(const keys_file_t *file) {
    for (int i = 0; i < MAX_COPIES; i++) {
        uint64_t number = __atomic_load_n(&file->done, __ATOMIC_ACQUIRE);
        if (number == mine.number && file == mine.file) return true;
        size_t bytes = file->bytes;
        if (bytes > file->room || __atomic_load_n(&file->begun, __ATOMIC_RELAXED) != number)
            continue;
        char *texts = malloc(bytes + 1);
        if (!texts) return false;
        memcpy(texts, file + 1, bytes);
        texts[bytes] = 0;
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        if (__atomic_load_n(&file->begun, __ATOMIC_RELAXED) != number) {
            free(texts);
            continue;
        }
        free(mine.texts);
        mine.texts = texts;
        mine.number = 0;
        if (!index_texts(&mine, bytes)) return false;
        mine.file = file;
        mine.number = number;
        return true;
    }
    /* It is being written: what was read before holds. */
    return mine.number != 0 && file == mine.file;
}

static int compare(span_t address, const char *other) {
    size_t length = strlen(other);
    int order = memcmp(address.at, other, address.length < length ? address.length : length);
    return order ? order : (address.length > length) - (address.length < length);
}

bool keys_find(const keys_file_t *file, span_t address, server_key_t *found) {
    if (!renew(file)) return false;
    size_t low = 0, high = mine.count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        const char *at = mine.starts[middle];
        int order = compare(address, at);
        if (!order) {
            found->header = span_of(at + strlen(at) + 1);
            found->value = span_of(found->header.at + found->header.length + 1);
            return true;
        }
        if (order < 0) high = middle;
        else low = middle + 1;
    }
    return false;
}
