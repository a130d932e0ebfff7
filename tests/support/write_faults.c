/* Fails the n-th write or sync to a file below a folder, for programs that preload it.
 *
 * WRITE_FAULT_ROOT is the folder, WRITE_FAULT_PLAN a file of three 64-bit numbers that all
 * processes share: calls so far, the call that fails (0 for none), and how: 1 the disk is full from
 * then on, 2 one input/output error, 3 only half of it is written.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

enum { FULL = 1, BROKEN = 2, SHORT = 3 };

static _Atomic int64_t *plan(void) {
  static _Atomic int64_t *shared;
  if (!shared) {
    const char *name = getenv("WRITE_FAULT_PLAN");
    int fd = name ? open(name, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0) return NULL;
    void *at = mmap(NULL, 24, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (at == MAP_FAILED) return NULL;
    shared = at;
  }
  return shared;
}

static int is_watched(int fd) {
  char link[64], path[PATH_MAX];
  const char *root = getenv("WRITE_FAULT_ROOT");
  if (!root) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t size = readlink(link, path, sizeof path - 1);
  return size > 0 && (size_t)size >= strlen(root) && !strncmp(path, root, strlen(root));
}

/* Returns what is to happen to this call, 0 for nothing. */
static int fault(int fd) {
  _Atomic int64_t *shared = plan();
  if (!shared || !is_watched(fd)) return 0;
  int64_t call = atomic_fetch_add(&shared[0], 1) + 1;
  int64_t kind = shared[2];
  if (!shared[1] || call < shared[1]) return 0;
  if (call > shared[1] && kind != FULL) return 0;
  return (int)kind;
}

static int failed(int kind) {
  errno = kind == FULL ? ENOSPC : EIO;
  return -1;
}

#define REAL(name) ((typeof(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int fd, const void *data, size_t size) {
  int kind = fault(fd);
  if (kind == SHORT && size > 1) size /= 2;
  return kind == FULL || kind == BROKEN ? failed(kind) : REAL(write)(fd, data, size);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
  int kind = fault(fd);
  if (kind == SHORT && size > 1) size /= 2;
  return kind == FULL || kind == BROKEN ? failed(kind) : REAL(pwrite64)(fd, data, size, at);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
  return pwrite64(fd, data, size, at);
}

ssize_t writev(int fd, const struct iovec *pieces, int count) {
  int kind = fault(fd);
  if (kind == SHORT && count > 0) return REAL(write)(fd, pieces[0].iov_base, pieces[0].iov_len);
  return kind == FULL || kind == BROKEN ? failed(kind) : REAL(writev)(fd, pieces, count);
}

ssize_t pwritev64(int fd, const struct iovec *pieces, int count, off64_t at) {
  int kind = fault(fd);
  if (kind == SHORT && count > 0)
    return REAL(pwrite64)(fd, pieces[0].iov_base, pieces[0].iov_len, at);
  return kind == FULL || kind == BROKEN ? failed(kind) : REAL(pwritev64)(fd, pieces, count, at);
}

ssize_t pwritev(int fd, const struct iovec *pieces, int count, off_t at) {
  return pwritev64(fd, pieces, count, at);
}

int fsync(int fd) {
  int kind = fault(fd);
  return kind == FULL || kind == BROKEN ? failed(kind) : REAL(fsync)(fd);
}

int fdatasync(int fd) {
  int kind = fault(fd);
  return kind == FULL || kind == BROKEN ? failed(kind) : REAL(fdatasync)(fd);
}

int syncfs(int fd) {
  int kind = fault(fd);
  return kind == FULL || kind == BROKEN ? failed(kind) : REAL(syncfs)(fd);
}
