/* redis_channels.c: the channels and patterns of one connection, and the subscriptions that share each. */
#include <stdlib.h>
#include <string.h>

#include "actors/database/redis_impl.h"
#include "runtime/hash.h"

typedef struct name {
    const char *text;
    size_t size;
    bool pattern;
} name_t;

static uint64_t hash_of(name_t name) {
    return rr_hash_add(name.pattern ? ~RR_HASH_START : RR_HASH_START, name.text, name.size);
}

static bool equal(const void *item, const void *key) {
    const rr__redis_channel_t *channel = item;
    const name_t *name = key;
    return channel->size == name->size && channel->pattern == name->pattern &&
           memcmp(channel->name, name->text, name->size) == 0;
}

rr__redis_channel_t *rr__redis_channel(rr__redis_channels_t *channels, const char *text, size_t size, bool pattern) {
    name_t name = {text, size, pattern};
    return rr_set_find(&channels->set, hash_of(name), equal, &name);
}

static void free_channel(rr__redis_channel_t *channel) {
    if (channel) {
        free(channel->name);
        free(channel->ids);
        free(channel);
    }
}

static rr__redis_channel_t *make(rr__redis_channels_t *channels, name_t name) {
    rr__redis_channel_t *channel = calloc(1, sizeof *channel);
    char *text = malloc(name.size + 1);
    if (!channel || !text) {
        free(channel);
        free(text);
        return NULL;
    }
    memcpy(text, name.text, name.size);
    text[name.size] = '\0';
    *channel = (rr__redis_channel_t){.name = text, .size = name.size, .pattern = name.pattern};
    if (!rr_set_add(&channels->set, hash_of(name), channel)) {
        free_channel(channel);
        return NULL;
    }
    return channel;
}

int rr__redis_listen(rr__redis_channels_t *channels, const char *text, size_t size, bool pattern, uint64_t id) {
    name_t name = {text, size, pattern};
    rr__redis_channel_t *channel = rr__redis_channel(channels, text, size, pattern);
    if (!channel && !(channel = make(channels, name)))
        return RR_ENOMEM;
    for (size_t i = 0; i < channel->count; i++)
        if (channel->ids[i] == id)
            return RR_OK;
    uint64_t *bigger = realloc(channel->ids, (channel->count + 1) * sizeof *bigger);
    if (!bigger)
        return RR_ENOMEM;
    channel->ids = bigger;
    channel->ids[channel->count++] = id;
    return RR_OK;
}

static void take_id(rr__redis_channel_t *channel, uint64_t id) {
    for (size_t i = 0; i < channel->count; i++)
        if (channel->ids[i] == id) {
            memmove(&channel->ids[i], &channel->ids[i + 1], (channel->count - i - 1) * sizeof *channel->ids);
            channel->count--;
            return;
        }
}

void rr__redis_unlisten(rr__redis_channels_t *channels, uint64_t id,
                        void (*each)(void *context, const rr__redis_channel_t *channel), void *context) {
    rr_set_t *set = &channels->set;
    for (uint32_t i = 0; set->cells && i <= set->mask;) {
        rr__redis_channel_t *channel = set->cells[i].item;
        if (channel)
            take_id(channel, id);
        if (!channel || channel->count) {
            i++;
            continue;
        }
        each(context, channel);
        rr_set_remove(set, set->cells[i].hash, channel); /* another may have moved into its cell: look at it again */
        free_channel(channel);
    }
}

void rr__redis_channels_free(rr__redis_channels_t *channels) {
    for (uint32_t i = 0; channels->set.cells && i <= channels->set.mask; i++)
        free_channel(channels->set.cells[i].item);
    rr_set_free(&channels->set);
}
