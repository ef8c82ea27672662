/* mailbox.pml: the hand-over between producers, an actor's mailbox and the scheduler (runtime/deliver.c: rr__deliver,
 * control.c: rr__control_send, rr__mute; turn.c: rr_worker_run, bury; actor.h tells the fields). Run ./run here; needs spin.
 *
 * Modelled, one statement per atomic operation of the code:
 *   - the packed word: a count and DEAD in one read-modify-write; who gets the count from 0 posts the actor; the turn's end
 *     subtracts what the turn consumed and runs on if something is left;
 *   - Vyukov's queue: exchange the head, then link; in between the queue looks shorter than the count says;
 *   - the control lane (a kill): counted in the same word, pushed, seen by the turn between two messages;
 *   - muting: a turn's end keeps one count, sets muted, asks for room, looks at the control lane once more; whoever
 *     exchanges muted posts the actor;
 *   - death: DEAD is set, then exactly what was counted before is drained, waiting for producers in mid-link;
 *   - the header's reuse: after death a new actor is born in the same memory, while producers that looked up the old one
 *     may still add to it; their messages are foreign to the new one.
 *
 * Proved by exhaustive search, for the numbers of processes in ./run:
 *   1. the actor never runs on two workers at once, and is never queued twice;
 *   2. no message is lost or handled twice: each ends as handled, foreign, dead letter, or refused to its sender;
 *   3. messages of one producer are handled in their order;
 *   4. no wake-up is lost: when nothing can move any more, every message and control item has been accounted for and the
 *      count is 0 (a stuck run would be an invalid end state);
 *   5. a drain never waits for a message that does not come.
 *
 * Not modelled: memory orders (Spin's memory is sequentially consistent; the orders are argued where the atomics are
 * declared, and TSan watches the stress test), weights other than 1, limits. */

#ifndef PRODUCERS
#define PRODUCERS 2
#endif
#ifndef EACH
#define EACH 2 /* messages of a producer */
#endif
#ifndef WORKERS
#define WORKERS 2
#endif
#ifndef KILLS
#define KILLS 1
#endif
#ifndef MUTES
#define MUTES 1 /* turns that may end muted */
#endif
#ifndef BUDGET
#define BUDGET 1 /* messages of a turn */
#endif
#ifndef BIRTHS
#define BIRTHS 1 /* reuses of the header */
#endif

#define MESSAGES (PRODUCERS * EACH)
#define STUB     0

/* The header. */
byte count;
bool dead;
byte head;               /* newest message; STUB = none yet */
byte next[MESSAGES + 1]; /* of message m (from 1) and of the stub; 0 = not linked */
byte tail;               /* the last consumed one, as the dummy */
byte control;            /* items in the control lane */
bool muted;
byte life = 1;           /* which actor lives here */
bool carry, begun;

/* The scheduler and the checker. */
byte queued;   /* entries of this actor in all run queues */
bool running;
byte accounted; /* messages that have ended */
byte controls_done;
byte unmutes;   /* requests for room that are under way */
byte mutes_left = MUTES;
byte births_left = BIRTHS;
byte expected[PRODUCERS]; /* next message of each producer */

inline post() {
    d_step {
        assert(queued == 0 && !running);
        queued++;
    }
}

proctype producer(byte me) {
    byte i = 0, message, previous, before;
    bool was_dead;
    do
    :: i < EACH ->
        message = me * EACH + i + 1;
        d_step { /* fetch_add */
            before = count;
            was_dead = dead;
            count++;
        }
        if
        :: was_dead -> accounted++ /* refused: the sender is told */
        :: else ->
            d_step { /* exchange */
                previous = head;
                head = message;
            }
            next[previous] = message; /* store */
            if
            :: before == 0 -> post()
            :: else
            fi
        fi;
        i++
    :: else -> break
    od
}

proctype killer() {
    byte before;
    bool was_dead, mine;
    d_step {
        before = count;
        was_dead = dead;
        count++;
    }
    if
    :: was_dead -> controls_done++
    :: else ->
        control++; /* compare-and-swap loop: one push */
        if
        :: before == 0 -> post()
        :: else ->
            if
            :: muted ->
                d_step { mine = muted; muted = false }
                if
                :: mine -> post()
                :: else
                fi
            :: else
            fi
        fi
    fi
}

