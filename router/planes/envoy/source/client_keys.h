/* Headers by which callers say who they are: as router/client_keys.py. */
#pragma once
#include "text.h"

bool is_client_key(span_t key);
