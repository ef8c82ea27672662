/* home.h: where the files that belong to the program lie (Python package, JavaScript client, templates), and the scripts'
 * virtual environment. Any thread. */
#ifndef RR_CONF_HOME_H
#define RR_CONF_HOME_H

#include <stdbool.h>
#include <stddef.h>

/* `part` below the program's home ("python", "net/www/redrabbit.js"): $REDRABBIT_HOME, else ../share/redrabbit beside the
 * program if that exists, else the source folder it was built from. False if it does not fit. */
bool rr_home_path(const char *part, char *out, size_t size);

/* "0.1.0"; static storage. */
const char *rr_version(void);

/* The virtual environment to use: `asked` (-python_venv), else $VIRTUAL_ENV, else .venv in `folder`. False: none. */
bool rr_find_venv(const char *asked, const char *folder, char *out, size_t size);

#endif
