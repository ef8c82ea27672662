#include "bench/address.h"

#include <ctype.h>
#include <dirent.h>
#include <netdb.h>
#include <netinet/in.h>
#include <string.h>
#include <unistd.h>

#include "bench/generator.h"

static const char *take_scheme(const char *text, wire_kind_t *kind) {
    static const struct {
        const char *scheme;
        wire_kind_t kind;
    } schemes[] = {{"tcp://", WIRE_TCP}, {"tcp-be://", WIRE_TCP_BIG}, {"ws://", WIRE_WS_TEXT}};
    for (unsigned i = 0; i < sizeof schemes / sizeof *schemes; i++)
        if (strncmp(text, schemes[i].scheme, strlen(schemes[i].scheme)) == 0) {
            *kind = schemes[i].kind;
            return text + strlen(schemes[i].scheme);
        }
    bench_die("'%s' is not an address: use tcp://HOST:PORT, tcp-be://HOST:PORT or ws://HOST:PORT/PATH", text);
}

void address_parse(const char *text, address_t *out) {
    memset(out, 0, sizeof *out);
    const char *rest = take_scheme(text, &out->kind);
    size_t size = strcspn(rest, "/");
    snprintf(out->path, sizeof out->path, "%s", rest[size] ? rest + size : "/");
    snprintf(out->host, sizeof out->host, "%.*s", (int)size, rest);
    char host[128];
    snprintf(host, sizeof host, "%s", out->host);
    char *colon = strrchr(host, ':');
    if (!colon || !isdigit((unsigned char)colon[1]))
        bench_die("'%s': the port is missing", text);
    *colon = 0;
    out->port = (unsigned)atoi(colon + 1);
    char *name = host;
    if (*name == '[' && name[strlen(name) - 1] == ']') {
        name[strlen(name) - 1] = 0;
        name++;
    }
    if (strcmp(name, "*") == 0)
        name = "0.0.0.0";
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
    int rc = getaddrinfo(name, colon + 1, &hints, &found);
    if (rc != 0)
        bench_die("'%s': %s", text, gai_strerror(rc));
    memcpy(&out->storage, found->ai_addr, found->ai_addrlen);
    out->size = found->ai_addrlen;
    freeaddrinfo(found);
}

/* ---- Which process listens there: /proc/net/tcp* gives the socket's inode, /proc/PID/fd who holds it ---------------- */

static unsigned listening_inodes(const char *path, unsigned port, unsigned long *inodes, unsigned count, unsigned room) {
    char line[512];
    FILE *f = fopen(path, "r");
    while (f && count < room && fgets(line, sizeof line, f)) {
        unsigned local, state;
        unsigned long inode;
        if (sscanf(line, "%*d: %*[0-9A-F]:%x %*[0-9A-F]:%*x %x %*s %*s %*s %*u %*u %lu", &local, &state, &inode) == 3 &&
            local == port && state == 10 /* LISTEN */)
            inodes[count++] = inode;
    }
    if (f)
        fclose(f);
    return count;
}

static bool holds(const char *pid, const unsigned long *inodes, unsigned count) {
    char path[300], link[64];
    snprintf(path, sizeof path, "/proc/%.20s/fd", pid);
    DIR *dir = opendir(path);
    bool found = false;
    for (struct dirent *e; dir && !found && (e = readdir(dir)) != NULL;) {
        snprintf(path, sizeof path, "/proc/%.20s/fd/%.20s", pid, e->d_name);
        ssize_t n = readlink(path, link, sizeof link - 1);
        unsigned long inode;
        link[n > 0 ? n : 0] = 0;
        if (sscanf(link, "socket:[%lu]", &inode) == 1)
            for (unsigned i = 0; i < count; i++)
                found |= inodes[i] == inode;
    }
    if (dir)
        closedir(dir);
    return found;
}

unsigned generator_server_pids(const char *to, int *pids, unsigned capacity) {
    address_t address;
    unsigned long inodes[32];
    address_parse(to, &address);
    unsigned inode_count = listening_inodes("/proc/net/tcp", address.port, inodes, 0, 32);
    inode_count = listening_inodes("/proc/net/tcp6", address.port, inodes, inode_count, 32);
    unsigned count = 0;
    DIR *dir = inode_count ? opendir("/proc") : NULL;
    for (struct dirent *e; dir && count < capacity && (e = readdir(dir)) != NULL;)
        if (isdigit((unsigned char)e->d_name[0]) && holds(e->d_name, inodes, inode_count))
            pids[count++] = atoi(e->d_name);
    if (dir)
        closedir(dir);
    return count;
}
