/* metrics_registry.h: the collectors of one system, behind metrics.h. For system.c and tests. */
#ifndef RR_RUNTIME_METRICS_REGISTRY_H
#define RR_RUNTIME_METRICS_REGISTRY_H

#include "runtime/metrics.h"

typedef struct rr__metrics rr__metrics_t;

/* RR_ENOMEM. */
RR_MUST_CHECK int rr__metrics_create(rr__metrics_t **out);

/* Collectors that are still there are forgotten. No reader may be active. NULL is allowed. */
void rr__metrics_destroy(rr__metrics_t *metrics);

/* As rr_metrics_add, rr_metrics_remove and rr_metrics_text. */
RR_MUST_CHECK int rr__metrics_add(rr__metrics_t *metrics, rr_metrics_collect_fn collect, void *context);
void rr__metrics_remove(rr__metrics_t *metrics, rr_metrics_collect_fn collect, void *context);
RR_MUST_CHECK int rr__metrics_text(rr__metrics_t *metrics, rr_buffer_t **out);

/* The system's registry: system.c provides it, made by rr_system_create. */
rr__metrics_t *rr__system_metrics(rr_system_t *system);

#endif
