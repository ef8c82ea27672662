/* documents.h: results read back from JSON, for compare and report. */
#ifndef RR_BENCH_DOCUMENTS_H
#define RR_BENCH_DOCUMENTS_H

#include "bench/bench.h"

/* Checks that it is one of ours; ends the program with one line otherwise. */
json_t *document_load(const char *path);
void document_check(const json_t *doc, const char *name);

/* "actors pingpong pairs=1 size=8 threads=2": what makes two results the same measurement. Caller frees. */
char *document_key(const json_t *result);

#endif
