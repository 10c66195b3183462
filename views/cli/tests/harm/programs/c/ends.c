// Allocations before main and after it, and ways in which a process ends.
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include "hazard.h"

static void *early;

// The counts are not asked for in other ways.
__attribute__((constructor)) static void before_main(void) { early = make(12345); }

static int late;

__attribute__((destructor)) static void after_main(void) {
    if (late) make_and_drop(100, 64);
    drop(early);
}

static void at_exit(void) {
    keep(10, 34567);
    say("at exit\n");
}

static int constructors_and_atexit(void) {
    late = 1;
    EXPECT(atexit(at_exit) == 0);
    return 0;
}

static pthread_key_t key;

static void value_dies(void *value) {
    drop(value);
    make_and_drop(10, 50);
    static int times;
    // glibc asks again as long as destructors set values.
    if (__atomic_add_fetch(&times, 1, __ATOMIC_RELAXED) < 20) pthread_setspecific(key, make(20));
}

static void *with_value(void *unused) {
    (void)unused;
    pthread_setspecific(key, make(10));
    make_and_drop(100, 40);
    return NULL;
}

static int tls_destructors(void) {
    EXPECT(pthread_key_create(&key, value_dies) == 0);
    for (int i = 0; i < 8; i++) {
        pthread_t thread;
        EXPECT(pthread_create(&thread, NULL, with_value, NULL) == 0);
        EXPECT(pthread_join(thread, NULL) == 0);
    }
    return 0;
}

static int at_once(void) {
    keep(100, 100);
    _exit(7);
}

static int aborts(void) {
    keep(100, 100);
    abort();
}

static int quick(void) {
    keep(100, 100);
    EXPECT(at_quick_exit(at_exit) == 0);
    quick_exit(9);
}

static int bare_call(void) {
    keep(100, 100);
    syscall(SYS_exit_group, 8);
    return 0;
}

static int killed(void) {
    keep(100, 100);
    raise(SIGKILL);
    return 0;
}

static int __attribute__((noinline)) deeper(volatile char *above) {
    volatile char here[1000];
    here[0] = above ? above[0] : 1;
    drop(make(16));
    return deeper(here) + here[0];
}

static int stack_overflow(void) {
    struct rlimit stack = {1 << 20, 1 << 20};
    EXPECT(setrlimit(RLIMIT_STACK, &stack) == 0);
    return deeper(NULL);
}

static void *overflows(void *unused) {
    (void)unused;
    return (void *)(long)deeper(NULL);
}

static int thread_stack_overflow(void) {
    pthread_attr_t attributes;
    pthread_t thread;
    EXPECT(pthread_attr_init(&attributes) == 0 && pthread_attr_setstacksize(&attributes, 128 << 10) == 0);
    EXPECT(pthread_create(&thread, &attributes, overflows, NULL) == 0);
    pthread_join(thread, NULL);
    return 0;
}

// A handler on a stack of its own says that the thread's is used up: what interpreters do.
static void says_so(int signal) {
    (void)signal;
    say("overflow\n");
    keep(3, 30);
    _exit(11);
}

static int overflow_handled(void) {
    static char stack[64 << 10];
    stack_t there = {.ss_sp = stack, .ss_size = sizeof stack};
    EXPECT(sigaltstack(&there, NULL) == 0);
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = says_so;
    action.sa_flags = SA_ONSTACK;
    EXPECT(sigaction(SIGSEGV, &action, NULL) == 0);
    return stack_overflow();
}

MAIN({"constructors_and_atexit", constructors_and_atexit}, {"tls_destructors", tls_destructors}, {"exit_at_once", at_once},
     {"abort", aborts}, {"quick_exit", quick}, {"bare_exit_group", bare_call}, {"killed", killed},
     {"stack_overflow", stack_overflow}, {"thread_stack_overflow", thread_stack_overflow},
     {"overflow_handled", overflow_handled})
