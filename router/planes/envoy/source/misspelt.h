/* Headers that were meant to be ours: as router/gateway/headers.py. */
#pragma once
#include "text.h"

/* Whether a header that is none of ours was meant for one, or is of those that only answers carry.
 * `key`: in small letters. What is wrong with it is for the gateway's own process to say. */
bool is_misspelt(span_t key);
