/* What all the programs of this directory need: each makes one cause of change, with pauses in which it is looked at.
 *
 * A program is given a directory in which it may write; most ignore it. It ends with 0 only if all its calls worked.
 */
#ifndef PHASE_H
#define PHASE_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096ul
#define MIB (1ul << 20)
#define CHECK(condition)                                                                                  \
    do {                                                                                                  \
        if (!(condition)) {                                                                               \
            fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #condition, strerror(errno));          \
            exit(1);                                                                                      \
        }                                                                                                 \
    } while (0)

/* The end of a phase: nothing changes for a while. */
__attribute__((unused)) static void phase(void) {
    struct timespec left = {0, 110 * 1000000};
    while (nanosleep(&left, &left) == -1 && errno == EINTR) {
    }
}

/* Private anonymous memory that nobody has touched, without huge pages where it matters not. */
__attribute__((unused)) static char *fresh(size_t bytes) {
    char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    return memory;
}

/* Writes to each page of a range, or to each second one and so on. */
__attribute__((unused)) static void write_pages(char *memory, size_t bytes, size_t step) {
    for (size_t at = 0; at < bytes; at += step * PAGE) {
        ((volatile char *)memory)[at] = 1;
    }
}

__attribute__((unused)) static void read_pages(const char *memory, size_t bytes, size_t step) {
    for (size_t at = 0; at < bytes; at += step * PAGE) {
        (void)((const volatile char *)memory)[at];
    }
}

/* A file of so many bytes, none of them zero; it has no name any more. */
__attribute__((unused)) static int file_of(const char *directory, size_t bytes, int flags) {
    char path[512];
    snprintf(path, sizeof path, "%s/cause.%d", directory, getpid());
    int file = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    CHECK(file >= 0);
    static char block[MIB];
    memset(block, 7, sizeof block);
    for (size_t done = 0; done < bytes; done += sizeof block) {
        CHECK(write(file, block, sizeof block) == (ssize_t)sizeof block);
    }
    CHECK(fsync(file) == 0);
    if (flags) {
        CHECK(close(file) == 0);
        file = open(path, O_RDWR | flags);
        CHECK(file >= 0);
    }
    CHECK(lseek(file, 0, SEEK_SET) == 0);
    CHECK(unlink(path) == 0);
    return file;
}

#endif
