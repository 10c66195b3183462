// Allocates in an inlined function of a function of its own.
#include <stdlib.h>

static inline __attribute__((always_inline)) void *inlined_in_the_middle(size_t size) {
    char *block = malloc(size);
    block[0] = 1;
    return block;
}

__attribute__((noinline)) void *not_inlined(size_t size) {
    void *block = inlined_in_the_middle(size);
    __asm__ volatile("" : : "r"(block) : "memory");
    return block;
}

int main(void) {
    return not_inlined(123456) == NULL;
}
