#include "python/threadstate.h"

#include <stdlib.h>
#include <string.h>

typedef struct entry {
    rr__interp_t *interp; /* NULL = free */
    PyThreadState *state;
} entry_t;

/* This thread's states, indexed by the interpreter's slot: entering is one load. */
static _Thread_local struct {
    entry_t *entries;
    size_t count;
} here;

static int grow(size_t slot) {
    if (slot < here.count)
        return RR_OK;
    size_t count = slot < 8 ? 8 : slot * 2;
    entry_t *entries = realloc(here.entries, count * sizeof *entries);
    if (!entries)
        return RR_ENOMEM;
    memset(entries + here.count, 0, (count - here.count) * sizeof *entries);
    here.entries = entries;
    here.count = count;
    return RR_OK;
}

int rr__thread_adopt(rr__interp_t *interp, PyThreadState *state) {
    int rc = grow(interp->slot);
    if (rc != RR_OK)
        return rc;
    here.entries[interp->slot] = (entry_t){interp, state};
    rr__interp_count(interp, +1);
    return RR_OK;
}

PyThreadState *rr__thread_state(rr__interp_t *interp) {
    if (interp->slot < here.count && here.entries[interp->slot].interp == interp)
        return here.entries[interp->slot].state;
    if (grow(interp->slot) != RR_OK)
        return NULL;
    PyThreadState *state = PyThreadState_New(interp->state);
    if (!state)
        return NULL;
    here.entries[interp->slot] = (entry_t){interp, state};
    rr__interp_count(interp, +1);
    return state;
}

/* CPython 3.11 and 3.12 abort when an interpreter has lost its last thread state and gets a new one: the last one stays
 * behind, without its thread, until the interpreter ends. */
static bool leave_behind(rr__interp_t *interp, PyThreadState *state) {
#if PY_VERSION_HEX < 0x030D0000
    if (interp->threads == 1 && !interp->main && !interp->orphan) {
        interp->orphan = state;
        return true;
    }
#endif
    return false;
}

static void delete_orphan(rr__interp_t *interp) {
    if (!interp->orphan)
        return;
    PyThreadState_Clear(interp->orphan);
    PyThreadState_Delete(interp->orphan);
    interp->orphan = NULL;
}

/* The last thread state of an ending interpreter takes the interpreter with it. */
static void give_back(entry_t *entry) {
    rr__interp_t *interp = entry->interp;
    PyThreadState *state = entry->state;
    *entry = (entry_t){NULL, NULL};
    pthread_mutex_lock(&interp->release_lock);
    bool last = interp->threads == 1 && atomic_load_explicit(&interp->ending, memory_order_acquire);
    if (last) {
        PyEval_RestoreThread(state);
        delete_orphan(interp);
        rr__interp_end(interp, state);
    } else if (!leave_behind(interp, state)) {
        PyEval_RestoreThread(state);
        PyThreadState_Clear(state);
        PyThreadState_DeleteCurrent();
    }
    rr__interp_count(interp, -1);
    pthread_mutex_unlock(&interp->release_lock);
    if (last)
        rr__interp_free(interp);
}

void rr__thread_give_back(rr__interp_t *interp) {
    if (interp->slot < here.count && here.entries[interp->slot].interp == interp)
        give_back(&here.entries[interp->slot]);
}

void rr__thread_sweep(void) {
    if (!rr__interp_any_ending())
        return;
    for (size_t i = 0; i < here.count; i++) {
        entry_t *entry = &here.entries[i];
        if (entry->interp && atomic_load_explicit(&entry->interp->ending, memory_order_acquire))
            give_back(entry);
    }
}

void rr__thread_forget(rr__interp_t *interp) {
    if (interp->slot < here.count && here.entries[interp->slot].interp == interp) {
        here.entries[interp->slot] = (entry_t){NULL, NULL};
        rr__interp_count(interp, -1);
    }
}

/* The main interpreter's comes last: ending another interpreter may need it. */
void rr__thread_end(void) {
    rr__interp_t *main = rr__interp_main();
    for (size_t i = 0; i < here.count; i++) {
        if (here.entries[i].interp && here.entries[i].interp != main)
            give_back(&here.entries[i]);
    }
    if (rr__interp_first_state() == rr__thread_peek(main))
        return; /* the thread that started CPython: its state stays until rr_python_stop */
    rr__thread_give_back(main);
    free(here.entries);
    here.entries = NULL;
    here.count = 0;
}

PyThreadState *rr__thread_peek(const rr__interp_t *interp) {
    return interp->slot < here.count && here.entries[interp->slot].interp == interp ? here.entries[interp->slot].state
                                                                                    : NULL;
}
