/* Metrics: labels, grouping, numbers, adding and removing while others read. */
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "runtime/alloc.h"
#include "runtime/metrics_registry.h"
#include "tests/unit/check_main.h"

static char *text_of(rr__metrics_t *metrics) {
    rr_buffer_t *buffer = NULL;
    ck_assert_int_eq(rr__metrics_text(metrics, &buffer), RR_OK);
    char *text = strndup((const char *)rr_buffer_data(buffer), rr_buffer_size(buffer));
    rr_buffer_unref(buffer);
    return text;
}

static void collect_rooms(void *context, rr_metrics_writer_t *writer) {
    char labels[128] = "";
    ck_assert(rr_metrics_label(labels, sizeof labels, "room", context));
    rr_metrics_write(writer, "rr_users", RR_METRIC_GAUGE, "Who is\nhere \\ there.", labels, 3);
    rr_metrics_write(writer, "rr_messages_total", RR_METRIC_COUNTER, "Messages.", labels, 1e15);
}

START_TEST(families_are_grouped) {
    rr__metrics_t *metrics;
    ck_assert_int_eq(rr__metrics_create(&metrics), RR_OK);
    ck_assert_int_eq(rr__metrics_add(metrics, collect_rooms, "a"), RR_OK);
    ck_assert_int_eq(rr__metrics_add(metrics, collect_rooms, "b\"\\\n"), RR_OK);
    char *text = text_of(metrics);
    ck_assert_str_eq(text, "# HELP rr_users Who is\\nhere \\\\ there.\n"
                           "# TYPE rr_users gauge\n"
                           "rr_users{room=\"a\"} 3\n"
                           "rr_users{room=\"b\\\"\\\\\\n\"} 3\n"
                           "# HELP rr_messages_total Messages.\n"
                           "# TYPE rr_messages_total counter\n"
                           "rr_messages_total{room=\"a\"} 1000000000000000\n"
                           "rr_messages_total{room=\"b\\\"\\\\\\n\"} 1000000000000000\n");
    free(text);
    rr__metrics_remove(metrics, collect_rooms, "nobody");
    rr__metrics_remove(metrics, collect_rooms, "a");
    text = text_of(metrics);
    ck_assert_ptr_null(strstr(text, "\"a\""));
    free(text);
    rr__metrics_destroy(metrics);
    rr__metrics_destroy(NULL);
}
END_TEST

static void collect_numbers(void *context, rr_metrics_writer_t *writer) {
    rr_metrics_write(writer, "n", RR_METRIC_GAUGE, NULL, NULL, 0.1);
    rr_metrics_write(writer, "n", RR_METRIC_GAUGE, NULL, "", -INFINITY);
    rr_metrics_write(writer, "n", RR_METRIC_GAUGE, NULL, "", NAN);
    rr_metrics_write(writer, "n", RR_METRIC_GAUGE, NULL, "", -5);
}

START_TEST(numbers) {
    rr__metrics_t *metrics;
    ck_assert_int_eq(rr__metrics_create(&metrics), RR_OK);
    char *text = text_of(metrics);
    ck_assert_str_eq(text, "");
    free(text);
    ck_assert_int_eq(rr__metrics_add(metrics, collect_numbers, NULL), RR_OK);
    text = text_of(metrics);
    ck_assert_str_eq(text, "# HELP n \n# TYPE n gauge\nn 0.10000000000000001\nn -Inf\nn NaN\nn -5\n");
    free(text);
    rr__metrics_destroy(metrics);
}
END_TEST

START_TEST(labels_fit_or_stay) {
    char labels[16] = "";
    ck_assert(rr_metrics_label(labels, sizeof labels, "a", "12"));
    ck_assert_str_eq(labels, "a=\"12\"");
    ck_assert(!rr_metrics_label(labels, sizeof labels, "b", "1234567"));
    ck_assert_str_eq(labels, "a=\"12\"");
    ck_assert(!rr_metrics_label(labels, sizeof labels, "muchtoolongakey", ""));
    ck_assert_str_eq(labels, "a=\"12\"");
    ck_assert(rr_metrics_label(labels, sizeof labels, "b", "123"));
    ck_assert_str_eq(labels, "a=\"12\",b=\"123\"");
    for (size_t capacity = 1; capacity < 12; capacity++) { /* never writes past the end: the sanitizer looks */
        char *exact = malloc(capacity);
        exact[0] = '\0';
        bool fits = rr_metrics_label(exact, capacity, "k", "\"\n");
        ck_assert(fits == (capacity >= sizeof "k=\"\\\"\\n\""));
        free(exact);
    }
}
END_TEST

