/* Where the default model lies when no --model is given. */
#ifndef SINKD_BASE_MODEL_PATH_H
#define SINKD_BASE_MODEL_PATH_H

#include <stddef.h>

#include "base/err.h"

#define MODEL_PATH_DEFAULT "SmolLM2-135M-Instruct.Q4_1.gguf"

/*
 * Find the default model: in the user's data folder ($XDG_DATA_HOME or
 * ~/.local/share, under sinkd/), in the one sinkd was installed with, in
 * /usr/local/share/sinkd, /usr/share/sinkd and /var/lib/sinkd. buf receives
 * the path. Returns 0, or -1 with *e set (EX_NOINPUT) and a sentence that
 * names the command that fetches it.
 */
int model_path_find(char *buf, size_t size, struct err *e);

#endif
