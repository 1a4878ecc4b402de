/* SHA-256 (FIPS 180-4) of what is put in, piece by piece. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#define DIGEST_BYTES 32

typedef struct {
    uint32_t state[8];
    uint64_t length;
    uint8_t block[64];
} sha256_t;

void sha256_begin(sha256_t *hash);
void sha256_put(sha256_t *hash, const void *bytes, size_t length);
void sha256_end(sha256_t *hash, uint8_t digest[DIGEST_BYTES]);
