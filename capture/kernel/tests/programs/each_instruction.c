// Runs a chain of calls one instruction at a time. At each it writes the registers, in the order of asm/perf_regs.h, and
// the stack from the stack pointer to the thread's start; then it says `ready` and waits to be killed.
//
// The chain: walk, with_stack_arguments (a realigned frame of variable size), qsort of libc, compare, the linkage table
// with its lazy binding, the vdso, a handler of a signal, generated code.
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

static uintptr_t stack_end;
static volatile int stepping;
static char trap_stack[1 << 16];
static void (*generated)(void);
extern void *__libc_stack_end;

static void put(const void *bytes, size_t length) {
    const char *at = bytes;
    while (length > 0) {
        ssize_t written = write(STDERR_FILENO, at, length);
        if (written <= 0) _exit(3);
        at += written;
        length -= written;
    }
}

static void on_trap(int number, siginfo_t *info, void *context) {
    (void)number, (void)info;
    static const int order[17] = {REG_RAX, REG_RBX, REG_RCX, REG_RDX, REG_RSI, REG_RDI, REG_RBP, REG_RSP, REG_RIP,
                                  REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
    ucontext_t *interrupted = context;
    uint64_t head[18];
    for (int i = 0; i < 17; i++) head[i] = interrupted->uc_mcontext.gregs[order[i]];
    uint64_t length = stack_end > head[7] ? stack_end - head[7] : 0;
    head[17] = length > 65536 ? 65536 : length;
    put(head, sizeof head);
    put((void *)head[7], head[17]);
    if (stepping)
        interrupted->uc_mcontext.gregs[REG_EFL] |= 0x100;
    else
        interrupted->uc_mcontext.gregs[REG_EFL] &= ~0x100;
}

// Begins to step, or ends it: the trap flag comes with the registers that the handler gives back.
#define STEP(on) (stepping = (on), ({ __asm__ volatile("int3" ::: "memory"); }))

__attribute__((noinline)) void in_handler(int number) {
    STEP(1);
    volatile size_t length = strnlen("some text", number);
    (void)length;
    STEP(0);
}

__attribute__((noinline)) int compare(const void *left, const void *right) {
    char text[32];
    snprintf(text, sizeof text, "%d", *(const int *)left);
    return atoi(text) - *(const int *)right;
}

__attribute__((noinline)) long with_stack_arguments(int length, long b, long c, long d, long e, long f, long g, long h) {
    __attribute__((aligned(64))) volatile char aligned[64];
    volatile char *sized = __builtin_alloca(length);
    aligned[1] = sized[length - 1] = 1;
    int numbers[3] = {3, 1, 2};
    qsort(numbers, 3, sizeof numbers[0], compare);
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    generated();
    return aligned[1] + sized[length - 1] + numbers[0] + b + c + d + e + f + g + h + (now.tv_sec < 0);
}

__attribute__((noinline)) long walk(int length) {
    STEP(1);
    long sum = with_stack_arguments(length, 1, 2, 3, 4, 5, 6, 7);
    STEP(0);
    raise(SIGUSR1);
    return sum + 1;
}

static void *thread(void *unused) {
    (void)unused;
    stack_t other = {.ss_sp = trap_stack, .ss_size = sizeof trap_stack};
    pthread_attr_t attributes;
    void *low;
    size_t size;
    if (sigaltstack(&other, NULL) != 0 || pthread_getattr_np(pthread_self(), &attributes) != 0) exit(4);
    pthread_attr_getstack(&attributes, &low, &size);
    stack_end = (uintptr_t)low + size;
    if (walk(100) != 32) exit(5);
    return NULL;
}

int main(int count, char **arguments) {
    struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigaction(SIGTRAP, &action, NULL);
    signal(SIGUSR1, in_handler);
    // push %rbp; mov %rsp, %rbp; nop; pop %rbp; ret: code that no table knows.
    static const unsigned char code[] = {0x55, 0x48, 0x89, 0xe5, 0x90, 0x5d, 0xc3};
    generated = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (generated == MAP_FAILED) return 2;
    memcpy((void *)generated, code, sizeof code);
    if (count > 1 && strcmp(arguments[1], "thread") == 0) {
        pthread_t started;
        if (pthread_create(&started, NULL, thread, NULL) != 0) return 6;
        pthread_join(started, NULL);
    } else {
        stack_t other = {.ss_sp = trap_stack, .ss_size = sizeof trap_stack};
        sigaltstack(&other, NULL);
        stack_end = (uintptr_t)__libc_stack_end + 8;
        if (walk(100) != 32) return 5;
    }
    printf("ready\n");
    fflush(stdout);
    pause();
}
