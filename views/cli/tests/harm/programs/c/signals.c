// Signal handlers that allocate, on the thread's own stack and on one for signals, and one that looks where it came from.
#include <execinfo.h>
#include <signal.h>
#include <sys/time.h>
#include "hazard.h"

static volatile sig_atomic_t handled;
// glibc's allocator is not reentrant: a handler that allocates must not interrupt it. What it may interrupt is the rest.
static volatile sig_atomic_t in_allocator;

static void every(long microseconds) {
    struct itimerval timer = {{0, microseconds}, {0, microseconds}};
    EXPECT(setitimer(ITIMER_REAL, &timer, NULL) == 0);
}

static void handle(int signal, void (*handler)(int), int flags) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = handler;
    action.sa_flags = flags | SA_RESTART;
    EXPECT(sigaction(signal, &action, NULL) == 0);
}

static void allocates(int signal) {
    (void)signal;
    int before = errno;
    if (!in_allocator) {
        drop(make(64));
        handled++;
    }
    errno = before;
}

static int handler_allocates(void) {
    handle(SIGALRM, allocates, 0);
    every(300);
    errno = 1234;
    while (handled < 300) {
        in_allocator = 1;
        void *made = make(100);
        drop(made);
        in_allocator = 0;
        for (volatile int i = 0; i < 3000; i++) {}
        EXPECT(errno == 1234);
    }
    every(0);
    return 0;
}

static int on_stack_for_signals(void) {
    static char stack[64 << 10];
    stack_t there = {.ss_sp = stack, .ss_size = sizeof stack};
    EXPECT(sigaltstack(&there, NULL) == 0);
    handle(SIGALRM, allocates, SA_ONSTACK);
    every(300);
    while (handled < 300) {
        in_allocator = 1;
        drop(make(100));
        in_allocator = 0;
        for (volatile int i = 0; i < 3000; i++) {}
    }
    every(0);
    for (int i = 0; i < 100; i++) raise(SIGALRM);
    return 0;
}

static void measured(void);

static void looks_back(int signal) {
    (void)signal;
    void *frames[64];
    int count = backtrace(frames, 64);
    for (int i = 0; i < count; i++)
        if ((char *)frames[i] > (char *)measured && (char *)frames[i] < (char *)measured + 1024) {
            handled++;
            return;
        }
    static const char lost[] = "the way back to main is lost\n";
    if (write(2, lost, sizeof lost - 1) < 0) _exit(92);
    _exit(93);
}

__attribute__((noinline)) static void measured(void) {
    while (handled < 1000) {
        drop(make(100));
        free(calloc(3, 50));
        free(aligned_alloc(64, 64));
    }
}

static int walk_from_handler(void) {
    void *frame;
    backtrace(&frame, 1);
    handle(SIGALRM, looks_back, 0);
    every(200);
    measured();
    every(0);
    return 0;
}

MAIN({"handler_allocates", handler_allocates}, {"sigaltstack", on_stack_for_signals},
     {"walk_from_handler", walk_from_handler})
