/* Redis: the keys, and redis-benchmark as what a client can do without pipelining on one thread. */
#include <hiredis/hiredis.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/db.h"

static redisContext *dial(const db_url_t *url) {
    redisContext *redis = redisConnect(url->host, (int)url->port);
    if (!redis || redis->err)
        bench_die("db: %s:%u: %s", url->host, url->port, redis ? redis->errstr : "out of memory");
    if (*url->password) {
        redisReply *reply = *url->user ? redisCommand(redis, "AUTH %s %s", url->user, url->password)
                                       : redisCommand(redis, "AUTH %s", url->password);
        if (!reply || reply->type == REDIS_REPLY_ERROR)
            bench_die("db: %s", reply ? reply->str : redis->errstr);
        freeReplyObject(reply);
    }
    return redis;
}

void db_redis_prepare(const db_url_t *url, const db_params_t *p) {
    redisContext *redis = dial(url);
    for (uint64_t id = 0; id < p->rows; id++) {
        char name[64];
        db_name(id, name, sizeof name);
        redisAppendCommand(redis, "SET rr:%012llu %s", (unsigned long long)id, name);
    }
    for (uint64_t id = 0; id < p->rows; id++) {
        redisReply *reply = NULL;
        if (redisGetReply(redis, (void **)&reply) != REDIS_OK || reply->type == REDIS_REPLY_ERROR)
            bench_die("db: %s", reply ? reply->str : redis->errstr);
        freeReplyObject(reply);
    }
    redisFree(redis);
}

/* "GET rr:…","12345.67","0.4",…: requests a second, of a line that follows a head; 0 = no such line. */
static double read_rate(FILE *from) {
    char line[1024];
    double rate = 0;
    while (fgets(line, sizeof line, from)) {
        const char *at = strstr(line, "\",\"");
        if (at && sscanf(at + 3, "%lf", &rate) == 1 && rate > 0)
            break;
    }
    return rate;
}

static FILE *start(const db_url_t *url, const db_params_t *p, uint64_t requests, pid_t *pid) {
    char port[12], clients[24], count[24], keys[24], user[80], password[80];
    snprintf(port, sizeof port, "%u", url->port);
    snprintf(clients, sizeof clients, "%llu", (unsigned long long)p->outstanding);
    snprintf(count, sizeof count, "%llu", (unsigned long long)requests);
    snprintf(keys, sizeof keys, "%llu", (unsigned long long)p->rows);
    snprintf(user, sizeof user, "%s", *url->user ? url->user : "default");
    snprintf(password, sizeof password, "%s", url->password);
    int ends[2];
    if (pipe(ends) != 0 || (*pid = fork()) < 0)
        bench_die("db: redis-benchmark could not be started");
    if (*pid == 0) {
        dup2(ends[1], 1);
        close(ends[0]);
        close(ends[1]);
        const char *args[] = {"redis-benchmark", "-h", url->host, "-p", port, "-c", clients, "-n", count, "-r", keys, "-P", "1",
                              "--csv", *password ? "--user" : "GET", *password ? user : "rr:__rand_int__",
                              *password ? "-a" : NULL, password, "GET", "rr:__rand_int__", NULL};
        execvp(args[0], (char **)args);
        _exit(127);
    }
    close(ends[1]);
    FILE *from = fdopen(ends[0], "r");
    if (!from)
        bench_die("out of memory");
    return from;
}

/* One call: a first short one says how many requests last as long as our run. */
static double rate_of(const db_url_t *url, const db_params_t *p, uint64_t requests, bench_run_t *out) {
    pid_t pid;
    int status = 0;
    FILE *from = start(url, p, requests, &pid);
    double rate = read_rate(from);
    while (fgetc(from) != EOF) {
    }
    fclose(from);
    if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status) != 0 || rate <= 0)
        bench_fail(out, WIFEXITED(status) && WEXITSTATUS(status) == 127 ? "redis-benchmark is not installed"
                                                                        : "redis-benchmark did not end well");
    return rate;
}

void db_redis_get(const db_url_t *url, const db_params_t *p, const db_workload_t *workload, bench_run_t *out) {
    double rate = rate_of(url, p, 5000, out);
    if (!out->failure[0])
        rate = rate_of(url, p, (uint64_t)(rate * p->duration) + 1, out);
    bench_metric(out, workload->unit, "/s", BENCH_HIGHER, rate);
}
