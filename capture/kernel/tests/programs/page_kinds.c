/* A process with pages of every kind that a residency scan has to tell apart. Prints what it could not make,
 * then "ready", and waits to be killed. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE 4096ul
#define MIB (1ul << 20)

static char *map(size_t bytes, int protection, int flags, int fd) {
    char *at = mmap(NULL, bytes, protection, flags, fd, 0);
    if (at == MAP_FAILED) {
        perror("mmap");
        exit(1);
    }
    return at;
}

static char *map_aligned_to_2_mib(size_t bytes) {
    char *at = map(bytes + 2 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    return (char *)(((unsigned long)at + 2 * MIB - 1) & ~(2 * MIB - 1));
}

int main(int argc, char **argv) {
    (void)argc;
    volatile char sink = 0;
    int read_write = PROT_READ | PROT_WRITE;

    for (int i = 0; i < 5000; i++) {
        char *object = malloc(200 + i % 3000);
        memset(object, 1, 200);
        if (i % 2) free(object);
    }

    char *sparse = map(64 * MIB, read_write, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    for (size_t at = 0; at < 64 * MIB; at += 3 * PAGE) sparse[at] = 1;

    char *zeros = map(4 * MIB, read_write, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    for (size_t at = 0; at < 4 * MIB; at += PAGE) sink += zeros[at];
    for (size_t at = 0; at < 4 * MIB; at += 7 * PAGE) zeros[at] = 1;

    char *huge = map_aligned_to_2_mib(8 * MIB);
    if (madvise(huge, 8 * MIB, MADV_HUGEPAGE)) puts("no transparent huge pages");
    huge[0] = 1;
    huge[2 * MIB] = 1;
    sink += huge[4 * MIB]; /* the huge page of zeros, where the kernel uses it */

    char *shared = map(MIB, read_write, MAP_SHARED | MAP_ANONYMOUS, -1);
    memset(shared, 1, MIB / 2);

    int memory = memfd_create("a name with spaces", 0);
    if (memory < 0 || ftruncate(memory, 2 * MIB)) return 1;
    char *mapped = map(2 * MIB, read_write, MAP_SHARED, memory);
    memset(mapped, 1, MIB);
    char *copied = map(2 * MIB, read_write, MAP_PRIVATE, memory);
    for (size_t at = 0; at < MIB; at += PAGE) sink += copied[at];
    for (size_t at = 0; at < MIB / 2; at += PAGE) copied[at] = 2;

    int file = open(argv[0], O_RDONLY);
    struct stat status;
    if (file < 0 || fstat(file, &status)) return 1;
    char *whole = map(status.st_size, read_write, MAP_PRIVATE, file);
    for (off_t at = 0; at < status.st_size; at += PAGE) sink += whole[at];
    whole[0] = 1;

    char *guarded = map(MIB, read_write, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    memset(guarded, 1, MIB);
    if (madvise(guarded, MIB / 2, 102 /* MADV_GUARD_INSTALL */)) puts("no guard markers");

    char *kept = map(MIB, read_write, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    memset(kept, 1, MIB);
    if (mprotect(kept, MIB, PROT_NONE)) return 1;

    char *hugetlb = mmap(NULL, 4 * MIB, read_write, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
    if (hugetlb == MAP_FAILED) puts("no hugetlb pages");
    else hugetlb[0] = hugetlb[2 * MIB] = 1;

    puts("ready");
    fflush(stdout);
    for (;;) pause();
    return sink;
}
