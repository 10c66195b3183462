// A parent with memory that forks children, of which each writes the first part of it; then all wait. What they have together is
// known: of a heap all of it once and a copy of what each child wrote, of memory that is shared all of it once; and 16 MiB that the parent
// touches when all is written, so that they have the most then.
//
//   forking MIB CHILDREN WRITTEN_MIB heap|shared|memfd|PATH
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const size_t MIB = 1 << 20;

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void wait_ms(long ms) {
    struct timespec left = {ms / 1000, ms % 1000 * 1000000};
    while (nanosleep(&left, &left) && errno == EINTR) {
    }
}

static void touch(char *memory, size_t bytes, char with) {
    for (size_t at = 0; at < bytes; at += 4096)
        memory[at] = with;
}

int main(int argc, char **argv) {
    if (argc < 5)
        return 2;
    size_t bytes = strtoul(argv[1], 0, 10) * MIB, written = strtoul(argv[3], 0, 10) * MIB;
    int children = atoi(argv[2]);
    const char *kind = argv[4];
    char *memory;
    if (!strcmp(kind, "heap")) {
        memory = malloc(bytes);
    } else if (!strcmp(kind, "shared")) {
        memory = mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    } else {
        int fd = strcmp(kind, "memfd") ? open(kind, O_RDWR | O_CREAT, 0600) : memfd_create("shared", 0);
        if (fd < 0 || ftruncate(fd, bytes))
            die(kind);
        memory = mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    }
    if (!memory || memory == MAP_FAILED)
        die("memory");
    touch(memory, bytes, 1);
    int written_by[2];
    if (pipe(written_by))
        die("pipe");
    for (int child = 0; child < children; child++) {
        pid_t pid = fork();
        if (pid < 0)
            die("fork");
        if (!pid) {
            // Pages of a mapping that is shared have to be touched to be in this process.
            touch(memory, written, 2);
            if (write(written_by[1], "", 1) != 1)
                _exit(1);
            wait_ms(2000);
            _exit(0);
        }
    }
    for (int child = 0; child < children; child++) {
        char byte;
        if (read(written_by[0], &byte, 1) != 1)
            die("read");
    }
    wait_ms(100);
    char *last = mmap(0, 16 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (last == MAP_FAILED)
        die("the last memory");
    touch(last, 16 * MIB, 3);
    int status = 0, worst = 0;
    while (wait(&status) > 0 || errno == EINTR)
        worst |= status;
    return worst ? 1 : 0;
}
