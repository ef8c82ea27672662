/* metrics.h: what /metrics and the performance report show. Components keep plain counters and write them out when asked. */
#ifndef RR_RUNTIME_METRICS_H
#define RR_RUNTIME_METRICS_H

#include <stdatomic.h>

#include "runtime/redrabbit.h"

/* A counter with one writing thread at a time (readers: any). Relaxed: only its own value matters, and readers may see
 * it late. */
typedef _Atomic(uint64_t) rr_counter_t;
static inline void rr_count(rr_counter_t *c, uint64_t n) {
    atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) + n, memory_order_relaxed);
}
/* The same for counters that several threads write. */
static inline void rr_count_shared(rr_counter_t *c, uint64_t n) {
    atomic_fetch_add_explicit(c, n, memory_order_relaxed);
}
static inline uint64_t rr_counted(const rr_counter_t *c) { return atomic_load_explicit((rr_counter_t *)c, memory_order_relaxed); }

typedef struct rr_metrics_writer rr_metrics_writer_t;
typedef enum rr_metric_type { RR_METRIC_COUNTER, RR_METRIC_GAUGE } rr_metric_type_t;

/* One sample. Families are grouped by name: type and help of the first wins. `labels` is NULL or a ready
 * `key="value",…` made with rr_metrics_label. Only inside a collector. Out of memory is remembered and reported by
 * rr_metrics_text. */
void rr_metrics_write(rr_metrics_writer_t *writer, const char *name, rr_metric_type_t type, const char *help,
                      const char *labels, double value);

/* Appends key="value" (escaped) to the NUL-terminated out of the given capacity, with a comma if not the first. False if
 * it does not fit (out is unchanged). */
bool rr_metrics_label(char *out, size_t capacity, const char *key, const char *value);

/* Adds a source of samples; called on the reader's thread, must not block long. RR_ENOMEM. Any thread. */
typedef void (*rr_metrics_collect_fn)(void *context, rr_metrics_writer_t *writer);
RR_MUST_CHECK int rr_metrics_add(rr_system_t *system, rr_metrics_collect_fn collect, void *context);
/* Removes it; after return it is not running and will not run. Not from inside a collector. */
void rr_metrics_remove(rr_system_t *system, rr_metrics_collect_fn collect, void *context);

/* All of it as Prometheus text (version 0.0.4). *out owned by the caller. RR_ENOMEM. Any thread. */
RR_MUST_CHECK int rr_metrics_text(rr_system_t *system, rr_buffer_t **out);

#endif
