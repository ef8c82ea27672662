#include "conf/home.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *rr_version(void) { return RR_VERSION; }

/* ../share/redrabbit beside the running program; false if it is not installed so. */
static bool shared_folder(char *out, size_t size) {
    char self[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    if (length <= 0)
        return false;
    self[length] = 0;
    char *slash = strrchr(self, '/');
    if (slash)
        *slash = 0;
    return (size_t)snprintf(out, size, "%s/../share/redrabbit", self) < size && access(out, R_OK) == 0;
}

bool rr_home_path(const char *part, char *out, size_t size) {
    char folder[PATH_MAX];
    const char *home = getenv("REDRABBIT_HOME");
    if (!home || !*home)
        home = shared_folder(folder, sizeof folder) ? folder : RR_SOURCE_DIR;
    return (size_t)snprintf(out, size, "%s/%s", home, part) < size;
}

bool rr_find_venv(const char *asked, const char *folder, char *out, size_t size) {
    const char *active = getenv("VIRTUAL_ENV");
    char marker[PATH_MAX];
    if (asked)
        return (size_t)snprintf(out, size, "%s", asked) < size;
    if (active && *active)
        return (size_t)snprintf(out, size, "%s", active) < size;
    return (size_t)snprintf(out, size, "%s/.venv", folder) < size &&
           (size_t)snprintf(marker, sizeof marker, "%s/pyvenv.cfg", out) < sizeof marker && access(marker, R_OK) == 0;
}
