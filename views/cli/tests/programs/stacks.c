/* Allocates from stacks of all kinds, each time another size, which tells where it was. Takes two builds of
 * stacks_library, and says whether they came to the same address. */
#include <alloca.h>
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline))

static void *volatile kept;
static volatile sig_atomic_t handled;
static int depth_of_compare;

NOINLINE static int in_compare(int depth)
{
    if (depth == 0) {
        kept = malloc(200001);
        return 1;
    }
    return in_compare(depth - 1) + (kept != NULL);
}

NOINLINE static int compare(const void *left, const void *right)
{
    if (!handled) {
        handled = 1;
        in_compare(depth_of_compare);
    }
    return *(const int *)left - *(const int *)right;
}

NOINLINE static int sorts(int depth)
{
    if (depth > 0)
        return sorts(depth - 1) + 1;
    int numbers[] = {3, 1, 2};
    qsort(numbers, 3, sizeof numbers[0], compare);
    return numbers[0];
}

NOINLINE static void handler(int signal)
{
    kept = malloc(signal == SIGUSR1 ? 200002 : 200003);
    handled = 2;
}

/* In its own code when the signal comes, not in a call. */
NOINLINE static long interrupted(void)
{
    long turns = 0;
    while (handled != 2)
        turns++;
    return turns;
}

static void *sends(void *to)
{
    usleep(20000);
    pthread_kill(*(pthread_t *)to, SIGUSR1);
    return NULL;
}

NOINLINE static void on_alternate_stack(void)
{
    raise(SIGUSR2);
    handled++;
}

NOINLINE static void aligned_stack(size_t size)
{
    _Alignas(64) volatile char line[64];
    volatile char *more = alloca(size % 1000 + 16);
    more[0] = line[0] = 1;
    kept = malloc(size);
    more[1] = line[1] = (char)(size_t)kept;
}

NOINLINE static void *thread(void *size)
{
    kept = malloc((size_t)size);
    return (void *)kept;
}

static ucontext_t main_context, context;

NOINLINE static void coroutine(void)
{
    for (int turn = 0; turn < 1000; turn++) {
        free(malloc(64));
        kept = realloc(NULL, 200006);
        swapcontext(&context, &main_context);
    }
}

/* With a table and nothing sensible in the frame pointer; without a table and with a frame pointer; with neither. */
void *junk_frame_pointer(size_t), *no_table(size_t), *no_table_and_junk(size_t);
__asm__(".text\n"
        "junk_frame_pointer: .cfi_startproc; push %rbp; .cfi_def_cfa_offset 16; .cfi_offset rbp, -16\n"
        "mov $0x1235, %rbp; call malloc@plt; pop %rbp; .cfi_def_cfa_offset 8; .cfi_restore rbp; ret; .cfi_endproc\n"
        "no_table: push %rbp; mov %rsp, %rbp; call malloc@plt; pop %rbp; ret\n"
        "no_table_and_junk: push %rbp; mov $0x7ffffffff000, %rbp; call malloc@plt; pop %rbp; ret\n");

__attribute__((constructor)) static void constructor(void) { kept = malloc(200008); }

NOINLINE static void *too_deep(int depth)
{
    if (depth == 0)
        return malloc(200009);
    void *made = too_deep(depth - 1);
    kept = made;
    return made;
}

NOINLINE static void *calls_library(const char *path, size_t size)
{
    void *library = dlopen(path, RTLD_NOW);
    if (!library) {
        fprintf(stderr, "%s\n", dlerror());
        exit(1);
    }
    void *(*entry)(size_t) = (void *(*)(size_t))dlsym(library, "library_entry");
    for (int turn = 0; turn < 40; turn++)
        free(entry(100));
    kept = entry(size);
    dlclose(library);
    return (void *)entry;
}

int main(int count, char **arguments)
{
    if (count < 3)
        return 2;
    static char alternate[64 << 10], coroutines[64 << 10];
    depth_of_compare = 20;
    sorts(60);

    stack_t stack = {.ss_sp = alternate, .ss_size = sizeof alternate};
    sigaltstack(&stack, NULL);
    struct sigaction action = {.sa_handler = handler};
    sigaction(SIGUSR1, &action, NULL);
    action.sa_flags = SA_ONSTACK;
    sigaction(SIGUSR2, &action, NULL);
    pthread_t self = pthread_self(), other;
    handled = 1;
    pthread_create(&other, NULL, sends, &self);
    interrupted();
    pthread_join(other, NULL);
    on_alternate_stack();

    aligned_stack(200004);
    pthread_create(&other, NULL, thread, (void *)200005);
    pthread_join(other, NULL);

    getcontext(&context);
    context.uc_stack.ss_sp = coroutines;
    context.uc_stack.ss_size = sizeof coroutines;
    context.uc_link = &main_context;
    makecontext(&context, coroutine, 0);
    for (int turn = 0; turn < 1000; turn++)
        swapcontext(&main_context, &context);

    kept = junk_frame_pointer(200007);
    kept = no_table(200012);
    kept = no_table_and_junk(200013);
    too_deep(400);
    void *first = calls_library(arguments[1], 200010);
    void *second = calls_library(arguments[2], 200011);
    puts(first == second ? "same address" : "other address");
    return 0;
}
