// Stacks that are left by jumps, and those that the program makes itself.
#include <setjmp.h>
#include <ucontext.h>
#include "hazard.h"

static jmp_buf back;

static void deeper(int left) {
    char *made = make(left + 1);
    if (left == 0) longjmp(back, 1);
    deeper(left - 1);
    drop(made);
}

static int jumps(void) {
    for (volatile int round = 0; round < 500; round++)
        if (setjmp(back) == 0) deeper(20);
    return 0;
}

enum { COROUTINES = 20, TURNS = 200, STACK = 64 << 10 };
static ucontext_t main_context, contexts[COROUTINES];

static void coroutine(int number) {
    void *held = NULL;
    for (int turn = 0; turn < TURNS; turn++) {
        held = remake(held, (size_t)(number * 10 + turn + 1));
        swapcontext(&contexts[number], &main_context);
    }
    drop(held);
}

static int on_own_stacks(void) {
    for (int i = 0; i < COROUTINES; i++) {
        // Stacks in the heap, and in mappings of their own.
        void *stack = i % 2 ? make(STACK)
                            : mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
        EXPECT(stack && stack != MAP_FAILED);
        getcontext(&contexts[i]);
        contexts[i].uc_stack.ss_sp = stack;
        contexts[i].uc_stack.ss_size = STACK;
        contexts[i].uc_link = &main_context;
        makecontext(&contexts[i], (void (*)(void))coroutine, 1, i);
    }
    for (int turn = 0; turn <= TURNS; turn++)
        for (int i = 0; i < COROUTINES; i++) {
            swapcontext(&main_context, &contexts[i]);
            make_and_drop(1, 30);
        }
    say("%d coroutines\n", COROUTINES);
    return 0;
}

MAIN({"longjmp", jumps}, {"coroutines", on_own_stacks})
