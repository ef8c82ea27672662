/* gate_limits.c: connections per address. */
#include <stdlib.h>
#include <uthash.h>

#include "actors/gate_impl.h"

typedef struct ip_entry {
    UT_hash_handle hh;
    unsigned count;
    char ip[];
} ip_entry_t;

bool rr__ip_enter(rr_gate_t *gate, const char *ip, void **entry) {
    ip_entry_t *table, *found = NULL;
    size_t size = strlen(ip);
    bool within = true;
    pthread_mutex_lock(&gate->ip_lock);
    table = gate->ips;
    HASH_FIND(hh, table, ip, size, found);
    if (!found && (found = calloc(1, sizeof(*found) + size + 1))) {
        memcpy(found->ip, ip, size + 1);
        HASH_ADD_KEYPTR(hh, table, found->ip, size, found);
    }
    if (found && found->count >= gate->options.max_per_ip)
        within = false;
    else if (found)
        found->count++;
    gate->ips = table;
    pthread_mutex_unlock(&gate->ip_lock);
    *entry = within ? found : NULL;
    return within;
}

void rr__ip_leave(rr_gate_t *gate, void *entry) {
    ip_entry_t *item = entry, *table;
    pthread_mutex_lock(&gate->ip_lock);
    table = gate->ips;
    if (--item->count == 0) {
        HASH_DEL(table, item);
        free(item);
    }
    gate->ips = table;
    pthread_mutex_unlock(&gate->ip_lock);
}

void rr__ips_free(rr_gate_t *gate) {
    ip_entry_t *table = gate->ips, *item, *next;
    HASH_ITER(hh, table, item, next) {
        HASH_DEL(table, item);
        free(item);
    }
    gate->ips = table;
}
