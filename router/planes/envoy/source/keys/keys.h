/* Keys of servers by their addresses, in a file that the gateway writes and each worker reads a copy
 * of. The same layout is in router/planes/envoy/keys_file.py. */
#pragma once
#include "../text.h"

#define KEYS_MAGIC 0x3153594543425243ull

/* `begun`, `done`: number of what stands there, the same where it is whole. Behind it `bytes` of
 * texts, each with an end, three to a server: address, header, its value; by address. */
typedef struct {
    uint64_t magic, room, begun, done, bytes;
} keys_file_t;

typedef struct {
    span_t header, value;
} server_key_t;

/* Maps the file; 0 where it is none of ours. */
const keys_file_t *keys_open(const char *path);
/* The key of the server at `address`; false where it has none. Holds until the worker asks again. */
bool keys_find(const keys_file_t *file, span_t address, server_key_t *found);
