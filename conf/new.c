#include "conf/new.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conf/graph.h"
#include "conf/home.h"

#define NAME_BYTES 64

static const char *const files[] = {"graph.yaml", "main.py", "test_main.py", "www/index.html"};

static bool legal(const char *name) {
    size_t length = strlen(name);
    return length > 0 && length <= NAME_BYTES && name[0] != '-' &&
           strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == length;
}

typedef struct rr_mark {
    const char *mark, *value;
} rr_mark_t;

/* Writes text with @NAME@ and @PROGRAM@ replaced. */
static bool write_filled(FILE *out, const char *text, const rr_mark_t *marks) {
    while (*text) {
        const rr_mark_t *mark = marks;
        while (mark->mark && strncmp(text, mark->mark, strlen(mark->mark)) != 0)
            mark++;
        if ((mark->mark ? fputs(mark->value, out) : putc(*text, out)) < 0)
            return false;
        text += mark->mark ? strlen(mark->mark) : 1;
    }
    return true;
}

static int copy_file(const char *name, const char *file, char *why, size_t why_size) {
    char part[128], from[PATH_MAX], to[256], program[PATH_MAX];
    size_t size;
    char *text = NULL;
    FILE *out = NULL;
    int rc = RR_EIO;
    const rr_mark_t marks[] = {{"@NAME@", name}, {"@PROGRAM@", program}, {NULL, NULL}};
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    program[length > 0 ? length : 0] = 0;
    snprintf(part, sizeof part, "conf/template/%s", file);
    snprintf(to, sizeof to, "%s/%s", name, file);
    if (!rr_home_path(part, from, sizeof from) || !(text = rr__read_file(from, &size)))
        return rr_fail(RR_EIO, why, why_size,
                       "the template %s cannot be read: %s; set REDRABBIT_HOME to the program's folder", part,
                       strerror(errno));
    out = fopen(to, "wxe");
    if (out && write_filled(out, text, marks) && !ferror(out))
        rc = RR_OK;
    if (out && fclose(out) != 0)
        rc = RR_EIO;
    if (rc != RR_OK)
        snprintf(why, why_size, "cannot write %s: %s", to, strerror(errno));
    free(text);
    return rc;
}

int rr_new_project(const char *name, char *why, size_t why_size) {
    char www[NAME_BYTES + 8];
    int rc = RR_OK;
    if (!legal(name))
        return rr_fail(RR_EINVAL, why, why_size, "'%.100s' cannot be a project's name; use 1 to %d of A-Z a-z 0-9 _ -",
                       name, NAME_BYTES);
    snprintf(www, sizeof www, "%s/www", name);
    if (mkdir(name, 0777) != 0 || mkdir(www, 0777) != 0) {
        rc = errno == EEXIST ? RR_EEXIST : RR_EIO;
        snprintf(why, why_size, "cannot make the folder %s: %s%s", name, strerror(errno),
                 errno == EEXIST ? "; choose another name" : "");
    }
    for (size_t i = 0; i < sizeof files / sizeof files[0] && rc == RR_OK; i++)
        rc = copy_file(name, files[i], why, why_size);
    return rc;
}