/* The full receiver: when it has room it says so. While a kill is still to come it may also never have room again: then
 * that kill alone must end the wait. */
proctype receiver() {
    bool mine;
end_receiver:
    do
    :: unmutes > 0 ->
        unmutes--;
        if
        :: controls_done < KILLS && life == 1 -> skip
        :: muted ->
            d_step { mine = muted; muted = false }
            if
            :: mine -> post()
            :: else
            fi
        :: !muted -> skip
        fi
    od
}

proctype worker() {
    byte consumed, taken, left, message, done, items;
    bool ending, again, mine;
end_worker:
    do
    :: atomic { queued > 0 -> queued-- }
       d_step { assert(!running); running = true }
       consumed = 0;
       done = 0;
       ending = false;
       if
       :: carry -> carry = false; consumed = 1
       :: else
       fi;
       if
       :: !begun -> begun = true; consumed++ /* the first turn counts one itself */
       :: else
       fi;
       do /* the turn */
       :: done < BUDGET ->
           if
           :: control > 0 ->
               d_step { items = control; control = 0 }
               consumed = consumed + items;
               controls_done = controls_done + items;
               if
               :: life == 1 -> ending = true
               :: else /* meant for the one before */
               fi
           :: else
           fi;
           if
           :: ending -> break
           :: else
           fi;
           message = next[tail];
           if
           :: message == 0 -> break
           :: else
           fi;
           atomic {
               tail = message;
               consumed++;
               accounted++;
               done++;
               assert(expected[(message - 1) / EACH] <= (message - 1) % EACH);
               expected[(message - 1) / EACH] = (message - 1) % EACH + 1
           }
       :: else -> break
       od;
       skip;
       d_step { /* and forget what no longer matters: equal situations become equal states */
           assert(running);
           running = false;
           message = 0;
           done = 0;
           items = 0
       }
       if
       :: ending ->
           d_step { /* fetch_or */
               left = count - consumed;
               dead = true
           }
           do
           :: left > 0 && next[tail] != 0 ->
               tail = next[tail];
               left--;
               accounted++
           :: left > 0 && next[tail] == 0 && control > 0 ->
               d_step { items = control; control = 0 }
               left = left - items;
               controls_done = controls_done + items
           :: left == 0 -> break
           od; /* else it waits here for the producer in mid-link */
           assert(!muted);
           d_step { consumed = 0; ending = false }
           if
           :: births_left > 0 -> /* spawn, in the same memory; the word last */
               births_left--;
               next[STUB] = 0;
               tail = STUB;
               head = STUB;
               life++;
               begun = false;
               carry = false;
               d_step {
                   count = 1;
                   dead = false
               }
               post()
           :: else
           fi
       :: else ->
           again = false;
           if
           :: mutes_left > 0 && consumed > 0 -> /* it sent to somebody who is full */
               mutes_left--;
               carry = true;
               count = count - (consumed - 1);
               muted = true;
               unmutes++; /* the request */
               if
               :: control > 0 ->
                   d_step { mine = muted; muted = false }
                   again = mine
               :: else
               fi
           :: true ->
               d_step {
                   count = count - consumed;
                   again = (count != 0)
               }
           fi;
           consumed = 0;
           if
           :: again -> again = false; mine = false; post()
           :: else -> mine = false
           fi
       fi
    od
}

/* Only when all is accounted for may everything stand still. */
proctype checker() {
    accounted == MESSAGES && controls_done == KILLS && queued == 0 && !running && !muted;
    (dead || count == 0);
}

init {
    byte i;
    atomic {
        count = 1;
        queued = 1; /* the first spawn has posted it */
        i = 0;
        do
        :: i < PRODUCERS -> run producer(i); i++
        :: else -> break
        od;
        i = 0;
        do
        :: i < KILLS -> run killer(); i++
        :: else -> break
        od;
        i = 0;
        do
        :: i < WORKERS -> run worker(); i++
        :: else -> break
        od;
        run receiver();
        run checker();
    }
}
