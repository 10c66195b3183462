// Touches pages in ways whose numbers are known, and says where: the first page of the range and its pages.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 4096 };

static char *range(size_t pages) {
    char *at = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED || madvise(at, pages * PAGE, MADV_NOHUGEPAGE) < 0) {
        perror("mmap");
        exit(1);
    }
    return at;
}

static void touch(char *at, size_t pages) {
    for (size_t page = 0; page < pages; page++) {
        at[page * PAGE] = 1;
    }
}

/* All of it: the kernel stops halfway where a signal comes, be it one that only stops the process. */
static void fill(int zeros, struct iovec *parts, int count) {
    while (count > 0) {
        ssize_t got = count > 1 ? readv(zeros, parts, count) : read(zeros, parts->iov_base, parts->iov_len);
        if (got <= 0) {
            perror("read");
            exit(1);
        }
        for (; count > 0 && (size_t)got >= parts->iov_len; count--, parts++) {
            got -= parts->iov_len;
        }
        if (count > 0) {
            parts->iov_base = (char *)parts->iov_base + got;
            parts->iov_len -= got;
        }
    }
}

static void known(void) {
    char *at = range(1200);
    touch(at, 1000);
    // Given back one by one, and three of them touched again.
    for (size_t page = 0; page < 7; page++) {
        madvise(at + page * PAGE, PAGE, MADV_DONTNEED);
    }
    touch(at, 3);
    int zeros = open("/dev/zero", O_RDONLY);
    fill(zeros, (struct iovec[]){{at + 1000 * PAGE, 24 * PAGE}}, 1);
    fill(zeros, (struct iovec[]){{at + 1024 * PAGE, 10 * PAGE}, {at + 1100 * PAGE, 6 * PAGE}}, 2);
    pid_t child = fork();
    if (child == 0) {
        touch(at + 500 * PAGE, 100);
        _exit(0);
    }
    waitpid(child, NULL, 0);
    munmap(at + 900 * PAGE, 50 * PAGE);
    printf("%p\n", (void *)at);
}

int main(int argc, char **argv) {
    if (argc > 2 && strcmp(argv[1], "many") == 0) {
        size_t pages = strtoul(argv[2], NULL, 10);
        char *at = range(pages);
        touch(at, pages);
        printf("%p\n", (void *)at);
    } else {
        known();
    }
    return 0;
}
