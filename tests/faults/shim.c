/* Lets the system calls of a process fail, end early or kill it: loaded by LD_PRELOAD, told what by fault_arm() or
 * by the variable FAULT, "KIND HOW PATH FROM TO", e.g. "write kill /tmp/index 3 3".
 *
 * Calls of a kind (write, read, inotify, watch) on files whose path holds PATH are counted from 1; those from FROM to TO get the
 * fault. HOW is kill (SIGKILL before the call), tear (SIGKILL after half of what is to be written), short (half of
 * what was asked for) or the number of an error.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))real_##name())
#define FIND(name) static void *real_##name(void) { static void *f; return f ? f : (f = dlsym(RTLD_NEXT, #name)); }

enum how { NONE = -4, KILL = -3, TEAR = -2, SHORT = -1 };
static char kind_[16], path_[4096];
static long how_ = NONE, from_, to_, count_;

void fault_arm(const char *kind, const char *how, const char *path, long from, long to) {
  snprintf(kind_, sizeof kind_, "%s", kind);
  snprintf(path_, sizeof path_, "%s", path);
  how_ = !strcmp(how, "kill") ? KILL : !strcmp(how, "tear") ? TEAR : !strcmp(how, "short") ? SHORT : atol(how);
  from_ = from, to_ = to, count_ = 0;
}

long fault_count(void) { return count_; }

__attribute__((constructor)) static void from_environment(void) {
  const char *fault = getenv("FAULT");
  char kind[16], how[16], path[4096];
  long from, to;
  if (fault && sscanf(fault, "%15s %15s %4095s %ld %ld", kind, how, path, &from, &to) == 5)
    fault_arm(kind, how, path, from, to);
}

static void die(void) {
  kill(getpid(), SIGKILL);
  pause();
}

/* What has to be done to a call: NONE, TEAR, SHORT, or an error's number. */
static long fault(const char *kind, const char *path) {
  if (how_ == NONE || strcmp(kind, kind_) || !path || !strstr(path, path_)) return NONE;
  count_++;
  if (count_ < from_ || count_ > to_) return NONE;
  if (how_ == KILL) die();
  return how_;
}

static long fault_fd(const char *kind, int fd) {
  char link[64], path[4096];
  int saved = errno;
  if (how_ == NONE || strcmp(kind, kind_)) return NONE;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t size = readlink(link, path, sizeof path - 1);
  errno = saved;
  if (size < 0) return NONE;
  path[size] = 0;
  return fault(kind, path);
}

#define FAIL(value)         \
  if (f == TEAR) die();     \
  if (f > 0) {              \
    errno = (int)f;         \
    return value;           \
  }

#define READS(name, ...)                                                                    \
  FIND(name)                                                                                \
  ssize_t name(int fd, void *data, size_t size __VA_OPT__(, off_t at)) {                    \
    long f = fault_fd("read", fd);                                                          \
    FAIL(-1)                                                                          \
    return REAL(name)(fd, data, f == SHORT && size > 1 ? size / 2 : size __VA_OPT__(, at)); \
  }
READS(read)
READS(pread, 1)
READS(pread64, 1)

#define WRITES(name, ...)                                                                                 \
  FIND(name)                                                                                              \
  ssize_t name(int fd, const void *data, size_t size __VA_OPT__(, off_t at)) {                            \
    long f = fault_fd("write", fd);                                                                       \
    if (f == TEAR) {                                                                                      \
      REAL(name)(fd, data, size / 2 __VA_OPT__(, at));                                                    \
      die();                                                                                              \
    }                                                                                                     \
    FAIL(-1)                                                                                              \
    return REAL(name)(fd, data, f == SHORT && size > 1 ? size / 2 : size __VA_OPT__(, at));               \
  }
WRITES(write)
WRITES(pwrite, 1)
WRITES(pwrite64, 1)

#define ON_FD(name, parameters, arguments) \
  FIND(name)                               \
  int name parameters {                    \
    long f = fault_fd("write", fd);        \
    FAIL(-1)                         \
    return REAL(name) arguments;           \
  }
ON_FD(ftruncate, (int fd, off_t size), (fd, size))
ON_FD(ftruncate64, (int fd, off_t size), (fd, size))
ON_FD(fsync, (int fd), (fd))
ON_FD(fdatasync, (int fd), (fd))

#define ON_PATH(kind, name, parameters, arguments) \
  FIND(name)                                       \
  int name parameters {                            \
    long f = fault(kind, path);                    \
    FAIL(-1)                                 \
    return REAL(name) arguments;                   \
  }
ON_PATH("write", unlink, (const char *path), (path))
ON_PATH("write", mkdir, (const char *path, mode_t mode), (path, mode))
ON_PATH("write", rename, (const char *path, const char *to), (path, to))
ON_PATH("read", stat, (const char *path, struct stat *status), (path, status))
ON_PATH("read", lstat, (const char *path, struct stat *status), (path, status))
ON_PATH("read", stat64, (const char *path, struct stat64 *status), (path, status))
ON_PATH("read", lstat64, (const char *path, struct stat64 *status), (path, status))

#define OPENS(name, before, arguments)                                     \
  FIND(name)                                                               \
  int name(before const char *path, int flags, ...) {                      \
    va_list rest;                                                          \
    va_start(rest, flags);                                                 \
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
    va_end(rest);                                                          \
    long f = fault(flags & O_CREAT ? "write" : "read", path);              \
    FAIL(-1)                                                         \
    return REAL(name) arguments;                                           \
  }
#define FIRST int folder,
OPENS(open, , (path, flags, mode))
OPENS(open64, , (path, flags, mode))
OPENS(openat, FIRST, (folder, path, flags, mode))
OPENS(openat64, FIRST, (folder, path, flags, mode))

FIND(opendir)
DIR *opendir(const char *path) {
  long f = fault("read", path);
  FAIL(NULL)
  return REAL(opendir)(path);
}

#define LISTS(name, type)                     \
  FIND(name)                                  \
  struct type *name(DIR *folder) {            \
    long f = fault_fd("read", dirfd(folder)); \
    FAIL(NULL)                          \
    return REAL(name)(folder);                \
  }
LISTS(readdir, dirent)
LISTS(readdir64, dirent64)

#define MAPS(name)                                                                                \
  FIND(name)                                                                                      \
  void *name(void *address, size_t size, int protection, int flags, int fd, off_t at) {           \
    long f = fd < 0 ? NONE : fault_fd(protection & PROT_WRITE && flags & MAP_SHARED ? "write" : "read", fd); \
    FAIL(MAP_FAILED)                                                                        \
    return REAL(name)(address, size, protection, flags, fd, at);                                  \
  }
MAPS(mmap)
MAPS(mmap64)

FIND(inotify_init)
int inotify_init(void) {
  long f = fault("inotify", "/");
  FAIL(-1)
  return REAL(inotify_init)();
}

FIND(inotify_add_watch)
int inotify_add_watch(int fd, const char *path, uint32_t mask) {
  long f = fault("watch", path);
  FAIL(-1)
  return REAL(inotify_add_watch)(fd, path, mask);
}
