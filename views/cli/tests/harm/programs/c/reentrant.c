// Handlers that interrupt the allocator and the hooks in front of it, and allocate or jump away. The allocator is that of
// `bump.c`, in a library: it allows for both.
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include "hazard.h"

static volatile sig_atomic_t handled;

static void handle(int signal, void (*handler)(int), int flags) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = handler;
    action.sa_flags = flags | SA_RESTART;
    EXPECT(sigaction(signal, &action, NULL) == 0);
}

static void *sends(void *to) {
    while (handled < 3000) {
        pthread_kill(*(pthread_t *)to, SIGUSR1);
        usleep(20);
    }
    return NULL;
}

static void allocates_anywhere(int signal) {
    (void)signal;
    int before = errno;
    void *made = make(1000);
    drop(made);
    handled++;
    errno = before;
}

static int handle_while_allocating(int flags) {
    handle(SIGUSR1, allocates_anywhere, flags);
    pthread_t self = pthread_self(), sender;
    EXPECT(pthread_create(&sender, NULL, sends, &self) == 0);
    while (handled < 3000) drop(make(100));
    EXPECT(pthread_join(sender, NULL) == 0);
    return 0;
}

static int handler_in_hook(void) { return handle_while_allocating(0); }

// The handler's stack is a part of the thread's, above all that the handler interrupts.
static int handler_above_hook(void) {
    static volatile char *first;
    char part[64 << 10];
    first = part;
    stack_t stack = {.ss_sp = (void *)first, .ss_size = sizeof part};
    EXPECT(sigaltstack(&stack, NULL) == 0);
    int result = handle_while_allocating(SA_ONSTACK);
    stack.ss_flags = SS_DISABLE;
    EXPECT(sigaltstack(&stack, NULL) == 0);
    return result;
}

static sigjmp_buf back;

static void jumps(int signal) {
    (void)signal;
    handled++;
    siglongjmp(back, 1);
}

static int jump_out_of_handler(void) {
    handle(SIGUSR1, jumps, 0);
    pthread_t self = pthread_self(), sender;
    if (sigsetjmp(back, 1) == 0) EXPECT(pthread_create(&sender, NULL, sends, &self) == 0);
    while (handled < 3000) free(malloc(100));
    handle(SIGUSR1, SIG_IGN, 0);
    EXPECT(pthread_join(sender, NULL) == 0);
    keep(5, 77777);
    return 0;
}

MAIN({"handler_in_hook", handler_in_hook}, {"handler_above_hook", handler_above_hook},
     {"jump_out_of_handler", jump_out_of_handler})
