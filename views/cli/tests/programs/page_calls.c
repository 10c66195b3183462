// Makes every system call about pages so often, in threads of the program, of children and of their children, each at addresses of its own, and
// with them as many calls that are none. With `int80` also calls of 32-bit programs, whose numbers mean other calls. Prints whether there
// are such.
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 4096, ROUNDS = 20, THREADS = 3 };

static const unsigned long FIRST = 0x200000000000, DISTANCE = 0x10000000;

static void expect(int holds, const char *what) {
    if (!holds) {
        perror(what);
        exit(1);
    }
}

static pthread_barrier_t gate;
static int waits;

static void *make_calls(void *number) {
    if (waits) {
        pthread_barrier_wait(&gate);
    }
    char *at = (char *)(FIRST + (unsigned long)number * DISTANCE);
    // Of a file: what reads /dev/zero ends where a signal comes, be it one that only stops the process.
    int zeros = memfd_create("zeros", 0), pair[2];
    expect(zeros >= 0 && ftruncate(zeros, 2 * PAGE) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0, "descriptors");
    static char sent[2 * PAGE];
    for (int round = 0; round < ROUNDS; round++) {
        int fixed = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
        expect(mmap(at, 8 * PAGE, PROT_READ | PROT_WRITE, fixed, -1, 0) == at, "mmap");
        expect(mprotect(at, PAGE, PROT_READ) == 0, "mprotect");
        expect(syscall(SYS_pkey_mprotect, at, PAGE, PROT_READ | PROT_WRITE, -1) == 0, "pkey_mprotect");
        expect(mlock(at, PAGE) == 0 && syscall(SYS_mlock2, at, PAGE, 0) == 0 && munlock(at, PAGE) == 0, "mlock");
        expect(lseek(zeros, 0, SEEK_SET) == 0, "lseek");
        expect(read(zeros, at, 2 * PAGE) == 2 * PAGE, "read");
        expect(pread(zeros, at, PAGE, 0) == PAGE, "pread");
        expect(lseek(zeros, 0, SEEK_SET) == 0, "lseek");
        struct iovec parts[2] = {{at, PAGE}, {at + 2 * PAGE, PAGE}};
        expect(readv(zeros, parts, 2) == 2 * PAGE, "readv");
        expect(lseek(zeros, 0, SEEK_SET) == 0, "lseek");
        expect(preadv(zeros, parts, 2, 0) == 2 * PAGE, "preadv");
        expect(syscall(SYS_preadv2, zeros, parts, 2, -1L, 0L, 0) == 2 * PAGE, "preadv2");
        expect(write(pair[0], sent, PAGE) == PAGE && recv(pair[1], at, PAGE, 0) == PAGE, "recv");
        struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
        expect(write(pair[0], sent, 2 * PAGE) == 2 * PAGE && recvmsg(pair[1], &message, 0) == 2 * PAGE, "recvmsg");
        expect(syscall(SYS_getrandom, at, 512, 0) == 512, "getrandom");
        // Not told: less than a sector.
        expect(pread(zeros, at, 100, 0) == 100, "a short read");
        expect(madvise(at, PAGE, MADV_DONTNEED) == 0, "madvise");
        expect(madvise(at + 1, PAGE, MADV_DONTNEED) < 0, "madvise of no page");
        expect(mremap(at, 8 * PAGE, 8 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, at + 16 * PAGE) == at + 16 * PAGE, "mremap");
        expect(munmap(at + 16 * PAGE, 8 * PAGE) == 0, "munmap");
        for (int other = 0; other < 18; other++) {
            getppid();
        }
    }
    close(zeros);
    close(pair[0]);
    close(pair[1]);
    return NULL;
}

static void in_threads(long first) {
    pthread_t threads[THREADS];
    for (long thread = 0; thread < THREADS; thread++) {
        expect(pthread_create(&threads[thread], NULL, make_calls, (void *)(first + thread)) == 0, "pthread_create");
    }
    if (waits) {
        expect(puts("ready") >= 0 && fflush(stdout) == 0 && getchar() == '\n', "a line");
        pthread_barrier_wait(&gate);
    }
    for (int thread = 0; thread < THREADS; thread++) {
        pthread_join(threads[thread], NULL);
    }
    waits = 0;
}

static void no_such_calls(int signal) {
    (void)signal;
    static const char says[] = "none\n";
    _exit(write(1, says, sizeof says - 1) < 0);
}

/* 12 is chdir(2) there and brk(2) here, 9 link(2) and mmap(2): none does anything with null pointers. */
static void call_as_32_bits(void) {
    signal(SIGSEGV, no_such_calls);
    for (int round = 0; round < 1000; round++) {
        long result = round % 2 ? 9 : 12;
        __asm__ volatile("int $0x80" : "+a"(result) : "b"(0L), "c"(0L), "d"(0L) : "memory", "r8", "r9", "r10", "r11");
        expect(result == -14, "EFAULT of a null pointer");
    }
}

static char *own_name;
static long depth;

/* The first thread is gone then, and its number is this one's. */
static void *next_program(void *unused) {
    (void)unused;
    char next[2] = {(char)('1' + depth), 0};
    execl(own_name, own_name, next, NULL);
    _exit(1);
}

int main(int count, char **arguments) {
    if (count > 1 && strcmp(arguments[1], "int80") == 0) {
        call_as_32_bits();
        puts("some");
        return 0;
    }
    if (count > 1 && strcmp(arguments[1], "wait") == 0) {
        waits = 1;
        pthread_barrier_init(&gate, NULL, THREADS + 1);
    }
    own_name = arguments[0];
    depth = count > 1 ? strtol(arguments[1], NULL, 10) : 0;
    in_threads(depth * 100);
    pid_t child = fork();
    if (child == 0) {
        in_threads(depth * 100 + 50);
        if (depth < 2) {
            pthread_t last;
            expect(pthread_create(&last, NULL, next_program, NULL) == 0, "pthread_create");
            pthread_join(last, NULL);
        }
        _exit(0);
    }
    int status = 0;
    expect(waitpid(child, &status, 0) == child && status == 0, "the child");
    return 0;
}
