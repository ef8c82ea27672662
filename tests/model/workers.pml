/* workers.pml: who is woken, who rests and who sleeps in a pool (runtime/scheduler.c: wake_one, search, rest,
 * sleep_until_woken, next_actor, pool_stuck, check_in). Run ./run here; needs spin.
 *
 * Modelled, one statement per atomic operation of the code, what the lock protects as one step (of it, others see without
 * the lock one write only):
 *   - runnable actors as numbers: in the pool's queue and in each worker's ring; a ring with one is left to its owner;
 *   - producers outside of the pool: push, look for sleepers, look for a rest;
 *   - workers: own ring, queue, theft of half a ring, sleep; turns that make others runnable and then wake a searcher;
 *   - the rest of a thief until a theft is due (it may rest before any search), with its looks at the queue;
 *   - the reserve: members above ACTIVE that are not woken, step aside when too many are awake, and stand in for a turn
 *     that the overseer finds in its place;
 *   - a timer of a sleeper, which wakes it without anybody's doing;
 *   - long turns, which end only when everything else has been handled.
 *
 * Proved by exhaustive search, for the numbers in ./run:
 *   1. when nothing can move any more, every actor that was made runnable has had its turn: so none is left while a worker
 *      sleeps, whatever the others do;
 *   2. where rests have no limit in time (LIMIT=0), too: what comes from outside ends a rest, or is seen before it begins.
 *      Where long turns are in the way it takes the limit: so none is left for longer than that;
 *   3. idle_count is the number of sleepers on the list, `reserve` never more than W - ACTIVE.
 *
 * Not modelled: memory orders (argued where the atomics are declared), slot and stack (the slot is never taken but from a
 * long turn, as a ring with one; the stack is a ring of which one suffices), spinning, spares, the end of the pool. */

#ifndef W
#define W 2 /* workers */
#endif
#ifndef ACTIVE
#define ACTIVE W /* that may run at a time */
#endif
#ifndef PRODUCERS
#define PRODUCERS 1
#endif
#ifndef EACH
#define EACH 2 /* pushes of a producer */
#endif
#ifndef SPAWNS
#define SPAWNS 0 /* actors that turns make runnable */
#endif
#ifndef LONG
#define LONG 0 /* long turns */
#endif
#ifndef TIMERS
#define TIMERS 0
#endif
#ifndef LIMIT
#define LIMIT 1 /* does a rest end by itself? */
#endif

byte queued, ring[W];
byte idle_count, reserve = W - ACTIVE, stuck_now;
bool searching, resting;
bool listed[W], awake[W]; /* on the idle list; the futex */
bool stuck[W], in_long[W], seen[W];
byte made, done, longs, producing = PRODUCERS;
byte spawns_left = SPAWNS, longs_left = LONG, timers_left = TIMERS;

inline check() {
    assert(reserve <= W - ACTIVE);
    assert(idle_count <= W)
}

inline take_off(w) { /* under the lock */
    assert(listed[w] && idle_count > 0);
    listed[w] = false;
    idle_count--
}

/* n, s: the caller's own. */
inline wake_one(n, s) {
    n = idle_count;
    s = reserve;
    if
    :: n > s && !searching ->
        if
        :: atomic { !searching -> searching = true } /* compare and swap */
           if /* wake_searcher, under the lock: the list's first, here any */
           :: atomic { idle_count > reserve && listed[0] -> take_off(0); awake[0] = true }
           :: atomic { idle_count > reserve && listed[1] -> take_off(1); awake[1] = true }
#if W > 2
           :: atomic { idle_count > reserve && listed[2] -> take_off(2); awake[2] = true }
#endif
           :: atomic { idle_count <= reserve -> searching = false }
           fi
        :: else
        fi
    :: else
    fi;
    n = 0;
    s = 0
}

inline end_rest(was) {
    if
    :: resting ->
        d_step { was = resting; resting = false }
        /* and wakes it: the rest's wait is for resting to be false */
        was = false
    :: else
    fi
}

proctype producer() {
    byte i, n, s;
    bool was;
    do
    :: i < EACH ->
        d_step { queued++; made++ }
        wake_one(n, s);
        end_rest(was);
        i++
    :: else -> break
    od;
    producing--
}

inline count_stuck() { /* under the lock */
    reserve = (W - ACTIVE > stuck_now -> W - ACTIVE - stuck_now : 0);
    check()
}

inline look() {
    d_step {
        if
        :: ACTIVE < W && in_long[w] -> stuck[w] = true; stuck_now++; count_stuck()
        :: else
        fi
    }
    do /* rescue */
    :: atomic { ring[w] > 0 -> ring[w]--; queued++ }
    :: else -> break
    od;
    if
    :: queued > 0 -> wake_one(n, s)
    :: else
    fi;
    w = 0
}

proctype overseer() { /* one look at each long turn has to be enough */
    byte n, s, w;
end_overseer:
    do
    :: atomic { in_long[0] && !seen[0] -> seen[0] = true; w = 0 }
       look()
    :: atomic { in_long[1] && !seen[1] -> seen[1] = true; w = 1 }
       look()
#if W > 2
    :: atomic { in_long[2] && !seen[2] -> seen[2] = true; w = 2 }
       look()
#endif
    od
}