static void collect_many(void *context, rr_metrics_writer_t *writer) {
    for (int family = 0; family < 600; family++) {
        char name[32];
        snprintf(name, sizeof name, "family_%d", family);
        rr_metrics_write(writer, name, RR_METRIC_COUNTER, "Many.", NULL, family);
    }
}

START_TEST(many_families) {
    rr__metrics_t *metrics;
    ck_assert_int_eq(rr__metrics_create(&metrics), RR_OK);
    ck_assert_int_eq(rr__metrics_add(metrics, collect_many, NULL), RR_OK);
    ck_assert_int_eq(rr__metrics_add(metrics, collect_many, metrics), RR_OK);
    char *text = text_of(metrics);
    int types = 0;
    for (char *at = text; (at = strstr(at, "# TYPE ")); at++)
        types++;
    ck_assert_int_eq(types, 600);
    ck_assert_ptr_nonnull(strstr(text, "family_599 599\nfamily_599 599\n"));
    free(text);
    rr__metrics_destroy(metrics);
}
END_TEST

typedef struct source {
    _Atomic(int) alive, wrong, collected;
} source_t;

static void collect_source(void *context, rr_metrics_writer_t *writer) {
    source_t *source = context;
    if (!atomic_load(&source->alive))
        atomic_fetch_add(&source->wrong, 1);
    rr_metrics_write(writer, "s", RR_METRIC_COUNTER, "", NULL, 1);
    if (!atomic_load(&source->alive)) /* removed under our feet */
        atomic_fetch_add(&source->wrong, 1);
    atomic_fetch_add(&source->collected, 1);
}

typedef struct reading {
    rr__metrics_t *metrics;
    _Atomic(int) stop;
} reading_t;

static void *read_on(void *context) {
    reading_t *reading = context;
    while (!atomic_load(&reading->stop)) {
        rr_buffer_t *buffer = NULL;
        if (rr__metrics_text(reading->metrics, &buffer) == RR_OK)
            rr_buffer_unref(buffer);
    }
    return NULL;
}

START_TEST(removal_waits_for_readers) {
    reading_t reading = {0};
    ck_assert_int_eq(rr__metrics_create(&reading.metrics), RR_OK);
    pthread_t readers[2];
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(pthread_create(&readers[i], NULL, read_on, &reading), 0);
    source_t source = {0};
    for (int i = 0; i < 300; i++) {
        atomic_store(&source.alive, 1);
        atomic_store(&source.collected, 0);
        ck_assert_int_eq(rr__metrics_add(reading.metrics, collect_source, &source), RR_OK);
        while (i % 3 == 0 && !atomic_load(&source.collected))
            ;
        rr__metrics_remove(reading.metrics, collect_source, &source);
        atomic_store(&source.alive, 0);
    }
    atomic_store(&reading.stop, 1);
    for (int i = 0; i < 2; i++)
        pthread_join(readers[i], NULL);
    ck_assert_int_eq(source.wrong, 0);
    rr__metrics_destroy(reading.metrics);
}
END_TEST

#ifndef NDEBUG
START_TEST(out_of_memory) {
    rr__metrics_t *metrics;
    ck_assert_int_eq(rr__metrics_create(&metrics), RR_OK);
    ck_assert_int_eq(rr__metrics_add(metrics, collect_rooms, "a"), RR_OK);
    int64_t before = rr__alloc_live();
    int failures = 0;
    for (uint64_t n = 1;; n++) {
        rr_buffer_t *buffer = NULL;
        rr__alloc_fail_at(n);
        int rc = rr__metrics_text(metrics, &buffer);
        bool reached = rr__alloc_failed();
        rr__alloc_fail_at(0);
        if (rc == RR_OK)
            rr_buffer_unref(buffer);
        ck_assert_int_eq(rr__alloc_live(), before);
        if (!reached)
            break;
        ck_assert_int_eq(rc, RR_ENOMEM);
        failures++;
    }
    ck_assert_int_gt(failures, 5);
    rr__alloc_fail_at(1);
    ck_assert_int_eq(rr__metrics_add(metrics, collect_rooms, "b"), RR_ENOMEM);
    rr__metrics_destroy(metrics);
}
END_TEST
#define OUT_OF_MEMORY , out_of_memory
#else
#define OUT_OF_MEMORY
#endif

CHECK_MAIN("metrics", families_are_grouped, numbers, labels_fit_or_stay, many_families,
           removal_waits_for_readers OUT_OF_MEMORY)
