// Handlers that allocate, on the thread's own stack and on one for signals; the program's own stacks.
#include <csignal>
#include <memory>
#include <string>
#include <sys/time.h>
#include <ucontext.h>
#include <vector>
#include "hazard.hpp"

static volatile sig_atomic_t handled, in_allocator;

extern "C" void allocates(int) {
    int before = errno;
    if (!in_allocator) {
        std::string text(100, 'h');
        handled = handled + 1;
    }
    errno = before;
}

static void interrupted(int flags) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = allocates;
    action.sa_flags = flags | SA_RESTART;
    EXPECT(sigaction(SIGALRM, &action, nullptr) == 0);
    struct itimerval every = {{0, 300}, {0, 300}}, never = {{0, 0}, {0, 0}};
    EXPECT(setitimer(ITIMER_REAL, &every, nullptr) == 0);
    while (handled < 200) {
        in_allocator = 1;
        { std::vector<std::string> strings(3, std::string(50, 's')); }
        in_allocator = 0;
        for (volatile int i = 0; i < 3000; i = i + 1) {}
    }
    EXPECT(setitimer(ITIMER_REAL, &never, nullptr) == 0);
}

static int handler_allocates() {
    interrupted(0);
    return 0;
}

static int on_stack_for_signals() {
    static char stack[64 << 10];
    stack_t there;
    memset(&there, 0, sizeof there);
    there.ss_sp = stack;
    there.ss_size = sizeof stack;
    EXPECT(sigaltstack(&there, nullptr) == 0);
    interrupted(SA_ONSTACK);
    return 0;
}

static ucontext_t main_context, own_context;

static void coroutine() {
    for (int turn = 0; turn < 500; turn++) {
        try {
            std::vector<std::string> strings(2, std::string(60, 'c'));
            throw std::string(100, 'e');
        } catch (const std::string &) {
            swapcontext(&own_context, &main_context);
        }
    }
}

static int on_own_stacks() {
    auto stack = std::make_unique<char[]>(256 << 10);
    getcontext(&own_context);
    own_context.uc_stack.ss_sp = stack.get();
    own_context.uc_stack.ss_size = 256 << 10;
    own_context.uc_link = &main_context;
    makecontext(&own_context, coroutine, 0);
    for (int turn = 0; turn <= 500; turn++) {
        swapcontext(&main_context, &own_context);
        std::string between(70, 'b');
    }
    return 0;
}

MAIN({"handler_allocates", handler_allocates}, {"sigaltstack", on_stack_for_signals}, {"coroutines", on_own_stacks})
