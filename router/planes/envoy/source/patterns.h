/* Patterns of models' names. */
#pragma once
#include <stdbool.h>

#include "text.h"

/* As `fnmatch.fnmatchcase` of Python, on Unicode characters: `*`, `?`, `[a-z]`, `[!a-z]`; in brackets
 * neither `^` nor a class of POSIX's is anything but characters. */
bool pattern_is_of(span_t pattern, span_t name);