/* Under the lock: one to run, and a share of the rest into the own ring. */
inline queue_take() {
    if
    :: queued > 0 ->
        d_step {
            if
            :: queued > 0 ->
                t = queued / ACTIVE + 1;
                t = (t > queued -> queued : t);
                queued = queued - t;
                ring[me] = ring[me] + t - 1;
                got = true
            :: else
            fi;
            t = 0
        }
    :: else
    fi
}

inline pick_own() {
    if
    :: atomic { ring[me] > 0 -> ring[me]--; got = true }
    :: else -> queue_take()
    fi
}

inline rob(v) {
    if
    :: !got && v != me ->
        d_step {
            if
            :: ring[v] >= 2 ->
                t = ring[v] - ring[v] / 2;
                ring[v] = ring[v] - t;
                ring[me] = ring[me] + t - 1;
                got = true
            :: else
            fi;
            t = 0
        }
    :: else
    fi
}

inline rest() {
    do
    :: resting = true;
       if
       :: queued == 0 ->
#if LIMIT
           skip /* it wakes when it is told to or when the time is over: at any moment */
#else
end_rest_of_thief:
           !resting
#endif
       :: else
       fi;
       queue_take();
       if
       :: true -> break
       :: !got -> skip /* no theft is due yet: once more */
       fi
    od;
    resting = false
}

inline search() {
    if
    :: true
    :: true -> rest() /* no theft is due */
    fi;
    if
    :: !got -> queue_take()
    :: else
    fi;
    rob(0);
    rob(1);
#if W > 2
    rob(2)
#endif
}

/* Sets t if there is anything that a sleeper would have to be woken for. */
inline work_in_sight() {
    t = (queued > 0);
    if
    :: !t && ring[0] >= 2 -> t = 1
    :: else
    fi;
    if
    :: !t && ring[1] >= 2 -> t = 1
    :: else
    fi
#if W > 2
    ;
    if
    :: !t && ring[2] >= 2 -> t = 1
    :: else
    fi
#endif
}

inline sleep_until_woken() {
    d_step {
        assert(!listed[me]);
        listed[me] = true;
        awake[me] = false;
        idle_count++;
        check()
    }
    searching = false;
    n = idle_count;
    s = reserve;
    t = 0;
    if
    :: n > s -> work_in_sight()
    :: else
    fi;
    if
    :: t == 0 ->
end_sleep:
        if
        :: awake[me]
        :: atomic { timers_left > 0 -> timers_left-- }
        fi
    :: else
    fi;
    d_step { t = 0; n = 0; s = 0 }
    d_step { /* leave_idle */
        if
        :: listed[me] -> take_off(me); alone = true
        :: else -> alone = false
        fi
    }
    if
    :: alone -> searching = true /* compare and swap; was it set, another searches */
    :: else
    fi;
    alone = false
}

inline turn() {
    if
    :: ring[me] >= 2 || queued > 0 -> wake_one(n, s)
    :: else
    fi;
    do /* makes others runnable */
    :: atomic { spawns_left > 0 -> spawns_left--; ring[me]++; made++ }
    :: break
    od;
    if
    :: atomic { longs_left > 0 -> longs_left--; longs++; in_long[me] = true; seen[me] = false }
       atomic { producing == 0 && done + longs == made -> in_long[me] = false; longs--; done++ }
       if
       :: stuck[me] -> /* check_in, under the lock */
           d_step { stuck[me] = false; stuck_now--; count_stuck() }
       :: else
       fi
    :: done++
    fi
}

inline hand_over() {
    do
    :: atomic { ring[me] > 0 -> ring[me]--; queued++ }
    :: else -> break
    od
}

proctype worker(byte me) {
    byte n, s, t;
    bool got, alone;
    do
    :: /* next_actor */
        got = false;
        if
        :: n = idle_count;
           s = reserve;
           if
           :: n < s -> /* crowded, as it looks now and then */
               n = 0;
               s = 0;
               hand_over();
               sleep_until_woken()
           :: else -> n = 0; s = 0
           fi
        :: pick_own();
           if
           :: !got -> searching = true
           :: else
           fi
        fi;
        if
        :: got -> turn()
        :: else ->
            do
            :: pick_own();
               if
               :: !got ->
                   n = idle_count;
                   s = reserve;
                   if
                   :: n >= s -> n = 0; s = 0; search()
                   :: else -> n = 0; s = 0
                   fi
               :: else
               fi;
               if
               :: got -> searching = false; break
               :: else -> sleep_until_woken()
               fi
            od;
            turn()
        fi
    od
}

proctype checker() { producing == 0 && done == made && longs == 0 }

init {
    byte i;
    atomic {
        do
        :: i < W -> run worker(i); i++
        :: else -> break
        od;
        i = 0;
        do
        :: i < PRODUCERS -> run producer(); i++
        :: else -> break
        od;
        run overseer();
        run checker()
    }
}
