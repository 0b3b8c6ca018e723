/* A disk that fails: preloaded into a daemon, whose writes to its database it refuses while a file tells it to.

   $BAD_DISK.meta  the writes of LMDB's meta pages fail
   $BAD_DISK.data  those of all other pages fail */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define PAGE 4096
#define DATABASE "/data.mdb"

static int fails(int file, size_t length) {
    char link[64], path[4096];
    const char *name = getenv("BAD_DISK");
    if (name == NULL) return 0;
    snprintf(path, sizeof path, "%s.%s", name, length < PAGE ? "meta" : "data");
    if (access(path, F_OK) != 0) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t end = readlink(link, path, sizeof path - 1);
    if (end < (ssize_t)strlen(DATABASE)) return 0;
    path[end] = 0;
    if (strcmp(path + end - strlen(DATABASE), DATABASE) != 0) return 0;
    errno = EIO;
    return 1;
}

ssize_t pwrite(int file, const void *data, size_t count, off_t offset) {
    static ssize_t (*real)(int, const void *, size_t, off_t);
    if (fails(file, count)) return -1;
    if (real == NULL) real = dlsym(RTLD_NEXT, "pwrite");
    return real(file, data, count, offset);
}

ssize_t pwrite64(int file, const void *data, size_t count, off64_t offset) {
    return pwrite(file, data, count, offset);
}

ssize_t writev(int file, const struct iovec *data, int count) {
    static ssize_t (*real)(int, const struct iovec *, int);
    if (fails(file, PAGE)) return -1;
    if (real == NULL) real = dlsym(RTLD_NEXT, "writev");
    return real(file, data, count);
}
