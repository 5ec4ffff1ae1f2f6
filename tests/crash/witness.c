/*
 * Loaded into the program under test (LD_PRELOAD): writes down what it writes to its files, what it syncs and what it
 * answers, in the order in which it does, so that a test can cut the power at any of these moments.
 *
 * A write is noted once it is made, a sync with the number of notes there were when it began, an answer before it is sent.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

struct note {
    uint8_t kind;  /* W write, T truncate, S sync, A answer */
    uint8_t file;  /* d database, w its log, j lines of the file handler */
    uint16_t port; /* of whoever was answered */
    uint32_t length;
    uint64_t at; /* offset or length in the file, or number of notes */
};

static const char ANSWER[] = "{\"code\":0}";

static int out = -1;
static uint64_t noted;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

#define REAL(name) ((__typeof__(&name))real(#name))

static void *real(const char *name) {
    void *found = dlsym(RTLD_NEXT, name);
    if (!found)
        abort();
    return found;
}

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("WITNESS");
    if (path)
        out = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static int ends(const char *text, const char *with) {
    size_t length = strlen(text), tail = strlen(with);
    return length >= tail && !strcmp(text + length - tail, with);
}

/* One of the letters above, s for a socket, 0 for all else. */
static char kind_of(int fd) {
    struct stat stat;
    if (out < 0 || fstat(fd, &stat))
        return 0;
    if (S_ISSOCK(stat.st_mode))
        return 's';
    char link[32], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = S_ISREG(stat.st_mode) ? readlink(link, path, sizeof path - 1) : 0;
    path[length > 0 ? length : 0] = 0;
    return ends(path, ".db") ? 'd' : ends(path, ".db-wal") ? 'w' : ends(path, ".jsonl") ? 'j' : 0;
}

static void note(struct note note, const void *data) {
    struct iovec parts[] = {{&note, sizeof note}, {(void *)data, note.length}};
    pthread_mutex_lock(&lock);
    noted++;
    if (REAL(writev)(out, parts, 2) != (ssize_t)(sizeof note + note.length))
        abort();
    pthread_mutex_unlock(&lock);
}

static void note_write(char file, const void *data, ssize_t length, off_t at) {
    if (length > 0)
        note((struct note){'W', file, 0, length, at}, data);
}

static void note_answer(int fd, const void *data, size_t length) {
    struct sockaddr_in peer = {0};
    socklen_t size = sizeof peer;
    if (memmem(data, length, ANSWER, strlen(ANSWER)) && !getpeername(fd, (struct sockaddr *)&peer, &size))
        note((struct note){'A', 0, ntohs(peer.sin_port), 0, 0}, NULL);
}

ssize_t write(int fd, const void *data, size_t length) {
    char kind = kind_of(fd);
    if (kind == 's')
        note_answer(fd, data, length);
    ssize_t written = REAL(write)(fd, data, length);
    if (kind && kind != 's')
        note_write(kind, data, written, lseek(fd, 0, SEEK_CUR) - written);
    return written;
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t at) {
    char kind = kind_of(fd);
    ssize_t written = REAL(pwrite)(fd, data, length, at);
    if (kind)
        note_write(kind, data, written, at);
    return written;
}

ssize_t pwrite64(int fd, const void *data, size_t length, off64_t at) { return pwrite(fd, data, length, at); }

/* Only for sockets: nobody writes to the files with it. */
ssize_t writev(int fd, const struct iovec *parts, int count) {
    char kind = kind_of(fd);
    if (kind && kind != 's')
        abort();
    for (int i = 0; kind == 's' && i < count; i++)
        note_answer(fd, parts[i].iov_base, parts[i].iov_len);
    return REAL(writev)(fd, parts, count);
}

ssize_t send(int fd, const void *data, size_t length, int flags) {
    if (kind_of(fd) == 's')
        note_answer(fd, data, length);
    return REAL(send)(fd, data, length, flags);
}

int ftruncate(int fd, off_t length) {
    char kind = kind_of(fd);
    int outcome = REAL(ftruncate)(fd, length);
    if (kind && !outcome)
        note((struct note){'T', kind, 0, 0, length}, NULL);
    return outcome;
}

int ftruncate64(int fd, off64_t length) { return ftruncate(fd, length); }

static int sync_noted(int fd, int (*sync)(int)) {
    char kind = kind_of(fd);
    pthread_mutex_lock(&lock);
    uint64_t before = noted;
    pthread_mutex_unlock(&lock);
    int outcome = sync(fd);
    if (kind && !outcome)
        note((struct note){'S', kind, 0, 0, before}, NULL);
    return outcome;
}

int fsync(int fd) { return sync_noted(fd, REAL(fsync)); }

int fdatasync(int fd) { return sync_noted(fd, REAL(fdatasync)); }
