/*
 * How a tokenizer is made from a file's metadata; its use is declared in
 * engine.h. Two kinds: "gpt2", byte-level BPE after splitting by the patterns
 * that tokenizer.ggml.pre names, and "llama", SentencePiece's BPE by scores.
 * Unicode normalisation is not done, as GGUF has no field that asks for it.
 */
#ifndef SINKD_ENGINE_TOKENIZER_H
#define SINKD_ENGINE_TOKENIZER_H

#include "engine/engine.h"
#include "engine/gguf.h"

/*
 * A tokenizer over the vocabulary in g, which must outlive it. Returns NULL
 * with *e set: EX_DATAERR (no tokenizer, one of an unsupported kind, or a
 * damaged one; the sentence names it) or EX_OSERR.
 *
 * What is not left to the vocabulary:
 * - The text of user-defined tokens always becomes those tokens; that of
 *   control and unknown tokens only with TOKENIZER_PARSE_SPECIAL, and before
 *   the former are looked for. Of several that match, the leftmost and then
 *   the longest is taken.
 * - A byte that is not part of valid UTF-8 counts as a character of its own
 *   that is no letter, number, punctuation or space, and is encoded as itself.
 * - gpt2: bytes without a token are dropped before merging, so that a merge
 *   may reach across them.
 * - llama: without add_space_prefix = false a space is put before the text, and
 *   before what follows a control or unknown token in it. A character without a token becomes
 *   its byte tokens; without those a run of unknown ones becomes one unknown
 *   token, and nothing where the vocabulary has none.
 * So decoding gives back the text, except for bytes without a token and, in
 * kind llama, U+2581, which comes back as a space.
 */
struct tokenizer *tokenizer_new_gguf(const struct gguf *g, struct err *e);

#endif
