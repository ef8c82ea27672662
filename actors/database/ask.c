/* ask.c: asking a database from a thread that may wait: an actor of its own carries the question. */
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "actors/database/database.h"
#include "actors/protocol.h"
#include "runtime/clock.h"

#define SLACK_MS 5000 /* a call ends by itself; only a system that stops meanwhile needs this */

/* Between the thread that waits and the actor that asks; freed by the last of both. */
typedef struct question {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned users; /* under lock, as the next three */
    bool over;
    int status;
    rr_buffer_t *reply;
    rr_addr_t database;
    rr_buffer_t *request; /* until it is sent */
    unsigned timeout_ms;
} question_t;

static question_t *question_new(rr_addr_t database, rr_buffer_t *request, unsigned timeout_ms) {
    question_t *question = calloc(1, sizeof(*question));
    if (!question)
        return NULL;
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&question->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&question->lock, NULL);
    question->users = 2;
    question->database = database;
    question->request = request;
    question->timeout_ms = timeout_ms;
    return question;
}

static void question_drop(question_t *question, unsigned users) {
    pthread_mutex_lock(&question->lock);
    bool last = (question->users -= users) == 0;
    pthread_mutex_unlock(&question->lock);
    if (!last)
        return;
    rr_buffer_unref(question->request);
    rr_buffer_unref(question->reply);
    pthread_cond_destroy(&question->changed);
    pthread_mutex_destroy(&question->lock);
    free(question);
}

/* The actor's last word; drops its use. */
static void question_end(question_t *question, int status, rr_buffer_t *reply) {
    pthread_mutex_lock(&question->lock);
    question->over = true;
    question->status = status;
    question->reply = reply;
    pthread_cond_signal(&question->changed);
    pthread_mutex_unlock(&question->lock);
    question_drop(question, 1);
}

/* The waiting thread's; drops its use. */
static int question_wait(question_t *question, rr_buffer_t **reply) {
    struct timespec until = rr_machine_in((question->timeout_ms + SLACK_MS) * RR_NS_PER_MS);
    pthread_mutex_lock(&question->lock);
    while (!question->over && pthread_cond_timedwait(&question->changed, &question->lock, &until) == 0)
        ;
    int status = question->over ? question->status : RR_TIMEOUT;
    *reply = question->reply;
    question->reply = NULL;
    pthread_mutex_unlock(&question->lock);
    question_drop(question, 1);
    return status;
}

/* ---- The actor ---- */

typedef struct asker {
    question_t *question; /* NULL: answered */
} asker_t;

static void answer(asker_t *asker, int status, rr_buffer_t *reply) {
    question_t *question = asker->question;
    asker->question = NULL;
    question_end(question, status, reply);
}

static void on_reply(rr_actor_t *self, void *state, int status, rr_message_t *msg, void *context) {
    rr_buffer_t *reply = status == RR_OK ? rr_buffer_copy(rr_message_data(msg), rr_message_size(msg)) : NULL;
    answer(state, status == RR_OK && !reply ? RR_ENOMEM : status, reply);
    rr_exit(self, RR_OK);
}

static int asker_start(rr_actor_t *self, void *state, const void *arg) {
    asker_t *asker = state;
    asker->question = *(question_t *const *)arg;
    rr_buffer_t *request = asker->question->request;
    asker->question->request = NULL;
    int rc = rr_call_buffer(self, asker->question->database, RR_TYPE_QUERY, request, asker->question->timeout_ms,
                            on_reply, NULL, NULL);
    if (rc != RR_OK)
        answer(asker, rc, NULL);
    return rc;
}

static void asker_receive(rr_actor_t *self, void *state, rr_message_t *msg) {}

static void asker_finish(rr_actor_t *self, void *state, int reason) {
    asker_t *asker = state;
    if (asker->question)
        answer(asker, RR_CANCELLED, NULL);
}

static const rr_behavior_t asker_behavior = {
    .name = "database-ask",
    .state_size = sizeof(asker_t),
    .start = asker_start,
    .receive = asker_receive,
    .finish = asker_finish,
};

int rr_database_ask(rr_system_t *system, rr_addr_t database, rr_buffer_t *request, unsigned timeout_ms,
                    rr_buffer_t **reply) {
    *reply = NULL;
    question_t *question = question_new(database, request, timeout_ms ? timeout_ms : RR_DATABASE_CALL_MS);
    if (!question) {
        rr_buffer_unref(request);
        return RR_ENOMEM;
    }
    rr_spawn_t spec = {.behavior = &asker_behavior, .arg = &question, .arg_size = sizeof question};
    rr_addr_t addr;
    int rc = rr_system_spawn(system, &spec, &addr);
    if (rc == RR_OK)
        return question_wait(question, reply);
    question_drop(question, 2);
    return rc;
}
